"""The exported folder, built by gcc alone, learns what Python learns."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from c_folders import make, need, predicted, ran, rows_of
from skip2lora import _core
from skip2lora.backbones.derived import Derived, derived_taps
from skip2lora.datasets.fan import load_task
from skip2lora.datasets.simulated import make_task
from skip2lora.errors import DataError, FileError, ModelError, ParameterError
from skip2lora.export.c import export_c
from skip2lora.export.c_blob import read_adapters
from skip2lora.training.lab_set import LabSet

WIDTHS, EPOCHS = (9, 12, 10, 4), 6


@pytest.fixture(autouse=True)
def scalar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits on every machine."""
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")


@pytest.fixture
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model(WIDTHS)


@pytest.fixture
def field(make_samples: Callable[..., tuple[np.ndarray, np.ndarray]]) -> tuple:
    return make_samples(53, WIDTHS[0], WIDTHS[-1])


def learned(example: Path, folder: Path, x, y, widths, model_file=None) -> s2.SkipAdapters:
    """The adapters that the example writes."""
    ran(example, "adapters.bin", given=rows_of(x, y), cwd=folder)
    blob = (folder / "model.bin").read_bytes()
    return read_adapters((folder / "adapters.bin").read_bytes(), widths, WIDTHS[-1], blob)


def same(one: s2.SkipAdapters, other: s2.SkipAdapters) -> None:
    assert one.tensors().keys() == other.tensors().keys()
    for name, array in one.tensors().items():
        np.testing.assert_array_equal(array, other.tensors()[name], err_msg=name)


def test_every_bit_is_that_of_python(model, field, tmp_path) -> None:
    x, y = field
    export_c(model, tmp_path / "out", blob=True, epochs=EPOCHS, seed=3)
    example = make(tmp_path / "out")
    expected = s2.adapt(model, x, y, recipe="paper", epochs=EPOCHS, seed=3)
    same(learned(example, tmp_path / "out", x, y, WIDTHS[:-1]), expected.adapters)
    text = ran(example, "--predict", "adapters.bin", given=rows_of(x, y), cwd=tmp_path / "out")
    classes, logits = predicted(text)
    np.testing.assert_array_equal(logits, expected.logits(x))
    assert classes == [str(label) for label in expected.predict(x)]


def test_a_sketch_and_flags_of_arduino_give_the_same_bits(model, field, tmp_path) -> None:
    """Arduino compiles with -std=gnu11, where gcc contracts unless the source says otherwise."""
    x, y = field
    out = tmp_path / "out"
    export_c(model, out, blob=True, epochs=EPOCHS)
    need("gcc")
    vectors = "-mfma" if "fma" in Path("/proc/cpuinfo").read_text() else "-O2"
    flags = ["-Os", "-std=gnu11", vectors, "-Isrc", '-DS2_MODEL_FILE="model.bin"']
    sources = [str(path.relative_to(out)) for path in sorted((out / "src").glob("*.c"))]
    ran("gcc", *flags, "main.c", *sources, "-lm", "-o", "example", cwd=out)
    expected = s2.adapt(model, x, y, recipe="paper", epochs=EPOCHS)
    same(learned(out / "example", out, x, y, WIDTHS[:-1]), expected.adapters)


def test_it_goes_on_from_an_adapter(model, field, tmp_path) -> None:
    """As with a rank and a bias that the device did not choose."""
    x, y = field
    adapted = s2.adapt(model, x, y, solver="exact", penalty=0.1)
    assert adapted.adapters.bias is not None
    out = tmp_path / "out"
    done = export_c(adapted, out, blob=True, epochs=1, learning_rate=1e-30)
    assert done.agreement == 1.0
    example = make(out)
    before = learned(example, out, x, y, WIDTHS[:-1])
    for name, array in adapted.adapters.tensors().items():
        np.testing.assert_allclose(before.tensors()[name], array, rtol=0, atol=1e-25)
    _, logits = predicted(ran(example, "--predict", "adapters.bin", given=rows_of(x, y), cwd=out))
    np.testing.assert_allclose(logits, adapted.logits(x), rtol=1e-5, atol=1e-5)


