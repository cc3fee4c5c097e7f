"""What a refresh did."""

import secrets
from collections.abc import Iterable
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

    def summary(
        self, aggregations: tuple[str, ...], windows: Iterable[str], last: Generation | None
    ) -> Generation:
        """Return what a refresh of everything publishes; `aggregations` and `windows` are what it computed.

        The other windows of the `last` generation are those of workers with other settings.
        """
        known = last.windows if last is not None and last.aggregations == aggregations else {}
        return Generation(
            self.generation,
            self.computed_at,
            round(self.duration_ms, 1),
            self.entries,
            len(self.failed),
            aggregations,
            {**known, **dict.fromkeys(windows, self.computed_at)},
        )

    @property
    def failed(self) -> list[Refreshed]:
        return [result for result in self.results if result.error is not None]


def new_generation(moment: datetime) -> str:
    """Return a name for what a snapshot of that moment (UTC) gives; names sort by time."""
    return f"{moment:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(3)}"
