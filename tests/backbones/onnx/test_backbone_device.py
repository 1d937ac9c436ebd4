"""A device with a prepared file: an environment of its own, where little is installed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from skip2lora import _core
from skip2lora.backbones.onnx import OnnxBackbone, prepare

NAME = re.compile(r"[A-Za-z0-9._-]+")
ABSENT = ("onnx", "torch", "sklearn", "scipy", "ml_dtypes", "ai_edge_litert", "PIL")

SCRIPT = """
import importlib.util, json, sys
import onnxruntime
theirs = {name.partition(".")[0] for name in sys.modules}  # what the runtime takes along
import numpy as np
import skip2lora as s2
tapped, data, *absent = sys.argv[1:]
x = np.load(data)["X"]
backbone = s2.load(tapped)
adapted = s2.adapt(backbone, x, np.load(data)["y"], epochs=2)
adapted.save("a")
s2.AdaptedModel.load(s2.load(tapped), "a").predict(x)
np.save("tap.npy", backbone.forward(backbone.check(x)).taps[1])
loaded = {name.partition(".")[0] for name in sys.modules} - theirs - sys.stdlib_module_names
print(json.dumps({
    "loaded": sorted(loaded - {"__main__"}),
    "found": [name for name in absent if importlib.util.find_spec(name)],
}))
"""
COMMAND = "from skip2lora.cli import main; main()"


def needed(*names: str) -> set[str]:
    """These distributions and what they require, without extras."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        left += [
            match[0] for each in requires if "extra" not in each and (match := NAME.match(each))
        ]
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder to be all of ``sys.path`` beside the standard library: links to what is needed."""
    folder = tmp_path / "site"
    (folder / "skip2lora").mkdir(parents=True)
    for part in (*Path(s2.__file__).parent.iterdir(), Path(_core.__file__)):
        if part.name != "__pycache__":
            (folder / "skip2lora" / part.name).symlink_to(part)
    for name in needed("skip2lora", "onnxruntime", "numpy") - {"skip2lora"}:
        files = importlib.metadata.files(name) if _installed(name) else None
        for top in {file.parts[0] for file in files or () if file.parts[0] not in ("..", ".")}:
            found = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if found.exists() and top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(found)
    return folder


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def run_at(site: Path, code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` where nothing but the standard library and ``site`` can be imported."""
    start = f"import sys; sys.path.append({str(site)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code, *map(str, words)],
        cwd=site.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model, m.onnx, its prepared file, t.onnx, and samples, x.npz."""
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    prepare(path, tmp_path / "t.onnx", taps=["/conv1", "/fc"])
    np.savez(tmp_path / "x.npz", X=nets.images(12), y=np.arange(12) % 4)
    return path


def test_a_device_needs_numpy_and_onnxruntime_alone(site: Path, model: Path) -> None:
    done = run_at(site, SCRIPT, "t.onnx", "x.npz", *ABSENT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["found"] == []
    assert said["loaded"] == ["skip2lora"]
    backbone = OnnxBackbone.load(model, taps=["/conv1", "/fc"])
    tap = backbone.forward(nets.images(12)).taps[1]
    np.testing.assert_allclose(np.load(model.with_name("tap.npy")), tap, atol=1e-6)


def test_commands_on_a_device(site: Path, model: Path) -> None:
    for words in (
        "inspect t.onnx",
        "plan t.onnx x.npz",
        "adapt t.onnx x.npz -o a --epochs 1",
        "evaluate t.onnx x.npz --adapter a",
        "predict t.onnx x.npz --adapter a -o p.csv",
    ):
        done = run_at(site, COMMAND, *words.split())
        assert (done.returncode, done.stderr) == (0, ""), words
    for words, said in (
        ("inspect m.onnx", "pip install 'skip2lora[onnx]', or run `skip2lora prepare`"),
        ("prepare m.onnx -o o.onnx", "pip install 'skip2lora[onnx]'"),
        ("export t.onnx --adapter a --to onnx -o o.onnx", "pip install 'skip2lora[onnx]'"),
        ("inspect t.tflite", "pip install 'skip2lora[litert]'"),
    ):
        (site.parent / "t.tflite").write_bytes(b"\0\0\0\0TFL3")
        done = run_at(site, COMMAND, *words.split())
        assert done.returncode == 2, words
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (site.parent / "o.onnx").exists()
