"""The files of docs/deploying: what Kubernetes, systemd and nginx themselves say of them."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from chat_stats.service.settings import PREFIX, Settings
from chat_stats.worker.local_servers import free_port
from tests.conftest import SettingsFactory
from tests.docs.documents import ROOT
from tests.processes import environment, running, until
from tests.tools import NGINX, SYSTEMD, need

FOLDER = ROOT / "docs" / "deploying"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
NAMES = [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in MANIFESTS]
KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=NAMES)
def test_kubernetes_schemas_accept_each_manifest(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, manifest in zip(NAMES, MANIFESTS, strict=True):
        if "template" in manifest.get("spec", {}):
            yield name, manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("pod", [pod for _, pod in pods()], ids=[name for name, _ in pods()])
def test_no_container_runs_as_root_or_writes_to_its_root_file_system(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_all_settings_of_the_manifests_exist() -> None:
    [settings] = [manifest["data"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap"]
    assert set(settings) <= KNOWN
    Settings(database_url="postgresql://x@localhost/x", _env_file=None, **lower(settings))


def lower(settings: dict[str, str]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX).lower(): value for name, value in settings.items()}


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = need(SYSTEMD)
    units = sorted(FOLDER.glob("*.service"))
    assert len(units) == 3
    for unit in units:
        text = unit.read_text()
        # The one thing that differs here: where chat-stats is installed.
        (tmp_path / unit.name).write_text(
            text.replace("/opt/chat-stats/bin/chat-stats", str(shutil.which("true")))
        )
    done = subprocess.run(
        [program, "verify", *(tmp_path / unit.name for unit in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.fixture
def below_a_path(settings_with: SettingsFactory, database_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """The documented nginx.conf before a service; on ports of our own, and without a certificate."""
    program = need(NGINX)
    port, service_port = free_port(), free_port()
    text = (FOLDER / "nginx.conf").read_text()
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port}"),
        (r"ssl_certificate\S* \S+;", ""),
        ("/var/cache/nginx/chat-stats", str(tmp_path / "cache")),
        ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
    ):
        text, count = re.subn(documented, here, text)
        assert count, documented
    places = " ".join(
        f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {tmp_path}/nginx.pid; events {{}} "
        f"http {{ access_log off; {places} {text} }}"
    )
    settings = settings_with()
    env = environment(
        database_url,
        settings.redis_url.get_secret_value(),
        cache_prefix=settings.cache_prefix,
        root_path="/stats",
    )
    arguments = ["serve", "--host", "127.0.0.1", "--port", str(service_port)]
    with running(*arguments, env=env, log=tmp_path / "service"):
        process = subprocess.Popen(
            [program, "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(file)]
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                until(lambda: answered(client))
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def answered(client: httpx.Client) -> bool:
    try:
        return client.get("/stats/health").status_code == 200
    except httpx.TransportError:
        return False


def test_below_a_path_page_answers_redirects_and_documentation_work(below_a_path: httpx.Client) -> None:
    moved = below_a_path.get("/stats")
    assert (moved.status_code, httpx.URL(moved.headers["location"]).path) == (308, "/stats/")
    page = below_a_path.get("/stats/")
    scripts = re.findall(r'src="([^"]+\.js)"', page.text)
    assert scripts
    for script in scripts:
        assert below_a_path.get(page.url.join(script)).status_code == 200
    path = "/stats/api/monitoring/chat-requests/summary"
    for _ in range(2):  # computed, then from memory
        assert below_a_path.get(path).json()["success"] is True
    slash = below_a_path.get(f"{path}/", follow_redirects=True)
    assert (slash.status_code, slash.url.path) == (200, path)
    assert below_a_path.get("/stats/openapi.json").json()["servers"] == [{"url": "/stats"}]
    assert below_a_path.get("/stats/docs").status_code == 200
