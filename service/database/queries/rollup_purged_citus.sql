-- As rollup_purged.sql, where Citus holds the requests.
{% set on_shards = true %}
{% include 'rollup_purged.sql' %}
