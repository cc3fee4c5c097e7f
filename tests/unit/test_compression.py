"""gzip whose beginning is compressed once, and when it is sent."""

import gzip
import zlib

import pytest

from service.cache.compression import begin, prefers_gzip


@pytest.mark.parametrize("end", [b"", b"}", b',"metadata":{}' * 50, bytes(range(256)) * 255])
@pytest.mark.parametrize("text", [b"", b"[]", b'{"model_id":1},' * 10_000])
def test_a_beginning_and_an_end_make_one_gzip_stream(text: bytes, end: bytes) -> None:
    stream = begin(text).ended_with(end)
    assert gzip.decompress(stream) == text + end
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert decompressor.decompress(stream) == text + end
    assert decompressor.eof  # one member with its checksum, and nothing after it
    assert decompressor.unused_data == b""


def test_a_beginning_serves_any_number_of_ends() -> None:
    beginning = begin(b"The numbers: " * 100)
    for end in (b"1", b"2"):
        assert gzip.decompress(beginning.ended_with(end)) == b"The numbers: " * 100 + end


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        (b"gzip", True),
        (b"GZip", True),
        (b"x-gzip", True),
        (b"gzip, deflate, br, zstd", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"*", True),
        (b"*;q=0.5", True),
        (b"gzip;q=0.001", True),
        (b"gzip ; q=0.5", True),
        (b"identity;q=0, gzip;q=0.1", True),
        (b"gzip;q=0.5, identity;q=0.5", True),
        (b"", False),
        (b",", False),
        (b"identity", False),
        (b"br, deflate", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"gzip;q=0.5, identity", False),
        (b"gzip;q=x", False),
        (b"gzip;q=nan", False),
        (b"gzip;q=2", False),
        (b"gzipped", False),
        (b"br" + b", br" * 100 + b", gzip", True),
    ],
)
def test_gzip_is_sent_if_it_is_accepted_and_not_less_preferred(
    accept_encoding: bytes, expected: bool
) -> None:
    assert prefers_gzip(accept_encoding) is expected
