"""MLflow's and SageMaker's dialect: `POST /invocations`, `GET /ping`, `/health`, `/version`.

Taken are `inputs` and `instances` (tensors), `dataframe_split` and `dataframe_records` (a column a pixel), CSV, and
image files as they are. The answer is `{"predictions": […]}`, one object an image.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.service.answering import Answering, champion_of
from mnist_pipeline.service.answers import about
from mnist_pipeline.service.bodies import Bodies
from mnist_pipeline.service.errors import Refused, json_response
from mnist_pipeline.service.guard import Endpoint
from mnist_pipeline.service.predict import routing_key
from mnist_pipeline.service.reading import MOST_IMAGES, PIXELS, Question, kind_of_body, numbers_of, parsed, question
from mnist_pipeline.service.showing import own_version

DIALECTS = ("inputs", "instances", "dataframe_split", "dataframe_records")


def invocations_with(answering: Answering, bodies: Bodies) -> Endpoint:
    """The endpoint of `POST /invocations`."""

    async def invocations(request: Request) -> Response:
        body = await bodies.read(request)
        with answering.room:
            asked = await answering.read(body, lambda: _question(body, request))
            id = request.scope["request_id"]
            answer = await answering.answer(asked, "invocations", id, routing_key(request))
            began = request.scope["began"]
            return await answering.respond(
                answer, lambda: json_response({"predictions": answer.of_each(), **about(answer, id, began)})
            )

    return invocations


def ping_with(answering: Answering) -> Endpoint:
    """The endpoint of `GET /ping`: 200 while a model answers."""

    async def ping(request: Request) -> Response:
        champion_of(answering.roster.standing)
        return json_response({"status": "healthy"})

    return ping


async def told_version(request: Request) -> Response:
    """`GET /version`, which MLflow's server tells too."""
    return Response(own_version(), media_type="text/plain")


async def _question(body: bytes, request: Request) -> Question:
    kind = kind_of_body(request)
    if kind == "text/csv":
        return _of_pixels(_csv(body), "the CSV")
    if kind != "application/json":
        return await question(body, request)
    content = parsed(body)
    given = [name for name in DIALECTS if isinstance(content, dict) and name in content]
    if len(given) != 1:
        raise Refused("bad_request", f"the body has to be an object with one of {', '.join(DIALECTS)}")
    name, value = given[0], content[given[0]]
    return _of_pixels(numbers_of(_rows(name, value), name), name)


def _rows(name: str, value: Any) -> Any:
    """Nested lists of numbers. Raises Refused."""
    if name == "dataframe_split":
        if not isinstance(value, dict) or "data" not in value:
            raise Refused("unreadable", 'dataframe_split: it has to be {"columns": […], "data": [[…], …]}')
        return value["data"]
    if name == "dataframe_records":
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise Refused("unreadable", "dataframe_records: it has to be a list of objects, a value a pixel")
        return [list(each.values()) for each in value]
    if isinstance(value, dict):
        if value.keys() != {"images"}:
            raise Refused("unreadable", f'{name}: the one input is "images"')
        return value["images"]
    if name == "instances" and isinstance(value, list) and value and isinstance(value[0], dict):
        if not all(isinstance(each, dict) and each.keys() == {"images"} for each in value):
            raise Refused("unreadable", 'instances: each has to be {"images": [[…], …]}')
        return [each["images"] for each in value]
    return value


def _csv(body: bytes) -> np.ndarray:
    """A row an image, 784 whole numbers each, a header row or none. Raises Refused."""
    lines = body.decode("utf-8", "replace").strip().splitlines()
    header = bool(lines) and not any(map(_is_number, lines[0].split(",")))
    if not lines[header:]:
        raise Refused("unreadable", "the CSV has no rows of numbers")
    try:
        rows = np.loadtxt(io.StringIO("\n".join(lines[header:])), delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise Refused("unreadable", f"the CSV: {str(error)[:200]}") from error
    return numbers_of(rows, "the CSV")


def _is_number(cell: str) -> bool:
    """In any form that NumPy and pandas write: 1.2e+02, -0."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_pixels(values: np.ndarray, where: str) -> Question:
    """uint8 [N, 784] or [N, 28, 28], also with one channel. Raises Refused."""
    if values.size % PIXELS or values.shape[1:] not in ((PIXELS,), (SIDE, SIDE), (SIDE, SIDE, 1), (1, SIDE, SIDE)):
        raise Refused("unreadable", f"{where}: it has to be [N, 28, 28] or [N, 784]; got {list(values.shape)}")
    if len(values) > MOST_IMAGES:
        raise Refused("unreadable", f"{where}: at most {MOST_IMAGES:,} images at once; got {len(values):,}")
    return Question(list(values.reshape(-1, SIDE, SIDE)), many=True)
