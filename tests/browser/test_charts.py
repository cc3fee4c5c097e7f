"""The charts' axes: shared ticks, partial intervals, where a long range begins, and narrow screens."""

from itertools import count, pairwise
from typing import Any

from playwright.async_api import Page, expect

from tests.browser.conftest import OpenTab, OwnService, Service

_loads = count(1)

PHONE = {"width": 390, "height": 844}

#: Of each drawn chart over time: its title, its ticks on the axis of x, and that axis's place on the screen.
AXES = """() => [...document.querySelectorAll(".uplot")].map(({ plot }) => ({
  title: plot.root.closest("figure").querySelector("h2").textContent,
  ticks: plot.axes[0]._splits.map((value, index) => [value, plot.axes[0]._values[index]]),
  labels: plot.axes[0]._splits.map((value, index) => {
    const at = plot.valToPos(value, "x");
    plot.ctx.font = `${11 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
    const half = plot.ctx.measureText(plot.axes[0]._values[index]).width / devicePixelRatio / 2;
    return [at - half, at + half];
  }),
  values: plot.axes[1]._values.filter(Boolean).length,
  place: [plot.over.offsetLeft, plot.over.offsetWidth],
  range: [plot.scales.x.min, plot.scales.x.max],
  starts: plot.data[0],
}))"""

#: Moves the cursor of a chart to one of its points, as a mouse does.
POINT = """([title, index]) => {
  const { plot } = [...document.querySelectorAll(".uplot")].find(({ plot }) =>
    plot.root.closest("figure").querySelector("h2").textContent === title);
  const box = plot.over.getBoundingClientRect();
  const at = plot.valToPos(plot.data[0].at(index), "x");
  const where = { clientX: box.left + at, clientY: box.top + 20, bubbles: true, view: window };
  plot.over.dispatchEvent(new MouseEvent("mouseenter", where));
  plot.over.dispatchEvent(new MouseEvent("mousemove", where));
}"""

#: The colours at the foot of the first chart: of its first bar, of one in the middle, of the last.
FILLS = """() => {
  const { plot } = document.querySelector(".uplot");
  const xs = plot.data[0];
  const foot = Math.round(plot.valToPos(0, "y", true)) - 2;
  const row = plot.ctx.getImageData(0, foot, plot.ctx.canvas.width, 1).data;
  return [0, Math.floor(xs.length / 2), xs.length - 1].map((index) => {
    const at = 4 * Math.round(plot.valToPos(xs[index], "x", true));
    return [...row.slice(at, at + 4)].join();
  });
}"""


async def axes(page: Page) -> list[dict[str, Any]]:
    return await page.evaluate(AXES)


async def drawn(page: Page, charts: int) -> None:
    """Wait until all charts are on the screen, with their last numbers."""
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready] .uplot")).to_have_count(charts)


async def open_view(page: Page, service: Service, view: str, charts: int) -> None:
    """Load the page whole, since a change behind the # alone leaves the last view there for a moment."""
    await page.goto(f"{service.url}?{next(_loads)}{view}")
    await drawn(page, charts)


async def test_charts_beside_each_other_share_their_ticks_in_every_range(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab(viewport={"width": 1280, "height": 900})).page
    for window in ("1h", "24h", "7d", "30d", "180d", "365d", "all"):
        await open_view(page, service, f"#/?range={window}", 4)
        first, *others = await axes(page)
        assert len(first["ticks"]) >= 3, window
        for other in others:
            assert (other["ticks"], other["place"]) == (first["ticks"], first["place"]), window
            assert other["range"] == first["range"]
        assert {value for value, _ in first["ticks"]} <= set(first["starts"]), (
            "a tick is where a bucket begins"
        )


async def test_partial_intervals_are_marked_in_the_drawing_at_the_cursor_and_in_the_table(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await open_view(page, service, "#/?range=30d", 4)
    readouts = page.locator(".readout")
    for title in ("Requests", "Latency"):
        for index, text in ((0, "(partial: from "), (-1, "(partial: until ")):
            await page.evaluate(POINT, [title, index])
            # One cursor runs through all charts.
            for at in range(4):
                await expect(readouts.nth(at)).to_contain_text(text)
        await page.evaluate(POINT, [title, 10])
        await expect(readouts.first).not_to_contain_text("partial")
    first, middle, last = await page.evaluate(FILLS)
    assert first == last != middle
    chart = page.locator("figure", has=page.get_by_role("heading", name="Requests", exact=True))
    await expect(chart.locator(".legend")).to_contain_text("Partial interval")
    await chart.get_by_text("Show as a table").click()
    rows = page.get_by_role("table", name="Requests", exact=True).locator("tbody tr")
    await expect(rows.first).to_contain_text("(partial: until ")
    await expect(rows.last).to_contain_text("(partial: from ")
    await expect(rows.nth(5)).not_to_contain_text("partial")


async def test_a_year_over_ninety_days_of_data_begins_where_the_data_begin(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=365d")
    await drawn(page, 4)
    points = service.get("chat-requests/timeseries", window="365d", bucket="1w", timezone="Asia/Kolkata")[
        "data"
    ]
    with_requests = [point for point in points if point["total_requests"]]
    assert len(with_requests) < len(points) / 2
    for axis in await axes(page):
        assert len(axis["starts"]) == len(with_requests)
    notes = page.locator("figure .note", has_text="No requests before ")
    await expect(notes).to_have_count(4)
    await page.get_by_role("button", name="1M").click()
    await drawn(page, 4)
    await expect(notes).to_have_count(0)


async def test_ticks_do_not_touch_on_a_phone(service: Service, tab: OpenTab) -> None:
    page = (await tab(viewport=PHONE)).page
    model = service.get("chat-requests/models")["data"][0]["model_id"]
    for window in ("24h", "7d", "30d", "all"):
        await open_view(page, service, f"#/models/{model}?range={window}", 5)
        for axis in await axes(page):
            assert axis["values"] >= 2, axis
            edges = sorted(axis["labels"])
            assert len(edges) >= 2, axis
            gaps = [right[0] - left[1] for left, right in pairwise(edges)]
            assert min(gaps) >= 4, (window, axis["title"], axis["ticks"])


async def test_models_of_one_name_can_be_told_apart_on_a_phone(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service()
    await service.execute("""
        UPDATE models SET model_name = 'Twin' WHERE id IN (
            SELECT min(id) FROM models GROUP BY provider_id ORDER BY min(id) LIMIT 2);
        UPDATE models
            SET model_name = 'Double', provider_model_id = 'upstream-' || id, model_id = 'upstream-' || id
            WHERE id IN
                (SELECT id FROM models WHERE provider_id = 1 AND model_name <> 'Twin' ORDER BY id LIMIT 2);
    """)
    service.start()
    page = (await tab(viewport=PHONE)).page
    await page.goto(f"{service.url}#/?range=all&models.search=twin")
    rows = page.get_by_role("table", name="Models").locator("tbody tr")
    await expect(rows).to_have_count(2, timeout=30_000)
    first, second = await rows.locator("th").all_inner_texts()
    assert first != second
    await page.goto(f"{service.url}#/?range=all&models.search=double")
    await page.reload()
    await expect(rows).to_have_count(2)
    assert all("upstream-" in text for text in await rows.locator("th").all_inner_texts())
    await expect(page.locator("html")).to_have_js_property("scrollWidth", PHONE["width"])
