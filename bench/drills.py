"""Latencies and recovery that users see during failures: each drill of tests/drills.

    python -m bench.drills [--seconds 10] [--only Redis]

Prints Markdown. A drill loads four services with 200 requests a second while something is broken.
"""

import argparse
import os
import tempfile
from pathlib import Path

from tests.drills import drill as drills
from tests.drills.breakages import BREAKAGES
from tests.drills.world import world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="seconds that each failure lasts")
    parser.add_argument("--only", default="", help="only drills whose name contains this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-stats-drills-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        with world(folder) as started:
            print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs\n")
            print(drills.HEADER)
            for breakage in BREAKAGES:
                if arguments.only.lower() in breakage.name.lower():
                    drill = drills.run(started, breakage, arguments.seconds)
                    print(drills.report(drill), flush=True)
                    for wrong in started.wrong_numbers(drill.replies)[:5]:
                        print(f"wrong: {wrong}")


if __name__ == "__main__":
    main()
