"""What the headers of a request ask for: which encoding, and whether the client has the current body."""

import re
from collections.abc import Iterable
from functools import lru_cache

#: Accept-Encoding headers of clients are few and short; longer ones are parsed each time.
_REMEMBERED_LENGTH = 100

_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of a header; several headers of one name make one list (RFC 9110, 5.3)."""
    return b",".join(value for key, value in headers if key == name)


def matches_etag(if_none_match: bytes, etag: bytes) -> bool:
    """Return whether If-None-Match has the tag or is `*`; compared weakly (RFC 9110, 13.1.2)."""
    if if_none_match == etag or if_none_match.strip() == b"*":
        return True
    return etag.removeprefix(b"W/") in _ENTITY_TAG.findall(if_none_match)


def prefers_gzip(accept_encoding: bytes) -> bool:
    """Return whether Accept-Encoding accepts gzip and rates it no lower than identity (RFC 9110, 12.5.3)."""
    if len(accept_encoding) > _REMEMBERED_LENGTH:
        return _prefers_gzip(accept_encoding)
    return _remembered(accept_encoding)


def _prefers_gzip(accept_encoding: bytes) -> bool:
    weights: dict[bytes, float] = {}
    for part in accept_encoding.lower().split(b","):
        coding, *parameters = (piece.strip() for piece in part.split(b";"))
        weights[coding] = _weight(parameters)
    gzip = max((weights[name] for name in (b"gzip", b"x-gzip") if name in weights), default=None)
    if gzip is None:
        gzip = weights.get(b"*", 0.0)
    # Identity is accepted unless it is excluded, and preferred only where it is named.
    return gzip > 0 and gzip >= weights.get(b"identity", 0.0)


_remembered = lru_cache(256)(_prefers_gzip)


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0
