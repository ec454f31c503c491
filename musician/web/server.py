"""The server's process: where it listens, and how it ends."""

from __future__ import annotations

import signal
import socket
from threading import Thread
from types import FrameType

import uvicorn

from musician.runtime.errors import UserError
from musician.web.guard import LOOPBACK, Guard
from musician.web.service import Service

#: Connections at a time; more are answered with 503 by uvicorn.
_CONNECTIONS = 512
#: Beyond the grace of answers, for their last words.
_LAST_WORDS_SECONDS = 5


def check_exposure(host: str, password: object) -> None:
    """Refuse to listen beyond this machine without a password.

    Raises:
        UserError: another address than loopback and no password, or one that is empty or no text.
    """
    if password is not None and not (isinstance(password, str) and password.strip()):
        raise UserError("demo: password is empty or no text; set MUSICIAN_PASSWORD, quote password='...', or give null")
    if host not in LOOPBACK and password is None:
        raise UserError(
            f"demo: host={host} can be reached from other machines and needs a password: "
            "set MUSICIAN_PASSWORD or password=..."
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        UserError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise UserError(f"demo: cannot listen on {host} port {port} ({error}); choose another port=...") from error


def run(app: Guard, service: Service, listening: socket.socket) -> None:
    """Serve until a signal comes; then take no more, and give running answers their grace."""
    grace = service.limits.grace_seconds
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(grace) + _LAST_WORDS_SECONDS,
    )
    server = _Server(config, service)
    server.run(sockets=[listening])
    service.queue.join(_LAST_WORDS_SECONDS)
    if server.interrupted:  # uvicorn raises the signal again, which says nothing where a shell has it ignored
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a thread: a signal may come while this one holds the queue's lock.
        Thread(target=self._service.queue.close, args=(self._service.limits.grace_seconds,)).start()
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)
