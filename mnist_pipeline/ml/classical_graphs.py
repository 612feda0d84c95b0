"""ONNX graphs of classical models: uint8 [N, 28, 28] in, "logits" float32 [N, classes] out, N free.

Trees and linear models are converted by skl2onnx; neighbours, of which it has no exact form, are spelled out here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_pipeline.ml.classical import FLOOR, Classical
from mnist_pipeline.ml.digits import SIDE

OPSET, ML_OPSET, IR = 17, 3, 8  # old enough for every ONNX Runtime that is still around


def classical_graph(model: Classical) -> bytes:
    """The same answers as scikit-learn's, as a graph."""
    from onnx import TensorProto, helper

    nodes, constants = (_neighbours if _is_neighbours(model) else _converted)(model)
    nodes += _logits()
    constants |= {
        "flat": np.array([0, SIDE * SIDE], np.int64),
        "places": np.eye(model.classes, dtype=np.float32)[model.estimator.classes_],
        "floor": np.array(FLOOR, np.float32),
        "temperature": np.array(float(model.temperature), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "classical",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", model.classes])],
        [_tensor(name, value) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="mnist_pipeline")
    return bytes(made.SerializeToString(deterministic=True))


def _is_neighbours(model: Classical) -> bool:
    return hasattr(model.estimator, "kneighbors")


def _logits() -> list[Any]:
    """From "shares", the probabilities of the classes that were seen: of all, not below the floor, as logarithms."""
    from onnx import helper

    return [
        helper.make_node("MatMul", ["shares", "places"], ["probabilities_of_all"]),
        helper.make_node("Max", ["probabilities_of_all", "floor"], ["floored"]),
        helper.make_node("Log", ["floored"], ["logarithms"]),
        helper.make_node("Div", ["logarithms", "temperature"], ["logits"]),
    ]


def _converted(model: Classical) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Nodes from "images" to "shares" by skl2onnx, and its constants."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    made = convert_sklearn(
        model.estimator,
        initial_types=[("pixels", FloatTensorType([None, SIDE * SIDE]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    ).graph
    nodes = [
        helper.make_node("Reshape", ["images", "flat"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["pixels"], to=TensorProto.FLOAT),
        *made.node,
        helper.make_node("Identity", ["probabilities"], ["shares"]),
    ]
    return nodes, {each.name: numpy_helper.to_array(each) for each in made.initializer}


def _neighbours(model: Classical) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Nodes from "images" to "shares": squared distances in whole numbers, less the part that is the same for all.

    |x - y|² - |x|² = |y|² - 2xy, exact in int32: at most 784 · 255² = 51 million each.
    """
    from onnx import TensorProto, helper

    estimator = model.estimator
    prototypes = estimator._fit_X.astype(np.uint8)
    node = helper.make_node
    nodes = [
        node("Reshape", ["images", "flat"], ["bytes"]),
        node("MatMulInteger", ["bytes", "prototypes"], ["products"]),
        node("Mul", ["products", "minus_two"], ["doubled"]),
        node("Add", ["doubled", "squares"], ["distances"]),
        node("TopK", ["distances", "count"], ["nearest", "rows"], axis=1, largest=0, sorted=1),
        node("Cast", ["nearest"], ["apart"], to=TensorProto.DOUBLE),
        *_closeness(),
        node("Gather", ["votes", "rows"], ["ballots"]),
        node("Unsqueeze", ["weights", "last"], ["weights_of_ballots"]),
        node("Mul", ["ballots", "weights_of_ballots"], ["cast"]),
        node("ReduceSum", ["cast", "middle"], ["counted"], keepdims=0),
        node("ReduceSum", ["counted", "middle"], ["total"], keepdims=1),
        node("Div", ["counted", "total"], ["exact_shares"]),
        node("Cast", ["exact_shares"], ["shares"], to=TensorProto.FLOAT),
    ]
    constants = {
        "prototypes": np.ascontiguousarray(prototypes.T),
        "squares": (prototypes.astype(np.int64) ** 2).sum(1).astype(np.int32),
        "minus_two": np.array(-2, np.int32),
        "count": np.array([estimator.n_neighbors], np.int64),
        "first_place": np.array([0], np.int64),
        "last_place": np.array([estimator.n_neighbors - 1], np.int64),
        "votes": np.eye(len(estimator.classes_))[estimator._y],
        "one": np.array(1.0),
        "zero": np.array(0.0),
        "middle": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    return nodes, constants


def _closeness() -> list[Any]:
    """`classical.closeness` as nodes: from "apart" [N, k] to "weights" [N, k]."""
    from onnx import helper

    node = helper.make_node
    return [
        node("Gather", ["apart", "first_place"], ["near"], axis=1),
        node("Gather", ["apart", "last_place"], ["far"], axis=1),
        node("Sub", ["far", "near"], ["spread"]),
        node("Equal", ["spread", "zero"], ["all_alike"]),
        node("Where", ["all_alike", "one", "spread"], ["divisor"]),
        node("Sub", ["far", "apart"], ["nearer"]),
        node("Div", ["nearer", "divisor"], ["shared"]),
        node("Where", ["all_alike", "one", "shared"], ["weights"]),
    ]


def _tensor(name: str, value: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(value, name)
