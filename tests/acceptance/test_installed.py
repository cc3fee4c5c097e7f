"""What the package installs runs beside other packages named `service`, `worker` and `sql`.

Each environment here is new, and finds the dependencies in the one that runs the tests: no download.
"""

import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest

from chat_stats import __version__
from chat_stats.worker.local_servers import RedisServer, free_port
from tests.processes import ROOT, chat_stats, environment, running, until

pytestmark = pytest.mark.slow

RIVALS = ("service", "worker", "sql")
RIVAL_PROJECT = f"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "rival"
version = "1"

[tool.hatch.build.targets.wheel]
packages = {list(RIVALS)}
"""


@dataclass(frozen=True)
class Installation:
    """An environment with chat-stats and its rival, and a folder with modules of the same names again."""

    kind: str
    folder: Path
    project: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def module(self) -> tuple[str, ...]:
        """The command that looks for modules in the current folder first."""
        return (self.python, "-m", "chat_stats")

    @property
    def script(self) -> tuple[str, ...]:
        return (str(self.folder / "bin" / "chat-stats"),)

    def run(self, code: str, *, cwd: Path) -> str:
        return run([self.python, "-c", code], cwd=cwd).strip()


def run(command: list[str], *, cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=own(dict(os.environ)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own(env: dict[str, str]) -> dict[str, str]:
    """Return the environment variables without those that lead Python to this checkout."""
    return {name: value for name, value in env.items() if not name.startswith(("PYTHON", "COVERAGE"))}


def build(project: Path, folder: Path) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=project)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with our wheel and source distribution, and the rival's wheel."""
    rival = tmp_path_factory.mktemp("rival")
    (rival / "pyproject.toml").write_text(RIVAL_PROJECT)
    for name in RIVALS:
        (rival / name).mkdir()
        (rival / name / "__init__.py").write_text("OWNER = 'rival'\n")
    folder = build(rival, tmp_path_factory.mktemp("built"))
    return build(ROOT, folder)


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"chat_stats-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    return built / f"chat_stats-{__version__}.tar.gz"


@pytest.fixture(scope="module", params=["wheel", "source distribution", "editable"])
def installation(
    request: pytest.FixtureRequest, built: Path, wheel: Path, sdist: Path
) -> Iterator[Installation]:
    # Readable by all: as root, the demo's Postgres runs as another user.
    with tempfile.TemporaryDirectory(prefix="chat-stats-installed-") as name:
        Path(name).chmod(0o755)
        project = Path(name) / "project"
        for rival in RIVALS:
            (project / rival).mkdir(parents=True)
            (project / rival / "__init__.py").write_text("OWNER = 'project'\n")
        installed = Installation(request.param, Path(name) / "environment", project)
        venv.create(installed.folder, symlinks=True)
        [packages] = (installed.folder / "lib").glob("python*/site-packages")
        theirs = [entry for entry in sys.path if Path(entry).name == "site-packages"]
        (packages / "dependencies.pth").write_text("\n".join(theirs))
        what = {
            "wheel": [str(wheel)],
            "source distribution": [str(sdist)],
            "editable": ["--editable", str(ROOT)],
        }[request.param]
        run(
            [
                *(sys.executable, "-m", "pip", "--python", installed.python, "install", "--quiet"),
                # The environment that runs the tests has a chat-stats too.
                *("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"),
                *(str(next(built.glob("rival-*.whl"))), *what),
            ],
            cwd=project,
        )
        yield installed


def test_the_wheel_installs_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"chat_stats", f"chat_stats-{__version__}.dist-info"}


def test_wheel_and_source_distribution_hold_every_file_of_the_package(wheel: Path, sdist: Path) -> None:
    ours = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "chat_stats", *RIVALS]
    files = {path for path in run(ours, cwd=ROOT).splitlines() if (ROOT / path).is_file()}
    expected = {f"chat_stats/{path.removeprefix('chat_stats/')}" for path in files}
    assert len(expected) > 100
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("chat_stats/")}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.split("/", 1)[1] for name in archive.getnames() if "/chat_stats/" in name}
    assert in_wheel == expected
    assert in_sdist == expected


