"""OpenVINO is imported without its telemetry, and its reasons become one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import openvino_models as nets
from skip2lora.backbones.openvino import runtime
from skip2lora.errors import ModelError

WATCHED = """
import sys
calls = []
watched = ("socket.", "subprocess.", "os.fork", "os.posix_spawn")
sys.addaudithook(lambda event, args: calls.append(event) if event.startswith(watched) else None)
import numpy as np
import skip2lora as s2
s2.load(sys.argv[1]).logits(np.ones((2, 9), np.float32))
print(calls, "openvino_telemetry" in sys.modules, "openvino" in sys.modules)
"""
MISSING = """
import sys
sys.modules["openvino"] = None
import skip2lora as s2
try:
    s2.load(sys.argv[1])
except s2.errors.MissingExtraError as error:
    print(error)
"""


def run(code: str, *args: str, home: Path) -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        check=True, capture_output=True, text=True, env=environment,
    ).stdout  # fmt: skip


def test_no_telemetry(tmp_path: Path) -> None:
    """Plain ``import openvino`` writes ~/intel/openvino_ga_cid and sends an event."""
    path = nets.save(nets.mlp(), tmp_path / "m.xml")
    home = tmp_path / "home"
    home.mkdir()
    assert run(WATCHED, str(path), home=home) == "[] False True\n"
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("before", [None, sys])
def test_a_telemetry_that_was_imported_before_stays(
    before: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    if before is not None:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", before)
    assert runtime._without_telemetry() is sys.modules["openvino"]
    assert sys.modules.get("openvino_telemetry") is before
    assert ("openvino_telemetry" in sys.modules) == (before is not None)


def test_openvino_is_missing(tmp_path: Path) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.xml")
    said = run(MISSING, str(path), home=tmp_path)
    assert said == (
        "models as .xml need the package openvino, which is not installed: "
        "pip install 'skip2lora[openvino]'\n"
    )


def test_the_reason_of_an_error() -> None:
    text = "Exception from a.cpp:84:\nCheck 'x' failed at b.cpp:1:\nIncorrect weights!\n\n"
    assert runtime.reason_of(RuntimeError(text)) == "Incorrect weights!"
    assert runtime.reason_of(RuntimeError("")) == "RuntimeError"
    assert runtime.reason_of(RuntimeError("\nNot so.\n")) == "Not so"
    assert runtime.reason_of(RuntimeError("a" * 1000)) == f"{'a' * 148}...{'a' * 148}"


def test_what_the_plugin_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: object
) -> None:
    class Broken:
        def compile_model(self, *_: object) -> None:
            raise RuntimeError("Exception from a.cpp:1:\nno such property\n")

    model = nets.mlp()
    monkeypatch.setattr(runtime, "core", Broken)
    said = refused(  # type: ignore[operator]
        ModelError, runtime.compiled, model, 1, integers=True, path=tmp_path / "m.xml"
    )
    assert f"cannot run {tmp_path / 'm.xml'}: no such property, expected operators" in said
