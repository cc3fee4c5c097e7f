"""From all providers to one model, with the numbers of the API."""

import asyncio
import os
import re
from contextlib import suppress

import pytest
from playwright.async_api import Error, Page, Route, expect

from tests.browser.conftest import OpenTab, Service

#: The page's placeholder for a missing number.
UNKNOWN = "\N{EN DASH}"


def grouped(number: int) -> str:
    return f"{number:,}"


async def figure(page: Page, label: str) -> str:
    """Return the key figure's exact value if it is shortened, otherwise its text."""
    value = (
        page.locator(".card")
        .filter(has=page.locator("dt", has_text=re.compile(f"^{label}$")))
        .locator(".value")
    )
    await expect(value).not_to_have_text(UNKNOWN)
    return await value.get_attribute("title") or await value.inner_text()


async def rows_of(page: Page, caption: str) -> list[list[str]]:
    table = page.get_by_role("table", name=caption, exact=True)
    await expect(table.locator("tbody tr").first).to_be_visible()
    return await table.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )


async def test_the_way_from_all_providers_to_one_model(service: Service, tab: OpenTab) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(f"{service.url}#/?range=all")
    await expect(page.get_by_role("heading", level=1)).to_have_text("All providers")
    await page.get_by_role("table", name="Providers").get_by_role("link", name="OpenAI", exact=True).click()
    heading = page.get_by_role("heading", level=1)
    await expect(heading).to_have_text("OpenAI")
    await expect(heading).to_be_focused()
    await page.get_by_role("table", name="Models").get_by_role("link", name="GPT-4o mini", exact=True).click()
    await expect(heading).to_have_text("GPT-4o mini")
    await expect(page).to_have_title("GPT-4o mini · chat-stats")
    await expect(page.locator(".panel[data-state=ready]")).to_have_count(6)
    await page.get_by_role("navigation", name="Path").get_by_role("link", name="OpenAI").click()
    await expect(heading).to_have_text("OpenAI")
    await page.go_back()
    await expect(heading).to_have_text("GPT-4o mini")
    assert "range=all" in page.url


async def test_the_numbers_are_those_of_the_api(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    summary = service.get("chat-requests/summary")["data"]
    assert await figure(page, "Requests") == grouped(summary["total_requests"]) == "20,000"
    assert await figure(page, "Tokens") == grouped(summary["total_tokens"])
    assert await figure(page, "Cost") == f"${summary['total_cost_usd']:.2f}"
    assert await figure(page, "Success rate") == f"{100 * summary['success_rate']:.1f}%"
    latency = page.locator(".card").filter(has_text="Latency")
    await expect(latency).to_contain_text(f"{summary['p50_processing_time_ms'] / 1000:.2f} s")
    await expect(latency).to_contain_text(f"p95 {summary['p95_processing_time_ms'] / 1000:.1f} s")
    await page.get_by_role("button", name="Show all").first.click()
    providers = service.get("chat-requests/providers")["data"]
    assert [row[:3] for row in await rows_of(page, "Providers")] == [
        [row["name"], grouped(row["models_with_requests"]), grouped(row["total_requests"])]
        for row in providers
    ]
    models = service.get("chat-requests/models")["data"][:12]
    assert [row[:3] for row in await rows_of(page, "Models")] == [
        [row["model_name"], row["provider"]["name"], grouped(row["stats"]["total_requests"])]
        for row in models
    ]


async def test_a_models_numbers_are_those_of_the_api(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    model = service.get("chat-requests/models")["data"][0]
    await page.goto(f"{service.url}#/models/{model['model_id']}?range=all")
    assert await figure(page, "Requests") == grouped(model["stats"]["total_requests"])
    assert await figure(page, "Tokens") == grouped(model["stats"]["total_tokens"])
    recent = service.get("chat-requests", model_id=model["model_id"], limit=20)["data"]
    shown = await rows_of(page, "Recent requests")
    assert [row[2:4] for row in shown] == [
        [UNKNOWN if row[name] is None else grouped(row[name]) for name in ("input_tokens", "output_tokens")]
        for row in recent
    ]


async def test_a_chart_has_its_points_as_a_table(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    chart = page.locator("figure", has=page.get_by_role("heading", name="Requests", exact=True))
    image = chart.get_by_role("img")
    await expect(image).to_have_attribute("aria-label", re.compile("^Requests: 20,000 in all, "))
    await chart.get_by_text("Show as a table").click()
    points = service.get("chat-requests/timeseries", bucket="1d", timezone="Asia/Kolkata")["data"]
    assert [row[1:] for row in await rows_of(page, "Requests")] == [
        [grouped(point["total_requests"] - point["failed_requests"]), grouped(point["failed_requests"])]
        for point in reversed(points)
    ]
    # It is drawn: a canvas of one colour would compress to almost nothing.
    assert len(await image.screenshot()) > 2000


# Milliseconds from the start of loading until a frame with rows and links in it has been drawn.
USABLE = """
window.usable = new Promise((done) => {
  new MutationObserver((_changes, observer) => {
    if (!document.querySelector("tbody a")) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  }).observe(document, { childList: true, subtree: true });
});
"""


async def test_the_first_view_is_usable_within_a_second(service: Service, tab: OpenTab) -> None:
    """With an empty browser cache; the best of several runs, because other load may delay one."""
    for name in ("summary", "providers", "models"):
        service.get(f"chat-requests/{name}", window="7d")
    milliseconds: list[float] = []
    while len(milliseconds) < 8 and min(milliseconds, default=1000) >= 1000:
        page = (await tab()).page
        await page.add_init_script(USABLE)
        await page.goto(service.url)
        milliseconds.append(await page.evaluate("window.usable"))
    if min(milliseconds) >= 1000 and os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip(f"NOT MEASURED: the machine is too busy, the first view took {min(milliseconds):.0f} ms")
    assert min(milliseconds) < 1000, milliseconds


async def test_a_deep_link_survives_a_reload(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(service.url)
    await page.get_by_role("button", name="1M").click()
    link = page.get_by_role("table", name="Models").get_by_role("link").first
    title = await link.inner_text()
    await link.click()
    heading = page.get_by_role("heading", level=1)
    await expect(heading).to_have_text(title)
    address = page.url
    assert address.endswith("?range=30d")
    await page.reload()
    await expect(heading).to_have_text(title)
    assert page.url == address
    await expect(page.get_by_role("button", name="1M")).to_have_attribute("aria-pressed", "true")


async def test_a_request_that_a_view_abandoned_is_repeated_for_the_next_view(
    service: Service, tab: OpenTab
) -> None:
    """All time is shown by month, then by day if the range is short; both views request the same models."""
    watched = await tab()
    page = watched.page

    async def slowly(route: Route) -> None:
        await asyncio.sleep(1)
        with suppress(Error):  # the request was aborted
            await route.continue_()

    await page.route("**/chat-requests/models?*", slowly)
    await page.goto(f"{service.url}#/?range=all")
    await expect(page.get_by_role("table", name="Models").locator("tbody tr").first).to_be_visible()
    assert len(watched.api_requests("chat-requests/models")) == 2


async def test_a_model_that_does_not_exist_is_reported_as_missing(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/models/999999")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    await page.goto(f"{service.url}#/nowhere")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    await page.locator("main").get_by_role("link", name="All providers").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All providers")
