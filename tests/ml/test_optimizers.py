"""Optimizers: what Muon does to the filters of convolutions, and that it does to nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.optimizers import FASTER, Muon, bare_step, optimizer_of, orthogonal, schedule_of

CPU = torch.device("cpu")
SMALL = {"width_1": 4, "width_2": 6, "width_3": 8}


@given(
    rows=st.integers(1, 24), columns=st.integers(1, 24), seed=st.integers(0, 999), size=st.sampled_from([1e-3, 1, 1e3])
)
@settings(deadline=None, max_examples=50)
def test_the_large_singular_values_of_a_matrix_become_about_one(
    rows: int, columns: int, seed: int, size: float
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = (left.T @ orthogonal(matrix) @ right.T) / max(1, rows / columns) ** 0.5
    large = values > 0.1 * values.max()
    assert ((turned.diagonal()[large] > 0.5) & (turned.diagonal()[large] < 1.3)).all()
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-3


def stepped(network: nn.Module, config: ModelConfig, *, bfloat16: bool = False) -> nn.Module:
    """A copy after one step on the same images."""
    moved = copy.deepcopy(network)
    optimizer = optimizer_of(moved, config, CPU, bfloat16=bfloat16)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 28, 28), generator=generator, dtype=torch.uint8)
    nn.functional.cross_entropy(moved(images), torch.arange(16) % 10).backward()
    bare_step(optimizer)()
    return moved


def test_muon_moves_hidden_filters_by_its_rule_and_all_else_as_adamw_does() -> None:
    config = ModelConfig(**SMALL, learning_rate=0.01)
    before = network_for(config, 10).eval()
    others = stepped(before, config)
    moved = dict(stepped(before, config.model_copy(update={"optimizer": "muon"})).named_parameters())
    hidden = {"features.4.weight", "features.8.weight"}
    assert hidden < moved.keys()
    for name, weight in before.named_parameters():
        if name in hidden:
            step = (weight - moved[name]).detach().flatten(1) / (FASTER * config.learning_rate)
            assert torch.linalg.matrix_norm(step, 2) == pytest.approx(1, abs=0.3)
        else:
            assert torch.equal(moved[name], dict(others.named_parameters())[name])


def test_muon_in_bfloat16_goes_almost_the_same_way() -> None:
    config = ModelConfig(**SMALL, optimizer="muon")
    before = network_for(config, 10).eval()
    exact, coarse = (
        stepped(before, config, bfloat16=each).features[4].weight - before.features[4].weight for each in (False, True)
    )
    assert torch.nn.functional.cosine_similarity(exact.flatten(), coarse.flatten(), 0) > 0.99
    assert not torch.equal(exact, coarse)


def test_a_network_without_convolutions_is_trained_as_by_adamw() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert [group["muon"] for group in Muon(network, 0.1, weight_decay=0.0).param_groups] == [False]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_a_schedule_keeps_the_filters_at_their_multiple_of_the_rate(schedule: str) -> None:
    config = ModelConfig(**SMALL, optimizer="muon", schedule=schedule)
    optimizer = optimizer_of(network_for(config, 10), config, CPU)
    moving = schedule_of(optimizer, config, 10)
    for _ in range(5):
        rest, filters = (group["lr"] for group in optimizer.param_groups)
        assert filters == pytest.approx(FASTER * rest)
        bare_step(optimizer)()
        moving.step()
