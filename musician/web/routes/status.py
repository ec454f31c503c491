"""Routes for those who run the server: health and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from musician.web.service import ServiceDep

router = APIRouter()


@router.get("/healthz")
def healthz(service: ServiceDep) -> JSONResponse:
    """Report that the server answers, and whether its models do; needs no password."""
    alive = service.queue.alive
    return JSONResponse({"status": "ok"}) if alive else JSONResponse({"status": "no model answers"}, 503)


@router.get("/metrics")
def metrics(service: ServiceDep) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
