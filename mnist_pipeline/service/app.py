"""The application: every door, put together. No setting is read here and nothing is started before it is served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

import fastapi_swagger
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mnist_pipeline.service import documents
from mnist_pipeline.service.answering import Answering
from mnist_pipeline.service.answers import abstained
from mnist_pipeline.service.batching import Batcher
from mnist_pipeline.service.bodies import Bodies
from mnist_pipeline.service.errors import Refused
from mnist_pipeline.service.guard import Endpoint, Guard, failed, gone, no_such_page, refused
from mnist_pipeline.service.invocations import invocations_with, ping_with, told_version
from mnist_pipeline.service.metrics import Metrics
from mnist_pipeline.service.open_inference import MODEL, Protocol
from mnist_pipeline.service.predict import feedback_with, predict_with
from mnist_pipeline.service.roster import Roster
from mnist_pipeline.service.settings import Doors, Settings
from mnist_pipeline.service.showing import model_with, own_version

STATIC = Path(__file__).parent / "static"
SWAGGER = Path(fastapi_swagger.__file__).parent / "resources"
THREADS = 2  # for photos, large requests and the shadow
DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
)
Tags = list[str | Enum]
OURS: Tags = ["this service"]
PROTOCOL: Tags = ["Open Inference Protocol"]
MLFLOWS: Tags = ["MLflow's and SageMaker's dialect"]
ABOUT = """Images in, digits out, by the model that the newest decision put into production.

The page to draw on is at `/`; readiness, with what is refused, at `/v2/health/ready`."""


def build(settings: Settings, doors: Doors) -> ASGIApp:
    """The application. While it is served, the models are looked after and the prediction log is written."""
    pool = ThreadPoolExecutor(THREADS, "service")
    roster = Roster(doors.store, doors.alerter, settings.challenger)
    batcher = Batcher(settings.batch, settings.wait_s, pool)
    metrics, bodies = Metrics(roster, batcher, doors.log), Bodies()
    if settings.abstain:
        doors.log.note_abstentions(lambda predicted: abstained(roster.standing, predicted))
    answering = Answering(roster, batcher, metrics, doors.log, pool, settings.at_once, settings.share)

    @asynccontextmanager
    async def serving(_: FastAPI) -> AsyncIterator[None]:
        doors.log.start()
        roster.start()
        try:
            yield
        finally:
            roster.stop()
            pool.shutdown()
            doors.log.stop()

    app = FastAPI(
        title="mnist_pipeline",
        version=own_version(),
        description=ABOUT,
        lifespan=serving,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, no_such_page)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)
    direct = _doors(app, answering, bodies, doors, pool, abstain=settings.abstain)
    _open_inference(app, Protocol(answering, bodies))
    _pages(app, roster, metrics)
    return Guard(app, direct, settings.token, metrics, bodies)


def _doors(
    app: FastAPI, answering: Answering, bodies: Bodies, doors: Doors, pool: ThreadPoolExecutor, *, abstain: bool
) -> dict[tuple[str, str], Endpoint]:
    """This service's own doors and MLflow's; returns those that are answered past the router."""
    predict = predict_with(answering, bodies, abstain=abstain)
    invocations = invocations_with(answering, bodies)
    feedback = feedback_with(answering, bodies, doors.feedback, pool)
    app.post(
        "/predict",
        response_model=documents.One | documents.Many,
        responses=documents.FAULTS,
        openapi_extra={**documents.PREDICT, "parameters": [documents.SEEN, documents.DRAFT, documents.KEY]},
        summary="What digit is on one image, or on several",
        tags=OURS,
    )(predict)
    app.post(
        "/feedback",
        response_model=documents.Kept,
        status_code=201,
        responses=documents.FAULTS,
        openapi_extra=documents.FEEDBACK,
        summary="Say what it was; the picture is kept for training",
        tags=OURS,
    )(feedback)
    app.post(
        "/invocations",
        response_model=documents.Many,
        responses=documents.FAULTS,
        openapi_extra=documents.INVOCATIONS,
        summary="The same in MLflow's and SageMaker's dialect",
        tags=MLFLOWS,
    )(invocations)
    for path in ("/ping", "/health"):
        app.get(path, responses=documents.FAULTS, summary="200 while a model answers", tags=MLFLOWS)(
            ping_with(answering)
        )
    app.get("/version", summary="Of this service", tags=MLFLOWS, response_class=PlainTextResponse)(told_version)
    return {("POST", "/predict"): predict, ("POST", "/invocations"): invocations}


def _open_inference(app: FastAPI, protocol: Protocol) -> None:
    """The routes of the Open Inference Protocol."""
    model = "/v2/models/{model}"
    for path, endpoint, summary in (
        ("/v2", protocol.server, "What this server is"),
        ("/v2/health/live", protocol.live, "Whether the process answers"),
        ("/v2/health/ready", protocol.ready, "Whether a model answers, and what is refused"),
        (model, protocol.model, "Inputs, outputs and versions"),
        (f"{model}/versions/{{version}}", protocol.model, "The same of one version"),
        (f"{model}/ready", protocol.model_ready, "Whether it serves"),
        (f"{model}/versions/{{version}}/ready", protocol.model_ready, "Whether that version serves"),
    ):
        app.get(path, responses=documents.FAULTS, summary=summary, tags=PROTOCOL, openapi_extra=_path_parameters(path))(
            endpoint
        )
    for path in (f"{model}/infer", f"{model}/versions/{{version}}/infer"):
        extra = {**documents.INFER, **_path_parameters(path)}
        app.post(path, responses=documents.FAULTS, summary="Infer", tags=PROTOCOL, openapi_extra=extra)(protocol.infer)


def _path_parameters(path: str) -> dict[str, object]:
    schemas = {"model": {"enum": [MODEL]}, "version": {"type": "string"}}
    named = {name: schema for name, schema in schemas.items() if f"{{{name}}}" in path}
    parameters = [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in named.items()]
    return {"parameters": parameters} if parameters else {}


def _pages(app: FastAPI, roster: Roster, metrics: Metrics) -> None:
    """What is there to be looked at."""

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def docs(request: Request) -> Response:
        below = str(request.scope.get("root_path", "")).rstrip("/")
        html = get_swagger_ui_html(
            openapi_url=f"{below}/openapi.json",
            title="mnist_pipeline",
            swagger_js_url=f"{below}/static/swagger/swagger-ui-bundle.js",
            swagger_css_url=f"{below}/static/swagger/swagger-ui.css",
            swagger_favicon_url=f"{below}/static/swagger/favicon-32x32.png",
        )
        html.headers["Content-Security-Policy"] = DOCS_POLICY
        return html

    async def counted(request: Request) -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.get("/model", responses=documents.FAULTS, summary="Card, decision and metrics", tags=OURS)(model_with(roster))
    app.get("/metrics", summary="For Prometheus", tags=OURS, response_class=PlainTextResponse)(counted)
    for path, endpoint in (("/", page), ("/docs", docs)):
        app.get(path, include_in_schema=False)(endpoint)
    app.mount("/static/swagger", StaticFiles(directory=SWAGGER), "swagger")
    app.mount("/static", StaticFiles(directory=STATIC), "static")
