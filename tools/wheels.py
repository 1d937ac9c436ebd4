"""Cross-builds the wheels of other processors into build/wheels, without containers: `make wheels`.

    python tools/wheels.py [x86_64] [aarch64] [armv7] [macos] [windows]

One compiler builds them all, ziglang of PyPI, against glibc 2.17, which systems since 2013 have.
Python's headers for each processor are Debian's, those of Windows its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import check_wheel
import debian_python
import windows_python

ROOT = debian_python.ROOT
PLACE = ROOT / "build" / "wheels"
GLIBC = "2.17"


@dataclass(frozen=True)
class Target:
    """A kind of machine: as Zig, Python, the wheel's name and Debian call it."""

    triple: str
    python: str  # the end of the extension's name, which says whose it is
    tag: str
    debian: str  # whose headers serve: those of macOS have the same sizes as those of 64-bit ARM
    machine: str  # as `uname -m` there says, which picks kernels in CMakeLists.txt
    system: str = "Linux"

    @property
    def host(self) -> str:
        """What ``sysconfig.get_platform()`` says there."""
        others = {"Darwin": "macosx-11.0-arm64", "Windows": "win-amd64"}
        return others.get(self.system, f"linux-{self.machine}")

    @property
    def suffix(self) -> str:
        """How the extension's name ends."""
        version = f"3{sys.version_info.minor}"
        if self.system == "Windows":
            return f".cp{version}-{self.python}.pyd"
        return f".cpython-{version}-{self.python}.so"


TARGETS = {
    "x86_64": Target(
        f"x86_64-linux-gnu.{GLIBC}",
        "x86_64-linux-gnu",
        "manylinux_2_17_x86_64",
        "amd64",
        "x86_64",
    ),
    "aarch64": Target(
        f"aarch64-linux-gnu.{GLIBC}",
        "aarch64-linux-gnu",
        "manylinux_2_17_aarch64",
        "arm64",
        "aarch64",
    ),
    "armv7": Target(
        f"arm-linux-gnueabihf.{GLIBC}",
        "arm-linux-gnueabihf",
        "manylinux_2_17_armv7l",
        "armhf",
        "armv7l",
    ),
    "macos": Target(
        "aarch64-macos.11.0",
        "darwin",
        "macosx_11_0_arm64",
        "arm64",
        "arm64",
        "Darwin",
    ),
    "windows": Target("x86_64-windows-gnu", "win_amd64", "win_amd64", "", "AMD64", "Windows"),
}
#: Zig's linker crashes on a bundle, in place of which Python loads a shared library as well, and
#: knows no lists of the symbols that Python has.
_MAC = """\
for word; do
    shift
    case $word in
    -bundle) set -- "$@" -shared -undefined dynamic_lookup ;;
    -Wl,@*) ;;
    *) set -- "$@" "$word" ;;
    esac
done
"""


def compilers(target: Target, folder: Path) -> None:
    """Write the compiler and its companions for a machine, scripts that CMake takes for such."""
    for name in ("cc", "c++", "ar", "ranlib"):
        of = f" -target {target.triple}" if name.startswith("c") else ""
        script = folder / name
        words = _MAC if target.system == "Darwin" else ""
        call = f'exec "{sys.executable}" -m ziglang {name}{of} "$@"\n'
        script.write_text(f"#!/bin/sh\n{words}{call}")
        script.chmod(0o755)


