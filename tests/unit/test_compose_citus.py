"""docker-compose.citus.yml beside docker-compose.yml: its parts name each other rightly.

Its SQL runs in tests/scale.
"""

import os
import re
import subprocess
from pathlib import Path

import yaml

from tests.tools import COMPOSE, need

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "docker-compose.yml", ROOT / "docker-compose.citus.yml")
BASE, CITUS = (yaml.safe_load(file.read_text())["services"] for file in FILES)


def test_services_that_it_adds_are_complete_and_those_that_it_needs_exist() -> None:
    for name, service in CITUS.items():
        secured = service.get("read_only") is True and service.get("cap_drop") == ["ALL"]
        extended = service.get("extends") == {"file": FILES[0].name, "service": "postgres"}
        assert name in BASE or secured or extended, name
        assert set(service.get("depends_on", ())) <= {*BASE, *CITUS}
    volumes = [CITUS[name]["volumes"] for name in ("node-one", "node-two")]
    assert volumes[0] != volumes[1]


def test_all_nodes_run_one_pinned_image_that_can_commit_over_several_of_them() -> None:
    nodes = [CITUS[name] for name in ("postgres", "node-one", "node-two")]
    images = {node["image"] for node in (*nodes, CITUS["citus"])}
    assert len(images) == 1
    assert re.fullmatch(r"citusdata/citus:\d+\.\d+\.\d+", images.pop())
    for node in nodes:
        assert "-cmax_prepared_transactions=200" in node["command"]
        assert node["environment"].items() >= BASE["postgres"]["environment"].items()


def test_it_makes_one_citus_of_exactly_its_nodes() -> None:
    [script] = CITUS["citus"]["command"]
    assert re.findall(r"citus_set_coordinator_host\('([^']+)', 5432\)", script) == ["postgres"]
    assert re.findall(r"citus_add_node\('([^']+)', 5432\)", script) == ["node-one", "node-two"]
    assert CITUS["migrate"]["depends_on"]["citus"] == {"condition": "service_completed_successfully"}


def test_docker_compose_reads_both_files() -> None:
    command = [str(need(COMPOSE)), *(f"--file={file}" for file in FILES), "config", "--services"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    read = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    names = {*BASE, *CITUS}
    assert set(read.stdout.split()) == {name for name in names if not BASE.get(name, {}).get("profiles")}
    assert read.stderr == ""
