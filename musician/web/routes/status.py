"""Routes for those who run the server: is it well, and how much has it done."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from musician.web.routes.chat import Here

router = APIRouter()


@router.get("/healthz")
def healthz(here: Here) -> JSONResponse:
    """Say that the server answers, and whether its models do; needs no password."""
    return JSONResponse({"status": "ok"}) if here.queue.alive else JSONResponse({"status": "no model answers"}, 503)


@router.get("/metrics")
def metrics(here: Here) -> PlainTextResponse:
    """Counters in Prometheus' text format."""
    gauges = {"musician_answers_waiting": here.queue.waiting, "musician_answers_running": here.queue.running}
    return PlainTextResponse(here.metrics.text(gauges), media_type="text/plain; version=0.0.4")