def toolchain(target: Target, folder: Path, include: Path) -> Path:
    """Write CMake's description of a machine and of what builds for it."""
    version = f"python3.{sys.version_info.minor}"
    lines = [
        f"set(CMAKE_SYSTEM_NAME {target.system})",
        f"set(CMAKE_SYSTEM_PROCESSOR {target.machine})",
        f'set(CMAKE_C_COMPILER "{folder}/cc")',
        f'set(CMAKE_CXX_COMPILER "{folder}/c++")',
        f'set(CMAKE_AR "{folder}/ar")',
        f'set(CMAKE_RANLIB "{folder}/ranlib")',
        "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)",
        "set(CMAKE_INSTALL_NAME_TOOL true)",  # of macOS, which nothing here needs
        'set(S2_NEON_OPTIONS "-mcpu=cortex_a7")',  # of 32 bits; the smallest that has them
        f'set(Python_INCLUDE_DIR "{include}/{version}")',
    ]
    if target.system == "Windows":
        library = f"{include}/libs/python3{sys.version_info.minor}.lib"
        lines[-1:] = [
            f'set(Python_INCLUDE_DIR "{include}/include")',
            f'set(Python_LIBRARY "{library}")',
            f'set(NB_SUFFIX "{target.suffix}")',  # nanobind would ask the Python that builds
        ]
    if target.system == "Linux":  # where pyconfig.h names one of the processor, from this folder
        lines.append(f'set(CMAKE_CXX_FLAGS_INIT "-I{include}")')
    path = folder / "toolchain.cmake"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def without_dispatch(include: Path, into: Path) -> Path:
    """Copy Python's headers with the pyconfig.h of their processor, for another system."""
    version = f"python3.{sys.version_info.minor}"
    (own,) = include.glob(f"*/{version}/pyconfig.h")
    shutil.copytree(include / version, into / version, dirs_exist_ok=True)
    shutil.copyfile(own, into / version / "pyconfig.h")
    return into


def check_kernels(wheel: Path, into: Path) -> None:
    """End where this machine has vectors of 256 bits and the extension does not see them."""
    shutil.rmtree(into, ignore_errors=True)
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(into)
    (extension,) = into.glob("skip2lora/_core.*.so")
    spec = importlib.util.spec_from_file_location("_core", extension)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{extension}: Python cannot load it")
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    if {"avx2", "fma", "f16c"} <= set(flags) and "x86-64-v3" not in core.kernel_tables():
        raise SystemExit(f"{wheel.name}: it has the kernels {core.kernel_tables()} here alone")


def build(name: str) -> Path:
    """Build one wheel and check it."""
    target = TARGETS[name]
    folder = PLACE / "tools" / name
    folder.mkdir(parents=True, exist_ok=True)
    compilers(target, folder)
    if target.system == "Windows":
        include = windows_python.tree(PLACE / "windows")
    else:
        include = debian_python.headers(target.debian, PLACE / "debian")
    if target.system == "Darwin":
        include = without_dispatch(include, folder / "include")
    environment = {
        **os.environ,
        "_PYTHON_HOST_PLATFORM": target.host,
        "SETUPTOOLS_EXT_SUFFIX": target.suffix,
        "CMAKE_TOOLCHAIN_FILE": str(toolchain(target, folder, include)),
        "ZIG_GLOBAL_CACHE_DIR": str(PLACE / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(PLACE / "zig"),
    }
    python = [sys.executable, "-m"]
    words = [*python, "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    words += ["--no-build-isolation", "-C", f"build-dir={folder / 'build'}"]
    words += ["--wheel-dir", str(folder), str(ROOT)]
    for old in folder.glob("*.whl"):
        old.unlink()
    subprocess.run(words, env=environment, check=True)  # noqa: S603
    (built,) = folder.glob("*.whl")
    words = [*python, "wheel", "tags", "--platform-tag", target.tag, "--remove", str(built)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    (named,) = folder.glob("*.whl")
    check_wheel.check(named)
    if name == platform.machine():
        check_kernels(named, folder / "unpacked")
    return named.replace(PLACE / named.name)


def main() -> int:
    """Build what the words name, or all; say what is missing in one line."""
    parser = argparse.ArgumentParser(description="Cross-build wheels into build/wheels.")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="|".join(TARGETS))
    targets = parser.parse_args().targets or list(TARGETS)
    debian_python.release()
    if packages := debian_python.missing(["apt-get", "dpkg-deb"]):
        needed = " ".join(packages)
        sys.stderr.write(f"missing on this system: {needed}; these are packages of Debian\n")
        return 2
    if importlib.util.find_spec("ziglang") is None:
        sys.stderr.write("missing: ziglang; install it with: pip install --group wheels\n")
        return 2
    for name in targets:
        wheel = build(name)
        print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1000:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
