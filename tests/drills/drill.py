"""One drill: load, failure, repair, and the conditions that must hold during and after it."""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from tests.drills.breakages import Breakage
from tests.drills.load import Reply, load, quantile
from tests.drills.world import CONTROL, FRESH_SECONDS, KNOWN, REFRESH_SECONDS, World

RATE = 200.0
#: Seconds that a failure lasts. Longer than answers are fresh, so that they are served as stale.
BROKEN_SECONDS = float(os.environ.get("CHAT_STATS_DRILL_SECONDS", "1.7"))
#: Bounds in seconds, added to the time of a request that needs no server. `python -m bench.drills` measures
#: the actual values.
KNOWN_SECONDS = 0.5
UNKNOWN_SECONDS = 2.0
RECOVERY_SECONDS = 2 * REFRESH_SECONDS + FRESH_SECONDS


@dataclass(slots=True)
class Drill:
    name: str
    replies: list[Reply] = field(default_factory=list)
    repaired_at: float = 0.0
    #: Seconds from the repair until each process returned an answer that was computed after it.
    recovered_seconds: float = 0.0

    @property
    def known(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.target in KNOWN]

    @property
    def control(self) -> list[Reply]:
        """Requests that need neither Postgres nor Redis: their times are those of the machine."""
        return [reply for reply in self.replies if reply.target == CONTROL]

    @property
    def unknown(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.target not in (CONTROL, *KNOWN)]

    def statuses(self, replies: list[Reply]) -> Counter[str]:
        return Counter(str(reply.status) if reply.status else reply.error for reply in replies)

    def caches(self) -> Counter[str]:
        return Counter(reply.metadata["cache"] for reply in self.known if reply.status == 200)


def run(world: World, breakage: Breakage, seconds: float = BROKEN_SECONDS) -> Drill:
    """Break something under load, repair it after a while, and continue until all is fresh again."""
    drill = Drill(breakage.name)
    with load(RATE, world.next_request) as replies:
        drill.replies = replies
        time.sleep(0.3)
        breakage.break_(world)
        time.sleep(seconds)
        breakage.mend(world)
        drill.repaired_at = time.time()
        deadline = time.monotonic() + 20
        while len(recovered(world, drill)) < len(world.ports) * len(KNOWN):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        drill.recovered_seconds = time.time() - drill.repaired_at
        time.sleep(0.2)
    return drill


def recovered(world: World, drill: Drill) -> set[tuple[int, str]]:
    """Return the processes with the answers that each has computed after the repair."""
    found = set()
    for reply in reversed(drill.replies.copy()):
        if reply.sent_at < drill.repaired_at:
            break
        if reply.status == 200 and reply.target in KNOWN:
            computed_at = datetime.fromisoformat(reply.metadata["computed_at"]).timestamp()
            if drill.repaired_at < computed_at < time.time() + 1:
                found.add((reply.port, reply.target))
    return found


def check(world: World, drill: Drill) -> None:
    """Assert that clients saw no failure except older numbers."""
    assert len(drill.replies) > RATE * BROKEN_SECONDS / 2
    assert set(drill.statuses(drill.known)) == {"200"}, drill.statuses(drill.known)
    # A cached answer takes some more turns of the scheduler than /health.
    noise = 5 * max(reply.seconds for reply in drill.control)
    assert quantile(drill.known, 0.99) < KNOWN_SECONDS + noise
    for reply in drill.unknown:
        assert reply.status in (200, 503), reply
        assert reply.status == 200 or int(reply.headers["retry-after"]) > 0
        assert reply.seconds < UNKNOWN_SECONDS + noise, reply
    assert world.wrong_numbers(drill.replies) == []
    assert world.tracebacks() == []
    assert drill.recovered_seconds < RECOVERY_SECONDS + noise


def report(drill: Drill) -> str:
    """Return the figures of a drill in one line of a Markdown table."""
    known, unknown = drill.known, drill.unknown
    refused = [reply for reply in unknown if reply.status == 503]
    figures = [
        drill.name,
        len(drill.replies),
        len(known) - drill.statuses(known)["200"],
        f"{quantile(known, 0.5) * 1000:.1f}",
        f"{quantile(known, 0.99) * 1000:.0f}",
        f"{max(reply.seconds for reply in known) * 1000:.0f}",
        f"{quantile(drill.control, 0.99) * 1000:.0f}",
        drill.caches()["stale"],
        f"{len(refused)} of {len(unknown)}",
        f"{max(reply.seconds for reply in unknown):.2f}",
        f"{drill.recovered_seconds:.1f}",
    ]
    return "| " + " | ".join(str(figure) for figure in figures) + " |"


HEADER = (
    "| drill | requests | failed | p50 ms | p99 ms | max ms | /health p99 ms | stale "
    "| 503 of not cached | slowest of these s | recovered s |\n|---|" + "---:|" * 10
)
