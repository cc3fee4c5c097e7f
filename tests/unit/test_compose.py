"""docker-compose.yml: which services start by default and by profile, and what the documentation says of it.

Docker itself is not needed; where Docker Compose is installed, it reads the file too.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.documents import DOCUMENTS
from tests.tools import COMPOSE, need

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]

STACK = {"postgres", "redis", "migrate", "service", "worker"}

CASES = [((), STACK), (("monitoring",), set(SERVICES))]


def enabled(profiles: tuple[str, ...]) -> set[str]:
    """The services that `up` starts by the rule of Compose: those without a profile, those of these."""
    return {
        name
        for name, service in SERVICES.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


@pytest.mark.parametrize(("profiles", "started"), CASES)
def test_a_profile_starts_its_services_beside_the_stack(profiles: tuple[str, ...], started: set[str]) -> None:
    assert enabled(profiles) == started


@pytest.mark.parametrize(("profiles", "started"), CASES)
def test_no_service_needs_one_that_its_profile_leaves_out(
    profiles: tuple[str, ...], started: set[str]
) -> None:
    for name in started:
        needed = SERVICES[name].get("depends_on", {})
        required = (
            needed
            if isinstance(needed, list)
            else [other for other, how in needed.items() if how.get("required", True)]
        )
        assert set(required) <= started, name


@pytest.mark.parametrize(("profiles", "started"), CASES)
def test_docker_compose_reads_the_file_and_starts_these_services(
    profiles: tuple[str, ...], started: set[str]
) -> None:
    command = [str(need(COMPOSE)), "--file", str(FILE), *(f"--profile={name}" for name in profiles)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    read = subprocess.run(
        [*command, "config", "--services"], capture_output=True, text=True, check=True, env=environment
    )
    assert set(read.stdout.split()) == started
    assert read.stderr == "", "it warns of nothing"


def test_a_database_of_ones_own_leaves_out_the_bundled_one() -> None:
    assert SERVICES["postgres"]["scale"] == "${POSTGRES_SCALE:-1}"
    assert not [name for name in SERVICES if name != "postgres" and "scale" in SERVICES[name]]
    for path in (FILE, ROOT / "docs/getting-started.md"):
        assert "POSTGRES_SCALE=0" in path.read_text(), path.name


def test_commands_of_the_documentation_name_profiles_that_exist() -> None:
    profiles = {name for service in SERVICES.values() for name in service.get("profiles", ())}
    texts = [path.read_text() for path in (*DOCUMENTS, FILE)]
    named = {name for text in texts for name in re.findall(r"--profile ([\w-]+)", text)}
    assert named == profiles
    assert not [text for text in texts if "--no-deps" in text], "POSTGRES_SCALE=0 does that"
