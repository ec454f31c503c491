"""The server's process: where it listens, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import uvicorn
from starlette.types import ASGIApp

from musician.runtime.errors import UserError
from musician.web.jobs.queue import JobQueue
from musician.web.security import LOOPBACK

#: Connections at a time; more are answered with 503 by uvicorn.
_CONNECTIONS = 512
#: Beyond the grace of answers, for their last events.
_LAST_EVENTS_SECONDS = 5


def url_host(host: str) -> str:
    """Return an address as a URL has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def check_exposure(host: str, hosts: Iterable[str], password: object) -> None:
    """Refuse to listen beyond this machine without a password, and to accept any name.

    Raises:
        UserError: an address other than loopback and no password, a password that is empty or no text, or a pattern
            among the names.
    """
    if password is not None and not (isinstance(password, str) and password.strip()):
        raise UserError(
            "serve: password is empty or no text; set MUSICIAN_PASSWORD, quote password='...', or give null"
        )
    if url_host(host) not in LOOPBACK and password is None:
        raise UserError(
            f"serve: host={host} can be reached from other machines and needs a password: "
            "set MUSICIAN_PASSWORD or password=..."
        )
    for name in hosts:
        if "*" in name:
            raise UserError(f"serve: hosts={name}: patterns are not accepted; list each name")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        UserError: the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise UserError(f"serve: cannot listen on {host} port {port} ({error}); choose another port=...") from error


class Server(uvicorn.Server):
    """A server that accepts no more requests after a signal, and gives running answers their grace.

    Args:
        app: from `create_app`.
        queue: of the application's service.
        grace_seconds: what running answers have left.
    """

    def __init__(self, app: ASGIApp, queue: JobQueue, grace_seconds: float) -> None:
        self._queue, self._grace_seconds = queue, grace_seconds
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=int(grace_seconds) + _LAST_EVENTS_SECONDS,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the queue before uvicorn waits for the connections."""
        self._queue.close(self._grace_seconds)
        await super().shutdown(sockets)
