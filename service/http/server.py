"""Runs the web service: one process or several on one port, which end without failing a request.

uvicorn does nearly all of it: it shares the port between its processes, replaces one that died or hangs, and
replaces all, one by one, on SIGHUP. Added here: on SIGTERM a process accepts no more connections, but answers
on open ones and asks their clients to close them, before it closes the rest. Else a client that sends a
request just as its idle connection is closed would get no answer.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress
from socket import AI_PASSIVE, SOCK_STREAM, getaddrinfo, socket

import uvicorn
from uvicorn.supervisors import multiprocess

from chat_stats.service.errors import SettingsError
from chat_stats.service.http.connections import LimitedHttpProtocol, max_waiting, raise_descriptor_limit
from chat_stats.service.settings import PREFIX, Settings

#: Seconds for which a connection may lie idle. On SIGTERM clients get as long to come back.
IDLE_SECONDS = 5
#: Seconds that requests which are under way get after that.
STOP_SECONDS = 10
#: Seconds after which one of several processes that does not say that it lives is replaced. On a machine that
#: is overloaded it may take several to do so, and a restart would add to the load.
HEALTH_SECONDS = 15


class Server(uvicorn.Server):
    """A server that drains."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        if signal.SIGTERM in self._captured_signals:  # Ctrl-C ends it at once
            await self._drain(sockets or [])
        await super().shutdown(sockets)

    async def _drain(self, sockets: list[socket]) -> None:
        await asyncio.sleep(0)  # one more turn of the loop takes the connections that wait already
        for server in self.servers:
            server.close()
        for listening in sockets:
            listening.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        deadline = time.monotonic() + IDLE_SECONDS
        while self.server_state.connections and not self.force_exit:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)


class Process(multiprocess.Process):
    """One of several processes, with a server that drains. It ends when its parent was killed: nothing else
    would end it, and the port would stay taken."""

    def target(self, sockets: list[socket] | None = None) -> None:
        self.parent_conn.close()  # as long as we hold that end, we cannot see that the other side is gone
        super().target(sockets)

    def always_pong(self) -> None:
        try:
            super().always_pong()
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server


class Processes(multiprocess.Multiprocess):
    """All processes. They close the listening sockets first, so that clients are refused at once."""

    def terminate_all(self) -> None:
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises `SettingsError` for a host that is none, and SystemExit with uvicorn's code when it cannot serve.
    """
    try:
        getaddrinfo(host or None, port, type=SOCK_STREAM, flags=AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsError(
            f"{PREFIX}HOST: {host!r} is neither an address nor a name that is known here, such as 127.0.0.1"
        ) from None
    raise_descriptor_limit()
    config = uvicorn.Config(
        "chat_stats:create_app",
        factory=True,
        http=LimitedHttpProtocol,
        backlog=max_waiting(),
        forwarded_allow_ips=settings.trusted_proxies,
        host=host,
        port=port,
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_worker_healthcheck=HEALTH_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises Ctrl-C again when it has ended in order
        if workers == 1:
            server = Server(config)
            server.run()
            if not server.started:
                raise SystemExit(1)
        else:
            multiprocess.Process = Process  # type: ignore[misc]  # uvicorn offers no other way to choose it
            Processes(config, [config.bind_socket()]).run()
