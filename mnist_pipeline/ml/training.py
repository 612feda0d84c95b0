"""The training loop: uint8 images resident in memory, no loader workers, nothing that synchronises inside a step.

Which model is good enough to deploy is decided in `gate`; what is stored of it is in `artifacts`. What a checkpoint
takes of network and optimizer is in `training_state`; where one is kept is not known here.
"""

import contextlib
import copy
import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.augmentation import augment
from mnist_pipeline.ml.checkpoints import Checkpoint, Checkpoints, NoCheckpoints
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.network import Network
from mnist_pipeline.ml.optimizers import bare_step, optimizer_of, schedule_of
from mnist_pipeline.ml.training_state import (
    below,
    generator_tensors,
    optimizer_tensors,
    pace,
    restore_generators,
    restore_optimizer,
    restore_pace,
    under,
)

VALIDATION_BATCH = 250  # activations that stay in the cache: 1.4 times as fast as 1,000
NO_CHECKPOINTS = NoCheckpoints()
EMA_WARMUP = 9  # the moving average goes back over a ninth of the steps made so far, at most
SMALLEST_EPOCH = 16  # steps; on small data the batch shrinks first, then epochs are added


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; nothing of this training is worth keeping."""


@dataclass(frozen=True)
class Epoch:
    """What one pass gave. Losses in nats, accuracy as a share, images_per_s of the training part only.

    losses: the training loss along the pass, averaged over up to 20 stretches of equal length.
    """

    number: int
    of: int
    train_loss: float
    losses: tuple[float, ...]
    validation_loss: float
    validation_accuracy: float
    images_per_s: float
    seconds: float
    seconds_left: float
    best: bool

    def line(self) -> str:
        """One line for a log."""
        return (
            f"epoch {self.number}/{self.of}: loss {self.train_loss:.4f}, validation loss {self.validation_loss:.4f}, "
            f"validation accuracy {self.validation_accuracy:.2%}{' (best)' if self.best else ''}, "
            f"{self.images_per_s:,.0f} images/s, {self.seconds_left:.0f} s left"
        )


@dataclass
class Trained:
    """A network with its best weights, on the CPU in evaluation mode, and how it got there.

    resumed_at: after which epoch it went on from a checkpoint the last time; 0: never.
    """

    network: Network
    config: ModelConfig
    history: list[Epoch] = field(default_factory=list)
    resumed_at: int = 0

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return _best(self.history)


@dataclass
class _Progress:
    """How far a training is. What was best is known from its history, but for the weights."""

    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    resumed_at: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "_Progress":
        history = [Epoch(**{**each, "losses": tuple(each["losses"])}) for each in checkpoint.facts["history"]]
        return cls(history, below("best", checkpoint.tensors), checkpoint.facts["resumed_at"])

    def is_better(self, loss: float, min_delta: float) -> bool:
        """Than the best so far; the first epoch always is."""
        return not self.history or loss < _best(self.history).validation_loss - min_delta

    def is_over(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or too many went by without a better one."""
        if not self.history:
            return False
        number = self.history[-1].number
        return number >= epochs or bool(patience and number - _best(self.history).number >= patience)

    def facts(self) -> dict[str, Any]:
        return {"history": [asdict(epoch) for epoch in self.history], "resumed_at": self.resumed_at}


