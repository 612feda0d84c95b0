"""What moves the weights: optimizers and learning-rate schedules, by name. Not here: the loop (`training.py`)."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mnist_pipeline.ml.config import ModelConfig

FASTER = 2.0  # the filters that Muon moves: so many times the rate of all others; 5 was worse
MOMENTUM = 0.95
TURNS = 4  # of the iteration
QUINTIC = (3.4445, -4.7750, 2.0315)


def optimizer_of(
    network: nn.Module, config: ModelConfig, device: torch.device, *, bfloat16: bool = False
) -> torch.optim.Optimizer:
    """By name, for all weights of a network. bfloat16: whether muon turns its filters in that."""
    _leave_compiler_out()
    weights, rate, decay = network.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            weights, rate, momentum=config.momentum, weight_decay=decay, nesterov=config.momentum > 0
        )
    fused = device.type != "mps"
    if config.optimizer == "muon":
        return Muon(network, rate, bfloat16, weight_decay=decay, fused=fused)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, rate, weight_decay=decay, fused=fused)


def schedule_of(optimizer: torch.optim.Optimizer, config: ModelConfig, steps: int) -> LRScheduler:
    """By name, over so many steps."""
    if config.schedule == "one_cycle":
        # it moves Adam's first beta against the rate; sgd keeps the momentum that was asked for
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, peaks, total_steps=steps + 1, cycle_momentum=config.optimizer != "sgd"
        )
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for the filters of convolutions, but for those that look at pixels; AdamW for the rest.

    A step of Muon is its momentum made orthogonal, so that no direction of a filter bank learns faster than another.
    torch's own takes matrices only, and would need a second optimizer and schedule beside it.
    """

    def __init__(self, network: nn.Module, lr: float, bfloat16: bool = False, **others: Any) -> None:
        self.precision = torch.bfloat16 if bfloat16 else torch.float32
        filters = [each.weight for each in network.modules() if _is_hidden(each)]
        known = {id(weight) for weight in filters}
        rest = [weight for weight in network.parameters() if id(weight) not in known]
        groups: list[dict[str, Any]] = [{"params": rest, "muon": False}]
        if filters:  # a transformer has none
            groups.append({"params": filters, "lr": FASTER * lr, "muon": True})
        super().__init__(groups, lr, **others)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """All weights once. What Muon has moved has no gradient any more, which AdamW leaves out."""
        for group in self.param_groups:
            if group["muon"]:
                for weight in group["params"]:
                    self._turn(weight, group["lr"])
        inspect.unwrap(torch.optim.AdamW.step)(self)

    def _turn(self, weight: torch.Tensor, rate: float) -> None:
        if weight.grad is None:
            return
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum = state["momentum_buffer"].mul_(MOMENTUM).add_(weight.grad)
        ahead = weight.grad.add(momentum, alpha=MOMENTUM)  # Nesterov
        turned = orthogonal(ahead.flatten(1).to(self.precision))
        weight.sub_(turned.to(weight.dtype).view_as(weight), alpha=rate)
        weight.grad = None


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """float [N, M] -> the same with its singular values brought near 1, by a quintic Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(TURNS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    wide = max(1.0, math.sqrt(matrix.shape[0] / matrix.shape[1]))
    return (found.T if tall else found) * wide


def _is_hidden(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.in_channels > 1


def _leave_compiler_out() -> None:
    """Optimizers import torch's compiler (880 modules, 2.4 s) only to exempt methods of theirs from it; nothing here
    is compiled, so these are marked as exempt already. Where torch does it differently, only the time is lost."""
    for method in (torch.optim.Optimizer.add_param_group, torch.optim.Optimizer.zero_grad):
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            setattr(plain, "__dynamo_disable", plain)


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """optimizer.step without its decorators (profiler, compiler), which import the compiler as well."""
    step = inspect.unwrap(type(optimizer).step)
    optimizer._opt_called = True  # type: ignore[attr-defined]  # else schedules warn that no step was made
    return torch.no_grad()(lambda: step(optimizer))
