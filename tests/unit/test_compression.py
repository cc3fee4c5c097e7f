"""gzip and zstd whose beginning is made once."""

import gzip
import zlib

import pytest
from backports import zstd

from chat_stats.service.cache.compression import begin_gzip, begin_zstd

ENDS = [b"", b"}", b',"metadata":{}' * 50, bytes(range(256)) * 255]
TEXTS = [b"", b"[]", b'{"model_id":1},' * 100_000]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_beginning_and_an_end_make_one_gzip_stream(text: bytes, end: bytes) -> None:
    stream = begin_gzip(text).ended_with(end)
    assert gzip.decompress(stream) == text + end
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert decompressor.decompress(stream) == text + end
    assert decompressor.eof  # one member with its checksum, and nothing after it
    assert decompressor.unused_data == b""


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("text", TEXTS[1:])  # answers begin with an opening
def test_a_beginning_and_an_end_make_one_zstd_frame_that_browsers_accept(text: bytes, end: bytes) -> None:
    stream = begin_zstd(text).ended_with(end)
    # RFC 9659: a window of at most 8 MB.
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
    assert decompressor.decompress(stream) == text + end
    assert decompressor.eof  # one frame, and nothing after it
    assert decompressor.unused_data == b""


def test_a_beginning_serves_any_number_of_ends() -> None:
    text = b"The numbers: " * 100
    for end in (b"1", b"2"):
        assert gzip.decompress(begin_gzip(text).ended_with(end)) == text + end
        assert zstd.decompress(begin_zstd(text).ended_with(end)) == text + end
