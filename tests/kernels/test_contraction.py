"""No product and sum in one rounding, whatever the flags: bits are those of every machine."""

import re
import shutil
import subprocess

import pytest

from kernels.core_api import CORE

VECTORS = ("neon", "x86_64", "wasm")
SOURCES = sorted(
    file for file in (CORE / "src").glob("*.c") if not any(name in file.name for name in VECTORS)
)
HASWELL = ["-march=haswell"]
COMPILERS = {
    "gcc": HASWELL,
    "clang-14": HASWELL,
    "arm-none-eabi-gcc": ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"],
}
FUSED = re.compile(r"^\s*vfn?m(?:a|s|add|sub)\S*", re.MULTILINE)
PRODUCT_AND_SUM = "float f(float a, float b, float c) { return a * b + c; }"


def assembly(compiler, source):
    """What a compiler makes of C that may contract: not -std=c99, no -ffp-contract."""
    command = [compiler, *COMPILERS[compiler], "-std=gnu11", "-O2", f"-I{CORE / 'include'}"]
    command += [f"-I{CORE / 'src'}", "-x", "c", "-S", "-o", "-", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_portable_core_is_not_contracted(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    plain = assembly(compiler, PRODUCT_AND_SUM)
    if plain is None or not FUSED.search(plain):
        pytest.skip(f"{compiler} contracts nothing here")
    for file in SOURCES:
        text = assembly(compiler, file.read_text())
        assert text is not None, file.name
        assert FUSED.findall(text) == [], file.name
