"""Every code block of the README and of docs/ runs, page by page, as a reader would run it.

The blocks of a page share one folder, and its Python blocks one namespace. What a page calls the
reader's own (`model.onnx`, `field.csv`, `X`, `y`) is made by `readers_files` and `readers_names`.
A `text` block is what the block before it prints: words must be the same, times may be any, other
numbers may differ a little, as processors round differently. What cannot run says so above itself
in the page, as in `<!-- skip: next "needs an INA219" -->`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from sybil import Example
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

import other_programs
import skip2lora as s2

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
#: What a page needs beyond the package and the group `test`, by what it says.
NEEDS = {
    ".onnx": ("onnx", "onnxruntime"), "TorchBackbone(": ("torch",),
    "adapt model.xml": ("openvino",), "skip2lora[video]": ("av",),
    "--engine dask://": ("distributed",),
}  # fmt: skip
#: What stands between fences and is no command: the site's own directives, and files.
NOT_RUN = {"{eval-rst}", "{toctree}", "c", "js", "json"}
COMMAND = re.compile(r"^ {4}(?:\$ |pip |python |make |skip2lora |import |from )", re.MULTILINE)
SKIP = re.compile(r'<!-- skip: next "needs [^"]+" -->')
TIME = re.compile(r"[\d,.]+ (?=(?:us|ms|s|h|min)\b)")
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
N_FEATURES = 9


def samples(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n_samples) % 3
    noise = np.random.default_rng(0).standard_normal((n_samples, N_FEATURES))
    return (noise + y[:, None]).astype(np.float32), y


def write_csv(file: str, answers: dict[str, Any], x: np.ndarray) -> None:
    names = [*answers, *(f"f{number}" for number in range(x.shape[1]))]
    rows = [",".join(map(str, row)) for row in zip(*answers.values(), *x.T, strict=True)]
    Path(file).write_text("\n".join([",".join(names), *rows]) + "\n")


def readers_files(text: str) -> None:
    """Small files of the names that the page mentions, in the current folder."""
    x, y = samples(30)
    if ".onnx" in text:
        import onnx_models

        onnx_models.save(onnx_models.mlp(), Path("model.onnx"))
        onnx_models.save(onnx_models.cnn(end=None), Path("vision.onnx"))
    if "adapt model.xml" in text:
        import openvino_models

        openvino_models.save(openvino_models.mlp(), Path("model.xml"))
    if "pretrain" not in text:  # else the page makes its own
        s2.MLP.create([N_FEATURES, 8, 3]).save("model.safetensors")
    np.savez("data.npz", X=x, y=y)
    for file in ("field.csv", "test.csv"):
        targets = {"mass": x[:, 0] + 1, "price": 2 * x[:, 1]} if "mass,price" in text else {}
        write_csv(file, targets or {"label": y}, x)
    write_csv("moods.csv", {"label": np.array(["calm", "glad", "sad"])[y]}, x)
    if "words.npz" in text:
        from stream_models import lstm, words

        lstm(Path("listener.onnx"))
        np.savez("words.npz", **words())
    elif "listener.onnx" in text:
        from sound_models import listener, record, tone, tones

        listener(Path("listener.onnx"))
        tones(Path("sounds"), 4)
        tones(Path("others"), 2, seed=500)
        night = np.concatenate([tone(300, 1), tone(1500, 1)])
        record(Path("night.flac"), night)
        record(Path("dawn.wav"), night)
        Path("dawn.txt").write_text("0\t1\tlow\n1\t2\thigh\n")
    if "motion.safetensors" in text:
        from sensor_data import impulse, walk_run_sit

        for seed, file in enumerate(("lab.csv", "field.csv", "others.csv")):
            walk_run_sit(Path(file), users=4, n_rows=300, seed=100 * seed)
        for label in ("run", "walk"):
            impulse(Path("impulse", "training", f"{label}.01.json"), label)
    if other_programs.LITE in text:
        other_programs.impulse(Path())
    if "BirdNET.tflite" in text:
        other_programs.bird_recordings(Path())
    if "trail.json" in text:
        from camera_files import coco, films, megadetector, trail

        seen = trail(Path("trail"))
        megadetector(Path("trail.json"), seen)
        coco(Path("coco.json"), seen)
        megadetector(Path("other.json"), trail(Path("other"), 3, seed=50))
        films(Path("films"))
    if "labelmap.txt" in text:
        other_programs.camera(Path(), ("closed", "open"))
    elif "photos" in text:
        from PIL import Image

        for name in ("cat", "dog", "fox", "hen"):
            Path("photos", name).mkdir(parents=True)
            for at in range(3):
                pixels = np.random.default_rng(at).integers(0, 256, (20, 16, 3), np.uint8)
                Image.fromarray(pixels).save(f"photos/{name}/{at}.png")


def readers_names(text: str) -> dict[str, Any]:
    """What the page calls the reader's own arrays and model."""
    x, y = samples(60)
    if "AudioFeatures" in text or "MicroWakeWordFeatures" in text:
        clips, spoken = other_programs.wake_words(Path())
        return {"clips": clips, "spoken": spoken}
    names: dict[str, Any] = {"X": x[:30], "y": y[:30], "X_more": x[30:], "y_more": y[30:]}
    if "TorchBackbone(" in text:
        from torch import nn

        names["module"] = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.ReLU(), nn.Linear(8, 3))
    return names | {"model": s2.MLP.create([N_FEATURES, 8, 3])}


