"""Importing the package is light, and names everything it offers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import skip2lora as s2

HEAVY = ("torch", "onnx", "onnxruntime", "sklearn", "scipy", "pandas", "matplotlib", "pyarrow")
LATER = ("rich", "click", "pooch")  # of the commands and of fetching data


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after ``code`` in a fresh interpreter."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import skip2lora",
        "from skip2lora import *",
        "from skip2lora import MLP, adapt; adapt(MLP.create([1, 2]), [[1]] * 6, [0, 1] * 3).score",
    ],
    ids=["import", "all names", "adapt"],
)
def test_importing_is_light(code: str) -> None:
    loaded = loaded_by(code)
    assert "skip2lora" in loaded
    assert ("numpy" in loaded) == (code != "import skip2lora")  # the command answers Ctrl-C first
    assert not loaded & {*HEAVY, *LATER}


def test_what_is_light_is_seen() -> None:
    assert "click" in loaded_by("import click")


def test_names_on_request() -> None:
    pytest.importorskip(
        "torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'"
    )
    assert "TorchBackbone" in dir(s2)
    assert "torch" in loaded_by("import skip2lora; skip2lora.TorchBackbone")
    with pytest.raises(AttributeError, match="has no attribute 'TorchBackbon'"):
        _ = s2.TorchBackbon


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import skip2lora as s2\n"
        "try: s2.TorchBackbone\n"
        "except s2.MissingExtraError as error: print(str(error).replace(' ', '_'))"
    )
    assert "TorchBackbone_needs_PyTorch:_pip_install_'skip2lora[torch]'" in loaded_by(code)


def test_all_is_complete() -> None:
    assert s2.__all__ == sorted(s2.__all__, key=lambda name: (not name.isupper(), name))
    assert len(set(s2.__all__)) == len(s2.__all__)
    public = {
        name
        for name in {*dir(s2)} - {"TorchBackbone", "chain"}  # of extras
        if not name.startswith("_") and not isinstance(getattr(s2, name), types.ModuleType)
    }
    assert public == set(s2.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import skip2lora.adapt",
        "from skip2lora.adapt import AdaptedModel",
        "from skip2lora import adapt",
        "from skip2lora import MLP",
        "import skip2lora.plan, skip2lora.sklearn",
    ],
)
def test_adapt_is_the_function_whatever_is_imported_first(code: str) -> None:
    code += "\nimport skip2lora\nassert not hasattr(skip2lora.adapt, 'AdaptedModel')"
    loaded_by(code + "\nassert skip2lora.adapt.__name__ == 'adapt'")


def test_modules_that_were_always_there() -> None:
    names = [
        "adapters",
        "arrays",
        "backbones",
        "data",
        "errors",
        "files",
        "methods",
        "tasks",
        "training",
    ]
    loaded_by("import skip2lora\n" + "\n".join(f"skip2lora.{name}" for name in names))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = s2.nonsense


def test_names_of_the_design() -> None:
    front = {"MLP", "AdaptedModel", "adapt", "load", "pretrain", "Backbone", "Taps", "SkipCache"}
    errors = {"DataError", "DivergedError", "FileError", "MissingExtraError", "ModelError"}
    assert front | errors | {"ParameterError", "Skip2LoraError"} <= set(s2.__all__)
    for name in s2.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(s2, name), s2.Skip2LoraError)
        assert getattr(s2, name).__doc__


def test_version() -> None:
    from importlib.metadata import version

    assert s2.__version__ == version("skip2lora")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_a_build_on_windows_is_refused_before_a_compiler_is_looked_for(tmp_path: Path) -> None:
    source = Path(__file__).parents[1]
    words = ["cmake", "-DCMAKE_HOST_WIN32=1", "-S", str(source), "-B", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "skip2lora got a build on Windows, expected Linux or macOS, where it was" in said
    assert "compiler" not in done.stdout
