"""gzip for answers whose end differs in every response: the long beginning is compressed once and kept.

A gzip stream (RFC 1952) is a header, blocks, and a checksum of the plain text. The beginning's blocks stay
as they are; what follows is appended as a block that is stored without compression (RFC 1951, 3.2.4), which
costs no more than copying it.
"""

import zlib
from dataclasses import dataclass

_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_LONGEST_STORED_BLOCK = 0xFFFF


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
