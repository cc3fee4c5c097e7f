"""Splits, comparison with the period before, ranges of one's own, the legend, and an empty database."""

import re
from datetime import UTC, datetime, timedelta

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenTab, OwnService, Service
from tests.browser.test_accessibility import LOOKS, check

TITLES = ("Requests", "Failed requests", "Latency", "Tokens", "Cost")


def chart(page: Page, title: str) -> Locator:
    return page.locator("figure", has=page.get_by_role("heading", name=title, exact=True))


async def drawn(page: Page, charts: int) -> None:
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready] .uplot")).to_have_count(charts)


async def values(page: Page, title: str) -> dict[str, list[str]]:
    """The table beneath a chart, by its columns."""
    return await chart(page, title).evaluate("""(figure) => {
      figure.querySelector("details").open = true;
      figure.querySelector("details").dispatchEvent(new Event("toggle"));
      const texts = (row) => [...row.cells].map((cell) => cell.innerText);
      const [head, ...rows] = [...figure.querySelectorAll("tr")].map(texts);
      return Object.fromEntries(head.map((label, at) => [label, rows.map((row) => row[at])]));
    }""")


async def test_every_chart_is_split_by_any_dimension_and_adds_up(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=30d")
    await page.get_by_role("group", name="Split by").get_by_role("button", name="Provider").click()
    await drawn(page, 5)
    groups = service.get("chat-requests/query", group_by="provider_id", window="30d", limit=5)["data"]
    names = [row["provider_name"] for row in groups]
    for title in TITLES:
        shown = await values(page, title)
        assert list(shown)[1:6] == names, title
    requests = await values(page, "Requests")
    number = [sum(int(text.replace(",", "")) for text in requests[name]) for name in [*names, "Others"]]
    assert number[:5] == [row["total_requests"] for row in groups]
    total = service.get("chat-requests/summary", window="30d")["data"]["total_requests"]
    assert sum(number) == total
    rows = page.get_by_role("table", name="By provider").locator("tbody tr")
    first = service.get(
        "chat-requests/query",
        group_by="provider_id",
        window="30d",
        limit=1,
        measures="total_requests,failed_requests,p50_processing_time_ms,total_cost_usd",
    )["data"][0]
    cells = await rows.first.locator("th, td").all_inner_texts()
    assert cells[1] == f"{first['total_requests']:,}"
    assert cells[2].startswith(f"{100 * first['failed_requests'] / first['total_requests']:.1f}%")
    assert cells[-1] == f"${first['total_cost_usd']:.2f}"
    await page.reload()
    await drawn(page, 5)
    await check(page, LOOKS)


async def test_where_a_split_is_read_from_the_requests_it_says_so(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?by=user_id")
    panel = page.locator("section", has=page.get_by_role("heading", name="By user", exact=True))
    await expect(panel).to_contain_text("Read from the requests of the range.")
    await expect(panel).to_contain_text("chat-stats rollup add user_id --by user_id")


async def test_the_period_before_is_a_value_a_change_and_a_line(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=30d")
    await page.get_by_role("button", name="Compare").click()
    await drawn(page, 4)
    answer = service.get(
        "chat-requests/query",
        window="30d",
        compare="previous",
        bucket="1d",
        timezone="Asia/Kolkata",
        measures="total_requests",
    )
    before = answer["metadata"]["total"]["previous"]["total_requests"]
    change = answer["metadata"]["total"]["change"]["total_requests"]
    card = page.locator(".card").filter(has_text="models")
    await expect(card.locator(".change")).to_have_text(
        re.compile(rf"^{'[+]' if change > 0 else '.'}{100 * abs(change):.0f}.*% from {before:,}$")
        if abs(change) >= 0.1
        else re.compile(rf"^{'[+]' if change > 0 else '.'}{100 * abs(change):.1f}% from {before:,}$")
    )
    ghost = (await values(page, "Requests"))["Period before"]
    assert [int(text.replace(",", "")) for text in reversed(ghost)] == [
        row["previous"]["total_requests"] for row in answer["data"]
    ]
    await page.get_by_role("button", name="All: All time").click()
    await expect(page.get_by_role("button", name="Compare")).to_be_disabled()


async def test_an_hour_has_quarters_and_percentiles_name_their_error(service: Service, tab: OpenTab) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(f"{service.url}#/?range=24h")
    await drawn(page, 4)
    await expect(chart(page, "Latency")).to_contain_text("Percentiles within 2.5%")
    await expect(page.locator(".zone")).to_have_text(re.compile("^Times in Asia/(Kolkata|Calcutta)$"))
    await page.get_by_role("button", name="1H").click()
    await expect(page.get_by_role("button", name="1H")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    assert "bucket=15m" in watched.api_requests("chat-requests/timeseries")[-1].url


async def test_a_range_of_ones_own_is_typed_or_drawn_and_shown_everywhere(
    service: Service, tab: OpenTab
) -> None:
    watched = await tab(viewport={"width": 1280, "height": 900})
    page = watched.page
    await page.goto(f"{service.url}#/?range=30d")
    await drawn(page, 4)
    box = await chart(page, "Requests").locator(".u-over").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 60)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=5)
    await page.mouse.up()
    await page.wait_for_url("**from=*")
    await drawn(page, 4)
    asked = watched.api_requests("chat-requests/summary")[-1].url
    assert "start_date=" in asked
    assert "window=" not in asked
    await expect(page.locator(".custom > summary")).to_have_attribute("data-active", "true")
    shown = await values(page, "Requests")
    assert 5 <= len(shown["From"]) / 24 <= 9, "up to eight days are shown by the hour"
    await page.go_back()
    await expect(page.get_by_role("button", name="1M")).to_have_attribute("aria-pressed", "true")
    await page.locator(".custom > summary").click()
    start = datetime.now(UTC) - timedelta(days=3)
    await page.get_by_label("From", exact=True).fill(start.strftime("%Y-%m-%dT00:00"))
    await page.get_by_label("To", exact=True).fill((start + timedelta(days=1)).strftime("%Y-%m-%dT00:00"))
    await check(page, LOOKS[::3])
    await page.get_by_role("button", name="Show", exact=True).click()
    await page.wait_for_url("**from=*")
    await drawn(page, 4)
    assert len((await values(page, "Requests"))["From"]) == 24


async def test_a_bar_leads_to_its_requests_and_the_legend_switches_series(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab(viewport={"width": 1280, "height": 900})).page
    await page.goto(f"{service.url}#/?range=30d")
    await drawn(page, 4)
    legend = chart(page, "Requests").locator(".legend")
    heights = "document.querySelector('.uplot').plot.scales.y.max"
    before = await page.evaluate(heights)
    await legend.get_by_role("button", name="Successful").click()
    await expect(legend.get_by_role("button", name="Successful")).to_have_attribute("aria-pressed", "false")
    await page.wait_for_function(f"{heights} < {before} / 2")
    await legend.get_by_role("button", name="Successful").click()
    await page.wait_for_function(f"{heights} === {before}")
    box = await chart(page, "Requests").locator(".u-over").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 10)
    link = chart(page, "Requests").locator(".readout").get_by_role("link").first
    text = await link.inner_text()
    await link.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Requests")
    await expect(page.get_by_text(f"50 of {text}")).to_be_visible()


async def test_an_empty_database_is_greeted_with_three_steps(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service()
    await service.execute("DELETE FROM chat_completion_requests")
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    welcome = page.locator("section", has=page.get_by_role("heading", name="No requests yet"))
    await expect(welcome.get_by_role("listitem")).to_have_count(3)
    for command in ("migrate", "import", "demo"):
        await expect(welcome.locator("pre", has_text=f"chat-stats {command}")).to_be_visible()
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await check(page, LOOKS)
