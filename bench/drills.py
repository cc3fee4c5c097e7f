"""What users notice of failures: latencies and recovery of each drill of tests/drills, and the stampede.

    python -m bench.drills [--seconds 10] [--only Redis]

Prints Markdown. A drill loads four services with 200 requests a second while something is broken.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from tests.drills import drill as drills
from tests.drills.breakages import BREAKAGES
from tests.drills.load import Reply, at_once, quantile
from tests.drills.world import FRESH_SECONDS, World, world

STAMPEDE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="how long each thing stays broken")
    parser.add_argument("--only", default="", help="only drills whose name contains this")
    parser.add_argument("--rounds", type=int, default=5, help="stampedes of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-stats-drills-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        with world(folder) as started:
            print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs\n")
            _stampedes(started, arguments.rounds)
            print(drills.HEADER)
            for breakage in BREAKAGES:
                if arguments.only.lower() in breakage.name.lower():
                    drill = drills.run(started, breakage, arguments.seconds)
                    print(drills.report(drill), flush=True)
                    for wrong in started.wrong_numbers(drill.replies)[:5]:
                        print(f"wrong: {wrong}")


def _stampedes(started: World, rounds: int) -> None:
    print(f"{STAMPEDE} requests at once over {len(started.ports)} processes:\n")
    print("| key | queries | p50 ms | p99 ms | last ms |\n|---|---:|---:|---:|---:|")
    for _ in range(rounds):
        target = started.never_asked()
        start_date = target.partition("start_date=")[2]
        cold = _stampede(started, target)
        queries = started.computations(start_date)
        print(_row("cold", cold, queries))
        time.sleep(FRESH_SECONDS + 0.2)
        expired = _stampede(started, target)
        time.sleep(0.5)
        print(_row("expired", expired, started.computations(start_date) - queries), flush=True)
    print()


def _stampede(started: World, target: str) -> list[Reply]:
    ports = started.ports
    return asyncio.run(at_once([(ports[number % len(ports)], target) for number in range(STAMPEDE)]))


def _row(key: str, replies: list[Reply], queries: int) -> str:
    times = (quantile(replies, 0.5), quantile(replies, 0.99), max(reply.seconds for reply in replies))
    failed = sum(reply.status != 200 for reply in replies)
    figures = " | ".join(f"{seconds * 1000:.0f}" for seconds in times)
    return f"| {key}{f', {failed} failed' if failed else ''} | {queries} | {figures} |"


if __name__ == "__main__":
    main()
