"""The backbone of Table 5: ProxylessNAS-Mobile, for vectors laid out as small images.

ProxylessNAS is Cai, Zhu and Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task
and Hardware", ICLR 2019 (the paper's [3]). The blocks are those published for mobile phones: with
three input channels, 1,000 classes and batch norm the network has its 4,080,512 parameters.

The paper says nothing about how a vector becomes an image or what happens to the strides, so both
are choices of this module:

* A vector is filled up with zeros to a square whose side is a multiple of 8, row by row, and is one
  channel: 256 features are 16x16, 561 features are 24x24 (15 zeros).
* The published network halves the image five times, which would leave 16x16 with half a pixel. Of
  the five strides three are kept, those into 32, 40 and 80 channels, so that 16x16 ends as 2x2 and
  24x24 as 3x3. The first convolution sees the whole resolution, as is usual for small images:
  neighbouring pixels are different features, not copies of each other. The last stride, into 192
  channels, has nothing left to halve; keeping it instead of an earlier one makes an epoch half as
  long again.

Strides have no parameters, so the count is that of the published network but for the single input
channel (576 less) and the classifier.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from skip2lora.arrays import choice

Norm = Literal["gn", "bn"]


class Block(NamedTuple):
    """One inverted bottleneck as published; ``stride`` is the one at 224x224."""

    kernel: int
    expansion: int
    out_channels: int
    stride: int = 1


FIRST_CHANNELS = 32
FEATURE_CHANNELS = 1280
#: The published list has 22 places; the two that the search left empty (the last two of the stage
#: of 32 channels) do nothing and are not listed.
BLOCKS = (
    Block(3, 1, 16),
    Block(5, 3, 32, 2),
    Block(3, 3, 32),
    Block(7, 3, 40, 2),
    Block(3, 3, 40),
    Block(5, 3, 40),
    Block(5, 3, 40),
    Block(7, 6, 80, 2),
    Block(5, 3, 80),
    Block(5, 3, 80),
    Block(5, 3, 80),
    Block(5, 6, 96),
    Block(5, 3, 96),
    Block(5, 3, 96),
    Block(5, 3, 96),
    Block(7, 6, 192, 2),
    Block(7, 6, 192),
    Block(7, 3, 192),
    Block(7, 3, 192),
    Block(7, 6, 320),
)
#: Strides for small images (see the top of this file): that of the first convolution, published
#: as 2, and the widths whose first block halves the image.
FIRST_STRIDE = 1
HALVED_INTO = (32, 40, 80)
SIDE_MULTIPLE = 2 ** len(HALVED_INTO)

CHANNELS_PER_GROUP = 8  # TinyTL's group norm
DROPOUT = 0.2  # before the classifier, as in TinyTL's released script
_NORM_EPS = 1e-3  # as published, and so is the momentum of the running statistics
_BN_MOMENTUM = 0.1
_FEW_GROUPS = 2  # not a depthwise convolution
_WS_EPS = 1e-10  # added to the variance: TinyTL adds 1e-5 to the deviation


def side_of(n_features: int) -> int:
    """The side of the smallest square image that holds ``n_features`` and is a multiple of 8."""
    side = SIDE_MULTIPLE
    while side * side < n_features:
        side += SIDE_MULTIPLE
    return side


def reshape_vectors(x: Any) -> Tensor:
    """Return vectors as images: (samples, features) to (samples, 1, side, side) float32.

    ``x`` is an array or tensor. Features fill the image row by row; the rest is zeros.
    """
    table = torch.as_tensor(x, dtype=torch.float32)
    n_samples, n_features = table.shape
    side = side_of(n_features)
    padded = nn.functional.pad(table, (0, side * side - n_features))
    return padded.reshape(n_samples, 1, side, side)


class SameConv2d(nn.Conv2d):  # type: ignore[misc, unused-ignore]
    """A convolution without bias (the norm after it has one) that keeps the side at stride 1.

    With ``standardized`` its filters are used with mean 0 and deviation 1, which TinyTL pairs with
    group norm; ``weight`` itself stays as it is.
    """

    def __init__(
        self, sizes: tuple[int, int], kernel: int, stride: int, groups: int, standardized: bool
    ) -> None:
        super().__init__(*sizes, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.standardized = standardized
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, side, side) to (batch, out_channels, side / stride, ...)."""
        weight = self.weight
        if self.standardized:
            filters = weight.flatten(1)
            filters = nn.functional.layer_norm(filters, filters.shape[1:], eps=_WS_EPS)
            weight = filters.view_as(weight)
        # Taps that only ever meet the zeros around a small image are left out: a filter of 7x7 on
        # an image of 2x2 is one of 3x3, with the same result and gradient in a tenth of the time.
        middle = self.kernel_size[0] // 2
        reach = min(middle, image.shape[-1] - 1)
        near = slice(middle - reach, middle + reach + 1)
        weight = weight[:, :, near, near]
        if weight.shape[-1] == 1 and self.stride == (1, 1) and self.groups <= _FEW_GROUPS:
            return _pointwise(image, weight.flatten(1), self.groups)
        return nn.functional.conv2d(image, weight, None, self.stride, reach, groups=self.groups)