def run_python(example: Example) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace["printed"] = printed.getvalue()


def run_shell(example: Example) -> None:
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", example.parsed], process_group=0,
        env={**os.environ, "PATH": os.pathsep.join(folders), "COLUMNS": "200"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if re.search(r"&$", example.parsed, re.M):  # it stays, to the end of the page
        example.namespace.setdefault("groups", []).append(shell.pid)
    printed, errors = shell.communicate(timeout=300)
    assert shell.returncode == 0, f"{example.path}:{example.line}: {errors}"
    example.namespace["printed"] = printed


def compare(example: Example) -> None:
    shown, printed = (
        TIME.sub("TIME ", text).split() for text in (example.parsed, example.namespace["printed"])
    )
    assert [NUMBER.sub("#", word) for word in printed] == [NUMBER.sub("#", word) for word in shown]
    numbers = [
        [float(number.replace(",", "")) for word in words for number in NUMBER.findall(word)]
        for words in (printed, shown)
    ]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.02)


def parse(page: Path) -> Document:
    parsers = [
        CodeBlockParser("python", run_python),
        CodeBlockParser("sh", run_shell),
        CodeBlockParser("text", compare),
        SkipParser(),
    ]
    return Document.parse(str(page), *parsers)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore::UserWarning:onnxruntime", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if re.search("^```(python|sh)", page.read_text(), re.M)],
    ids=name,
)
def test_every_block_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text()
    if page.parent.name == "integrations":
        other_programs.lend(page.stem, monkeypatch)
    for module in {module for mark in NEEDS if mark in text for module in NEEDS[mark]}:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    readers_files(text)
    document = parse(page)
    document.namespace |= readers_names(text)
    try:
        for example in document.examples():
            with contextlib.suppress(SkipTest):
                example.evaluate()
    finally:
        stop(document.namespace.get("groups", []))
        document.namespace.clear()  # files close now, before the archives that they are in


def stop(groups: list[int]) -> None:
    """End what blocks left running, such as a service."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_escapes(page: Path) -> None:
    fences = [line[3:].strip() for line in page.read_text().splitlines() if line[:3] == "```"]
    assert fences[1::2] == [""] * (len(fences) // 2), "a fence is not closed"
    assert {fence.split()[0] if fence else "none" for fence in fences[::2]} <= {
        "python", "sh", "text", *NOT_RUN
    }  # fmt: skip
    assert not COMMAND.findall(page.read_text()), "commands stand between fences, where they run"
    skips = re.findall(r"<!--+ *skip.*", page.read_text())
    assert [skip for skip in skips if not SKIP.fullmatch(skip)] == []


def test_a_block_that_fails_or_prints_something_else_is_seen(tmp_path: Path) -> None:
    def run(text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text)
        for example in parse(page).examples():
            example.evaluate()

    python = '```python\nprint("accuracy 50.3% in 3 ms")\n```\n'
    run(python + "```text\naccuracy 50.1% in 9 ms\n```\n")
    with pytest.raises(AssertionError):
        run(python + "```text\naccuracy 60.1% in 3 ms\n```\n")
    with pytest.raises(AssertionError):
        run(python + "```text\nloss 50.3% in 3 ms\n```\n")
    with pytest.raises(AssertionError):
        run("```sh\nskip2lora evaluate missing.onnx missing.npz\n```\n")
    with pytest.raises(ZeroDivisionError):
        run("```python\n1 / 0\n```\n")
