"""What the failovers of Postgres and of Redis have in common."""

import os
from datetime import datetime

from tests.drills.load import Reply

#: How often each failover is driven.
FAILOVERS = int(os.environ.get("FAILOVERS", "1"))
#: What the worker keeps computed.
TARGETS = [f"/api/monitoring/chat-requests/{name}?window=all" for name in ("counts", "summary", "models")]
#: Seconds after which answers are to be fresh again; a machine under load gets twice that.
FRESH_AGAIN_SECONDS = 5.0
#: The settings of service and worker.
BRISK = {"windows": "all", "refresh_interval_seconds": 1, "fresh_seconds": 3, "local_cache_seconds": 0.2}


def computed_after(replies: list[Reply], moment: float) -> bool:
    """Say whether the last answers to all targets are hits computed after the Unix time `moment`."""
    last = replies[-30:]
    return {reply.target for reply in last} == set(TARGETS) and all(
        reply.status == 200
        and reply.metadata["cache"] == "hit"
        and datetime.fromisoformat(reply.metadata["computed_at"]).timestamp() > moment
        for reply in last
    )


def failed(replies: list[Reply], since: float) -> list[tuple[int, str, bytes]]:
    after = [reply for reply in replies if reply.sent_at > since]
    assert after
    return [(reply.status, reply.error, reply.body[:300]) for reply in after if reply.status != 200]
