"""What ``make wheels`` does before a compiler runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import debian_python
import pytest
import wheels

TOOL = Path(wheels.__file__)


def test_the_toolchain_names_a_compiler_for_the_machine_and_headers(tmp_path: Path) -> None:
    target = wheels.TARGETS["armv7"]
    wheels.compilers(target, tmp_path)
    text = wheels.toolchain(target, tmp_path, tmp_path / "include").read_text()
    assert f'set(CMAKE_C_COMPILER "{tmp_path}/cc")' in text
    assert "set(CMAKE_SYSTEM_PROCESSOR armv7l)" in text
    assert f"{tmp_path}/include/python3.{sys.version_info.minor}" in text
    script = (tmp_path / "cc").read_text()
    assert 'ziglang cc -target arm-linux-gnueabihf.2.17 "$@"' in script
    assert "-target" not in (tmp_path / "ar").read_text()


@pytest.mark.parametrize("name", ["x86_64", "aarch64", "armv7"])
def test_no_machine_needs_a_newer_glibc_than_its_tag_says(name: str) -> None:
    target = wheels.TARGETS[name]
    assert target.tag.startswith("manylinux_2_17_")
    assert target.triple.endswith(".2.17")


def test_the_compiler_for_macos_gets_words_that_zig_knows(tmp_path: Path) -> None:
    wheels.compilers(wheels.TARGETS["macos"], tmp_path)
    script = (tmp_path / "c++").read_text()
    shown = tmp_path / "shown"
    shown.write_text(script.replace(f'exec "{sys.executable}" -m ziglang', "printf '%s\\n'"))
    words = ["-O3", "-bundle", "-Wl,@/nanobind/symbols", "-Wl,-x", "-o", "a name.so", "core.o"]
    done = subprocess.run(["sh", shown, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "c++", "-target", "aarch64-macos.11.0", "-O3", "-shared", "-undefined", "dynamic_lookup",
        "-Wl,-x", "-o", "a name.so", "core.o",
    ]  # fmt: skip


def test_the_toolchain_for_windows_names_the_extension_as_python_looks_for_it(
    tmp_path: Path,
) -> None:
    target = wheels.TARGETS["windows"]
    text = wheels.toolchain(target, tmp_path, tmp_path / "python").read_text()
    minor = sys.version_info.minor
    assert f'set(NB_SUFFIX ".cp3{minor}-win_amd64.pyd")' in text
    assert f'set(Python_INCLUDE_DIR "{tmp_path}/python/include")' in text
    assert f'set(Python_LIBRARY "{tmp_path}/python/libs/python3{minor}.lib")' in text
    assert target.host == "win-amd64"
    assert wheels.TARGETS["armv7"].host == "linux-armv7l"
    assert wheels.TARGETS["macos"].suffix == f".cpython-3{minor}-darwin.so"
    wheels.compilers(target, tmp_path)
    assert "ziglang cc -target x86_64-windows-gnu " in (tmp_path / "cc").read_text()


def test_headers_for_another_system_name_no_system(tmp_path: Path) -> None:
    version = f"python3.{sys.version_info.minor}"
    for place in (version, f"aarch64-linux-gnu/{version}"):
        (tmp_path / "debian" / place).mkdir(parents=True)
    (tmp_path / "debian" / version / "Python.h").touch()
    (tmp_path / "debian" / version / "pyconfig.h").write_text("#if defined(__linux__)\n")
    (tmp_path / "debian" / "aarch64-linux-gnu" / version / "pyconfig.h").write_text("sizes\n")
    into = wheels.without_dispatch(tmp_path / "debian", tmp_path / "macos")
    assert (into / version / "pyconfig.h").read_text() == "sizes\n"
    assert (into / version / "Python.h").is_file()


def test_tools_that_lack_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_python.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(debian_python, "_KEYS", Path("/no/keys"))
    commands = ["apt-get", "qemu-arm", "qemu-aarch64"]
    assert debian_python.missing(commands) == ["apt", "debian-archive-keyring", "qemu-user"]


def test_a_python_that_debian_has_not_is_refused() -> None:
    assert debian_python.release(11) == "bookworm"
    with pytest.raises(SystemExit, match=r"got Python 3\.12, expected 3\.11 and 3\.13"):
        debian_python.release(12)


def test_a_machine_that_is_not_known_is_refused() -> None:
    done = subprocess.run([sys.executable, TOOL, "sparc"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'sparc'" in done.stderr
