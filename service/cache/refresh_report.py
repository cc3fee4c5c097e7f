"""What a refresh did."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from chat_stats.service.cache.entry import Generation


@dataclass(frozen=True, slots=True)
class Refreshed:
    """One aggregation over one window, as a refresh computed it; `error` says why it could not."""

    aggregation: str
    window: str
    method: str | None
    rows: int
    compute_ms: float
    error: str | None = None


@dataclass(slots=True)
class RefreshReport:
    """What one refresh did. Without `published` a later refresh had been published already."""

    generation: str
    computed_at: datetime
    results: list[Refreshed] = field(default_factory=list)
    entries: int = 0
    duration_ms: float = 0.0
    published: bool = False

    def summary(self, aggregations: tuple[str, ...]) -> Generation:
        """Return what a refresh of everything publishes; `aggregations` are what it computed."""
        duration_ms = round(self.duration_ms, 1)
        return Generation(
            self.generation, self.computed_at, duration_ms, self.entries, len(self.failed), aggregations
        )

    @property
    def failed(self) -> list[Refreshed]:
        return [result for result in self.results if result.error is not None]


def new_generation(moment: datetime) -> str:
    """Return a name for what a snapshot of that moment (UTC) gives; names sort by time."""
    return f"{moment:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(3)}"
