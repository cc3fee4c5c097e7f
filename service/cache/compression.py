"""gzip for answers whose end changes with every response: the long beginning is compressed once, and kept.

A gzip stream (RFC 1952) is a header, blocks, and a checksum of the plain text. The beginning's blocks stay
as they are; what follows is appended as a block that is stored without compression (RFC 1951, 3.2.4), which
costs no more than copying it.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache

#: Bodies below this size in bytes are sent as they are: a packet is a packet.
SMALLEST = 1024

_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_LONGEST_STORED_BLOCK = 0xFFFF
#: Accept-Encoding headers of clients are few and short; what is longer is not worth remembering.
_REMEMBERED_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Beginning:
    """The compressed beginning of a text, to which any end can be added."""

    compressed: bytes
    crc32: int
    length: int

    def ended_with(self, end: bytes) -> bytes:
        """Return the whole text, that is the beginning and `end`, as gzip."""
        size = len(end)
        assert size <= _LONGEST_STORED_BLOCK
        return b"".join(
            (
                self.compressed,
                b"\x01",  # the last block, a stored one
                size.to_bytes(2, "little"),
                (size ^ 0xFFFF).to_bytes(2, "little"),
                end,
                zlib.crc32(end, self.crc32).to_bytes(4, "little"),
                (self.length + size & 0xFFFFFFFF).to_bytes(4, "little"),
            )
        )


def begin(text: bytes) -> Beginning:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    # Flushed to a byte's boundary, where a stored block may follow.
    compressed = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return Beginning(compressed, zlib.crc32(text), len(text))


def prefers_gzip(accept_encoding: bytes) -> bool:
    """Read Accept-Encoding (RFC 9110, 12.5.3): gzip where it is accepted and liked no less than identity."""
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
