"""The servers of a Postgres URL that names several, `postgresql://user:password@h1:5432,h2:5432/database`."""

import re
from urllib.parse import urlsplit


def url_of_each_host(url: str) -> list[str]:
    """Return the URL once for each of its hosts; itself where it names one, or none.

    asyncpg goes on to the next host only when one refuses: one that does not answer, or starts up, would keep
    it from the others.
    """
    scheme, _, rest = url.partition("://")
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    credentials, at, hosts = netloc.rpartition("@")
    return [f"{scheme}://{credentials}{at}{host}{rest[len(netloc) :]}" for host in hosts.split(",")]


def host_of(url: str) -> str:
    """Return host and port of a URL of one host, to be shown to operators."""
    return urlsplit(url).netloc.rpartition("@")[2] or "(socket)"
