"""What the folder says is true: sizes, names, numbers."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from c_folders import make, need, ran, rows_of
from skip2lora.export.c import export_c
from skip2lora.export.c_folder import _CODE_BYTES, OFFERED, PARTS, SOURCES, names_of
from skip2lora.export.c_sources import FOLDER
from skip2lora.files import make_folder
from skip2lora.tasks.thresholds import NEVER, Thresholds


@pytest.fixture
def model(make_model) -> s2.MLP:
    return make_model((9, 8, 3)).named(("good", 'odd "name"', "naïve\\"))


def test_nothing_is_left_to_fill_in(model, tmp_path) -> None:
    for blob in (False, True):
        done = export_c(model, tmp_path / str(blob), blob=blob)
        for name in done.files:
            assert name in names_of()
            text = (tmp_path / str(blob) / name).read_bytes()
            assert not re.search(rb"@[A-Z_]+@", text), name
            assert str(tmp_path).encode() not in text
        readme = (tmp_path / str(blob) / "README.md").read_text()
        assert f"| {done.model_bytes} |" in readme
        assert f"| {done.arena_bytes} |" in readme
        assert ("model.bin" in done.files) == blob


def test_names_of_classes_are_labels(model, tmp_path) -> None:
    """Whatever letters they have; and the README lists them."""
    out = tmp_path / "out"
    export_c(model, out, epochs=1)
    assert 'good, odd "name", naïve\\' in (out / "README.md").read_text()
    x = np.zeros((3, 9), np.float32)
    said = ran(make(out), given=rows_of(x, np.array(["good", 'odd "name"', "naïve\\"])))
    assert said.startswith("3 samples, 0 rejected")


def test_thresholds_of_the_adapter_are_said(model, make_samples, tmp_path) -> None:
    """In Python it says none of these below them; the board gives logits."""
    chosen = Thresholds(0.9, (0.625, NEVER, None), (20, 20, 3))
    adapted = replace(s2.adapt(model, *make_samples(40, 9, 3), epochs=1), thresholds=chosen)
    export_c(adapted, tmp_path / "out", epochs=1)
    config = (tmp_path / "out" / "src" / "s2_config.h").read_text()
    assert "#define S2_THRESHOLDS    {0.625000000f, 2.00000000f, 0.00000000f}\n" in config
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "\n## Thresholds\n" in readme
    assert "the examples the class of the largest, whatever thresholds" in readme
    make(tmp_path / "out")
    export_c(replace(adapted, thresholds=None), tmp_path / "plain", epochs=1)
    assert "S2_THRESHOLDS" not in (tmp_path / "plain" / "src" / "s2_config.h").read_text()
    assert "Thresholds" not in (tmp_path / "plain" / "README.md").read_text()


def test_samples_take_what_the_readme_says(model, make_model, tmp_path) -> None:
    for number, dtype in enumerate(("float32", "float16", "int8")):
        for given in (model, make_model((33, 20, 17, 5))):
            few, many = (
                export_c(given, tmp_path / "x", force=True, capacity=capacity, cache_dtype=dtype)
                for capacity in (1000, 2000)
            )
            text = (tmp_path / "x" / "README.md").read_text()
            said = re.findall(r"arena, ([\d,]+) bytes are 2000 samples", text)[0]
            grown = 2 * (many.arena_bytes - few.arena_bytes)
            # The order of an epoch has a number a sample too.
            assert int(said.replace(",", "")) + 4 * 2000 == pytest.approx(grown, abs=512), number


def test_every_source_is_needed(model, tmp_path) -> None:
    """None can be left out but that of NEON, which is empty here; the rest is for other calls."""
    need("gcc", "make", "nm")
    out = tmp_path / "out"
    export_c(model, out)
    make(out)
    objects = {name: f"{out}/build/{Path(name).stem}.o" for name in (*SOURCES, "model.c")}
    main = make_folder(tmp_path / "main") / "main.o"
    ran("gcc", "-c", f"-I{out}/src", out / "main.c", "-o", main)
    for left_out in objects:
        rest = [path for name, path in objects.items() if name != left_out]
        linked = subprocess.run(
            ["gcc", main, *rest, "-lm", "-o", tmp_path / "x"], capture_output=True, check=False
        )
        assert (linked.returncode != 0) == (left_out != "kernels_neon.c"), left_out
    calls = tmp_path / "calls.c"
    calls.write_text(
        '#include "skip2_device_solve.h"\n'
        "void *const all[] = {(void *)s2_device_solve, (void *)s2_device_save};\n"
        "int main(void) { return all[0] == all[1]; }\n"
    )
    objects |= {name: f"{out}/build/{Path(name).stem}.o" for name in OFFERED}
    everything = ["gcc", f"-I{out}/src", calls, *objects.values(), "-lm", "-o", tmp_path / "x"]
    ran(*everything)
    for left_out in OFFERED:
        rest = [word for word in everything if word != objects[left_out]]
        linked = subprocess.run(list(map(str, rest)), capture_output=True, check=False)
        assert linked.returncode != 0, left_out


def test_flash_and_structs_are_as_small_as_the_readme_says(model, tmp_path) -> None:
    need("arm-none-eabi-gcc", "arm-none-eabi-size")
    out = tmp_path / "out"
    export_c(model, out)
    board = ["-Os", "-std=c99", "-mthumb", "-mcpu=cortex-m4", "-mfloat-abi=hard"]
    board.append("-mfpu=fpv4-sp-d16")

    def most(names: tuple[str, ...], folder: Path) -> int:
        """Bytes of flash of these sources, which keep no memory of their own."""
        paths = (folder / name for name in names)
        ran("arm-none-eabi-gcc", *board, f"-I{folder}", f"-I{out}/src", "-c", *paths, cwd=tmp_path)
        words = (f"{Path(name).stem}.o" for name in names)
        said = ran("arm-none-eabi-size", *words, cwd=tmp_path)
        sizes = [[int(word) for word in line.split()[:3]] for line in said.splitlines()[1:]]
        assert sum(bss for *_, bss in sizes) == 0
        return sum(text + data for text, data, _ in sizes)

    assert "under 22,016 on a Cortex-M4F" in (out / "README.md").read_text()
    assert 10_000 < most(SOURCES, out / "src") < _CODE_BYTES[""]
    for part, source in PARTS.items():
        assert _CODE_BYTES[part] / 2 < most((source,), FOLDER / "src") < _CODE_BYTES[part]
    structs = tmp_path / "structs.c"
    structs.write_text(
        '#include "skip2_device.h"\n'
        "char fits[sizeof(s2_device) + sizeof(s2_model) < 1024 ? 1 : -1];\n"
    )
    for compiler in ("gcc", "arm-none-eabi-gcc"):
        ran(compiler, f"-I{out}/src", "-c", structs, "-o", tmp_path / "structs.o")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_record_has_all_numbers_of_the_adapters(bias, rank, make_samples, tmp_path) -> None:
    x, y = make_samples(40, 9, 3)
    model = s2.MLP.create([9, 8, 3], seed=0)
    adapted = s2.adapt(model, x, y, epochs=1, rank=rank, solver="steps")
    adapters = adapted.adapters
    if bias:
        adapters = replace(adapters, bias=np.ones(3, np.float32))
    export_c(replace(adapted, adapters=adapters), tmp_path / "out", epochs=1)
    config = (tmp_path / "out" / "src" / "s2_config.h").read_text()
    [said] = re.findall(r"#define S2_RECORD_BYTES +(\d+)u", config)
    arrays = (*adapters.lora_a, *adapters.lora_b, *([adapters.bias] if bias else []))
    assert int(said) == 32 + sum(each.nbytes for each in arrays)
