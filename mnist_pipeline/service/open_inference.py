"""The Open Inference Protocol, version 2, over HTTP, with its binary tensors: clients of Triton and KServe work as is.

Pixels come in as the tensor `images`; `labels` are indices into the classes of the model's metadata, -1 where there
is no digit, with all probabilities 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.service.answering import Answering, champion_of, named
from mnist_pipeline.service.answers import Answer
from mnist_pipeline.service.bodies import Bodies
from mnist_pipeline.service.errors import Refused, json_response
from mnist_pipeline.service.predict import routing_key
from mnist_pipeline.service.reading import MOST_IMAGES, Question, numbers_of, parsed
from mnist_pipeline.service.roster import Serving
from mnist_pipeline.service.showing import own_version

MODEL = "digit_classifier"
LENGTH = "inference-header-content-length"
TYPES = {
    "UINT8": np.dtype("u1"),
    **{f"UINT{8 * n}": np.dtype(f"<u{n}") for n in (2, 4, 8)},
    **{f"INT{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
}
"""Datatypes that pixels may have; whole numbers from 0 to 255 in each."""


@dataclass(frozen=True)
class Protocol:
    """The endpoints. path parameters: model, version."""

    answering: Answering
    bodies: Bodies

    async def server(self, request: Request) -> Response:
        """`GET /v2`."""
        extensions = ["binary_tensor_data"]
        return json_response({"name": "mnist_pipeline", "version": own_version(), "extensions": extensions})

    async def live(self, request: Request) -> Response:
        """`GET /v2/health/live`: the process answers."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """`GET /v2/health/ready`: a model answers. What was decided on and is not served is said, but does not take
        away the model that serves on."""
        standing = self.answering.roster.standing
        champion = champion_of(standing)
        return json_response(
            {
                "ready": True,
                "model_version": champion.card.name,
                "decision": champion.decision,
                "store_reached": self.answering.roster.reached,
                "refused": standing.refused,
                "refused_challenger": standing.refused_challenger,
            }
        )

    async def model(self, request: Request) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]`."""
        by = self._asked(request)
        classes = len(by.names)
        standing = self.answering.roster.standing
        return json_response(
            {
                "name": MODEL,
                "versions": [each.card.name for each in (standing.champion, standing.challenger) if each],
                "platform": "onnxruntime_onnx",
                "inputs": [_tensor("images", "UINT8", [-1, SIDE, SIDE])],
                "outputs": [
                    _tensor("labels", "INT64", [-1]),
                    {**_tensor("probabilities", "FP32", [-1, classes]), "parameters": {"class_names": by.names}},
                ],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]/ready`."""
        by = self._asked(request)
        return json_response({"name": MODEL, "version": by.card.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """`POST /v2/models/{model}[/versions/{version}]/infer`."""
        _check_name(request)
        body = await self.bodies.read(request)
        version, id = request.path_params.get("version", ""), request.scope["request_id"]
        with self.answering.room:
            name, images, wanted = await self.answering.read(body, lambda: _asked(body, request))
            question = Question(list(images), many=True)
            answer = await self.answering.answer(question, "infer", id, routing_key(request), version)
            return await self.answering.respond(answer, lambda: _response(name, answer, wanted))

    def _asked(self, request: Request) -> Serving:
        _check_name(request)
        standing, version = self.answering.roster.standing, request.path_params.get("version", "")
        return named(standing, version) if version else champion_of(standing)


async def _asked(body: bytes, request: Request) -> tuple[str | None, np.ndarray, dict[str, bool]]:
    """The id that the client gave, the images, and the outputs it wants. Raises Refused."""
    asked, tensors = _split(body, request)
    return asked.get("id"), _images(asked, tensors), _outputs(asked)


def _check_name(request: Request) -> None:
    name = request.path_params["model"]
    if name != MODEL:
        raise Refused("not_found", f"there is no model {name[:100]!r}: the one that serves is {MODEL!r}")


def _tensor(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _split(body: bytes, request: Request) -> tuple[dict[str, Any], bytes]:
    """The JSON, and the binary tensors behind it. Raises Refused."""
    stated = request.headers.get(LENGTH)
    if stated is None:
        asked, tensors = parsed(body), b""
    elif stated.isdecimal() and len(stated) < 20 and int(stated) <= len(body):
        asked, tensors = parsed(body[: int(stated)]), body[int(stated) :]
    else:
        raise Refused("bad_request", f"Inference-Header-Content-Length: {stated[:20]!r} is no length within the body")
    if not isinstance(asked, dict):
        raise Refused("bad_request", 'the body has to be an object with "inputs"')
    if not isinstance(asked.get("id", ""), str):
        raise Refused("bad_request", "id: it has to be a text")
    return asked, tensors


def _images(asked: Mapping[str, Any], tensors: bytes) -> np.ndarray:
    """uint8 [N, 28, 28]. Raises Refused."""
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused("bad_request", 'inputs: it has to be a list of one tensor, "images"')
    tensor = inputs[0]
    if tensor.get("name") != "images" or not isinstance(kind := tensor.get("datatype"), str) or kind not in TYPES:
        raise Refused("bad_request", f"inputs: a tensor named images of one of the types {', '.join(TYPES)}")
    shape = _shape(tensor.get("shape"))
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        values = numbers_of(tensor.get("data"), "inputs, images, data")
    else:
        values = _of_bytes(size, tensors, TYPES[kind])
    if values.size != shape[0] * SIDE * SIDE:
        raise Refused("unreadable", f"inputs, images: {values.size:,} numbers do not fill the shape {shape}")
    return values.reshape(shape)


def _shape(shape: Any) -> list[int]:
    if not isinstance(shape, list) or len(shape) != 3 or shape[1:] != [SIDE, SIDE] or type(shape[0]) is not int:
        raise Refused("unreadable", f"inputs, images, shape: it has to be [N, {SIDE}, {SIDE}]; got {str(shape)[:60]}")
    if not 1 <= shape[0] <= MOST_IMAGES:
        raise Refused("unreadable", f"inputs, images, shape: 1 to {MOST_IMAGES:,} images at once; got {shape[0]:,}")
    return shape


def _of_bytes(size: Any, tensors: bytes, kind: np.dtype) -> np.ndarray:
    if type(size) is not int or size != len(tensors) or size % kind.itemsize:
        said = f"binary_data_size is {str(size)[:20]}, but {len(tensors):,} bytes follow the JSON"
        raise Refused("unreadable", f"inputs, images: {said}")
    values = np.frombuffer(tensors, kind)
    return values if kind == np.uint8 else numbers_of(values, "inputs, images")


def _parameters(of: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refused("bad_request", "parameters: it has to be an object")
    return parameters


def _outputs(asked: Mapping[str, Any]) -> dict[str, bool]:
    """Name -> whether it is wanted as binary. Raises Refused."""
    binary = _parameters(asked).get("binary_data_output") is True
    outputs = asked.get("outputs")
    if outputs is None:
        return {"labels": binary, "probabilities": binary}
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise Refused("bad_request", 'outputs: it has to be a list of objects such as {"name": "labels"}')
    names = [each.get("name") for each in outputs]
    if unknown := [name for name in names if name not in ("labels", "probabilities")]:
        raise Refused("bad_request", f"outputs: there are labels and probabilities, but no {str(unknown[0])[:60]!r}")
    return {each["name"]: _parameters(each).get("binary_data", binary) is True for each in outputs}


def _response(id: str | None, answer: Answer, wanted: Mapping[str, bool]) -> Response:
    is_digit = answer.seen.is_digit
    labels = np.full(len(is_digit), -1, np.int64)
    labels[is_digit] = answer.probabilities.argmax(1)
    probabilities = np.zeros((len(is_digit), len(answer.by.names)), np.float32)
    probabilities[is_digit] = answer.probabilities
    values: dict[str, tuple[str, np.ndarray]] = {"labels": ("INT64", labels), "probabilities": ("FP32", probabilities)}
    outputs, tensors = [], []
    for name, binary in wanted.items():
        kind, array = values[name]
        tensor = _tensor(name, kind, list(array.shape))
        if binary:
            tensors.append(array.tobytes())
            outputs.append({**tensor, "parameters": {"binary_data_size": len(tensors[-1])}})
        else:
            outputs.append({**tensor, "data": array.ravel().tolist()})
    by = answer.by
    head: dict[str, Any] = {
        "model_name": MODEL,
        "model_version": by.card.name,
        **({"id": id} if id is not None else {}),
    }
    head |= {"parameters": {"decision": by.decision, "served_by": by.role}, "outputs": outputs}
    response = json_response(head)
    if not tensors:
        return response
    length = {"Inference-Header-Content-Length": str(len(response.body))}
    return Response(b"".join([bytes(response.body), *tensors]), 200, length, "application/octet-stream")
