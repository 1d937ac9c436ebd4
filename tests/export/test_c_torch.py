"""Residual networks as PyTorch's exporters write them, in C against ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")
torch = pytest.importorskip("torch", reason="needs PyTorch: pip group torch")

import skip2lora as s2  # noqa: E402
from device_rows import off_by  # noqa: E402
from skip2lora.export.c_layers import ADD  # noqa: E402
from skip2lora.export.c_network import network_of  # noqa: E402

nn = torch.nn
SHAPE = (3, 12, 12)


def convolved(n_in: int, n_out: int, size: int, *after: nn.Module, **options: int) -> list:
    """A convolution with batch norm, and what follows."""
    pad = size // 2
    conv = nn.Conv2d(n_in, n_out, size, padding=pad, bias=False, **options)
    return [conv, nn.BatchNorm2d(n_out), *after]


class Residual(nn.Module):
    """Two branches that are added: the second is what comes in where it is left out."""

    def __init__(self, main: list, shortcut: list | None = None, end: nn.Module | None = None):
        super().__init__()
        self.main, self.shortcut = nn.Sequential(*main), nn.Sequential(*(shortcut or []))
        self.end = end or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Their sum."""
        result = self.main(x)
        result += self.shortcut(x)
        return self.end(result)


def resnet() -> nn.Module:
    """The first three kinds of layers of ResNet-18: a stem, a block, one with half the places."""
    return nn.Sequential(
        *convolved(3, 8, 7, nn.ReLU(inplace=True), stride=2),
        nn.MaxPool2d(3, 2, 1),
        Residual([*convolved(8, 8, 3, nn.ReLU()), *convolved(8, 8, 3)], end=nn.ReLU()),
        Residual(
            [*convolved(8, 16, 3, nn.ReLU(), stride=2), *convolved(16, 16, 3)],
            convolved(8, 16, 1, stride=2),
            end=nn.ReLU(),
        ),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def mobilenet() -> nn.Module:
    """Of MobileNetV2: inverted blocks, of which only that of one place a place is residual."""
    wide = convolved(8, 24, 1, nn.ReLU6()) + convolved(24, 24, 3, nn.ReLU6(), groups=24)
    half = convolved(8, 24, 1, nn.ReLU6()) + convolved(24, 24, 3, nn.ReLU6(), groups=24, stride=2)
    return nn.Sequential(
        *convolved(3, 8, 3, nn.ReLU6(), stride=2),
        Residual([*wide, *convolved(24, 8, 1)]),
        *half,
        *convolved(24, 12, 1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(12, 5),
    )


def used(network: nn.Module) -> nn.Module:
    """Batch norm with statistics of samples that it saw."""
    for _ in range(3):
        network(torch.rand(16, *SHAPE) * 3)
    return network.eval()


def exported(network: nn.Module, how: str, path: Path) -> Path:
    x = torch.rand(2, *SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "dynamo":
            pytest.importorskip("onnxscript", reason="needs the package onnxscript")
            n = torch.export.Dim("n")
            torch.onnx.export(network, (x,), path, dynamo=True, dynamic_shapes=({0: n},))
            assert path.with_name(f"{path.name}.data").exists()  # weights stand beside it
        else:
            modes = torch.onnx.TrainingMode
            torch.onnx.export(
                network, (x,), path, dynamo=False, input_names=["x"],
                dynamic_axes={"x": {0: "n"}}, do_constant_folding=how == "folded",
                training=modes.EVAL if how == "folded" else modes.PRESERVE,
            )  # fmt: skip
    return path


@pytest.mark.parametrize("how", ["folded", "batch norm apart", "dynamo"])
@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_taps_and_logits(make, how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = s2.load(exported(used(make()), how, tmp_path / "m.onnx"))
    kinds = [layer.kind for layer in network_of(model).layers]
    assert kinds.count(ADD) == {resnet: 2, mobilenet: 1}[make]
    assert off_by(model, SHAPE) < 1e-5
    assert 1e-7 < off_by(model, SHAPE, weights="int8") < 0.03