def _pointwise(image: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A convolution of 1x1 as a product of matrices: twice as fast on a batch of small images."""
    pixels = image.permute(0, 2, 3, 1).chunk(groups, dim=-1)
    products = map(nn.functional.linear, pixels, weight.chunk(groups))
    return torch.cat([*products], dim=-1).permute(0, 3, 1, 2)


def conv_norm(
    norm: Norm, sizes: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution from ``sizes[0]`` to ``sizes[1]`` channels and the norm after it."""
    return [
        SameConv2d(sizes, kernel, stride, groups, standardized=norm == "gn"),
        norm_layer(norm, sizes[1]),
    ]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return group norm (8 channels a group) or batch norm, as ``norm`` says."""
    if norm == "gn":
        return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels, eps=_NORM_EPS)
    return nn.BatchNorm2d(channels, eps=_NORM_EPS, momentum=_BN_MOMENTUM)


class InvertedBottleneck(nn.Module):  # type: ignore[misc, unused-ignore]
    """Expand (unless by 1), convolve each channel, project; the input is added where it fits.

    ``lite`` is the place for TinyTL's lite residual module, empty at first.
    """

    def __init__(self, block: Block, in_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, block.out_channels
        self.stride = stride
        middle = in_channels * block.expansion
        layers: list[nn.Module] = []
        if block.expansion > 1:
            layers += [*conv_norm(norm, (in_channels, middle), 1), nn.ReLU6()]
        layers += [*conv_norm(norm, (middle, middle), block.kernel, stride, middle), nn.ReLU6()]
        layers += conv_norm(norm, (middle, block.out_channels), 1)
        self.main = nn.Sequential(*layers)
        # As published: no block that halves there keeps its width, so none gains a shortcut here.
        self.shortcut = in_channels == block.out_channels
        self.lite: nn.Module | None = None

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, side, side) to (batch, out_channels, side / stride, ...)."""
        output: Tensor = self.main(image)
        if self.lite is not None:
            output = output + self.lite(image, output.shape[2:])
        return output + image if self.shortcut else output


class ProxylessNAS(nn.Module):  # type: ignore[misc, unused-ignore]
    """ProxylessNAS-Mobile with ``norm`` "gn" or "bn", for images whose side is a multiple of 8.

    Its weights come from PyTorch's global generator: seed it, inside ``torch.random.fork_rng``.
    With group norm the filters are standardized, as TinyTL does; with batch norm they are not.
    """

    def __init__(self, n_classes: int, *, norm: Norm, in_channels: int = 1) -> None:
        super().__init__()
        choice("norm", norm, get_args(Norm))
        self.norm = norm
        self.first = nn.Sequential(
            *conv_norm(norm, (in_channels, FIRST_CHANNELS), 3, FIRST_STRIDE), nn.ReLU6()
        )
        blocks, channels = [], FIRST_CHANNELS
        for block in BLOCKS:
            halves = block.stride == 2 and block.out_channels in HALVED_INTO
            blocks.append(InvertedBottleneck(block, channels, 2 if halves else 1, norm))
            channels = block.out_channels
        self.blocks = nn.ModuleList(blocks)
        self.feature_mix = nn.Sequential(
            *conv_norm(norm, (channels, FEATURE_CHANNELS), 1), nn.ReLU6()
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(FEATURE_CHANNELS, n_classes)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Images (batch, channels, side, side) to logits (batch, n_classes)."""
        output: Tensor = self.first(image)
        for block in self.blocks:
            output = block(output)
        features: Tensor = self.feature_mix(output).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


class ParameterCount(NamedTuple):
    """How many numbers a network has, and how many of them are trained."""

    total: int
    trainable: int


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count the parameters; running statistics are none."""
    sizes = [(part.numel(), part.requires_grad) for part in network.parameters()]
    return ParameterCount(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )
