-- As purged_until.sql, where Citus holds the requests.
{% set on_shards = true %}
{% include 'purged_until.sql' %}
