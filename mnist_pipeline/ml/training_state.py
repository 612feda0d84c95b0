"""What moves while a network is trained, taken out as named tensors and put back bit for bit.

Here: networks, optimizer, learning-rate schedule, generators of random numbers.
Not here: the loop and its history (`training.py`), bytes (`checkpoints.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Tensors = dict[str, torch.Tensor]
IN_GROUPS = ("lr", "betas", "momentum")  # of an optimizer, what a schedule moves
IN_SCHEDULE = ("last_epoch", "_step_count", "_last_lr")


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The same with longer names: prefix/name."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The inverse of `under`, for those of this prefix."""
    head = f"{prefix}/"
    return {name.removeprefix(head): value for name, value in tensors.items() if name.startswith(head)}


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """The moments of each weight; of a weight that has none yet, nothing.

    Read from its state as it is: `state_dict` imports torch's compiler (2.4 s).
    """
    return {
        f"{number}/{name}": value
        for number, (_, weight) in enumerate(_weights(optimizer))
        for name, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Moments lie in memory as their weights do, which fused kernels rely on."""
    for number, (group, weight) in enumerate(_weights(optimizer)):
        on_device = group.get("fused") or group.get("capturable")
        for name, value in below(str(number), tensors).items():
            if value.shape == weight.shape and name != "step":
                optimizer.state[weight][name] = torch.empty_like(weight, requires_grad=False).copy_(value)
            else:
                optimizer.state[weight][name] = value.to(weight.device) if on_device else value.clone()


def pace(optimizer: Optimizer, schedule: LRScheduler) -> dict[str, Any]:
    """How fast it learns now, and where in the schedule it is; as JSON takes it."""
    groups = [{name: group[name] for name in IN_GROUPS if name in group} for group in optimizer.param_groups]
    return {"groups": groups, "schedule": {name: schedule.state_dict()[name] for name in IN_SCHEDULE}}


def restore_pace(optimizer: Optimizer, schedule: LRScheduler, kept: Mapping[str, Any]) -> None:
    """The inverse of `pace`."""
    for group, moved in zip(optimizer.param_groups, kept["groups"], strict=True):
        group.update({name: tuple(value) if name == "betas" else value for name, value in moved.items()})
    schedule.load_state_dict(dict(kept["schedule"]))


def generator_tensors(own: torch.Generator, device: torch.device) -> Tensors:
    """Where each generator stands. own: of the loop; torch's global ones drive dropout."""
    states = {"own": own.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(own: torch.Generator, device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `generator_tensors`."""
    own.set_state(states["own"])
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


def _weights(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """Each with the group that it is in, always in the same order."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            yield group, weight
