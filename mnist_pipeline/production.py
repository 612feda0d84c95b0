"""What serves now: the newest decision of the ledger, with its version loaded, verified and ready to answer.

Used by evaluation, batch, single prediction and the service alike; knows nothing of Dagster.
"""

from dataclasses import dataclass

from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.store import Card, ModelStore


class NothingDeployed(RuntimeError):
    """There is no model in production yet."""


@dataclass(frozen=True)
class Production:
    """A verified model together with the decision that put it there."""

    decision: Decision
    card: Card
    predictor: Predictor


def load_production(store: ModelStore) -> Production:
    """Raises NothingDeployed, and CorruptVersion or WrongAnswers rather than serve something else."""
    decision = store.current()
    if decision is None or decision.serves is None:
        raise NothingDeployed(
            "no model is in production: run `make run`, or materialize '+key:production_digit_classifier'"
        )
    card, files = store.load_decided(decision)
    return Production(decision, card, Predictor.load(files))