def test_the_readme_on_an_index_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"chat_stats-{__version__}.dist-info/METADATA"))
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert readme.startswith("# chat-stats\n")
    assert "getting started (`docs/getting-started.md`)" in readme
    assert [
        target for target in re.findall(r"\]\(([^)]*)\)", readme) if not target.startswith("https:")
    ] == []


def test_classifiers_name_the_supported_versions_of_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [(oldest, end)] = re.findall(r"^>=3\.(\d+),<3\.(\d+)$", project["requires-python"])
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if ":: Python :: 3." in name]
    assert named == [f"3.{minor}" for minor in range(int(oldest), int(end))]


def test_the_package_is_imported_beside_its_rivals(installation: Installation, tmp_path: Path) -> None:
    code = (
        "import chat_stats; from chat_stats import create_app; assert callable(create_app);"
        "print(chat_stats.__version__, chat_stats.__file__)"
    )
    version, file = installation.run(code, cwd=installation.project).split(" ", 1)
    assert version == __version__
    place = ROOT if installation.kind == "editable" else installation.folder
    assert Path(file).is_relative_to(place)

    owners = "import service, worker, sql; print(service.OWNER, worker.OWNER, sql.OWNER)"
    assert installation.run(f"import chat_stats; {owners}", cwd=tmp_path) == "rival rival rival"
    assert (
        installation.run(f"import chat_stats; {owners}", cwd=installation.project)
        == "project project project"
    )


def test_no_other_folder_of_the_checkout_can_be_imported(installation: Installation, tmp_path: Path) -> None:
    code = "from importlib.util import find_spec; print(find_spec('bench'), find_spec('tests'))"
    assert installation.run(code, cwd=tmp_path) == "None None"


def test_migrate_worker_and_several_services_run_beside_their_rivals(
    installation: Installation, empty_database: str, redis: RedisServer, tmp_path: Path
) -> None:
    env = own(
        environment(
            empty_database,
            redis.url,
            cache_prefix=f"installed-{free_port()}",
            refresh_interval_seconds=1,
            windows="24h",
        )
    )
    project = installation.project
    migrated = chat_stats("migrate", env=env, project=project, command=installation.script)
    assert migrated.returncode == 0, migrated.stderr

    port = free_port()
    serve = ("serve", "--port", str(port), "--workers", "2")
    url = f"http://127.0.0.1:{port}"
    with (
        running(
            "worker", env=env, log=tmp_path / "worker", project=project, command=installation.module
        ) as worker,
        running(
            *serve, env=env, log=tmp_path / "serve", project=project, command=installation.module
        ) as service,
    ):
        started = "Application startup complete"
        until(lambda: service.output().count(started) == 2, seconds=60, what=service.output)
        ready = f"{url}/health/ready"
        until(lambda: httpx.get(ready).json()["status"] == "ready", seconds=60, what=worker.output)
        summary = f"{url}/api/monitoring/chat-requests/summary?window=24h"
        until(lambda: httpx.get(summary).json()["metadata"]["cache"] == "hit", what=worker.output)
        assert httpx.get(summary).json()["metadata"]["method"] == "rpc"
        assert httpx.get(url).headers["content-type"].startswith("text/html")


def test_the_demo_runs_beside_its_rivals(installation: Installation, tmp_path: Path) -> None:
    env = own({name: value for name, value in os.environ.items() if not name.startswith("CHAT_STATS_")})
    folder = installation.folder.with_name("demo")
    options = ("--folder", str(folder), "--port", str(free_port()), "--requests", "2000")
    project = installation.project
    with running(
        "demo", *options, env=env, log=tmp_path / "demo", project=project, command=installation.module
    ) as demo:
        until(lambda: "Ctrl-C stops" in demo.output(), seconds=120, what=demo.output)
        api = re.search(r"API +(\S+)", demo.output())
        assert api is not None
        answer = httpx.get(f"{api[1]}/chat-requests/summary").raise_for_status().json()
        assert answer["data"]["total_requests"] >= 2000
        demo.send(signal.SIGINT)
        assert demo.wait() == 0