def test_statistics_of_the_field_come_along(model, field, tmp_path) -> None:
    x, y = field
    adapted = s2.adapt(model, x, y)  # an MLP that keeps its classes: docs/mlp-rule.md
    out = tmp_path / "out"
    assert export_c(adapted, out, samples=x, blob=True, epochs=1).agreement == 1.0
    example = make(out)
    learned(example, out, x, y, WIDTHS[:-1])
    device = ran(example, given=rows_of(x, y))
    right = float(re.findall(r"before: ([\d.]+) % right", device)[0])
    assert right == pytest.approx(100 * adapted.score(x, y), abs=0.06)


def test_logarithms_and_powers_of_the_sample(model, field, tmp_path) -> None:
    """Taps that are computed from the sample, of each kind, and logits between them."""
    x, y = np.abs(field[0]), field[1]
    kinds = ("log", "square", "logits", "log-centred", "cube", "fourth-power")
    adapted = s2.adapt(Derived.of(model, kinds, x), x, y, solver="exact", penalty=0.01)
    out = tmp_path / "out"
    done = export_c(adapted, out, samples=x, blob=True, epochs=1, learning_rate=1e-30)
    assert done.agreement == 1.0
    example = make(out)
    widths = (*(WIDTHS[0],) * 5, *WIDTHS[:-1])
    learned(example, out, x, y, widths)
    far = np.concatenate([x, -x, 100 * x, 0 * x])
    rows = rows_of(far, np.tile(y, 4))
    _, logits = predicted(ran(example, "--predict", "adapters.bin", given=rows, cwd=out))
    np.testing.assert_allclose(logits, adapted.logits(far), rtol=1e-5, atol=1e-5)


def test_the_default_recipe_on_spectra(tmp_path) -> None:
    """It learns from logarithms of the sample."""
    lab, field, test = make_task(n_per_split=120)
    model = s2.pretrain(s2.MLP.create([256, 32, 32, 3]), lab.x, lab.y, epochs=20)
    adapted = s2.adapt(model, field.x, field.y)
    assert {"log", "log-centred"} <= {tap.kind for tap in derived_taps(adapted.backbone)}
    out = tmp_path / "out"
    assert export_c(adapted, out, samples=test.x, blob=True).agreement == 1.0
    device = _core.Device((out / "model.bin").read_bytes(), 1, 0, 0, False, 1, 1.0, 0, "scalar")
    logits = np.empty((len(test.x), 3), np.float32)
    device.predict(test.x, logits)
    np.testing.assert_allclose(logits, adapted.logits(test.x), rtol=1e-5, atol=1e-5)


def test_new_classes_and_outputs_learned_anew(model, field, tmp_path) -> None:
    x, y = field
    names = np.array(["a", "b", "c", "d", "e"])[np.arange(len(y)) % 5]
    for number, options in enumerate(({"new_classes": True}, {"keep_outputs": False})):
        adapted = s2.adapt(model, x, names, solver="exact", penalty=0.1, **options)
        out = tmp_path / str(number)
        assert export_c(adapted, out, samples=x).agreement == 1.0
        assert '"e"' in (out / "src" / "s2_config.h").read_text()


@pytest.mark.parametrize("cache_dtype", ["float32", "float16", "int8"])
def test_fan_data(cache_dtype, tmp_path, data_folder) -> None:
    """With each precision of rows, and int8 weights: within 0.3 points of Python's."""
    lab, field, test = load_task("damage1", data_folder / "cooling-fan")
    model = s2.pretrain(s2.MLP.create([256, 96, 96, 3]), lab.x, lab.y)
    adapted = s2.adapt(model, field.x, field.y, recipe="paper", epochs=100)
    out = tmp_path / "out"
    done = export_c(
        model, out, blob=True, weights="int8", cache_dtype=cache_dtype, epochs=100, samples=test.x
    )
    assert done.agreement > 0.97
    assert done.model_bytes < 40_000
    example = make(out)
    ran(example, "adapters.bin", given=rows_of(field.x, field.y), cwd=out)
    given = rows_of(test.x, test.y)
    classes, _ = predicted(ran(example, "--predict", "adapters.bin", given=given, cwd=out))
    right = np.mean(np.array(classes) == test.y.astype(str))
    assert abs(right - adapted.score(test.x, test.y)) <= 0.003


