"""What the OpenAPI document says about requests and answers. Nothing is validated by these: the doors do that."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mnist_pipeline.ml.digits import SIDE
from mnist_pipeline.service.errors import STATUS
from mnist_pipeline.service.reading import MOST_IMAGES, PIXELS


class Refusal(BaseModel):
    """Why a request is not answered."""

    error: str = Field(description="what is wrong and what to do, for a person")
    code: Literal[tuple(STATUS)] = Field(description="the same for a program")  # type: ignore[valid-type]
    request_id: str


class Prediction(BaseModel):
    """What is on one image."""

    label: str | None = Field(description="null where there is no digit; with MNIST_ABSTAIN=on where several may be")
    confidence: float | None = Field(description="the probability of the label")
    probabilities: dict[str, float] | None = Field(description="of every class")
    reason: str | None = Field(None, description="why there is no label")
    set: list[str] | None = Field(
        None,
        description="of /predict: every class that it may well be, the most probable first; null where there is no "
        "digit, and from versions that were stored without conformal.json",
    )
    seen: list[list[int]] | None = Field(None, description="28×28: what the network saw, where ?seen=true")


class AnsweredBy(BaseModel):
    """Who answered."""

    model_version: str
    decision: int = Field(description="the newest of the ledger")
    served_by: Literal["champion", "challenger"]
    request_id: str
    milliseconds: float


class One(Prediction, AnsweredBy):
    """The answer to one image."""


class Many(AnsweredBy):
    """The answer to several images, in their order."""

    predictions: list[Prediction]


class Kept(BaseModel):
    """What was put right is kept."""

    kept: bool
    label: str


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": why}
    for status, why in {
        400: "The request is not one of those that are understood.",
        401: "A token is needed, and it is missing or wrong.",
        404: "There is no such model or version.",
        408: "The body did not arrive in time.",
        413: "The body, the image or the number of images is too large.",
        415: "The body is compressed.",
        422: "An image or a number in the request cannot be read.",
        431: "The headers are larger than 64 KiB, or what follows the body than 8 KiB.",
        500: "A fault of the service.",
        503: "No model is deployed, or there is too much to do: Retry-After says when to try again.",
    }.items()
}

ROW = {"type": "array", "minItems": SIDE, "maxItems": SIDE, "items": {"type": "integer", "minimum": 0, "maximum": 255}}
PIXEL_ROWS = {"type": "array", "minItems": SIDE, "maxItems": SIDE, "items": ROW}
FLAT = {**ROW, "minItems": PIXELS, "maxItems": PIXELS}
BASE64 = {"type": "string", "description": "an image file in base64, or a data URL"}


def _only(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An object with this one property."""
    return {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: schema}}


IMAGE_FORMS = [_only("pixels", {"oneOf": [PIXEL_ROWS, FLAT]}), _only("image", BASE64)]
IMAGES = _only("images", {"type": "array", "minItems": 1, "maxItems": MOST_IMAGES, "items": {"oneOf": IMAGE_FORMS}})
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
NUMBERS = {"type": "array", "minItems": 1, "items": {"oneOf": [PIXEL_ROWS, FLAT]}}


def body(content: dict[str, Any]) -> dict[str, Any]:
    """For `openapi_extra`: the body that a route takes, by content type."""
    return {"requestBody": {"required": True, "content": content}}


PREDICT = body(
    {
        "image/png": BINARY,
        "image/jpeg": BINARY,
        "application/octet-stream": {
            "schema": {"type": "string", "format": "binary", "description": f"{PIXELS} bytes an image, or a file"}
        },
        "multipart/form-data": FORM,
        "application/json": {"schema": {"oneOf": [*IMAGE_FORMS, IMAGES]}},
    }
)
FEEDBACK = body(
    {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image", "label"],
                "additionalProperties": False,
                "properties": {
                    "image": BASE64,
                    "label": {"type": "string", "description": "what it was: the name of a class"},
                    "request_id": {"type": "string", "maxLength": 64, "description": "of the answer that was wrong"},
                },
            }
        }
    }
)
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape", "data"],
    "properties": {
        "name": {"const": "images"},
        "datatype": {"enum": ["UINT8", "INT32", "INT64", "FP32"]},
        "shape": {
            "type": "array",
            "prefixItems": [{"type": "integer", "minimum": 1}, {"const": SIDE}, {"const": SIDE}],
            "minItems": 3,
            "maxItems": 3,
        },
        "data": NUMBERS,
    },
}
INFER = body(
    {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": TENSOR},
                },
            }
        }
    }
)
INVOCATIONS = body(
    {
        "application/json": {
            "schema": {
                "oneOf": [
                    _only(name, schema)
                    for name, schema in (
                        ("inputs", NUMBERS),
                        ("instances", NUMBERS),
                        ("dataframe_split", {"type": "object", "required": ["data"], "properties": {"data": NUMBERS}}),
                    )
                ]
            }
        },
        "text/csv": {"schema": {"type": "string"}},
        "image/png": BINARY,
    }
)
SEEN = {
    "name": "seen",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "also answer the 28×28 pixels that the network saw",
}
DRAFT = {
    **SEEN,
    "name": "draft",
    "description": "this is on its way to what will be asked: the prediction log says so, and reports leave it out",
}
KEY = {
    "name": "X-Routing-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "the same key is answered by the same model, where a challenger has a share",
}
