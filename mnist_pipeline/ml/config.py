"""Every choice that makes one trained model different from another, and the two presets.

The order of the fields is the order in which the Dagster launchpad shows them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mnist_pipeline.ml.digits import SIDE

Preset = Literal["fast", "accurate", "resnet", "vit"]
Architecture = Literal["cnn", "resnet", "vit", "tree", "forest", "logistic", "knn"]
NETWORKS: tuple[Architecture, ...] = ("cnn", "resnet", "vit")
CLASSICAL: tuple[Architecture, ...] = ("tree", "forest", "logistic", "knn")


class ModelConfig(BaseModel):
    """Architecture, training and augmentation of one model.

    A description that begins with names of architectures is of a field that only these read. Optimisation,
    augmentation and when to stop are read by the networks alone: cnn, resnet and vit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # architecture
    architecture: Architecture = Field(
        "cnn",
        description="cnn (DigitCNN), resnet, vit (vision transformer); on pixels: tree, forest, logistic (regression), "
        "knn (nearest neighbours)",
    )
    width_1: int = Field(16, ge=1, le=1024, description="cnn, resnet: channels of the first convolution or stage")
    width_2: int = Field(32, ge=1, le=1024, description="cnn, resnet: channels of the second convolution or stage")
    width_3: int = Field(64, ge=1, le=1024, description="cnn, resnet: channels of the third convolution or stage")
    kernel_1: int = Field(5, ge=1, le=9, description="cnn, resnet: side of the first filters")
    kernel_2: int = Field(5, ge=1, le=9, description="cnn: side of the second filters")
    kernel_3: int = Field(3, ge=1, le=9, description="cnn: side of the third filters, which are always padded")
    padded: bool = Field(False, description="cnn: whether the first two convolutions are padded too")
    blocks: int = Field(1, ge=1, le=20, description="resnet: basic blocks, of two convolutions each, in a stage")
    patch: int = Field(4, ge=2, le=14, description="vit: side of the patches in pixels, a divisor of 28")
    embedding: int = Field(64, ge=1, le=1024, description="vit: numbers a patch is embedded in, a multiple of heads")
    depth: int = Field(4, ge=1, le=24, description="vit: layers of the encoder")
    heads: int = Field(4, ge=1, le=64, description="vit: heads of the attention in each layer")
    dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="cnn, resnet, vit: share of features dropped before the classifier, in vit all along",
    )
    five_views: bool = Field(
        False,
        description="cnn, resnet, vit: whether an answer is the mean of five, of the image and of it moved by a pixel "
        "each way: five times the work, once trained",
    )
    trees: int = Field(60, ge=1, le=2000, description="forest: how many")
    tree_depth: int = Field(
        0, ge=0, le=100, description="tree, forest: questions from root to leaf at most; 0: no limit"
    )
    leaf: int = Field(3, ge=1, description="tree, forest: training images a leaf at least")
    penalty: float = Field(1.0, gt=0, description="logistic: strength of the L2 penalty on the sum over all images")
    iterations: int = Field(100, ge=1, description="logistic: steps of L-BFGS at most")
    neighbours: int = Field(5, ge=2, le=100, description="knn: how many are asked, the farthest of which has no vote")
    prototypes: int = Field(
        20_000, ge=100, description="knn: training images kept at most, an equal share of each class; 784 bytes each"
    )

    # optimisation
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = Field(
        "adamw", description="adamw, adam, sgd with momentum, or muon (hidden convolutions; adamw for all else)"
    )
    learning_rate: float = Field(0.01, gt=0, description="peak learning rate; of filters that muon moves, twice that")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="one_cycle (Smith 2018), cosine decay, or constant"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd; the others do not read it")
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="decoupled in adamw and muon (but not of the filters that muon moves), L2 in adam and sgd",
    )
    batch_size: int = Field(256, ge=2, description="images a step, at most a 16th of the training images")
    epochs: int = Field(2, ge=1, description="passes over the training images")
    min_steps: int = Field(0, ge=0, description="small data: as many epochs as it takes to make this many steps")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="probability spread over the other classes")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="moving average of the weights, a step; 0 is off")

    # augmentation
    shift: int = Field(
        2,
        ge=0,
        le=13,
        description="moved by up to this many pixels each way: the batch, or each image where it is warped too",
    )
    rotation: float = Field(0.0, ge=0, le=180, description="every image is turned by up to this many degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="every image is scaled by up to this share, each axis")
    shear: float = Field(0.0, ge=0, le=1, description="every image is sheared by up to this slope")
    elastic: float = Field(0.0, ge=0, le=5, description="every image is bent by smooth displacements of so many pixels")
    erasing: float = Field(0.0, ge=0, le=1, description="so many of the images lose a rectangle of 2 to 20 % of them")
    plain_epochs: int = Field(
        0, ge=0, description="the last epochs are moved only: warping blurs, real images are crisp and whole"
    )

    # when to stop, and where and how to run
    patience: int = Field(0, ge=0, description="stop after this many epochs without a better validation loss; 0: never")
    min_delta: float = Field(0.0, ge=0, description="a smaller gain in validation loss does not count as better")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 (autocast) where the processor computes in it, else float32"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: CUDA, else MPS, else CPU")
    seed: int = Field(0, ge=0, lt=2**63, description="of weights, order and augmentation")
    coverage: float = Field(
        0.99, gt=0, lt=1, description="share of images whose prediction set is to hold the truth (conformal)"
    )

    @field_validator("patch")
    @classmethod
    def _fits(cls, side: int) -> int:
        if SIDE % side:
            raise ValueError(f"patches of {side} pixels do not fit into {SIDE}: it is 2, 4, 7 or 14")
        return side

    @model_validator(mode="after")
    def _heads_share_the_embedding(self) -> "ModelConfig":
        if self.embedding % self.heads:
            raise ValueError(
                f"embedding {self.embedding} is no multiple of heads {self.heads}: each takes a part of it"
            )
        return self

    @field_validator("kernel_1", "kernel_2", "kernel_3")
    @classmethod
    def _has_a_middle(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"a filter's side must be odd, not {side}: only then has it a middle to be padded around")
        return side

    def label(self, accuracy: float) -> str:
        """The readable part of a version's name: what was trained how, and its validation accuracy."""
        return f"{self._shape()}{self._training()}-acc{accuracy * 1e4:04.0f}"

    def _shape(self) -> str:
        widths = f"{self.width_1}x{self.width_2}x{self.width_3}"
        depth = f"-d{self.tree_depth}" if self.tree_depth else ""
        return {
            "cnn": f"digitcnn-{widths}",
            "resnet": f"resnet-{widths}-n{self.blocks}",
            "vit": f"vit-p{self.patch}-{self.embedding}x{self.depth}-h{self.heads}",
            "tree": f"tree{depth}-leaf{self.leaf}",
            "forest": f"forest-{self.trees}{depth}-leaf{self.leaf}",
            "logistic": f"logistic-l2-{self.penalty:g}".replace("+", ""),
            "knn": f"knn-{self.neighbours}",
        }[self.architecture]

    def _training(self) -> str:
        """Of networks only."""
        if self.architecture not in NETWORKS:
            return ""
        return f"-{self.optimizer}-b{self.batch_size}-e{self.epochs}"


