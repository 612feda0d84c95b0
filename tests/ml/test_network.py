"""The network before any training: shapes, ranges, and that it alone normalises."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.network import DigitCNN, Dropout


def network(classes: int = 10, **knobs: float) -> DigitCNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DigitCNN(ModelConfig(**{"width_1": 3, "width_2": 5, "width_3": 7, **knobs}), classes).eval()


def pixels(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("classes", [2, 10, 256])
@pytest.mark.parametrize("count", [1, 3])
def test_uint8_pixels_go_in_and_float32_logits_come_out(count: int, classes: int) -> None:
    logits = network(classes)(pixels(count))
    assert (logits.dtype, tuple(logits.shape)) == (torch.float32, (count, classes))
    assert torch.isfinite(logits).all()


def test_normalisation_is_the_networks_own() -> None:
    images, net = pixels(4), network()
    assert torch.equal(net(images), net(images.float()))
    seen = []
    net.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(images)
    assert torch.allclose(seen[0][:, 0], (images / 255 - 0.1307) / 0.3081, atol=1e-5)


def test_normalisation_is_stored_with_the_weights_and_not_trained() -> None:
    net = network()
    assert {"mean", "std"} <= set(net.state_dict())
    assert {"mean", "std"}.isdisjoint(name for name, _ in net.named_parameters())


def test_there_are_three_convolutions_of_the_widths_asked_for_each_with_batch_norm() -> None:
    net = network()
    convolutions = [each for each in net.modules() if isinstance(each, nn.Conv2d)]
    norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
    assert [each.out_channels for each in convolutions] == [3, 5, 7]
    assert [each.num_features for each in norms] == [3, 5, 7]


def test_dropout_works_in_training_only() -> None:
    images, net = pixels(4), network(dropout=0.5)
    assert torch.equal(net(images), net(images))
    net.dropout.train()
    assert not torch.equal(net(images), net(images))


@given(
    share=st.floats(0.01, 0.99),
    shape=st.lists(st.integers(1, 20), min_size=1, max_size=2),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(deadline=None, max_examples=50)
def test_dropout_drops_the_share_asked_for_and_scales_what_it_keeps(
    share: float, shape: list[int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    features = torch.ones(200, *shape, dtype=dtype)
    left = Dropout(share).train()(features)
    kept = left != 0
    assert (left.dtype, left.shape) == (dtype, features.shape)
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=5 * (share * (1 - share) / kept.numel()) ** 0.5)
    assert torch.allclose(left[kept].float(), torch.tensor(1 / (1 - share)), rtol=0.01)


def test_dropout_repeats_itself_from_the_same_state_of_torchs_generator() -> None:
    layer, features = Dropout(0.5).train(), torch.ones(3, 5)
    torch.manual_seed(1)
    first, other = layer(features), layer(features)
    torch.manual_seed(1)
    assert torch.equal(layer(features), first)
    assert not torch.equal(first, other)


def test_an_untrained_network_favours_no_class(digits: DigitData) -> None:
    images, labels = torch.tensor(digits["test"].images), torch.tensor(digits["test"].labels, dtype=torch.int64)
    with torch.inference_mode():
        loss = F.cross_entropy(network().train()(images), labels).item()
    assert loss == pytest.approx(math.log(10), abs=0.5)


def test_five_views_are_the_mean_over_an_image_and_it_moved_by_a_pixel_each_way_but_not_in_training() -> None:
    net = network_for(ModelConfig(width_1=3, width_2=5, width_3=7, dropout=0.0), 10).eval()
    images, padded = pixels(3), F.pad(pixels(3), (1, 1, 1, 1))
    moved = [
        padded[:, down : down + 28, right : right + 28] for down, right in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    ]
    mean = torch.stack([net(each) for each in moved]).mean(0)
    alone = net(images)
    net.five_views = True
    assert torch.allclose(net(images), mean, atol=1e-5)
    assert not torch.allclose(net(images), alone, atol=1e-3)
    before = net.train()(images)
    net.five_views = False
    assert torch.equal(net(images), before)
