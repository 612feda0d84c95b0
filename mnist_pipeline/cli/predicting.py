"""`mnist-pipeline predict`: images from files or stdin, answered by what is in production or by a named version."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnist_pipeline.cli.faults import end_with
from mnist_pipeline.cli.places import AsJson, known_versions, opened
from mnist_pipeline.cli.showing import share, show_json, show_table
from mnist_pipeline.ml.answers import answer_of, with_set
from mnist_pipeline.store import Card, ModelStore

if TYPE_CHECKING:
    import numpy as np

    from mnist_pipeline.ml.predictor import Predictor

NO_DIGIT = "no digit on the image"
EXAMPLES = """Examples:

  mnist-pipeline predict photo.jpg

  mnist-pipeline predict --json *.png > answers.json

  curl -s https://example.org/seven.png | mnist-pipeline predict -

  mnist-pipeline predict t10k-images-idx3-ubyte.gz
"""


@dataclass(frozen=True)
class Answering:
    """Who answers. decision: the one that put it into production; None for a version that was named."""

    card: Card
    predictor: "Predictor"
    decision: int | None


@dataclass
class Asked:
    """What is to be answered, in the order in which it was asked, and what could not be read."""

    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    images: "list[np.ndarray | None]" = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


def predict(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Images, arrays (.npy, …-ubyte), Parquet files, - for an image on stdin."),
    ],
    version: Annotated[
        str, typer.Option(help="Another stored version than the one in production.", autocompletion=known_versions)
    ] = "",
    abstain: Annotated[bool, typer.Option("--abstain", help="No label where the set has several classes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which digit is on each image, through the same front door and predictor as batch and service.

    A file that cannot be read is told on stderr, the others are answered; the exit code is then 1.
    """
    answering = _answering(opened(), version)
    asked = _read(files, answering.card)
    predictions = _answers(asked, answering, abstain=abstain)
    if as_json:
        unreadable = [{"file": name, "reason": reason} for name, reason in asked.faults.items()]
        show_json({**_answered_by(answering), "predictions": predictions, "unreadable": unreadable})
    elif predictions:
        _show(predictions, answering)
    end_with([f"{name}: {reason}" for name, reason in asked.faults.items()])


def _answering(store: ModelStore, version: str) -> Answering:
    """Verified and golden-checked. Raises NothingDeployed, UnknownVersion, CorruptVersion, WrongAnswers."""
    from mnist_pipeline.ml.predictor import Predictor
    from mnist_pipeline.production import load_production

    if version:
        return Answering(store.card(version), Predictor.load(store.load(version)), None)
    production = load_production(store)
    return Answering(production.card, production.predictor, production.decision.number)


def _read(files: list[str], card: Card) -> Asked:
    from mnist_pipeline.cli.pictures import images_in
    from mnist_pipeline.ml.array_files import BadArray
    from mnist_pipeline.ml.digits import preparation_named
    from mnist_pipeline.ml.images import UnreadableImage

    asked, preparation = Asked(), preparation_named(card.preparation)
    for name in files:
        try:
            found = list(images_in(name, preparation))
        except (UnreadableImage, BadArray) as error:
            asked.faults[name] = str(error)
        except OSError as error:
            asked.faults[name] = f"the file cannot be read: {error.strerror or error}"
        else:
            asked.files += [name] * len(found)
            asked.rows += [row for row, _ in found]
            asked.images += [image for _, image in found]
    return asked


def _answers(asked: Asked, answering: Answering, *, abstain: bool) -> list[dict[str, Any]]:
    import numpy as np

    seen = [image for image in asked.images if image is not None]
    found = answering.predictor.predict(np.stack(seen) if seen else np.zeros((0, 28, 28), np.uint8))
    probabilities = iter(found.probabilities)
    return [
        {"file": name, "row": row, **_answer(None if image is None else next(probabilities), answering, abstain)}
        for name, row, image in zip(asked.files, asked.rows, asked.images, strict=True)
    ]


def _answer(probabilities: "np.ndarray | None", answering: Answering, abstain: bool) -> dict[str, Any]:
    """As the service answers."""
    if probabilities is None:
        return with_set({**answer_of(None, ()), "reason": NO_DIGIT}, None)
    row, names = probabilities.tolist(), answering.card.class_names
    return with_set(answer_of(row, names), answering.predictor.sets.of(row, names), abstain=abstain)


def _answered_by(answering: Answering) -> dict[str, Any]:
    return {"model_version": answering.card.name, "decision": answering.decision}


def _show(predictions: list[dict[str, Any]], answering: Answering) -> None:
    by = (answering.card.name, str(answering.decision or "–"))
    rows = [
        (_place(each), each["label"] or each["reason"], share(each["confidence"]), ", ".join(each["set"] or "–"), *by)
        for each in predictions
    ]
    show_table(("file", "label", "confidence", "set", "version", "decision"), rows)


def _place(answer: dict[str, Any]) -> str:
    """The file, and the row in it where it holds many."""
    from mnist_pipeline.ml.image_rows import holds_many

    return f"{answer['file']}[{answer['row']}]" if holds_many(answer["file"]) else answer["file"]
