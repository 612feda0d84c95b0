"""The embedded digits, and one network trained on them for all tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from mnist_pipeline.ml.artifacts import pack
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.ml.split import split_digits
from mnist_pipeline.ml.training import Trained, train

settings.register_profile("without a clock", deadline=None)  # an example may be the first to import scikit-learn
settings.load_profile("without a clock")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """So small are the networks here that a second thread makes them slower, 10 times on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def embedded() -> DigitData:
    return read_embedded()


@pytest.fixture(scope="session")
def digits(embedded: DigitData) -> DigitData:
    """The same in three parts."""
    return split_digits(embedded, 0.2, seed=0)


@pytest.fixture(scope="session")
def trained(digits: DigitData) -> Trained:
    """A network that gets about 97 % of the embedded digits right."""
    config = ModelConfig(width_1=4, width_2=8, width_3=16, epochs=8, device="cpu")
    return train(digits["train"], digits["validation"], 10, config)


@pytest.fixture(scope="session")
def version(trained: Trained, digits: DigitData) -> dict[str, bytes]:
    """The files of that network's version."""
    return pack(trained.network, digits["validation"].images)


@pytest.fixture(scope="session")
def predictor(version: dict[str, bytes]) -> Predictor:
    return Predictor.load(version, threads=1)
