"""Errors of the web app: every one is a single line of JSON."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from musician.runtime.errors import UserError


def error_body(path: str, status: int, line: str) -> dict[str, Any]:
    """Return the body of an error; under `/v1` it has the form that OpenAI's clients expect."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": line, "type": kind, "param": None, "code": status}}
    return {"error": line}


def add_handlers(app: FastAPI) -> None:
    """Answer every exception of a route with one line."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(Exception, _failure)


def _response(request: Request, status: int, line: str, headers: Any = None) -> JSONResponse:
    return JSONResponse(error_body(request.url.path, status, line), status, headers)


async def _http_error(request: Request, error: Any) -> JSONResponse:
    return _response(request, error.status_code, str(error.detail), error.headers)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    return _response(request, 422, str(error))


async def _invalid(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    if first["type"].startswith("json"):
        return _response(request, 400, "the body is not JSON")
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    return _response(request, 422, f"{field}: {first['msg']}" if field else str(first["msg"]))


async def _failure(request: Request, error: Exception) -> JSONResponse:
    # Starlette logs the traceback.
    return _response(request, 500, "the server failed on this request; its log says why")
