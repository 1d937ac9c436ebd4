"""ProxylessNAS-Mobile: its structure, its parameters, and what trains in it."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra 'paper')")

import torch

from skip2lora.paper import proxyless, tinytl

N_CLASSES = 3
# Kernel, expansion, channels into and out of each published block, written out a second time.
PUBLISHED = """
3 1 32 16 | 5 3 16 32, 3 3 32 32 | 7 3 32 40, 3 3 40 40, 5 3 40 40, 5 3 40 40
| 7 6 40 80, 5 3 80 80, 5 3 80 80, 5 3 80 80 | 5 6 80 96, 5 3 96 96, 5 3 96 96, 5 3 96 96
| 7 6 96 192, 7 6 192 192, 7 3 192 192, 7 3 192 192 | 7 6 192 320
"""


def published_blocks() -> list[tuple[int, ...]]:
    return [tuple(map(int, part.split())) for part in re.split(r"[|,]", PUBLISHED)]


def backbone_parameters(in_channels: int, n_classes: int) -> int:
    """Filters, two numbers a norm channel, and the classifier, by hand."""
    total = 9 * in_channels * 32 + 2 * 32
    for kernel, expansion, into, out in published_blocks():
        wide = into * expansion
        if expansion > 1:
            total += into * wide + 2 * wide
        total += kernel * kernel * wide + 2 * wide + wide * out + 2 * out
    return total + 320 * 1280 + 2 * 1280 + (1280 + 1) * n_classes


def lite_parameters(side: int) -> tuple[int, int]:
    """All of the lite residual modules' parameters, and those that TinyTL trains."""
    total = frozen = 0
    for _, _, into, out in published_blocks()[1:]:
        kernel = {1: 1, 2: 1, 3: 3, 4: 3, 6: 5, 8: 5, 12: 5}[side // 2]
        total += kernel * kernel * into * into // 2 + 2 * into + into * out + 2 * out
        frozen += out
        side //= 2 if into != out and out in (32, 40, 80) else 1
    return total, total - frozen


def test_the_blocks_are_the_published_ones():
    channels = [proxyless.FIRST_CHANNELS] + [block.out_channels for block in proxyless.BLOCKS]
    listed = [
        (block.kernel, block.expansion, into, block.out_channels)
        for block, into in zip(proxyless.BLOCKS, channels, strict=False)
    ]
    assert len(listed) == 20
    assert listed == published_blocks()
    halving = [block.out_channels for block in proxyless.BLOCKS if block.stride == 2]
    assert halving == [32, 40, 80, 192]


def test_the_published_network_has_its_published_parameter_count():
    network = proxyless.ProxylessNAS(1000, norm="bn", in_channels=3)
    assert backbone_parameters(3, 1000) == 4_080_512
    assert proxyless.count_parameters(network).total == 4_080_512


@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize(("n_features", "side"), [(256, 16), (561, 24)])
def test_parameter_counts_by_hand(norm, n_features, side):
    network = tinytl.tinytl_network(n_features, 6, norm=norm, seed=0)
    lite, lite_trained = lite_parameters(side)
    total = backbone_parameters(1, 6) + lite
    assert proxyless.count_parameters(network) == (total, total)
    tinytl.freeze_for_tinytl(network)
    norm_biases = 32 + 1280
    for _, expansion, into, out in published_blocks():
        norm_biases += into * expansion * (2 if expansion > 1 else 1) + out
    trained = norm_biases + lite_trained + (1280 + 1) * 6
    assert proxyless.count_parameters(network) == (total, trained)


@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize(("n_features", "sides"), [(256, (16, 8, 4, 2)), (561, (24, 12, 6, 3))])
def test_shapes(norm, n_features, sides):
    network = tinytl.tinytl_network(n_features, 6, norm=norm, seed=0).eval()
    seen = []
    for block in network.blocks:
        block.register_forward_hook(lambda _block, _input, output: seen.append(output.shape))
    with torch.no_grad():
        logits = network(tinytl.reshape_vectors(np.ones((2, n_features), np.float32)))
    assert logits.shape == (2, 6)
    assert [shape[1] for shape in seen] == [out for *_, out in published_blocks()]
    assert tuple(dict.fromkeys(shape[2] for shape in seen)) == sides


@pytest.mark.parametrize(("side", "stride"), [(2, 1), (3, 1), (4, 2), (5, 1), (9, 2)])
def test_leaving_out_far_taps_changes_nothing(side, stride):
    with torch.random.fork_rng(devices=[]):
        layer = proxyless.SameConv2d((8, 8), 7, stride, 8, standardized=False)
    image = torch.linspace(-1, 1, 2 * 8 * side * side).reshape(2, 8, side, side)
    whole = torch.nn.functional.conv2d(image, layer.weight, None, stride, 3, groups=8)
    torch.testing.assert_close(layer(image), whole)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_of_one_pixel_is_a_product(groups):
    with torch.random.fork_rng(devices=[]):
        layer = proxyless.SameConv2d((8, 6), 1, 1, groups, standardized=False)
    image = torch.linspace(-1, 1, 2 * 8 * 9).reshape(2, 8, 3, 3)
    whole = torch.nn.functional.conv2d(image, layer.weight, groups=groups)
    torch.testing.assert_close(layer(image), whole)


def test_standardized_filters_ignore_their_scale_and_offset():
    with torch.random.fork_rng(devices=[]):
        layer = proxyless.SameConv2d((4, 8), 3, 1, 1, standardized=True)
    image = torch.linspace(-1, 1, 4 * 36).reshape(1, 4, 6, 6)
    with torch.no_grad():
        before = layer(image)
        layer.weight.mul_(3.0).add_(0.7)
        torch.testing.assert_close(layer(image), before, rtol=1e-3, atol=1e-4)


def test_lite_residuals_are_silent_at_first():
    images = tinytl.reshape_vectors(np.random.default_rng(0).random((4, 256), np.float32))
    network = tinytl.tinytl_network(256, N_CLASSES, norm="gn", seed=0).eval()
    with torch.no_grad():
        with_modules = network(images)
        for block in network.blocks:
            block.lite = None
        torch.testing.assert_close(network(images), with_modules)


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_norms_and_dropout_are_the_published_ones(norm):
    network = proxyless.ProxylessNAS(N_CLASSES, norm=norm)
    kind = torch.nn.GroupNorm if norm == "gn" else torch.nn.BatchNorm2d
    norms = [part for part in network.modules() if isinstance(part, kind)]
    assert len(norms) == 2 + sum(2 + (block[1] > 1) for block in published_blocks())
    assert {part.eps for part in norms} == {1e-3}
    if norm == "gn":
        assert {part.num_channels / part.num_groups for part in norms} == {8}
    else:
        assert {part.momentum for part in norms} == {0.1}
    assert network.dropout.p == 0.2
    convolutions = [part for part in network.modules() if isinstance(part, proxyless.SameConv2d)]
    assert len(convolutions) == len(norms)
    assert {part.standardized for part in convolutions} == {norm == "gn"}
    assert [part.stride[0] for part in convolutions].count(2) == 3  # 32, 40 and 80 channels
    assert not network.classifier.bias.any()
    shortcuts = [block.shortcut for block in network.blocks]
    assert shortcuts == [into == out for _, _, into, out in published_blocks()]
