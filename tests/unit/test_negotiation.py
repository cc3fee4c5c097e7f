"""What the headers of a request ask for."""

import pytest

from chat_stats.service.http.negotiation import accepted_codings, header_value, matches_etag


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
def test_gzip_is_sent_where_it_is_accepted_and_rated_no_lower_than_identity(
    accept_encoding: bytes, expected: bool
) -> None:
    assert ("gzip" in accepted_codings(accept_encoding)) is expected


@pytest.mark.parametrize(
    ("accept_encoding", "codings"),
    [
        (b"zstd", ("zstd",)),
        (b"gzip, deflate, br, zstd", ("zstd", "gzip")),
        (b"ZSTD;q=0.8, gzip;q=0.9", ("gzip", "zstd")),
        (b"zstd;q=0, gzip", ("gzip",)),
        (b"zstd;q=0.5, identity, gzip", ("gzip",)),
        (b"*", ("gzip",)),  # which a client without zstd may send
        (b"zstd2", ()),
    ],
)
def test_zstd_is_sent_where_it_is_named_and_rated_no_lower_than_gzip(
    accept_encoding: bytes, codings: tuple[str, ...]
) -> None:
    assert accepted_codings(accept_encoding) == codings


def test_several_headers_of_one_name_make_one_list() -> None:
    headers = [(b"if-none-match", b'"a"'), (b"host", b"x"), (b"if-none-match", b'W/"b"')]
    assert header_value(headers, b"if-none-match") == b'"a",W/"b"'
    assert matches_etag(header_value(headers, b"if-none-match"), b'W/"a"')
    assert header_value(headers, b"accept") == b""
    assert not matches_etag(b"", b'W/"a"')
