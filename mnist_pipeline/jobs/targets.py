"""What can be tuned, by name: from which stored value it learns, what is current, and how a result is used.

Not here: the search itself (`ml/tuning/`) and the job (`tuning.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from mnist_pipeline.assets.tabular_keys import split_name
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.files import NotMaterialized, read_value
from mnist_pipeline.ml.config import ModelConfig, configure
from mnist_pipeline.ml.tables.models import Settings as Knobs
from mnist_pipeline.ml.tables.models import kind_of
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.ml.tuning.problems import Problem
from mnist_pipeline.storage.shelves import Shelf
from mnist_pipeline.store import ModelStore

DIGITS = "digit_classifier"
SEARCH = ("ml/tuning/problems.py", "ml/tuning/spaces.py")
NETWORK = code_version(
    *("ml/config.py", "ml/network.py", "ml/architectures.py", "ml/resnet.py", "ml/vision_transformer.py"),
    *("ml/classical.py", "ml/augmentation.py", "ml/training.py", "ml/learning.py", "ml/tuning/network.py", *SEARCH),
)
TABLE = code_version("ml/tables/models.py", "ml/tables/scores.py", "ml/tuning/table.py", *SEARCH)
Settings = dict[str, Any]


class Target(Protocol):
    """One thing that can be tuned."""

    @property
    def name(self) -> str:
        """As it is asked for."""

    @property
    def code(self) -> str:
        """The code version of what a score depends on."""

    def current(self, shelf: Shelf, store: ModelStore) -> Settings:
        """Every setting as it is today."""

    def changed(self, current: Settings, fixed: Mapping[str, Any]) -> Settings:
        """The same with some fixed. Raises pydantic.ValidationError naming a wrong one."""

    def load(self, shelf: Shelf) -> Any:
        """The value that it learns from. Raises NotMaterialized."""

    def digest(self, value: Any) -> str:
        """Of that value's content."""

    def problem(self, value: Any, current: Settings, fixed: Mapping[str, Any]) -> Problem:
        """What is searched: all but the fixed."""

    def use(self, settings: Settings) -> str:
        """For people: how to train with these settings, ready to be pasted."""


@dataclass(frozen=True)
class Digits:
    """`DigitCNN`, as digit_classifier trains it. Today's settings: those of its newest version, or the preset fast."""

    name: str = DIGITS
    code: str = NETWORK

    def current(self, shelf: Shelf, store: ModelStore) -> Settings:
        try:
            version = read_value(shelf, DIGITS, DIGITS)
        except NotMaterialized:
            return configure("fast").model_dump()
        return ModelConfig(**store.card(version).config).model_dump()

    def changed(self, current: Settings, fixed: Mapping[str, Any]) -> Settings:
        return ModelConfig(**{**current, **fixed}).model_dump()

    def load(self, shelf: Shelf) -> Any:
        return read_value(shelf, "processed_mnist_data", "processed_mnist_data")

    def digest(self, value: Any) -> str:
        return str(value.digest())

    def problem(self, value: Any, current: Settings, fixed: Mapping[str, Any]) -> Problem:
        from mnist_pipeline.ml.tuning.network import SPACE, NetworkProblem
        from mnist_pipeline.ml.tuning.spaces import without

        classes = len(value.origin.class_names)
        return NetworkProblem(value["train"], value["validation"], classes, current, without(SPACE, fixed))

    def use(self, settings: Settings) -> str:
        preset = configure("fast").model_dump()
        short = {name: value for name, value in settings.items() if value != preset[name]}
        launchpad = _launchpad({"ops": {DIGITS: {"config": {"preset": "fast", **short}}}})
        return f"make run CONFIG='{json.dumps(short)}'\nor in the launchpad:\n{launchpad}"


@dataclass(frozen=True)
class TableModel:
    """One model of one table. Today's settings: those in the description of the table."""

    task: TableTask
    model: str
    partition: str = ""
    code: str = TABLE

    @property
    def name(self) -> str:
        return f"{self.task.name}/{self.model}"

    @property
    def _today(self) -> Knobs:
        return self.task.models[self.model]

    def current(self, shelf: Shelf, store: ModelStore) -> Settings:
        return dict(self._today.model_dump())

    def changed(self, current: Settings, fixed: Mapping[str, Any]) -> Settings:
        return type(self._today)(**{**current, **fixed}).model_dump()

    def load(self, shelf: Shelf) -> Any:
        asset = f"{self.task.name}/{split_name(self.task)}"
        return read_value(shelf, f"{asset}/{self.partition}" if self.partition else asset, asset)

    def digest(self, value: Any) -> str:
        from mnist_pipeline.ml.tables.preparing import digest

        return digest(value)

    def problem(self, value: Any, current: Settings, fixed: Mapping[str, Any]) -> Problem:
        from mnist_pipeline.ml.tables.preparing import part_of
        from mnist_pipeline.ml.tuning.spaces import without
        from mnist_pipeline.ml.tuning.table import SPACES, TableProblem

        rows, target = part_of(value, "train")
        kind = kind_of(self._today)
        return TableProblem(rows, target, self.task, kind, current, without(SPACES[kind], fixed))

    def use(self, settings: Settings) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        line = f'"{self.model}": {type(self._today).__name__}({given}),'
        some = {name: value for name, value in settings.items() if value is not None}
        launchpad = _launchpad({"ops": {f"{self.task.name}_models": {"config": {self.model: some}}}})
        return (
            f"write into the models of {self.task.name}, in mnist_pipeline/ml/tables/{self.task.name}.py:\n    {line}\n"
            f"or for one run, in the launchpad:\n{launchpad}"
        )


def names() -> list[str]:
    """All that can be tuned."""
    return [DIGITS, *(f"{task.name}/{kind}" for task in TASKS for kind in task.models)]


def chosen() -> Any:
    """An enum of them, which the launchpad offers for choosing."""
    return Enum("Target", {name: name for name in names()}, type=str)


def target_named(name: str, partition: str = "") -> Target:
    """Raises ValueError for a name that cannot be tuned, and for a partition that is missing or too many."""
    tables = {f"{task.name}/{kind}": (task, kind) for task in TASKS for kind in task.models}
    if name == DIGITS:
        return Digits()
    if name not in tables:
        raise ValueError(f"{name!r} cannot be tuned; what can: {', '.join(names())}")
    task, kind = tables[name]
    if bool(task.csv) != bool(partition):
        has = "a partition a dataset: name one" if task.csv else f"no partitions, so no {partition!r}"
        raise ValueError(f"{task.name} has {has} (partition)")
    return TableModel(task, kind, partition)


def _launchpad(config: Mapping[str, Any], indent: str = "") -> str:
    """As YAML, a line a setting."""
    lines = []
    for name, value in config.items():
        inner = f"\n{_launchpad(value, indent + '  ')}" if isinstance(value, Mapping) else f" {_scalar(value)}"
        lines.append(f"{indent}{name}:{inner}")
    return "\n".join(lines)


def _scalar(value: Any) -> str:
    """As YAML reads it: 1e-05 would be text, 1.0e-05 is a number."""
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
