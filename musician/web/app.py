"""The web application: routes, files, errors in one line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from musician.runtime.errors import UserError
from musician.web.guard import LOOPBACK, Guard, error_body
from musician.web.routes import chat, duelling, openai, status, tunes
from musician.web.service import Service

STATIC = Path(__file__).with_name("static")
#: Nothing of what visitors do is sent anywhere, whatever OpenTelemetry's variables in the environment say.
_SILENT: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(service: Service, hosts: Collection[str] = (), password: str | None = None) -> Guard:
    """Build the application.

    Args:
        service: the models and what may be asked of them.
        hosts: names under which it may be asked, besides those of this machine's loopback.
        password: that visitors must know; None asks for none.
    """
    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_SILENT)
    app.state.service = service
    for module in (chat, duelling, tunes, openai, status):
        app.include_router(module.router)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _mistake)
    app.add_exception_handler(Exception, _failure)

    def refused(code: int) -> None:
        service.metrics.add("musician_refused_total", status=str(code))

    return Guard(app, {*LOOPBACK, *hosts}, password, service.limits.max_body_bytes, refused)


async def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


def _line(request: Request, code: int, line: str, headers: Any = None) -> JSONResponse:
    return JSONResponse(error_body(request.url.path, code, line), code, headers)


async def _http_error(request: Request, error: Any) -> JSONResponse:
    return _line(request, error.status_code, str(error.detail), error.headers)


async def _mistake(request: Request, error: Exception) -> JSONResponse:
    return _line(request, 422, str(error))


async def _invalid(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    if first["type"].startswith("json"):
        return _line(request, 400, "the body is not JSON")
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return _line(request, 422, f"{where}: {first['msg']}" if where else str(first["msg"]))


async def _failure(request: Request, error: Exception) -> JSONResponse:
    # The framework writes the traceback to the log.
    return _line(request, 500, "the server failed on this; its log says why")
