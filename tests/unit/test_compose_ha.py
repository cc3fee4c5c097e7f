"""docker-compose.ha.yml beside docker-compose.yml: its parts name each other rightly, and its scripts run."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis, RedisError

from chat_stats.service.settings import PREFIX, Settings
from chat_stats.worker.local_servers import RedisServer, free_port, redis_program
from tests.processes import until
from tests.tools import COMPOSE, need

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "docker-compose.yml", ROOT / "docker-compose.ha.yml")


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Knows the tag by which Compose removes what an earlier file says."""


Loader.add_constructor("!reset", lambda _loader, _node: None)

BASE, HA = (yaml.load(file.read_text(), Loader)["services"] for file in FILES)  # noqa: S506  a SafeLoader
NAMES = {*BASE, *HA}


def defaults(text: str) -> str:
    """Replace variables as Compose does when they are not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def script(service: str) -> str:
    shell, option, text = HA[service]["command"]
    assert (shell, option) == ("sh", "-c")
    return str(text).replace("$$", "$")


def test_services_that_it_adds_are_complete_and_those_that_it_needs_exist() -> None:
    for name, service in HA.items():
        extended = service.get("extends")
        assert (
            name in BASE
            or "image" in service
            or extended
            == {
                "file": FILES[0].name,
                "service": extended["service"],
            }
        )
        assert not extended or extended["service"] in BASE
        assert set(service.get("depends_on", ())) <= NAMES
        if "image" in service:
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", ["service", "worker"])
def test_its_settings_are_valid_and_name_its_services(name: str) -> None:
    settings: dict[str, Any] = {
        key.removeprefix(PREFIX).lower(): defaults(value) for key, value in HA[name]["environment"].items()
    }
    Settings(_env_file=None, **settings)
    hosts = {
        host for text in settings.values() if "://" in text for host in re.findall(r"[/,]([a-z-]+):\d+", text)
    }
    assert hosts == {"postgres", "postgres-standby", "sentinel"}
    migrating = HA["migrate"]["environment"]
    assert migrating.items() <= HA[name]["environment"].items()


def test_haproxy_gets_as_many_services_as_there_are_and_is_alone_on_the_port() -> None:
    text = (ROOT / "docs/deploying/haproxy.cfg").read_text()
    assert set(re.findall(r"presetenv (\w+)", text)) == set(HA["haproxy"]["environment"])
    assert HA["service"]["scale"] == len(HA["haproxy"]["environment"])
    assert HA["service"]["ports"] is None
    mounted = HA["haproxy"]["volumes"][0].split(":")[0]
    assert (ROOT / mounted).read_text() == text


def test_haproxy_finds_containers_whatever_their_numbers_are() -> None:
    assert set(HA["haproxy"]["environment"].values()) == {"service:8000"}


@pytest.mark.parametrize(
    ("name", "told", "follows"),
    [
        ("redis", "", None),
        ("redis", "redis\n6379", None),
        ("redis", "redis-replica\n6379", "redis-replica"),
        ("redis-replica", "", "redis"),
        ("redis-replica", "redis\n6379", "redis"),
        ("redis-replica", "redis-replica\n6379", None),
        ("redis-replica", "ERR No such master with that name", "redis"),
    ],
)
def test_a_redis_that_starts_follows_the_master_that_the_sentinels_name(
    tmp_path: Path, name: str, told: str, follows: str | None
) -> None:
    for program, text in (("redis-cli", f"printf '{told}'"), ("docker-entrypoint.sh", 'echo "$@"')):
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **HA[name]["environment"]}
    command = ["sh", "-c", defaults(script(name))]
    started = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert f" --replica-announce-ip {name}" in started.stdout
    assert re.findall(r"--replicaof (.*)", started.stdout) == ([f"{follows} 6379"] if follows else [])


def test_a_redis_that_does_not_follow_its_master_is_not_healthy(tmp_path: Path) -> None:
    shell, check = HA["redis-replica"]["healthcheck"]["test"]
    assert shell == "CMD-SHELL"
    reader, _, condition = check.partition(" | ")
    assert reader == "redis-cli info replication"
    server = RedisServer(tmp_path, redis_program(), free_port())
    server.start()
    try:
        with Redis(port=server.port) as client:
            healthy = []
            for following in (("127.0.0.1", str(free_port())), ("NO", "ONE")):
                client.execute_command("REPLICAOF", *following)
                told: Any = client.info("replication")
                lines = "\n".join(f"{name}:{value}" for name, value in told.items())
                checked = subprocess.run(["sh", "-c", condition], input=lines, text=True, check=False)
                healthy.append(checked.returncode == 0)
    finally:
        server.stop()
    assert healthy == [False, True]


def test_users_of_the_images_can_write_to_folders_in_memory() -> None:
    """Docker gives them to root unless told otherwise; some versions keep the mode of the image's folder."""
    open_to_all = {"/tmp", "/var/run/postgresql"}  # noqa: S108  in the images
    for service in (*BASE.values(), *HA.values()):
        for mount in service.get("tmpfs", ()):
            folder, _, options = mount.partition(":")
            assert folder in open_to_all or "uid=" in options, mount


def test_docker_compose_reads_both_files() -> None:
    command = [str(need(COMPOSE)), *(f"--file={file}" for file in FILES), "config", "--services"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    read = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert set(read.stdout.split()) == {name for name in NAMES if not BASE.get(name, {}).get("profiles")}
    assert read.stderr == ""


def test_a_sentinel_starts_with_its_script_and_keeps_what_it_learned(tmp_path: Path) -> None:
    port = free_port()
    text = script("sentinel")
    for documented, here in (
        ("/data", str(tmp_path)),
        ("port 26379", f"port {port}"),
        ("redis 6379", "localhost 6379"),
        ("redis-server", str(redis_program())),
    ):
        assert documented in text
        text = text.replace(documented, here)
    ids = []
    for _ in range(2):
        process = subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, text=True)
        try:
            until(lambda: answers(port), seconds=60)
        finally:
            process.kill()
            process.communicate()
        kept = (tmp_path / "sentinel.conf").read_text()
        ids.append(re.findall("sentinel myid .*", kept))
        # Not the address, which is another one after a restart.
        assert "sentinel monitor main localhost " in kept
    assert len(ids[0]) == 1
    assert ids[0] == ids[1]


def answers(port: int) -> bool:
    try:
        with Redis(port=port) as client:
            return bool(client.ping())
    except RedisError:
        return False
