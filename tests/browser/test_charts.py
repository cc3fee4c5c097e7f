"""The charts' axes: shared ticks, partial intervals, where a long range begins, and narrow screens."""

from itertools import pairwise
from typing import Any

from playwright.async_api import Page, expect

from tests.browser.conftest import OpenTab, OwnService, Service

PHONE = {"width": 390, "height": 844}

#: Of each drawn chart: its title, its ticks on the axis of x, and that axis's place on the screen.
AXES = """() => Object.values(Chart.instances).map((chart) => ({
  title: chart.canvas.closest("figure").querySelector("h2").textContent,
  ticks: chart.scales.x.ticks.map(({ value, label }) => [value, label]),
  labels: chart.scales.x.ticks.map(({ label, value }) => {
    const at = chart.scales.x.getPixelForValue(value);
    const half = chart.ctx.measureText(label).width / 2;
    return [at - half, at + half];
  }),
  values: chart.scales.y.ticks.filter(({ label }) => label).length,
  place: [chart.scales.x.left, chart.scales.x.right],
  range: [chart.scales.x.min, chart.scales.x.max],
  starts: chart.data.datasets[0].data.map(({ x }) => x),
}))"""

#: What the tooltip of a chart says at one of its points.
TOOLTIP = """([title, index]) => {
  const chart = Object.values(Chart.instances).find(({ canvas }) =>
    canvas.closest("figure").querySelector("h2").textContent === title);
  const at = index < 0 ? chart.data.datasets[0].data.length + index : index;
  chart.tooltip.setActiveElements([{ datasetIndex: 0, index: at }], { x: 0, y: 0 });
  chart.update();
  return chart.tooltip.title.join(" ");
}"""

#: How the bars of the chart of requests are filled: the first, one of the middle, the last.
FILLS = """() => {
  const chart = Object.values(Chart.instances).find(({ config }) => config.type === "bar");
  const bars = chart.getDatasetMeta(0).data;
  return [0, Math.floor(bars.length / 2), bars.length - 1].map((at) => bars[at].options.backgroundColor);
}"""


async def axes(page: Page) -> list[dict[str, Any]]:
    return await page.evaluate(AXES)


async def drawn(page: Page, count: int) -> None:
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready]")).to_have_count(count)


async def test_charts_beside_each_other_share_their_ticks_in_every_range(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab(viewport={"width": 1280, "height": 900})).page
    for window in ("24h", "7d", "30d", "180d", "365d", "all"):
        await page.goto(f"{service.url}#/?range={window}")
        await page.reload()
        await drawn(page, 4)
        first, *others = await axes(page)
        assert len(first["ticks"]) >= 3, window
        for other in others:
            assert (other["ticks"], other["place"]) == (first["ticks"], first["place"]), window
            assert other["range"] == first["range"]
        assert {value for value, _ in first["ticks"]} <= set(first["starts"]), (
            "a tick is where a bucket begins"
        )


async def test_partial_intervals_are_marked_in_the_drawing_the_tooltip_and_the_table(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=30d")
    await drawn(page, 4)
    for title in ("Requests", "Latency"):
        assert "(partial: from " in await page.evaluate(TOOLTIP, [title, 0])
        assert "(partial: until " in await page.evaluate(TOOLTIP, [title, -1])
        assert "partial" not in await page.evaluate(TOOLTIP, [title, 10])
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
        await page.goto(f"{service.url}#/models/{model}?range={window}")
        await page.reload()
        await drawn(page, 5)
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
