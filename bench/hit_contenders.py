"""What `bench.serve` compares: chat-stats, ASGI applications, cache libraries and proxies, with one body."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil

from bench import proxies
from bench.peers import BODIES
from bench.wrk import SERVER_CORE
from chat_stats.worker.local_servers import free_port

BASE = "/api/monitoring/chat-requests"
_DAY = (datetime.now(UTC) - timedelta(days=13)).date()
#: What is asked of chat-stats for the body of each path.
QUERIES = {"/providers": "", "/models": "", "/timeseries": f"?bucket=1h&start_date={_DAY}"}

HIT, NOT_MODIFIED, BARE = "chat-stats", "chat-stats, 304", "bare ASGI application"
NGINX_FILES, VARNISH = "nginx, static file", "Varnish in front, http_gzip_support=off"

GZIP = "Accept-Encoding: gzip"
#: What Chrome sends with a page's fetch(), beside Host.
BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Windows"',
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36",
    "Accept: */*",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    "Referer: http://dashboard.example/usage?window=30d",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
    "Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark",
)
#: A header that differs in each request, so that no request is one that came before.
_NEVER_TWICE = """
local n = 0
request = function()
    n = n + 1
    return wrk.format("GET", nil, {["X-Number"] = n})
end
"""

#: ASGI applications of `bench.peers`, by their factories.
_APPLICATIONS = {
    BARE: "bare",
    "the same, with as many headers": "bare_with_headers",
    "fastapi-cache2, objects, as documented": "fastapi_cache_objects",
    "fastapi-cache2, rendered bytes": "fastapi_cache_bytes",
    "cashews, objects, as documented": "cashews_objects",
    "cashews, rendered bytes, client-side": "cashews_bytes",
    "aiocache, objects, as documented": "aiocache_objects",
    "aiocache, rendered bytes": "aiocache_bytes",
    "FastAPI, SQL each time": "sql",
}


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    server: psutil.Process
    url: str
    headers: tuple[str, ...] = ()
    script: Path | None = None


@dataclass
class Field:
    """The servers that run, and what is asked of them by the path of the body."""

    folder: Path
    environment: dict[str, str]
    #: Of each server; with one it is pinned to its core.
    processes: int
    stack: ExitStack
    contenders: dict[str, list[Contender]] = field(default_factory=lambda: {path: [] for path in BODIES})

    def start(self, command: list[str], url: str) -> psutil.Process:
        pinned = ["taskset", "-c", str(SERVER_CORE)] if self.processes == 1 else []
        process = subprocess.Popen(
            [*pinned, *command],
            env=self.environment,
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.stack.callback(process.wait, 20)
        self.stack.callback(process.terminate)
        _wait_for(process, url)
        return psutil.Process(process.pid)

    def add(
        self, name: str, server: psutil.Process, url: str, *headers: str, script: Path | None = None
    ) -> None:
        for path, query in QUERIES.items():
            if name != "FastAPI, SQL each time" or not query:
                self.contenders[path].append(Contender(name, server, url + path + query, headers, script))


@contextmanager
def running(folder: Path, environment: dict[str, str], processes: int) -> Iterator[Field]:
    """Run all contenders; those that are not installed are left out."""
    with ExitStack() as stack:
        field = Field(folder, environment, processes, stack)
        behind = _add_service(field)
        for name, factory in _APPLICATIONS.items():
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            command = [*_uvicorn(f"bench.peers:{factory}", processes), "--port", str(port)]
            field.add(name, field.start(command, f"{url}/models"), url)
        _add_granian(field)
        _add_proxies(field, behind)
        yield field


def _add_service(field: Field) -> int:
    """Start chat-stats, and keep a hit's body of each path for the others; return its port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = _python("chat_stats", "serve", "--port", str(port), "--workers", str(field.processes))
    service = field.start(command, f"{url}/health")
    field.add(HIT, service, url + BASE)
    never_twice = field.folder / "never-twice.lua"
    never_twice.write_text(_NEVER_TWICE)
    field.add("chat-stats, no request twice", service, url + BASE, script=never_twice)
    field.add("chat-stats, to a browser", service, url + BASE, *BROWSER)
    field.add("chat-stats, gzip", service, url + BASE, GZIP)
    for path, query in QUERIES.items():
        etag = _keep_body(field, path, f"{url}{BASE}{path}{query}")
        field.contenders[path].append(
            Contender(NOT_MODIFIED, service, f"{url}{BASE}{path}{query}", (f"If-None-Match: {etag}",))
        )
    return port


def _add_granian(field: Field) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    root = str(Path(__file__).parent.parent)
    command = [
        *_python("granian", "--interface", "asginl", "--factory", "bench.peers:bare", "--no-access-log"),
        *("--port", str(port), "--working-dir", root, "--workers", str(field.processes)),
    ]
    field.add("the bare application on granian", field.start(command, f"{url}/models"), url)


def _add_proxies(field: Field, behind: int) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if command := proxies.nginx_files(field.folder, port, field.processes):
        field.add(NGINX_FILES, field.start(command, f"{url}/models"), url)
    port = free_port()
    url = f"http://127.0.0.1:{port}{BASE}"
    if command := proxies.nginx_cache(field.folder, port, behind, field.processes):
        field.add("nginx proxy_cache in front", field.start(command, f"{url}/models"), url)
    for gzip, kinds in {
        False: ((VARNISH, ()),),
        True: (("Varnish in front", ()), ("Varnish in front, gzip", (GZIP,))),
    }.items():
        port = free_port()
        url = f"http://127.0.0.1:{port}{BASE}"
        if command := proxies.varnish(field.folder, port, behind, gzip=gzip):
            server = field.start(command, f"{url}/models")
            for name, headers in kinds:
                field.add(name, server, url, *headers)


def _keep_body(field: Field, path: str, url: str) -> str:
    """Write a hit's body into the folder, for the other contenders; return its ETag."""
    for _ in range(20):  # each of several processes answers once
        response = httpx.get(url, timeout=60).raise_for_status()
    assert response.json()["metadata"]["cache"] == "hit"
    file = field.folder / BODIES[path]
    file.write_bytes(response.content)
    file.chmod(0o644)  # nginx' worker is another user when we are root
    return response.headers["etag"]


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=10).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answered at {url}")


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _uvicorn(factory: str, processes: int) -> list[str]:
    """Return the command of uvicorn, with the options of `chat-stats serve`."""
    root = str(Path(__file__).parent.parent)
    command = _python("uvicorn", "--factory", factory, "--no-access-log", "--no-server-header")
    return [*command, "--app-dir", root, "--workers", str(processes)]
