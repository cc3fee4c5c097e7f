"""The files of the web page, prepared once: each with its compressed form, validator and time to keep it.

    /                                  index.html: revalidated each time, it names all others
    /static/<digest>/...               our modules, style sheet and icon; the digest is that of all of them
    /static/<digest>/vendor/uplot/uPlot.js    uPlot as it is published, minified, with an export at its end

A file under /static never changes, because its path does: browsers keep it for a year and never ask again.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATED = "no-cache"


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    media_type: str
    cache_control: str

    @cached_property
    def compressed(self) -> bytes:
        """The compressed form, made for the first who asks for it: all of them would hold up the start."""
        # Without a time in it, so that every process sends the same bytes under the same validator.
        return gzip.compress(self.body, compresslevel=9, mtime=0)

    @cached_property
    def etag(self) -> str:
        # Weak: the compressed form and the plain one are the same page, not the same bytes.
        return f'W/"{blake2b(self.body, digest_size=12).hexdigest()}"'


def load_assets() -> dict[str, Asset]:
    """Return the page's files by their path on the server, the page itself as the empty path."""
    sources = dict(_sources())
    digest = blake2b(digest_size=8)
    for name, body in sorted(sources.items()):
        digest.update(name.encode() + b"\0" + body + b"\0")
    folder = f"static/{digest.hexdigest()}"
    library = f"{folder}/vendor/uplot/uPlot.js"
    page = sources.pop("index.html").decode()
    modules = sorted(name for name in sources if name.endswith(".js"))
    for placeholder, value in {
        "{{assets}}": folder,
        "{{chart-library}}": library,
        # Named here, they load at once; else each would be found only when one that imports it has arrived.
        "{{modules}}": "\n".join(f'<link rel="modulepreload" href="{folder}/{name}">' for name in modules),
    }.items():
        page = page.replace(placeholder, value)
    return {
        "": Asset(page.encode(), _MEDIA_TYPES["html"], REVALIDATED),
        **{f"{folder}/{name}": Asset(body, _media_type(name), IMMUTABLE) for name, body in sources.items()},
    }


def _sources(folder: Traversable | None = None, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in (files(__name__) if folder is None else folder).iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _MEDIA_TYPES:
            yield prefix + entry.name, entry.read_bytes()


def _media_type(name: str) -> str:
    return _MEDIA_TYPES[name.rpartition(".")[2]]
