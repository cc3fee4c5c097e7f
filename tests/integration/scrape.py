"""Reads /metrics as Prometheus does."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The samples of one answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples that have these labels; None without such samples."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"chat_stats_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def label_values(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == f"chat_stats_{name}"}


async def scrape(client: httpx.AsyncClient) -> Scrape:
    response = await client.get("http://test/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return Scrape(response.text)