def test_a_projected_cache(model, field, tmp_path) -> None:
    """It learns, from few numbers a sample, found from samples, or from a lab set."""
    x, y = field
    lab = LabSet.of(model, x, y, 5)
    for number, given in enumerate(({"samples": x, "answers": y}, {"samples": lab})):
        out = tmp_path / str(number)
        done = export_c(
            model, out, projection=3, cache_dtype="int8", capacity=60, epochs=300, **given
        )
        assert done.choices["float16"] < done.choices["float32"]
        said = ran(make(out), given=rows_of(x, y))
        before, after = map(float, re.findall(r"([\d.]+) % right", said))
        assert after > before + 10


def test_taps_of_another_runtime(model, field, tmp_path) -> None:
    """Rows of taps and base logits instead of samples give the same bits, without the network."""
    x, y = field
    out = tmp_path / "out"
    done = export_c(model, out, taps_only=True, blob=True, epochs=EPOCHS)
    assert done.agreement is None
    assert done.model_bytes == 64 + 4 * 3
    taps = model.forward(x)
    rows = np.concatenate([*taps.taps, taps.base_logits], axis=1)
    expected = s2.adapt(model, x, y, recipe="paper", epochs=EPOCHS)
    same(learned(make(out), out, rows, y, WIDTHS[:-1]), expected.adapters)


def test_470_samples_in_64_kib(tmp_path, make_model, make_samples) -> None:
    """The network of the paper, with 8 numbers of each tap."""
    model, (x, y) = make_model((256, 96, 96, 3)), make_samples(40, 256, 3)
    done = export_c(model, tmp_path / "o", samples=x, answers=y, projection=8, capacity=470)
    assert done.choices["float32"] < 64 * 1024


def test_every_source_compiles_alone(model, tmp_path) -> None:
    """As C99 without a flag, an option or a warning; heap and files are in the examples alone."""
    need("gcc", "nm")
    out = tmp_path / "out"
    export_c(model, out)
    words = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Isrc"]
    sources = sorted(path.name for path in (out / "src").glob("*.c"))
    assert {"device.c", "model.c", "model_file.c"} <= set(sources)
    ran("gcc", *words, "-fsyntax-only", "main.c", *(f"src/{name}" for name in sources), cwd=out)
    ran("gcc", "-O1", "-c", *(f"../src/{name}" for name in sources), cwd=_made(out / "objects"))
    wanted = ran("nm", "-u", *(f"objects/{name[:-2]}.o" for name in sources), cwd=out)
    own = {line.split()[-1] for line in wanted.splitlines() if " U " in line}
    outside = {name for name in own if not name.startswith(("s2_", "_GLOBAL"))}
    assert outside <= {
        "memchr",
        "memcpy",
        "memset",
        "memcmp",
        "memmove",
        "strcmp",
        "sqrtf",
        "sqrt",
    } | {"__stack_chk_fail"}
    for path in (out / "src").iterdir():
        assert not re.search(r"\b(malloc|calloc|free|printf|fopen)\b *\(", path.read_text())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_sketch_compiles(model, tmp_path) -> None:
    need("g++")
    out = tmp_path / "out"
    export_c(model, out)
    stubs = Path(__file__).parent / "arduino"
    sketch = out / "examples" / "adapt_example" / "adapt_example.ino"
    words = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"]
    ran("g++", *words, f"-I{stubs}", f"-I{out}/src", sketch)
    properties = (out / "library.properties").read_text()
    assert "includes=skip2_device.h" in properties
    assert "@" not in properties


