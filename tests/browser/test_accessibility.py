"""axe-core's findings, and what it cannot check: keyboard navigation, focus, no animation."""

from itertools import product
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, ViewportSize, expect

from tests.browser.conftest import OpenTab, Service

#: All default rules, best practices included, and one that is off by default.
AXE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
WIDE: ViewportSize = {"width": 1280, "height": 740}
NARROW: ViewportSize = {"width": 320, "height": 640}

#: True if the focused element has a focus ring and is visible: on the screen, and not beneath the header.
IN_SIGHT = """() => {
  const focused = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(focused);
  const box = focused.getBoundingClientRect();
  const [top, bottom] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
  const there = document.elementFromPoint(box.x + Math.min(box.width / 2, 8), (top + bottom) / 2);
  return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && focused.contains(there);
}"""


async def violations(page: Page) -> list[str]:
    """Return axe-core's findings on the current page, one line per element."""
    await page.evaluate(
        "scrollTo(0, 0)"
    )  # otherwise it reports elements beneath the sticky header as too small
    found = (await Axe().run(page, options=AXE)).response
    assert found["passes"], "axe-core looked at nothing"
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES: tuple[ViewportSize, ...] = (
    {"width": 1440, "height": 900},
    {"width": 1024, "height": 768},
    {"width": 390, "height": 844},
    NARROW,
)
LOOKS = list(product(SIZES, SCHEMES))


async def check(page: Page, looks: list[tuple[ViewportSize, Scheme]]) -> None:
    """Fail on axe-core's findings at these sizes and colour schemes, and on horizontal scrolling."""
    for size, scheme in looks:
        await page.set_viewport_size(size)
        await page.emulate_media(color_scheme=scheme)
        await expect(page.locator("html")).to_have_js_property("scrollWidth", size["width"])
        assert await violations(page) == [], f"{scheme}, {size['width']} pixels"


@pytest.mark.parametrize(
    "view",
    [
        "#/?range=30d",
        "#/providers/{provider}?range=30d",
        "#/models/{model}?range=30d",
        "#/requests?where.status=failed",
    ],
)
async def test_axe_finds_nothing_wrong_in_a_view(service: Service, tab: OpenTab, view: str) -> None:
    page = (await tab(viewport=WIDE)).page
    model = service.get("chat-requests/models")["data"][0]
    await page.goto(service.url + view.format(model=model["model_id"], provider=model["provider"]["id"]))
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    for name in ("Show as a table", "Where these numbers come from", "Add a filter"):
        if await page.get_by_text(name).count():
            await page.get_by_text(name).first.click()
    await expect(page.get_by_role("table", name="Where these numbers come from")).to_be_visible()
    await check(page, LOOKS)


async def test_axe_finds_nothing_wrong_while_errors_are_shown(service: Service, tab: OpenTab) -> None:
    page = (await tab(viewport=WIDE)).page

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401, content_type="application/problem+json", body='{"status": 401}')

    await page.goto(f"{service.url}#/models/999999")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    await expect(page).to_have_title("Not found · chat-stats")
    await check(page, LOOKS[:6])
    await page.route("**/chat-requests/providers?*", lambda route: route.abort())
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.locator("#freshness-state")).to_have_text("Incomplete")
    await check(page, LOOKS[:6])
    await page.route("**/chat-requests/**", lambda route: route.abort())
    await page.route("**/chat-requests?*", lambda route: route.abort())
    await page.goto(f"{service.url}#/?range=all")
    await expect(page.locator("#freshness-state")).to_have_text("No answer")
    await check(page, LOOKS[:6])
    await page.route("**/chat-requests/**", refuse)
    await page.goto(f"{service.url}#/?range=7d")
    await page.get_by_label("API key").fill("wrong")
    await check(page, LOOKS[:6])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This key is not accepted.")
    await check(page, LOOKS[:6])


async def test_tab_moves_through_a_whole_view_and_back_with_visible_focus(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab(viewport=WIDE)).page
    model = service.get("chat-requests/models")["data"][0]["model_id"]
    await page.goto(f"{service.url}#/models/{model}?range=30d")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready]")).to_have_count(5)
    wanted = await page.evaluate(
        "[...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')]"
        ".filter((element) => element.checkVisibility() && !element.closest('details:not([open]) > div'))"
        ".map((element, index) => element.dataset.stop = String(index))"
    )
    for key in ("Tab", "Shift+Tab"):
        passed = []
        for _ in wanted:
            await page.keyboard.press(key)
            passed.append(await page.evaluate("document.activeElement.dataset.stop"))
            assert await page.evaluate(IN_SIGHT), await page.evaluate("document.activeElement.outerHTML")
        if key == "Tab":
            assert passed == wanted
            await page.keyboard.press("Tab")  # out of the page, or back to its start
            await page.evaluate("document.activeElement.blur()")
            await page.locator(f'[data-stop="{wanted[-1]}"]').focus()
        else:
            assert passed[: len(wanted) - 1] == wanted[-2::-1]


async def test_a_pressed_element_that_disappears_passes_its_focus_on(service: Service, tab: OpenTab) -> None:
    page = (await tab(viewport=WIDE)).page
    await page.route("**/chat-requests/providers?*", lambda route: route.abort())
    await page.goto(f"{service.url}#/?range=all")
    again = page.get_by_role("button", name="Try again")
    await again.focus()
    await page.unroute("**/chat-requests/providers?*")
    await page.keyboard.press("Enter")
    await expect(again).to_be_hidden()
    await expect(page.locator("main")).to_be_focused()
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    panel = page.locator("section", has=page.get_by_role("heading", name="Top models"))
    shown = await panel.locator("tbody tr").count()
    await panel.get_by_role("button", name="Show all").press("Enter")
    await expect(panel.locator("tbody tr").nth(shown).get_by_role("link").first).to_be_focused()


async def test_the_table_of_sources_keeps_its_scroll_position_while_its_ages_tick(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab(viewport=NARROW)).page
    await page.clock.install()
    await page.goto(f"{service.url}#/?range=all")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await page.get_by_text("Where these numbers come from").click()
    region = page.get_by_role("region", name="Where these numbers come from")
    await region.focus()
    await region.evaluate("(element) => { element.scrollLeft = 60; }")
    before = await region.inner_text()
    await page.clock.run_for(3000)
    assert await region.inner_text() != before
    await expect(region).to_be_focused()
    assert await region.evaluate("(element) => element.scrollLeft") == 60


async def test_nothing_is_animated_with_or_without_reduced_motion(service: Service, tab: OpenTab) -> None:
    for motion in ("reduce", "no-preference"):
        page = (await tab(viewport=WIDE, reduced_motion=motion)).page
        await page.goto(f"{service.url}#/?range=30d")
        await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
        await page.get_by_role("button", name="1W").click()
        await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
        await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
        await page.locator(".u-over").first.hover()
        assert await page.evaluate("document.getAnimations().length") == 0
        scrolled = await page.evaluate("() => { scrollTo(0, 400); return scrollY; }")
        assert scrolled == 400, "it scrolled softly"