def choose_device(wanted: str) -> torch.device:
    """The device of this name; "auto" is CUDA, else MPS, else CPU. Raises ValueError where it is missing."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[wanted]:
        raise ValueError(f"device {wanted!r} is not there; this machine has: {[n for n in there if there[n]]}")
    return torch.device(wanted)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: where it is emulated, it is several times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def circumstances(config: ModelConfig) -> dict[str, Any]:
    """What else decides on the last bit of the weights, besides data, code and configuration, in this process.

    Raises ValueError where the device is missing.
    """
    device = choose_device(config.device)
    return {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "bfloat16": _in_bfloat16(config, device),
    }


def finished(config: ModelConfig, classes: int, checkpoint: Checkpoint) -> Trained:
    """What a training came to that ended elsewhere, from the last checkpoint that it left."""
    progress = _Progress.of(checkpoint)
    network = network_for(config, classes).to(memory_format=torch.channels_last)  # as after training: the same logits
    network.load_state_dict(progress.best_weights)
    return Trained(network.eval(), config, progress.history, progress.resumed_at)


def train(
    training: LabeledImages,
    validation: LabeledImages,
    classes: int,
    config: ModelConfig,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> Trained:
    """Fit the network of a configuration; the weights with the lowest validation loss are kept.

    Raises TrainingDiverged, and ValueError for an architecture that is no network.
    Same data, config, machine and number of threads: the same weights, bit for bit, however often it was broken off
    and went on from a checkpoint. Epochs that lie before one are told to nobody again.
    """
    with _seeded(config.seed), _roomy_malloc(), _deterministic():
        return _Loop(training, validation, classes, config).run(on_epoch, on_step, checkpoints)


class _Loop:
    def __init__(self, training: LabeledImages, validation: LabeledImages, classes: int, config: ModelConfig) -> None:
        self.config, self.device = config, choose_device(config.device)
        self.images, self.labels = self._resident(training)
        self.validation = self._resident(validation)
        self.network = network_for(config, classes).to(self.device).to(memory_format=torch.channels_last)
        self.network.five_views = False  # an epoch is judged by one view: a fifth of the time
        self.averaged = copy.deepcopy(self.network).requires_grad_(False) if config.ema_decay else None
        self.batch = max(2, min(config.batch_size, len(training) // SMALLEST_EPOCH))
        self.steps_per_epoch = len(training) // self.batch
        self.epochs = max(config.epochs, math.ceil(config.min_steps / self.steps_per_epoch))
        self.bfloat16 = _in_bfloat16(config, self.device)
        self.optimizer = optimizer_of(self.network, config, self.device, bfloat16=self.bfloat16)
        self.update = bare_step(self.optimizer)
        self.schedule = schedule_of(self.optimizer, config, self.epochs * self.steps_per_epoch)
        self.generator = torch.Generator().manual_seed(config.seed)

    def _resident(self, data: LabeledImages) -> tuple[torch.Tensor, torch.Tensor]:
        # a copy: the arrays may be read-only views of a file, which torch warns about
        images, labels = torch.tensor(data.images), torch.tensor(data.labels, dtype=torch.int64)
        return images.to(self.device), labels.to(self.device)

    def run(
        self, on_epoch: Callable[[Epoch], None], on_step: Callable[[int, int], None], checkpoints: Checkpoints
    ) -> Trained:
        """All epochs, or as many as patience allows."""
        progress = self._gone_on(checkpoints.load())
        begun = time.perf_counter() - (progress.history[-1].seconds if progress.history else 0.0)
        while not progress.is_over(self.epochs, self.config.patience):
            epoch = self._epoch(len(progress.history) + 1, begun, on_step)
            if progress.is_better(epoch.validation_loss, self.config.min_delta):
                epoch = replace(epoch, best=True)
                progress.best_weights = copy.deepcopy(self._judged().state_dict())
            progress.history.append(epoch)
            on_epoch(epoch)
            checkpoints.save(lambda: self._checkpoint(progress), progress.is_over(self.epochs, self.config.patience))
        self.network.load_state_dict(progress.best_weights)
        self.network.five_views = self.config.five_views
        return Trained(self.network.cpu().eval(), self.config, progress.history, progress.resumed_at)

    def _checkpoint(self, progress: _Progress) -> Checkpoint:
        """Everything that moves, as it is between two epochs."""
        averaged = self.averaged.state_dict() if self.averaged is not None else {}
        tensors = {
            **under("network", self.network.state_dict()),
            **under("averaged", averaged),
            **under("best", progress.best_weights),
            **under("optimizer", optimizer_tensors(self.optimizer)),
            **under("generators", generator_tensors(self.generator, self.device)),
        }
        return Checkpoint(tensors, {**progress.facts(), "pace": pace(self.optimizer, self.schedule)})

    def _gone_on(self, checkpoint: Checkpoint | None) -> _Progress:
        """The progress of a checkpoint, with everything put where it was; or none."""
        if checkpoint is None:
            return _Progress()
        tensors = checkpoint.tensors
        self.network.load_state_dict(below("network", tensors))
        if self.averaged is not None:
            self.averaged.load_state_dict(below("averaged", tensors))
        restore_optimizer(self.optimizer, below("optimizer", tensors))
        restore_pace(self.optimizer, self.schedule, checkpoint.facts["pace"])
        restore_generators(self.generator, self.device, below("generators", tensors))
        progress = _Progress.of(checkpoint)
        return replace(progress, resumed_at=len(progress.history))

    def _judged(self) -> Network:
        return self.averaged if self.averaged is not None else self.network

    def _epoch(self, number: int, begun: float, on_step: Callable[[int, int], None]) -> Epoch:
        start = time.perf_counter()
        losses = self._pass(number, on_step)
        train_loss = float(losses.mean())
        trained = time.perf_counter() - start
        validation_loss, accuracy = self._validate()
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise TrainingDiverged(
                f"the loss in epoch {number} is not finite (training {train_loss}, validation {validation_loss}): "
                f"nothing was stored. Try a learning rate below {self.config.learning_rate}"
            )
        seconds = time.perf_counter() - begun
        images = self.steps_per_epoch * self.batch
        left = seconds / number * (self.epochs - number)
        rate = images / trained
        return Epoch(
            number,
            self.epochs,
            train_loss,
            _stretches(losses),
            validation_loss,
            accuracy,
            rate,
            seconds,
            left,
            best=False,
        )

    def _pass(self, number: int, on_step: Callable[[int, int], None]) -> torch.Tensor:
        """The loss of every step, float32 [steps], read back once: nothing waits inside the loop."""
        self.network.train()
        warp = number <= self.epochs - self.config.plain_epochs
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.device)
        losses = torch.zeros(self.steps_per_epoch, device=self.device)
        for step in range(self.steps_per_epoch):
            rows = order[step * self.batch : (step + 1) * self.batch]
            images = augment(self.images[rows], self.config, self.generator, warp=warp)
            done = (number - 1) * self.steps_per_epoch + step + 1
            losses[step] = self._step(images, self.labels[rows], done)
            on_step(done, self.epochs * self.steps_per_epoch)
        return losses.cpu()

    def _step(self, images: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
        with self._autocast():
            loss = F.cross_entropy(self.network(images), labels, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.update()
        self.schedule.step()
        if self.averaged is not None:
            _average(self.averaged, self.network, min(self.config.ema_decay, number / (number + EMA_WARMUP)))
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """(mean cross entropy, accuracy), in float32 whatever the precision of training.

        The loss is smoothed as in training: the plain one gets worse at the end while the accuracy still rises
        (0.0507 at 99.68 %, then 0.0544 at 99.69 %), and would pick an epoch too early.
        """
        network = self._judged().eval()
        images, labels = self.validation
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for begin in range(0, len(labels), VALIDATION_BATCH):
            wanted = labels[begin : begin + VALIDATION_BATCH]
            logits = network(images[begin : begin + VALIDATION_BATCH])
            loss += F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=self.config.label_smoothing)
            right += (logits.argmax(1) == wanted).sum()
        return loss.item() / len(labels), right.item() / len(labels)


def _best(history: Sequence[Epoch]) -> Epoch:
    return next(epoch for epoch in reversed(history) if epoch.best)


def _in_bfloat16(config: ModelConfig, device: torch.device) -> bool:
    return computes_in_bfloat16(device) if config.precision == "auto" else config.precision == "bfloat16"


def _stretches(losses: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(part.mean()) for part in torch.tensor_split(losses, min(20, len(losses))))


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights (Polyak and Juditsky 1992); batch-norm statistics move along.

    Early on it reaches less far back: after 500 steps, 0.998 would still hold a third of the weights that nothing has
    been learned by.
    """
    for old, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Weights and dropout draw from torch's global generators: seeded here, and given back as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN may choose a kernel by timing, which differs from run to run; here it may not."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@contextlib.contextmanager
def _roomy_malloc() -> Iterator[None]:
    """glibc gives freed activations back to the kernel and faults them in again at every step; here it keeps them.

    Worth 18 % of the images/s in float32. Afterwards the thresholds are those glibc starts with, and the kept
    memory is given back.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        yield
        return
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    libc.mallopt(trim, 1 << 30)
    libc.mallopt(mmap, 1 << 30)
    try:
        yield
    finally:
        libc.mallopt(trim, 128 * 1024)
        libc.mallopt(mmap, 128 * 1024)
        libc.malloc_trim(0)