def test_cmake_builds_it(model, field, tmp_path) -> None:
    need("cmake", "gcc", "make")
    x, y = field
    out = tmp_path / "out"
    export_c(model, out, epochs=1)
    ran("cmake", "-S", out, "-B", out / "build", "-DCMAKE_BUILD_TYPE=MinSizeRel")
    ran("cmake", "--build", out / "build")
    assert "53 samples, 0 rejected" in ran(out / "build" / "example", given=rows_of(x, y))


def failed(*words: object, given: str = "") -> str:
    done = subprocess.run(
        [str(word) for word in words], input=given, text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 2, done
    return done.stderr


def test_bad_rows(model, field, tmp_path) -> None:
    x, y = field
    out = tmp_path / "out"
    export_c(model, out, capacity=50, epochs=1)
    example = make(out)
    rows = rows_of(x, y)
    said = ran(example, given="a,b\n" + rows.replace(rows.split(",")[0], "nan", 1))
    assert "50 samples, 1 rejected" in said
    assert "expected 9 numbers and a label" in failed(example, given=rows + "1,2\n")
    assert "expected 9 numbers and a label" in failed(example, given=rows + rows_of(x[:1], [7]))
    assert "no samples" in failed(example, given="")
    (tmp_path / "short").write_bytes(b"1234")
    assert "has 4 bytes, expected" in failed(example, "--predict", tmp_path / "short")


def test_an_arena_too_small_and_a_damaged_block(model, field, tmp_path) -> None:
    x, y = field
    out = tmp_path / "out"
    done = export_c(model, out, blob=True, epochs=1)
    config = out / "src" / "s2_config.h"
    text = config.read_text()
    config.write_text(text.replace(str(done.arena_bytes), str(done.arena_bytes - 64)))
    said = failed(make(out), given=rows_of(x, y))
    assert f"S2_ARENA_BYTES must be {done.arena_bytes}" in said
    config.write_text(text)
    content = bytearray((out / "model.bin").read_bytes())
    content[1000] ^= 1
    (out / "model.bin").write_bytes(content)
    assert "the network: status" in failed(make(out), given=rows_of(x, y))


def test_a_store_that_is_full(model, field, tmp_path) -> None:
    x, y = field
    for when, said in (("refuse", "the store is full"), ("overwrite", "")):
        out = tmp_path / when
        export_c(model, out, capacity=20, when_full=when, epochs=1)
        done = subprocess.run(
            [make(out)], input=rows_of(x, y), text=True, capture_output=True, timeout=60
        )
        assert done.stdout.startswith("20 samples, 0 rejected")
        assert (said in done.stderr) if said else not done.stderr


def test_an_earlier_export_is_replaced_and_nothing_else(model, tmp_path, refused) -> None:
    out = tmp_path / "out"
    export_c(model, out)
    make(out)
    assert "exists already" in refused(FileError, export_c, model, out)
    export_c(model, out, blob=True, force=True)
    assert (out / "model.bin").exists()
    assert not (out / "example").exists()
    (out / "src" / "mine.c").write_text("int mine;")
    assert "holds src/mine.c" in refused(FileError, export_c, model, out, force=True)
    assert (out / "src" / "mine.c").exists()


def test_refusals(model, field, make_model, tmp_path, refused) -> None:
    x, y = field
    out = tmp_path / "out"

    def no(error: type[Exception], given: object, **options: object) -> str:
        said = refused(error, export_c, given, out, **options)
        assert not out.exists()
        return str(said)

    adapted = s2.adapt(model, x, y, recipe="paper", epochs=1)
    assert "without samples, expected some of the lab" in no(ParameterError, model, projection=3)
    assert "beside adapters" in no(ParameterError, adapted, projection=3, samples=x)
    assert "pls without answers" in no(
        ParameterError, model, projection=3, projection_from="pls", samples=x
    )
    assert "without a projection" in no(ParameterError, model, projection_from="pca")
    assert "the adapters have 4" in no(ParameterError, adapted, rank=3)
    assert "cache_dtype is 'int4'" in no(ParameterError, model, cache_dtype="int4")
    assert "capacity is 0" in no(ParameterError, model, capacity=0)
    assert "X has 3 columns" in no(DataError, model, samples=x[:, :3])
    lora_all = s2.adapt(model, x, y, method="lora-all", epochs=1)
    assert "adapt with skip2-lora" in no(ModelError, lora_all)
    numbers = s2.MLP.create((3, 4, 2), task="regression")
    assert "is of regression, expected one of classes" in no(ModelError, numbers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capacity": 0}, "capacity is 0, expected a whole number from 1 to 16777216"),
        (
            {"capacity": (1 << 24) + 1},
            "capacity is 16777217, expected a whole number from 1 to 16777216",
        ),
        ({"epochs": 0}, "epochs is 0, expected a whole number from 1 to 16777216"),
        ({"batch_size": 0}, "batch_size is 0, expected a whole number from 1 to 65536"),
        ({"batch_size": 65537}, "batch_size is 65537, expected a whole number from 1 to 65536"),
        ({"learning_rate": 9e-31}, "expected a number above 0 (1e-30 to 3e38)"),
        ({"learning_rate": 3.1e38}, "expected a number above 0 (1e-30 to 3e38)"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0 to 18446744073709551615"),
        ({"seed": 1 << 64}, "expected a whole number from 0 to 18446744073709551615"),
        ({"rank": 13}, "rank is 13, expected a whole number from 1 to 12"),
        ({"rank": 0}, "rank is 0, expected a whole number from 1 to 12"),
        ({"projection": 12}, "projection is 12, expected a whole number from 1 to 11"),
        ({"projection": 0}, "projection is 0, expected a whole number from 1 to 11"),
    ],
)
def test_ranges(options, said, model, tmp_path, refused) -> None:
    message = refused(ParameterError, export_c, model, tmp_path / "out", **options)
    assert said in message


def test_numbers_at_the_ends_of_their_ranges(model, tmp_path) -> None:
    """The widest tap has 12; a projection needs a tap that is wider."""
    for options in (
        {"rank": 12, "learning_rate": 1e-30, "seed": (1 << 64) - 1, "batch_size": 1 << 16},
        {"rank": 1, "learning_rate": 3e38, "seed": 0, "batch_size": 1, "epochs": 1 << 24},
    ):
        done = export_c(model, tmp_path / "out", force=True, **options)
        assert done.agreement == 1.0
    x = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    export_c(model, tmp_path / "out", force=True, projection=11, samples=x)
    config = (tmp_path / "out" / "src" / "s2_config.h").read_text()
    assert "#define S2_RANK 4" in re.sub(" +", " ", config)
    export_c(model, tmp_path / "out", force=True, projection=3, samples=x)
    config = (tmp_path / "out" / "src" / "s2_config.h").read_text()
    assert "#define S2_RANK 3" in re.sub(" +", " ", config)


def test_how_a_projection_is_found_unless_told(model, field, tmp_path, monkeypatch) -> None:
    """By the answers, where there are some."""
    from skip2lora.training.projection import FirstPart

    kinds: list[str] = []
    projections = FirstPart.projections

    def of(self, rank: int, kind: str, *rest):
        kinds.append(kind)
        return projections(self, rank, kind, *rest)

    monkeypatch.setattr(FirstPart, "projections", of)
    x, y = field
    lab = LabSet.of(model, x, y, 5)
    for given in ({"samples": x}, {"samples": x, "answers": y}, {"samples": lab}):
        export_c(model, tmp_path / "out", force=True, projection=3, **given)
    export_c(model, tmp_path / "out", force=True, projection=3, samples=lab, projection_from="pca")
    assert kinds == ["pca", "pls", "pls", "pca"]