_CAREFULLY: dict[str, Any] = {
    "ema_decay": 0.998,
    "shift": 1,
    "rotation": 10.0,
    "scale": 0.1,
    "shear": 0.1,
    "plain_epochs": 3,
}  # what a longer training is worth
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"batch_size": 160, "epochs": 1, "min_steps": 100, "dropout": 0.0, "shift": 1},
    "accurate": {
        "width_1": 32,
        "width_2": 64,
        "width_3": 128,
        "kernel_3": 5,
        "dropout": 0.3,
        "five_views": True,
        "optimizer": "muon",
        "epochs": 26,
        "min_steps": 500,
        "ema_decay": 0.998,
        "shift": 2,
        "rotation": 15.0,
        "scale": 0.15,
        "shear": 0.15,
        "plain_epochs": 4,
    },
    "resnet": {
        "architecture": "resnet",
        "width_1": 32,
        "width_2": 64,
        "width_3": 128,
        "dropout": 0.2,
        "epochs": 12,
        "min_steps": 500,
        **_CAREFULLY,
    },
    "vit": {
        "architecture": "vit",
        "patch": 7,
        "dropout": 0.0,
        "learning_rate": 0.003,
        "weight_decay": 0.05,
        "epochs": 20,
        "min_steps": 1000,
        **_CAREFULLY,
    },
}


def configure(preset: Preset, **overrides: Any) -> ModelConfig:
    """A preset with single values replaced. Raises pydantic.ValidationError naming the wrong value."""
    return ModelConfig(**{**PRESETS[preset], **overrides})


def rival(architecture: Architecture, **overrides: Any) -> ModelConfig:
    """An architecture as it competes: by the preset of its name, or by the defaults, with single values replaced."""
    return ModelConfig(**{**PRESETS.get(architecture, {"architecture": architecture}), **overrides})
