"""The clients and programs of docs/clients.md, as printed: generated, type-checked and run."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests import npm
from tests.docs.documents import ROOT, blocks
from tests.openapi.conftest import KEY, REQUESTS

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "clients.md"
ADDRESS = "http://localhost:8000"
BIN = Path(sys.executable).parent
#: Known to work together; the page names none.
PACKAGES = ("openapi-fetch@0.17.0", "openapi-typescript@7.13.0", npm.TYPESCRIPT, "@types/node@20")


def block(language: str, phrase: str, address: str) -> str:
    """Return the one block of the page that has the phrase, for the service of this test."""
    (found,) = [text for text in blocks(PAGE, language) if phrase in text]
    return found.replace(ADDRESS, address.rstrip("/"))


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "CHAT_STATS_KEY": KEY,
            "PATH": f"{folder / 'node_modules' / '.bin'}:{BIN}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def requests_of(service: httpx.Client, window: str) -> int:
    answer = service.get("/api/monitoring/chat-requests/summary", params={"window": window}).json()
    return answer["data"]["total_requests"]


def test_the_python_client_is_typed_and_answers(service: httpx.Client, tmp_path: Path) -> None:
    address = str(service.base_url)
    commands = block("sh", "openapi-python-client", address).replace("pip install", ": pip install")
    run("sh", "-e", "-c", commands, folder=tmp_path)
    program = block("python", "AuthenticatedClient", address)
    wrong = '\nget_summary.sync(client=client, window="1y")  # type: ignore[arg-type]\n'
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "checked.py").write_text(program + wrong)
    options = ("--strict", "--follow-imports=silent", "--config-file=", "--cache-dir=/dev/null")
    run(BIN / "mypy", *options, "checked.py", folder=tmp_path)
    assert run(sys.executable, "program.py", folder=tmp_path).startswith(f"{requests_of(service, '7d')} ")
    assert not any("VALUE_0" in path.read_text() for path in (tmp_path / "chat_stats_client").rglob("*.py"))


USE = """
// @ts-expect-error: such a window does not exist
client.GET("/api/monitoring/chat-requests/summary", { params: { query: { window: "1y" } } });
const statuses: number[] = [];
client.use({ onResponse({ response }) { statuses.push(response.status); } });
const found = summaries(0.05);
const first = await found.next();
void found.next(); // comes when the numbers change
while (statuses.length < 2) await new Promise((resume) => setTimeout(resume, 20));
const total: number = first.done ? -1 : first.value.data.total_requests;
console.log(JSON.stringify({ statuses: statuses.slice(0, 2), total }));
process.exit(0);
"""


def test_the_typescript_client_is_typed_answers_and_polls(service: httpx.Client, tmp_path: Path) -> None:
    address = str(service.base_url)
    npm.install(tmp_path, *PACKAGES)
    *_, generate = block("sh", "npx openapi-typescript", address).splitlines()
    run("sh", "-c", generate, folder=tmp_path)
    assert "VALUE_0" not in (tmp_path / "chat-stats.d.ts").read_text()
    wrong, _, use = USE.lstrip().partition("const statuses")
    program = block("typescript", "createClient", address) + block("typescript", "summaries", address)
    (tmp_path / "wrong.ts").write_text(program + wrong)
    (tmp_path / "program.ts").write_text(f"{program}const statuses{use}")
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run("tsc", *options, "wrong.ts", "program.ts", folder=tmp_path)
    shown, polled = run("node", "program.js", folder=tmp_path).splitlines()
    requests = requests_of(service, "7d")
    assert shown.startswith(f"{requests} ")
    assert json.loads(polled) == {"statuses": [200, 304], "total": requests}


POLL = """

statuses: list[int] = []


def stop(_seconds: float) -> None:
    if len(statuses) == 2:
        raise SystemExit(print(statuses))


time.sleep = stop
hooks = {"response": [lambda response: statuses.append(response.status_code)]}
with httpx.Client(base_url="ADDRESS", headers={"X-API-Key": "KEY"}, event_hooks=hooks) as client:
    for answer in answers(client, "/api/monitoring/chat-requests/summary"):
        print(answer["data"]["total_requests"])
"""


def test_the_recipes_give_what_they_say(service: httpx.Client, tmp_path: Path) -> None:
    address = str(service.base_url)
    polling = block("python", "def answers", address) + POLL.replace("ADDRESS", address).replace("KEY", KEY)
    assert run(sys.executable, "-c", polling, folder=tmp_path) == f"{REQUESTS}\n[200, 304]\n"

    failed = service.get("/api/monitoring/chat-requests", params={"window": "30d", "status": "failed"}).json()
    lines = run(sys.executable, "-c", block("python", "iter_lines", address), folder=tmp_path).splitlines()
    assert len(lines) == failed["metadata"]["total_count"] > 0
    assert lines[0].split(" ")[0] == failed["data"][0]["created_at"]

    requests = requests_of(service, "30d")
    frame = run(sys.executable, "-c", block("python", "pyarrow", address), folder=tmp_path)
    assert frame.startswith(f"{requests} ['id', ")

    run("sh", "-c", block("sh", "--remote-header-name", address), folder=tmp_path)
    (download,) = tmp_path.glob("*.csv")
    with download.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == requests
