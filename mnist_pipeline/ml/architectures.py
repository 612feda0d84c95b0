"""From the name of an architecture to its network. What is not trained by gradients is in `classical`."""

from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.network import DigitCNN, Network


def network_for(config: ModelConfig, classes: int) -> Network:
    """The untrained network of a configuration. Raises ValueError for an architecture that is none."""
    network = _untrained(config, classes)
    network.five_views = config.five_views
    return network


def _untrained(config: ModelConfig, classes: int) -> Network:
    """torchvision is imported only for those that are built of it: that takes seconds."""
    if config.architecture == "cnn":
        return DigitCNN(config, classes)
    if config.architecture == "resnet":
        from mnist_pipeline.ml.resnet import ResNet

        return ResNet(config, classes)
    if config.architecture == "vit":
        from mnist_pipeline.ml.vision_transformer import VisionTransformer

        return VisionTransformer(config, classes)
    raise ValueError(f"{config.architecture} is no network, so it has no weights: its ONNX graph is all that there is")
