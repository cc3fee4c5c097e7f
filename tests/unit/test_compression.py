"""gzip whose beginning is made once."""

import gzip
import zlib

import pytest

from chat_stats.service.cache.compression import begin


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
