"""What the statuses of requests mean: success, pending (not known yet), or else failure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

SUCCESS = ("completed", "complete", "success", "successful", "succeeded", "ok", "200")
PENDING = ("pending", "partial")


@dataclass(frozen=True, slots=True)
class Statuses:
    """Lower-case statuses without blanks at their end: so they are compared."""

    success: tuple[str, ...] = SUCCESS
    pending: tuple[str, ...] = PENDING

    def __post_init__(self) -> None:
        for status in self.success:
            if status in self.pending:
                raise ValueError(f"the status {status!r} cannot mean both success and pending")

    def listed(self) -> dict[str, list[str]]:
        """Return what `chat_stats_statuses()` holds: the order in which they are set means nothing."""
        return {"success": sorted(set(self.success)), "pending": sorted(set(self.pending))}

    def trouble(self, held: str) -> str | None:
        """Return what to do where `chat_stats_statuses()` (as JSON) holds others; None: it holds these."""
        known = orjson.loads(held)
        names = [
            f"CHAT_STATS_{what.upper()}_STATUSES"
            for what, listed in self.listed().items()
            if known[what] != listed
        ]
        if not names:
            return None
        return (
            f"the functions count by other statuses than {' and '.join(names)}; "
            "run: chat-stats migrate, then chat-stats rollup repair"
        )


def literals(statuses: Iterable[str]) -> str:
    """Return the statuses as SQL writes them.

    All but plain characters are escaped: our texts pass through quoting of several kinds. They mean the same
    whatever `standard_conforming_strings` is: triggers are parsed in the sessions of writers.
    """
    return ", ".join(map(_literal, statuses))


def listed_in(statuses: Iterable[str]) -> str:
    """Return what stands between the parentheses of `IN (...)`: nothing is in it when there are none."""
    return literals(statuses) or "NULL"


def _literal(status: str) -> str:
    if re.fullmatch(r"[a-z0-9_ -]+", status):
        return f"'{status}'"
    escaped = re.sub(r"[^a-z0-9]", lambda found: f"\\U{ord(found[0]):08X}", status)
    return f"E'{escaped}'"
