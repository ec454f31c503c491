"""The web application: routes, static files and middleware."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from musician.web.errors import add_handlers
from musician.web.routes import analysis, chat, duels, openai, status, tunes
from musician.web.security import LOOPBACK, PasswordBackend, SecurityHeaders, require_same_origin, unauthorized
from musician.web.service import Service

STATIC = Path(__file__).with_name("static")
#: Nothing of what visitors do is sent anywhere, whatever OpenTelemetry's variables in the environment say.
_SILENT: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(service: Service, hosts: Collection[str] = (), password: str | None = None) -> ASGIApp:
    """Build the application.

    Args:
        service: the models and what they may be asked.
        hosts: names in the Host header that are accepted besides those of loopback; any other is refused, because a
            site whose name is made to resolve to this machine (DNS rebinding) would have it.
        password: of the visitors; None requires none.
    """
    app = FastAPI(
        # FastAPI's own pages of documentation load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_SILENT,
        max_body_size=service.limits.max_body_bytes,
        dependencies=[Depends(require_same_origin)],
    )
    app.state.service = service
    for module in (analysis, chat, duels, openai, status, tunes):
        app.include_router(module.router)
    app.add_api_route("/", _index)
    app.mount("/static", StaticFiles(directory=STATIC))
    add_handlers(app)
    if password is not None:
        app.add_middleware(AuthenticationMiddleware, PasswordBackend(password), on_error=unauthorized)
    app.add_middleware(TrustedHostMiddleware, [*LOOPBACK, *hosts], www_redirect=False)
    return SecurityHeaders(app, service.metrics.refused)


async def _index() -> FileResponse:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")
