"""What stands before every route: who may ask, how much, and what browsers are told to forbid."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

#: No inline script or style, nothing from elsewhere. The hash is that of the one style element abcjs puts into a score.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' "
    "'sha256-BCpnf71gZdCsSCHDzyB1RsBbZ0qQdqseK6v+yJsgg30='; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
#: A body must have arrived within so many seconds.
_BODY_SECONDS = 20
#: A wrong password is answered so late.
_WRONG_PASSWORD_SECONDS = 0.5
_NO_PASSWORD_NEEDED = frozenset({"/healthz"})


class Refusal(Exception):
    """A request that is answered here: status, one line, and headers of its own."""

    def __init__(self, status: int, line: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, headers


class Guard:
    """ASGI middleware: host, origin, password, size of the body, and the headers of every answer.

    Args:
        app: what is guarded.
        hosts: names under which the server may be asked, without ports. A page of another site whose name is made to
            point at this machine (DNS rebinding) is refused by it.
        password: asked for with HTTP Basic (any user name) or as a bearer token; None asks for none.
        max_body_bytes: larger bodies are refused unread.
        refused: told the status of each refusal.
    """

    def __init__(
        self,
        app: App,
        hosts: Collection[str],
        password: str | None,
        max_body_bytes: int,
        refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.password = password
        self.max_body_bytes = max_body_bytes
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, pass any other on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the page has no websockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [*message.get("headers", ()), *_HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-cache"))  # else browsers guess, and show an old page
                message = {**message, "headers": given}
            await send(message)

        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            await self._check_password(scope["path"], headers)
            receive = await self._body(headers, receive)
        except Refusal as refusal:
            self.refused(refusal.status)
            await _answer(refusal, scope["path"], send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def _check_host(self, headers: dict[str, str]) -> None:
        host = _hostname(headers.get("host", ""))
        if host not in self.hosts:
            raise Refusal(400, f"this server is not known as {host[:80]!r}; start it with hosts=[NAME] to allow a name")

    def _check_origin(self, method: str, headers: dict[str, str]) -> None:
        if method in ("GET", "HEAD"):
            return
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if origin is not None:
            foreign = foreign or urlsplit(origin).netloc.lower() != headers["host"].lower()
        if foreign:
            raise Refusal(403, "the request comes from a page of another site")

    async def _check_password(self, path: str, headers: dict[str, str]) -> None:
        if self.password is None or path in _NO_PASSWORD_NEEDED:
            return
        given = _given_password(headers.get("authorization", ""))
        if given is None or not hmac.compare_digest(given, self.password.encode()):
            if given is not None:
                await asyncio.sleep(_WRONG_PASSWORD_SECONDS)
            challenge = (b"www-authenticate", b'Basic realm="musician", charset="UTF-8"')
            raise Refusal(401, "this page needs its password", challenge)

    async def _body(self, headers: dict[str, str], receive: Receive) -> Receive:
        """Read the body, no more than is allowed, and return a `receive` that gives it again."""
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self.max_body_bytes:
            raise Refusal(413, f"the request is larger than {self.max_body_bytes} bytes")
        try:
            first = await asyncio.wait_for(self._whole(receive), _BODY_SECONDS)
        except TimeoutError:
            raise Refusal(408, f"the request did not arrive within {_BODY_SECONDS} seconds") from None
        pending = [first]

        async def again() -> Message:
            return pending.pop() if pending else await receive()

        return again

    async def _whole(self, receive: Receive) -> Message:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self.max_body_bytes:
                raise Refusal(413, f"the request is larger than {self.max_body_bytes} bytes")
            if not message.get("more_body"):
                return {"type": "http.request", "body": b"".join(pieces), "more_body": False}


def error_body(path: str, status: int, line: str) -> dict[str, Any]:
    """What an error says: one line, under `/v1` as OpenAI's clients expect it."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": line, "type": kind, "param": None, "code": status}}
    return {"error": line}


async def _answer(refusal: Refusal, path: str, send: Send) -> None:
    body = json.dumps(error_body(path, refusal.status, refusal.line)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refusal.headers]
    # What is left of the body is not read, so the connection cannot be used again.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _hostname(host: str) -> str:
    """The name in a Host header, in lower case, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _given_password(authorization: str) -> bytes | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
