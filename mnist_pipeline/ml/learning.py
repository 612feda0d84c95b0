"""The one way from a configuration to a trained model, whatever its architecture."""

from collections.abc import Callable

from mnist_pipeline.ml.checkpoints import Checkpoints
from mnist_pipeline.ml.config import NETWORKS, ModelConfig
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.training import NO_CHECKPOINTS, Epoch, Trained, train


def learn(
    training: LabeledImages,
    validation: LabeledImages,
    classes: int,
    config: ModelConfig,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> Trained:
    """Networks by the training loop, classical models by scikit-learn, in one step. Raises TrainingDiverged.

    checkpoints: where a network's training finds and leaves its state; a classical model has none on its way.
    """
    if config.architecture in NETWORKS:
        return train(training, validation, classes, config, on_epoch, on_step, checkpoints)
    from mnist_pipeline.ml.classical import fit

    trained = fit(training, validation, classes, config)
    on_step(1, 1)
    on_epoch(trained.best)
    return trained
