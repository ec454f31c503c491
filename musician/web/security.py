"""Security of the web app beyond Starlette's own middleware: response headers, password, cross-origin requests."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from prometheus_client import Counter
from starlette.authentication import AuthenticationBackend, AuthenticationError
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musician.web.errors import error_body

#: Addresses of this machine that no other machine can reach, as a URL has them.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

#: No inline script or style, nothing from elsewhere. The hash is that of the one style element abcjs puts into a score.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' "
    "'sha256-BCpnf71gZdCsSCHDzyB1RsBbZ0qQdqseK6v+yJsgg30='; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",  # without it browsers guess, and show an old version of the web app
}
_WRONG_PASSWORD_SECONDS = 0.5


class SecurityHeaders:
    """ASGI middleware that adds the security headers to every response, and counts the errors among them.

    Args:
        app: the application; errors of its own middleware get the headers too.
        refused: counter with the label `status`.
    """

    def __init__(self, app: ASGIApp, refused: Counter) -> None:
        self._app, self._refused = app, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the headers to its response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if message["status"] >= 400:
                    self._refused.labels(message["status"]).inc()
            await send(message)

        await self._app(scope, receive, send_with_headers)


class PasswordBackend(AuthenticationBackend):
    """Require the password on every path but `/healthz`, with HTTP Basic (any user name) or as a bearer token.

    FastAPI's `HTTPBasic` takes ASCII only and guards no mounted files.
    """

    def __init__(self, password: str) -> None:
        self._password = password.encode()

    async def authenticate(self, conn: HTTPConnection) -> None:
        """Raise `AuthenticationError` unless the password is right; a wrong one is answered late."""
        if conn.scope["path"] == "/healthz":
            return
        sent = _sent_password(conn.headers.get("authorization", ""))
        if sent is None or not hmac.compare_digest(sent, self._password):
            if sent is not None:
                await asyncio.sleep(_WRONG_PASSWORD_SECONDS)
            raise AuthenticationError("the web app requires its password")


def unauthorized(conn: HTTPConnection, error: AuthenticationError) -> JSONResponse:
    """Return the response to a request without the password."""
    challenge = {"www-authenticate": 'Basic realm="musician", charset="UTF-8"'}
    return JSONResponse(error_body(conn.scope["path"], 401, str(error)), 401, challenge)


async def require_same_origin(request: Request) -> None:
    """Refuse a request that a page of another site sent; a FastAPI dependency.

    Raises:
        HTTPException: `Origin` or `Sec-Fetch-Site` names another site.
    """
    if request.method in ("GET", "HEAD"):
        return
    origin, host = request.headers.get("origin"), request.headers["host"]
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
        raise HTTPException(403, "the request comes from a page of another site")


def _sent_password(authorization: str) -> bytes | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
