"""What the headers of a request ask for: which encoding, and whether the client has the current body."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: Accept-Encoding headers of clients are few and short; longer ones are parsed each time.
_REMEMBERED_LENGTH = 100

_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Wishes(NamedTuple):
    """What a request says about the form of its answer. The default says nothing."""

    if_none_match: bytes = b""
    #: Content codings that may be sent, the best first.
    codings: tuple[str, ...] = ()


def wishes_of(headers: Iterable[tuple[bytes, bytes]]) -> Wishes:
    accept_encoding = if_none_match = b""
    for name, value in headers:  # one pass, on the path of each hit: `header_value` twice costs more
        if name == b"accept-encoding":
            accept_encoding = b"%b,%b" % (accept_encoding, value) if accept_encoding else value
        elif name == b"if-none-match":
            if_none_match = b"%b,%b" % (if_none_match, value) if if_none_match else value
    return Wishes(if_none_match, accepted_codings(accept_encoding) if accept_encoding else ())


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of a header; several headers of one name make one list (RFC 9110, 5.3)."""
    return b",".join(value for key, value in headers if key == name)


def matches_etag(if_none_match: bytes, etag: bytes) -> bool:
    """Return whether If-None-Match has the tag or is `*`; compared weakly (RFC 9110, 13.1.2)."""
    if if_none_match == etag or if_none_match.strip() == b"*":
        return True
    return etag.removeprefix(b"W/") in _ENTITY_TAG.findall(if_none_match)


def accepted_codings(accept_encoding: bytes) -> tuple[str, ...]:
    """Return which of zstd and gzip Accept-Encoding accepts and rates no lower than identity, the best first.

    See RFC 9110, 12.5.3. Rated alike, zstd comes first.
    """
    if len(accept_encoding) > _REMEMBERED_LENGTH:
        return _accepted_codings(accept_encoding)
    return _remembered(accept_encoding)


def _accepted_codings(accept_encoding: bytes) -> tuple[str, ...]:
    weights: dict[bytes, float] = {}
    for part in accept_encoding.lower().split(b","):
        coding, *parameters = (piece.strip() for piece in part.split(b";"))
        weights[coding] = _weight(parameters)
    gzip = [weights[name] for name in (b"gzip", b"x-gzip") if name in weights]
    offered = {
        "zstd": weights.get(b"zstd", 0.0),  # only where it is named: `*` from an old client may not mean it
        "gzip": max(gzip, default=weights.get(b"*", 0.0)),
    }
    # Identity is accepted unless it is excluded, and preferred only where it is named.
    identity = weights.get(b"identity", 0.0)
    accepted = [coding for coding, weight in offered.items() if weight > 0 and weight >= identity]
    return tuple(sorted(accepted, key=offered.__getitem__, reverse=True))


_remembered = lru_cache(256)(_accepted_codings)


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
