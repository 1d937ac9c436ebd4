"""Files: what is damaged or missing, and what makes two models the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import openvino_models as nets
from skip2lora.backbones.openvino.file import fingerprint, read_model
from skip2lora.errors import FileError, ModelError

Refused = Callable[..., str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return nets.save(nets.mlp(), tmp_path / "m.xml")


def print_of(model: object, path: Path) -> str:
    return fingerprint(read_model(nets.save(model, path)))


def test_missing_files(path: Path, refused: Refused) -> None:
    weights = path.with_suffix(".bin")
    weights.unlink()
    said = refused(FileError, read_model, path)
    assert f"{weights} does not exist, expected the weights of" in said
    assert "expected the weights of m.xml: check the path" in said
    path.unlink()
    assert f"{path} does not exist" in refused(FileError, read_model, path)


@pytest.mark.parametrize("change", [-1, 4])
def test_weights_of_another_length(change: int, path: Path, refused: Refused) -> None:
    weights = path.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:change] if change < 0 else content + bytes(change))
    said = refused(ModelError, read_model, path)
    assert f"{weights} has {len(content) + change} bytes, m.xml expects {len(content)}" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<net", "<html", "no model of OpenVINO"),
        ('version="11">', 'version="7">', "has version 7 of the format, expected 10 or later"),
        ("</layers>", "", "Start-end tags mismatch"),
        ('type="MatMul"', 'type="Foo"', "doesn't contain the operation with type: Foo"),
        ('shape="9, 16"', 'shape="9, 17"', "inconsistent for Const"),
        ("f32", "f\N{LATIN SMALL LETTER E WITH ACUTE}2", "f\N{LATIN SMALL LETTER E WITH ACUTE}2"),
    ],
)
def test_damaged(old: str, new: str, said: str, path: Path, refused: Refused) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert said in refused(ModelError, read_model, path)


@pytest.mark.parametrize(("place", "size"), [(1, -(2**55)), (3, 2**40)])
def test_pads_beyond_any_size(place: int, size: int, tmp_path: Path, refused: Refused) -> None:
    """OpenVINO 2026.4 ends the process as it runs the first one."""
    path = nets.save(nets.cnn(), tmp_path / "m.xml")
    weights = path.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    assert content[:32] == np.array([0, 0, 1, 1], np.int64).tobytes()
    content[8 * place : 8 * place + 8] = size.to_bytes(8, "little", signed=True)
    weights.write_bytes(content)
    assert f"{size}" in refused(ModelError, read_model, path)
    content[:32] = np.array([0, 0, 1, 100]).tobytes()  # of an image
    weights.write_bytes(content)
    read_model(path)


def test_no_text(path: Path, refused: Refused) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b'name="fc0"', b'name="fc\xdb"'))
    assert "is damaged: 'utf-8' codec can't decode" in refused(ModelError, read_model, path)
    path.write_bytes(b"")
    assert "is no model of OpenVINO" in refused(ModelError, read_model, path)


def test_fingerprint(tmp_path: Path) -> None:
    """Names of operators come from a counter, so a second build has others."""
    one = print_of(nets.mlp(), tmp_path / "one.xml")
    assert one.startswith("sha256:")
    assert print_of(nets.mlp(), tmp_path / "other.xml") == one
    again = read_model(tmp_path / "one.xml")
    assert print_of(again, tmp_path / "again.xml") == one
    different = [
        nets.mlp(seed=1), nets.mlp(batch=1), nets.mlp(end="Softmax"), nets.mlp(shift=0.1),
        nets.mlp(shift=0.2), nets.mlp(quantised=True), nets.mlp([9, 16, 3]),
    ]  # fmt: skip
    prints = [print_of(model, tmp_path / "different.xml") for model in different]
    assert len({one, *prints}) == 1 + len(different)


def test_one_weight_changes_the_fingerprint(path: Path) -> None:
    before = fingerprint(read_model(path))
    weights = path.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert fingerprint(read_model(path)) != before


def test_remarks_do_not_count(path: Path) -> None:
    before = fingerprint(read_model(path))
    text = path.read_text()
    remark = '<rt_info><conversion><compress_to_fp16 value="True" /></conversion></rt_info>'
    path.write_text(text.replace("</edges>", f"</edges>{remark}"))
    assert read_model(path).has_rt_info(["conversion", "compress_to_fp16"])
    assert fingerprint(read_model(path)) == before


def test_weights_are_not_mapped(path: Path) -> None:
    """A file that is cut short while its model is in use must not end the process."""
    model = read_model(path)
    before = fingerprint(model)
    path.with_suffix(".bin").write_bytes(b"")
    assert fingerprint(model) == before
