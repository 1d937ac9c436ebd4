"""Any PyTorch module as a backbone: numbers, outputs and fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mask_models as masks
import skip2lora as s2
from conformance.torch_networks import REASON

torch = pytest.importorskip("torch", reason=REASON)

from torch import nn  # noqa: E402

from torch_modules import (  # noqa: E402
    IMAGES,
    PADDED,
    TOKENS,
    Convolutions,
    Encoder,
    mlp_like,
    vectors,
)

Refused = Callable[..., str]

pytestmark = pytest.mark.usefixtures("torch_generator")


@pytest.mark.parametrize(
    ("name", "near"), [("bfloat16", 0.05), ("float16", 0.01), ("float64", 1e-5)]
)
def test_other_types(name: str, near: float) -> None:
    full = Convolutions()
    expected = s2.TorchBackbone(full).forward(IMAGES)
    module = Convolutions()
    module.load_state_dict(full.state_dict())
    module.to(getattr(torch, name))
    backbone = s2.TorchBackbone(module)
    made = backbone.forward(IMAGES)
    assert {array.dtype for array in (*made.taps, made.base_logits)} == {np.dtype(np.float32)}
    for one, other in zip(made.taps, expected.taps, strict=True):
        np.testing.assert_allclose(one, other, rtol=near, atol=near)
    assert backbone.fingerprint != s2.TorchBackbone(full).fingerprint


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_softmax_of_few_bits_is_one(name: str) -> None:
    """NumPy has no bfloat16, whose 8 bits round a probability by half a percent."""

    class Softened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Convolutions()

        def forward(self, x: Any) -> Any:
            return 100 * torch.softmax(self.inner(x), 1)

    backbone = s2.TorchBackbone(Softened().to(getattr(torch, name)))
    x = backbone.check(IMAGES)
    [spec] = backbone.outputs
    assert (spec.ending, backbone.n_outputs) == (
        "softmax",
        backbone.forward(x).base_logits.shape[1],
    )


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_one_sample_at_a_time(n_samples: int) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            return self.b(torch.relu(self.a(x.reshape(1, 5))))

    module = One()
    x = vectors(n_samples)
    made = s2.TorchBackbone(module, batch_size=1).forward(x)
    assert made.taps[0].tobytes() == x.tobytes()
    rows = [module(torch.from_numpy(row)).detach().numpy()[0] for row in x]
    np.testing.assert_allclose(made.base_logits, np.stack(rows), rtol=1e-5)


@pytest.mark.parametrize(
    ("end", "task"),
    [
        (nn.Softmax(dim=1), "classification"),
        (nn.LogSoftmax(dim=-1), "classification"),
        (nn.Sigmoid(), "multi-label"),
        (nn.ReLU(), "classification"),
    ],
)
def test_a_last_softmax_is_left_out(end: nn.Module, task: str) -> None:
    inner = mlp_like()
    backbone = s2.TorchBackbone(nn.Sequential(inner, nn.Sequential(end)), example=vectors())
    assert backbone.task == task
    logits = inner(torch.from_numpy(vectors()))
    expected = (torch.relu(logits) if isinstance(end, nn.ReLU) else logits).detach().numpy()
    np.testing.assert_allclose(backbone.logits(vectors()), expected, rtol=1e-5)
    np.testing.assert_allclose(backbone.forward(vectors()).base_logits, expected, rtol=1e-5)


def test_predictions_without_an_adapter() -> None:
    backbone = s2.TorchBackbone(mlp_like())
    logits = backbone.logits(vectors())
    assert backbone.predict(vectors()).tolist() == logits.argmax(axis=1).tolist()
    assert backbone.score(vectors(), logits.argmax(axis=1)) == 1


def test_adapting_finds_the_taps(make_samples: Any) -> None:
    """Without an example; the samples are what ``check`` takes, not only tables."""
    _, y = make_samples(9, 5)
    backbone = s2.TorchBackbone(Convolutions())
    adapted = s2.adapt(backbone, IMAGES, y, epochs=100, learning_rate=0.01)
    assert backbone.tap_widths == (48, 96, 6)
    assert adapted.score(IMAGES, y) > backbone.score(IMAGES, y)
    given = {"ids": TOKENS, "attention_mask": PADDED}
    adapted = s2.adapt(s2.TorchBackbone(Encoder()), given, y[:6], epochs=2)
    assert adapted.logits(given).shape == (6, 3)


def test_save_and_load_for_the_same_weights(make_samples: Any, tmp_path: Any) -> None:
    x, y = make_samples(40, 5)
    module = mlp_like()
    adapted = s2.adapt(s2.TorchBackbone(module, example=x[:1]), x, y, epochs=5)
    adapted.save(tmp_path / "a")
    same = mlp_like()
    same.load_state_dict(module.state_dict())
    back = s2.AdaptedModel.load(s2.TorchBackbone(same, example=x[:1]), tmp_path / "a")
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_its_repr_needs_no_samples() -> None:
    backbone = s2.TorchBackbone(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    assert repr(backbone) == "TorchBackbone(Sequential, no samples yet)"
    backbone.check(np.zeros((2, 4), np.float32))
    assert repr(backbone) == "TorchBackbone(Sequential, 2 taps, 2 outputs)"


class Padded(nn.Module):
    """A mean of the tokens that count by ``m``, whatever its numbers mean."""

    def __init__(self, meaning: str) -> None:
        super().__init__()
        self.meaning, self.embed = meaning, nn.Embedding(9, 5)
        self.up, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, ids: Any, m: Any) -> Any:
        hidden = self.up(self.embed(ids))
        flat = m.flatten(1) if m.ndim > 1 else m[:, None]
        counts = {
            "tokens": flat != 0, "padding": flat == 0, "additive": flat > -1,
            "lengths": torch.arange(ids.shape[1]) < flat,
        }[self.meaning].float()[:, :, None]  # fmt: skip
        return self.head((hidden * counts).sum(1) / counts.sum(1).clamp(min=1))


@pytest.mark.parametrize(("meaning", "dtype", "ones"), masks.KINDS)
def test_rows_of_every_kind_of_mask(meaning: str, dtype: str, ones: int, tmp_path: Path) -> None:
    """Found by running the first sample; kept by the adapter, which a fresh module reads."""
    module = Padded(meaning)
    given = {"ids": masks.IDS, "m": masks.said(meaning, dtype, ones)}
    model = s2.TorchBackbone(module, example=given)
    assert model.mask == f"m={meaning}"
    rows = model.forward(model.check(given)).taps[0]
    tokens = module.embed(torch.tensor(masks.IDS)).detach().numpy()
    mean = (tokens * masks.COUNTS[:, :, None]).sum(1) / masks.COUNTS.sum(1, keepdims=True)
    np.testing.assert_allclose(rows[:, :5], mean, atol=1e-5)
    adapted = s2.adapt(model, given, np.arange(len(masks.IDS)) % 3, epochs=2)
    adapted.save(tmp_path / "adapter")
    again = s2.AdaptedModel.load(s2.TorchBackbone(module), tmp_path / "adapter")
    assert again.backbone.mask == model.mask
    assert np.array_equal(again.logits(given), adapted.logits(given))


def test_a_mask_that_is_told() -> None:
    given = {"ids": masks.IDS, "m": masks.said("padding", "bool", 0)}
    model = s2.TorchBackbone(Padded("padding"), mask="none", example=given)
    rows = model.forward(model.check(given)).taps[0]
    tokens = model.module.embed(torch.tensor(masks.IDS)).detach().numpy()
    np.testing.assert_allclose(rows[:, :5], tokens.mean(axis=1), atol=1e-5)
    assert model.with_mask("m=padding").mask == "m=padding"


def test_the_first_reason_is_told(refused: Refused) -> None:
    """What a module says of several samples at once, not of one alone, which is tried last."""

    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            raise ValueError(f"it dislikes {len(x)} of them")

    said = refused(s2.DataError, s2.TorchBackbone, Picky(), example=vectors(1))
    assert "(it dislikes 3 of them)" in said


def test_another_output_of_the_same_samples() -> None:
    """Its layers are known at once where those of the first are, and else with the first sample."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(5, 3), nn.Linear(5, 4)

        def forward(self, x: Any) -> Any:
            return {"one": self.one(x), "two": self.two(x)}

    known = s2.TorchBackbone(Two(), example=vectors(1), output="one")
    assert known.with_output("one") is known
    other = known.with_output("two")
    assert (other.output, other.n_outputs, known.n_outputs) == ("two", 4, 3)
    assert other.sample_shapes == known.sample_shapes is not None
    later = s2.TorchBackbone(Two()).with_output("two")
    assert later.sample_shapes is None
    assert later.logits(vectors(2)).shape == (2, 4)
    assert later.sample_shapes == known.sample_shapes
