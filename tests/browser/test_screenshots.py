"""Takes the screenshots of the documentation (`make screenshots`)."""

import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenTab, Service

FOLDER = Path(os.environ["CHAT_STATS_SCREENSHOTS"])
LARGEST_BYTES = 200_000


@pytest.mark.parametrize(
    ("name", "view", "width", "height", "scheme"),
    [
        ("overview", "#/?range=30d", 1280, 1120, "light"),
        ("model-dark", "#/models/{model}?range=30d", 1280, 940, "dark"),
        ("phone", "#/models/{model}?range=30d", 390, 844, "light"),
    ],
)
async def test_take_a_screenshot(
    service: Service, tab: OpenTab, name: str, view: str, width: int, height: int, scheme: str
) -> None:
    page = (await tab(viewport={"width": width, "height": height}, color_scheme=scheme)).page
    model = service.get("chat-requests/models")["data"][0]["model_id"]
    await page.goto(service.url + view.format(model=model))
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready]").first).to_be_visible()
    path = FOLDER / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=path)
    assert path.stat().st_size < LARGEST_BYTES
