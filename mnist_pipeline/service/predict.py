"""`POST /predict` and `POST /feedback`: the doors of this service's own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mnist_pipeline.ml.decoding import kind_of
from mnist_pipeline.service.answering import RETRY, Answering, champion_of
from mnist_pipeline.service.answers import about
from mnist_pipeline.service.bodies import Bodies
from mnist_pipeline.service.errors import Refused, json_response
from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.service.guard import Endpoint
from mnist_pipeline.service.headers import header
from mnist_pipeline.service.reading import decoded, file_of, parsed, question
from mnist_pipeline.storage.blobs import StoreUnavailable

KEY = b"x-routing-key"
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}  # the others are named as they are


def routing_key(request: Request) -> str:
    """What the share of the challenger is cut by: the same key is answered by the same model."""
    return header(request.scope, KEY) or str(request.scope["request_id"])


def predict_with(answering: Answering, bodies: Bodies, *, abstain: bool) -> Endpoint:
    """The endpoint of `POST /predict`. abstain: give no label where several are possible."""

    async def predict(request: Request) -> Response:
        scope = request.scope
        shown, draft = _flags(request) if scope["query_string"] else (False, False)
        body = await bodies.read(request)
        with answering.room:
            asked = await answering.read(body, lambda: question(body, request))
            door = "draft" if draft else "predict"
            answer = await answering.answer(asked, door, scope["request_id"], routing_key(request))

            def response() -> Response:
                each = answer.with_sets(abstain=abstain, shown=shown)
                if abstain:
                    answering.metrics.abstained(answer.by.role, sum(len(one["set"] or ()) > 1 for one in each))
                rest = about(answer, scope["request_id"], scope["began"])
                return json_response({"predictions": each, **rest} if asked.many else {**each[0], **rest})

            return await answering.respond(answer, response)

    return predict


def _flags(request: Request) -> tuple[bool, bool]:
    """seen: whether to answer what the network saw; draft: whether this is on its way to what will be asked, as a
    drawing is while the pen is down. Raises Refused for a value that is neither true nor false."""
    seen, draft = (request.query_params.get(name, "false") for name in ("seen", "draft"))
    for name, value in (("seen", seen), ("draft", draft)):
        if value not in ("true", "false"):
            raise Refused("bad_request", f"{name}={value[:50]!r}: it is true or false")
    return seen == "true", draft == "true"


def feedback_with(answering: Answering, bodies: Bodies, kept: Feedback, pool: ThreadPoolExecutor) -> Endpoint:
    """The endpoint of `POST /feedback`."""

    async def feedback(request: Request) -> Response:
        _check_origin(request)
        body = await bodies.read(request)
        with answering.room:
            image, label, asked_as = await answering.read(body, lambda: _corrected(body))
            names = champion_of(answering.roster.standing).names
            if label not in names:
                raise Refused("unreadable", f"label: it is one of {', '.join(names)}")
            try:
                await asyncio.get_running_loop().run_in_executor(pool, _keep, kept, image, label, asked_as)
            except StoreUnavailable as error:
                why = "it could not be kept: the storage does not answer; try again later"
                raise Refused("busy", why, RETRY) from error
        return json_response({"kept": True, "label": label}, 201)

    return feedback


async def _corrected(body: bytes) -> tuple[bytes, str, str]:
    """The picture, what is on it, and which request it was asked with. Raises Refused."""
    given = _feedback(parsed(body))
    return file_of(given["image"]), given["label"], given.get("request_id", "")


def _keep(kept: Feedback, image: bytes, label: str, request_id: str) -> None:
    """Only what can be read, and so trained on, is kept. Raises Refused, StoreUnavailable."""
    decoded(image, "image: ")
    kind = kind_of(image)
    kept.keep(image, _SUFFIXES.get(kind, kind.lower()), label, request_id=request_id)


def _feedback(content: Any) -> dict[str, str]:
    known = {"image", "label", "request_id"}
    if not isinstance(content, dict) or not {"image", "label"} <= content.keys() <= known:
        raise Refused("unreadable", 'feedback is {"image": "<base64>", "label": "7", "request_id": "…"}')
    if not all(isinstance(value, str) for value in content.values()):
        raise Refused("unreadable", "image, label and request_id are texts")
    if len(content.get("request_id", "")) > 64:
        raise Refused("unreadable", "request_id: it is at most 64 characters long")
    return content


def _check_origin(request: Request) -> None:
    """Another site's page must not teach this model while its visitor has the service running. Raises Refused."""
    origin = header(request.scope, b"origin")
    if origin and origin.partition("://")[2] != header(request.scope, b"host"):
        raise Refused("bad_request", "feedback is only taken from this service's own page, or from a program")
    if not header(request.scope, b"content-type").startswith("application/json"):
        raise Refused("bad_request", "feedback is JSON: send it with Content-Type: application/json")
