"""Library and sketch compile with the flags of Arduino's core for the Nano 33 BLE (mbed 4)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from skip2lora.export.c import export_c

BOARD = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=softfp", "-mfpu=fpv4-sp-d16"]
BOTH = ["-c", "-Os", "-g0", "-w", "-nostdlib", "-ffunction-sections", "-fdata-sections", *BOARD]
HEADER = Path(__file__).parents[1] / "export" / "arduino"


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="needs gcc-arm-none-eabi")
def test_it_compiles_for_a_board(make_model, tmp_path: Path) -> None:
    out = tmp_path / "Skip2LoRA"
    export_c(make_model([8, 6, 3]), out, capacity=16)
    c = ["arm-none-eabi-gcc", *BOTH, "-std=gnu11"]
    plus = ["arm-none-eabi-g++", *BOTH, "-std=gnu++14", "-fno-exceptions", "-fno-rtti"]
    sketch = ["-x", "c++", f"-I{HEADER}", "-include", "Arduino.h"]
    sources = sorted(map(str, (out / "src").glob("*.c")))
    assert len(sources) > 5
    sketches = list(map(str, out.glob("examples/*/*.ino")))
    for command in ([*c, *sources], [*plus, *sketch, *sketches]):
        done = subprocess.run(
            [*command, f"-I{out / 'src'}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
