"""The web page's files as served, without a browser."""

import gzip
import re
from importlib.resources import files
from typing import Any

import httpx
import pytest

from chat_stats.service.app import create_app
from chat_stats.service.settings import Settings
from chat_stats.service.web import load_assets

STRICT = {"'none'", "'self'", "'script'"}


def browser(**settings: Any) -> httpx.AsyncClient:
    app = create_app(Settings(database_url="postgresql://user@localhost/none", _env_file=None, **settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def files_of_the_page(client: httpx.AsyncClient) -> list[str]:
    """Every address in the page, and every module that a module imports."""
    page = (await client.get("/")).text
    return re.findall(r'(?:href|src|data-chart-library)="(static/[^"]+)"', page)


async def test_the_page_is_public_even_if_reading_needs_a_key() -> None:
    async with browser(api_keys="secret") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "{{" not in page.text
        assert (await client.get("/api/monitoring/chat-requests/summary")).status_code == 401


async def test_all_files_of_the_page_exist_and_are_cached_for_good() -> None:
    async with browser() as client:
        names = await files_of_the_page(client)
        assert len(names) > 10
        for name in names:
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable", name


async def test_every_module_that_is_imported_is_named_by_the_page() -> None:
    async with browser() as client:
        names = await files_of_the_page(client)
        for name in (name for name in names if name.endswith(".js") and "/vendor/" not in name):
            for imported in re.findall(r'from "(\.[^"]+)"', (await client.get(f"/{name}")).text):
                address = str(httpx.URL(f"http://test/{name}").join(imported).path).removeprefix("/")
                assert address in names


async def test_the_charting_library_is_served_with_its_notice_and_its_licence_is_kept() -> None:
    async with browser() as client:
        library = next(name for name in await files_of_the_page(client) if "/vendor/" in name)
        text = (await client.get(f"/{library}")).text
    assert text.startswith("/*! https://github.com/leeoniya/uPlot (v1.6.32) */")
    assert text.endswith("export default uPlot;\n")
    licence = files("chat_stats.service.web") / "vendor" / "uplot" / "LICENSE"
    assert "The MIT License" in licence.read_text()


async def test_a_first_visit_takes_at_most_150_kilobytes() -> None:
    async with browser() as client:
        names = {"", *await files_of_the_page(client)}
        sizes = {name: await transferred(client, name) for name in names}
    assert sum(sizes.values()) <= 150_000, sizes


async def transferred(client: httpx.AsyncClient, name: str) -> int:
    async with client.stream("GET", f"/{name}", headers={"Accept-Encoding": "gzip"}) as answer:
        headers = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
        return headers + sum([len(part) async for part in answer.aiter_raw()])


@pytest.mark.parametrize("kind", ["page", "script", "image"])
async def test_the_content_security_policy_trusts_only_the_service(kind: str) -> None:
    async with browser() as client:
        names = await files_of_the_page(client)
        paths = {"page": "", "script": next(n for n in names if n.endswith("main.js")), "image": names[0]}
        headers = (await client.get(f"/{paths[kind]}")).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert {source for value in policy.values() for source in value.split()} <= STRICT
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_only_pages_of_the_named_origins_may_frame_the_page() -> None:
    origins = "https://intranet.example,https://*.wiki.example"
    async with browser(frame_ancestors=origins) as client:
        policy = (await client.get("/")).headers["content-security-policy"]
    assert "frame-ancestors https://intranet.example https://*.wiki.example;" in policy


async def test_the_page_has_nothing_inline() -> None:
    async with browser() as client:
        page = (await client.get("/")).text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|https?://", page)


async def test_the_page_is_revalidated_and_not_sent_twice() -> None:
    async with browser() as client:
        first = await client.get("/")
        assert first.headers["cache-control"] == "no-cache"
        again = await client.get("/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        other = await client.get("/", headers={"If-None-Match": 'W/"other"'})
        assert other.status_code == 200
        # Compared weakly, and in several headers of the name too.
        tags = [("If-None-Match", '"other"'), ("If-None-Match", first.headers["etag"].removeprefix("W/"))]
        assert (await client.get("/", headers=tags)).status_code == 304


async def test_every_process_sends_the_same_files_under_the_same_names() -> None:
    async with browser() as one, browser() as other:
        assert (await one.get("/")).content == (await other.get("/")).content


def test_the_start_waits_for_no_file_to_be_compressed() -> None:
    assert not any("compressed" in vars(asset) for asset in load_assets().values())


async def test_files_are_compressed_if_that_is_accepted() -> None:
    async with browser() as client:
        library = next(name for name in await files_of_the_page(client) if "/vendor/" in name)
        async with client.stream("GET", f"/{library}", headers={"Accept-Encoding": "br, gzip"}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.headers["vary"] == "Accept-Encoding"
        any_encoding = await client.get(f"/{library}", headers={"Accept-Encoding": "*"})
        assert any_encoding.headers["content-encoding"] == "gzip"
        plain = await client.get(f"/{library}", headers={"Accept-Encoding": "gzip;q=0, identity"})
        assert "content-encoding" not in plain.headers
        assert gzip.decompress(raw) == plain.content
        assert len(raw) < len(plain.content) / 2


async def test_a_head_request_gets_only_the_headers() -> None:
    async with browser() as client:
        head = await client.head("/")
        assert head.status_code == 200
        assert head.headers["etag"] == (await client.get("/")).headers["etag"]


@pytest.mark.parametrize(
    "path", ["/static/main.js", "/static/../settings.py", "/static/%2e%2e/app.py", "/static/"]
)
async def test_nothing_else_is_served(path: str) -> None:
    async with browser() as client:
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_page_can_be_switched_off() -> None:
    async with browser(web_page=False) as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.get("/health")).status_code == 200


async def test_the_page_is_not_part_of_the_documented_api() -> None:
    async with browser() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/static")]
