"""A walk through docs/questions.md: each question is answered on the page with at most three clicks."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenTab, Service

DOCUMENT = Path(__file__).parents[2] / "docs" / "questions.md"
MOST_CLICKS = 3
CHANGED = re.compile(r"[+\N{MINUS SIGN}]\d")
CHANGED_COST = re.compile(r"^[+\N{MINUS SIGN}].+% from \$")


@dataclass
class Walk:
    """A visitor, who begins at the front page and clicks."""

    page: Page
    service: Service
    clicks: int = 0

    async def click(self, target: Locator) -> None:
        await target.click()
        self.clicks += 1

    async def press(self, name: str) -> None:
        controls = self.page.locator(".controls, .split-bar")
        await self.click(controls.get_by_role("button", name=re.compile(f"^{name}(:|$)")))

    def rows(self, caption: str) -> Locator:
        return self.page.get_by_role("table", name=caption, exact=True).locator("tbody tr")

    async def sort(self, caption: str, column: str) -> None:
        table = self.page.get_by_role("table", name=caption, exact=True)
        await self.click(table.get_by_role("columnheader", name=column, exact=True).get_by_role("button"))

    def first(self, **parameters: object) -> dict[str, object]:
        return self.service.get("chat-requests/query", **parameters)["data"][0]


async def users_that_cost_most(walk: Walk) -> None:
    await walk.press("User")
    await walk.sort("By user", "Cost")
    wanted = walk.first(
        group_by="user_id", order_by="-total_cost_usd", measures="total_cost_usd", window="7d"
    )
    await expect(walk.rows("By user").first).to_contain_text(str(wanted["user_id"]))


async def more_than_in_the_days_before(walk: Walk) -> None:
    await walk.press("1M")
    await walk.press("Compare")
    await walk.press("Provider")
    cost = walk.page.locator(".card").filter(has_text="Cost")
    await expect(cost.locator(".change")).to_have_text(CHANGED_COST)
    await expect(walk.rows("By provider").first).to_contain_text(CHANGED)


async def what_fails_and_why(walk: Walk) -> None:
    await walk.press("Error kind")
    wanted = walk.first(group_by="error_kind", **{"error_kind!": "__null__"}, window="7d")
    await expect(walk.rows("By error kind").nth(1)).to_contain_text(str(wanted["error_kind"]))


async def since_when(walk: Walk) -> None:
    await walk.press("Error kind")
    await walk.click(walk.rows("By error kind").get_by_role("link", name="rate_limited", exact=True))
    chart = walk.page.locator("figure", has=walk.page.get_by_role("heading", name="Requests", exact=True))
    await expect(walk.page.get_by_role("list", name="Filters")).to_contain_text("Error kind is rate_limited")
    await expect(chart.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("of them failed; most on")
    )


async def least_reliable_provider(walk: Walk) -> None:
    await walk.sort("Providers", "Failed")
    # That of the answer: of those with equal shares any may be first.
    rows = walk.service.get("chat-requests/providers", window="7d")["data"]
    worst = max(row["failed_requests"] / row["total_requests"] for row in rows)
    names = [row["name"] for row in rows if row["failed_requests"] / row["total_requests"] == worst]
    await expect(walk.rows("Providers").first.locator("th")).to_have_text(re.compile("|".join(names)))


async def slowest_provider(walk: Walk) -> None:
    await walk.press("Provider")
    await walk.sort("By provider", "p95")
    wanted = walk.first(
        group_by="provider_id",
        order_by="-p95_processing_time_ms",
        measures="p95_processing_time_ms",
        window="7d",
    )
    await expect(walk.rows("By provider").first).to_contain_text(str(wanted["provider_name"]))


async def what_each_team_costs_this_month(walk: Walk) -> None:
    await walk.click(walk.page.locator("summary", has_text="Custom"))
    await walk.press("This month")
    await walk.press("Team")
    await expect(walk.rows("By team")).to_have_count(5)
    await expect(walk.rows("By team").first).to_contain_text("$")


async def what_one_user_does_day_by_day(walk: Walk) -> None:
    await walk.press("User")
    await walk.click(walk.rows("By user").get_by_role("link", name="user_0001", exact=True))
    await walk.press("1M")
    total = walk.first(user_id="user_0001", window="30d")["total_requests"]
    image = walk.page.locator("figure").first.get_by_role("img")
    await expect(image).to_have_attribute("aria-label", re.compile(f"Requests: {total:,} in all"))


async def who_uses_this_key_and_for_what(walk: Walk) -> None:
    await walk.press("Key")
    await walk.click(walk.rows("By key").get_by_role("link", name="key_02", exact=True))
    await walk.press("User")
    wanted = walk.first(key_id="key_02", group_by="user_id", window="7d")
    await expect(walk.rows("By user").first).to_contain_text(str(wanted["user_id"]))
    models = walk.service.get("chat-requests/models", key_id="key_02", window="7d")["data"]
    await expect(walk.rows("Models").first).to_contain_text(models[0]["model_name"])


async def requests_without_a_model(walk: Walk) -> None:
    await walk.click(walk.page.get_by_role("link", name="Requests", exact=True))
    await walk.click(walk.page.get_by_role("link", name="+ Without a model"))
    await expect(walk.page.get_by_text("0 of 0 requests")).to_be_visible()


ANSWERS: dict[str, Callable[[Walk], Awaitable[None]]] = {
    "Which users cost most?": users_that_cost_most,
    "Do we spend more than in the 30 days before, and where?": more_than_in_the_days_before,
    "What fails, and why?": what_fails_and_why,
    "Since when does it fail?": since_when,
    "Which provider is least reliable?": least_reliable_provider,
    "Which provider is slowest?": slowest_provider,
    "What does each team cost this month?": what_each_team_costs_this_month,
    "What does one user do, day by day?": what_one_user_does_day_by_day,
    "Who uses this key, and for what?": who_uses_this_key_and_for_what,
    "Which requests have no model?": requests_without_a_model,
}


@pytest.mark.parametrize("question", re.findall("^## (.+)$", DOCUMENT.read_text(), re.MULTILINE))
async def test_the_page_answers_the_question_in_three_clicks(
    service: Service, tab: OpenTab, question: str
) -> None:
    walk = Walk((await tab()).page, service)
    await walk.page.goto(service.url)
    await expect(walk.page.locator(".panel[data-state=loading]")).to_have_count(0)
    await ANSWERS[question](walk)
    assert walk.clicks <= MOST_CLICKS
