"""Single requests: filtered, in pages, in full, as a download, and from every number that counts them."""

import csv
import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenTab, Service
from tests.browser.test_accessibility import LOOKS, check


async def loaded(page: Page) -> None:
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)


def rows_of(page: Page) -> Locator:
    return page.get_by_role("table", name="Requests", exact=True).locator("tbody tr")


async def test_filters_are_those_of_the_api_and_are_in_the_address(service: Service, tab: OpenTab) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(f"{service.url}#/requests?range=all")
    await page.get_by_text("Add a filter").click()
    await page.get_by_label("Dimension").select_option("user_id")
    await page.get_by_label("Value").fill("user_0001")
    await page.get_by_role("button", name="Add").click()
    await expect(page.get_by_role("list", name="Filters")).to_contain_text("User is user_0001")
    await page.get_by_role("link", name="+ Failed").click()
    wanted = service.get("chat-requests", **{"user_id": "user_0001", "error_kind!": "__null__", "limit": 50})
    total = wanted["metadata"]["total_count"]
    assert total > 0
    await expect(page.get_by_role("status").filter(has_text="requests")).to_have_text(
        f"{len(wanted['data'])} of {total} requests"
    )
    await expect(rows_of(page)).to_have_count(len(wanted["data"]))
    await page.reload()
    await expect(rows_of(page)).to_have_count(len(wanted["data"]))
    await page.get_by_role("link", name="Remove the filter Failed requests").click()
    await expect(page.get_by_role("list", name="Filters")).to_contain_text("User is user_0001")
    query = parse_qs(urlsplit(watched.api_requests("chat-requests?")[-1].url).query)
    assert query["user_id"] == ["user_0001"]
    assert "error_kind!" not in query


async def test_a_name_of_a_model_and_requests_without_one_are_filters_too(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/requests?range=all&where.model_name=claude")
    await loaded(page)
    names = await rows_of(page).locator("td.wide a").all_inner_texts()
    assert len(names) == 50
    assert all("claude" in name.lower() for name in names)
    await page.goto(f"{service.url}#/requests?range=all")
    await page.get_by_role("link", name="+ Without a model").click()
    await expect(page.get_by_text("No requests in this range.")).to_be_visible()
    # A filter that the service refuses is shown with its reason.
    await page.goto(f"{service.url}#/requests?range=all&where.nothing=1")
    await expect(page.locator(".panel-message")).to_contain_text("Unknown parameter")


async def test_pages_are_walked_by_cursor_there_and_back(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/requests?range=all&order=created_at")
    await loaded(page)
    first = await rows_of(page).all_inner_texts()
    await page.get_by_role("link", name="Next page").click()
    await expect(page.get_by_role("link", name="First page")).to_be_visible()
    second = await rows_of(page).all_inner_texts()
    assert len(second) == 50
    assert not set(first) & set(second)
    await page.get_by_role("link", name="Next page").click()
    await expect(page.get_by_role("link", name="Previous page")).to_be_visible()
    await page.get_by_role("link", name="Previous page").click()
    await expect(rows_of(page).first).to_have_text(second[0], use_inner_text=True)
    await page.get_by_role("link", name="First page").click()
    await expect(rows_of(page).first).to_have_text(first[0], use_inner_text=True)
    await page.get_by_label("Order").select_option("-cost_usd")
    await expect(page.locator(".panel-message")).to_contain_text("CREATE INDEX CONCURRENTLY")


async def test_a_request_is_shown_in_full_with_its_error(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/requests?range=all&where.error_kind!=__null__")
    await loaded(page)
    wanted = service.get("chat-requests", **{"error_kind!": "__null__", "limit": 1})["data"][0]
    opener = rows_of(page).first.get_by_role("button")
    await opener.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(wanted["request_id"])
    await expect(dialog).to_contain_text(wanted["error_message"])
    await expect(dialog.locator("dt", has_text="user_id")).to_be_visible()
    await check(page, LOOKS)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(opener).to_be_focused()


async def test_what_is_shown_can_be_taken_along(service: Service, tab: OpenTab, tmp_path: Path) -> None:
    page = (await tab(permissions=["clipboard-read", "clipboard-write"])).page
    await page.goto(f"{service.url}#/requests?range=all&where.error_kind!=__null__")
    await loaded(page)
    total = service.get("chat-requests", **{"error_kind!": "__null__"})["metadata"]["total_count"]
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download CSV").click()
    path = tmp_path / "requests.csv"
    await (await download.value).save_as(path)
    assert len(list(csv.DictReader(io.StringIO(path.read_text())))) == total
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download Parquet").click()
    await (await download.value).save_as(path)
    assert path.read_bytes()[:4] == b"PAR1"
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_text("Copied.")).to_be_visible()
    command = await page.evaluate("navigator.clipboard.readText()")
    address = command.removeprefix("curl -s '").removesuffix("'")
    answer = await (await page.request.get(address)).json()
    assert answer["metadata"]["total_count"] == total


async def test_the_failures_of_a_row_are_one_click_away(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    provider = next(row for row in service.get("chat-requests/providers")["data"] if row["failed_requests"])
    row = page.get_by_role("table", name="Providers").get_by_role("row", name=provider["name"])
    await row.get_by_role("link", name=f"{provider['failed_requests']} failed requests").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Requests")
    await expect(page.get_by_role("status").filter(has_text="requests")).to_contain_text(
        f"{provider['failed_requests']} requests"
    )
    await expect(page.get_by_role("list", name="Filters")).to_contain_text(f"Provider is {provider['name']}")
