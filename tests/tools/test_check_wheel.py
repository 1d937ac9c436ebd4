"""What a wheel may hold, shown on small ones with one fault each."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import check_wheel
import pytest
import wheels

ELF64, ELF32 = b"\x7fELF\x02", b"\x7fELF\x01"
HEADS = {
    "x86_64": ELF64 + bytes(13) + struct.pack("<H", 62),
    "aarch64": ELF64 + bytes(13) + struct.pack("<H", 183),
    "armv7": ELF32 + bytes(13) + struct.pack("<H", 40),
    "macos": b"\xcf\xfa\xed\xfe" + struct.pack("<I", 0x0100000C),
    "windows": b"MZ"
    + bytes(58)
    + struct.pack("<I4x4sH18xH", 68, b"PE\0\0", 34404, 0x20B)
    + b"\0python311.dll\0KERNEL32.dll\0api-ms-win-crt-heap-l1-1-0.dll\0",
}
ABOUT = "skip2lora-0.1.0.dist-info/"
CORE = "skip2lora/_core.so"


def members(target: str = "aarch64") -> dict[str, bytes]:
    """What a right wheel for a machine holds, but for the code in its extension."""
    return {
        **{place: path.read_bytes() for place, path in check_wheel.sources().items()},
        CORE: HEADS[target] + b"\0libc.so.6\0GLIBC_2.17\0GLIBC_2.4\0",
        f"{ABOUT}METADATA": b"Requires-Dist: numpy>=1.24\nRequires-Dist: click>=8.1\n"
        b'Requires-Dist: rich<15,>=14\nRequires-Dist: torch>=2.4; extra == "torch"\n',
        f"{ABOUT}WHEEL": f"Tag: cp311-cp311-{wheels.TARGETS[target].tag}\n".encode(),
        f"{ABOUT}RECORD": b"",
        f"{ABOUT}entry_points.txt": b"",
        **{f"{ABOUT}licenses/{each}": b"" for each in check_wheel.LICENCES},
    }


def flaws(folder: Path, content: dict[str, bytes], target: str = "aarch64") -> list[str]:
    wheel = folder / f"skip2lora-0.1.0-cp311-cp311-{wheels.TARGETS[target].tag}.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for place, data in content.items():
            opened.writestr(place, data)
    return list(check_wheel.flaws(wheel))


@pytest.mark.parametrize("target", wheels.TARGETS)
def test_a_wheel_as_built_for_each_machine_is_right(target: str, tmp_path: Path) -> None:
    assert flaws(tmp_path, members(target), target) == []


def test_the_sources_of_the_core_and_the_package_are_among_what_is_expected() -> None:
    places = set(check_wheel.sources())
    assert {"skip2lora/__init__.py", "skip2lora/py.typed", "skip2lora/_core.pyi"} <= places
    assert {"skip2lora/csrc/include/skip2.h", "skip2lora/csrc/src/net.c"} <= places
    assert not any(place.endswith((".pyc", ".so")) for place in places)


@pytest.mark.parametrize(
    ("place", "data", "flaw"),
    [
        (CORE, HEADS["armv7"], "is ELF of 32 bits, machine 40, expected ELF of 64 bits"),
        (CORE, b"!<arch>\n", "is of no known format"),
        (CORE, HEADS["aarch64"] + b"GLIBC_2.29\0", "needs glibc 2.29, but"),
        (CORE, HEADS["aarch64"] + b"\0libstdc++.so.6\0", "needs libstdc++.so.6"),
        ("skip2lora/_core.pyd", b"MZ", "it has 2 extensions, expected one"),
        ("skip2lora/csrc/src/net.o", b"", "skip2lora/csrc/src/net.o is needless"),
        ("tests/test_net.py", b"", "tests/test_net.py is needless"),
        (f"{ABOUT}licenses/notes.txt", b"", "notes.txt is needless"),
        ("skip2lora/csrc/src/net.c", b"int x;", "net.c differs from core/src/net.c"),
        (f"{ABOUT}WHEEL", b"Tag: cp311-cp311-linux_aarch64\n", "WHEEL has the tags"),
        (f"{ABOUT}METADATA", b"Requires-Dist: safetensors\n", "it needs safetensors, expected"),
    ],
)
def test_one_fault_is_named(place: str, data: bytes, flaw: str, tmp_path: Path) -> None:
    (line,) = flaws(tmp_path, {**members(), place: data})
    assert flaw in line


@pytest.mark.parametrize(
    ("place", "flaw"),
    [
        (CORE, "it has 0 extensions"),
        ("skip2lora/csrc/include/skip2.h", "skip2.h is missing"),
        (f"{ABOUT}licenses/LICENSE.nanobind", "the licence LICENSE.nanobind is missing"),
        (f"{ABOUT}METADATA", "of METADATA and WHEEL it has WHEEL"),
    ],
)
def test_what_lacks_is_named(place: str, flaw: str, tmp_path: Path) -> None:
    content = members()
    del content[place]
    (line,) = flaws(tmp_path, content)
    assert flaw in line


def test_a_name_that_says_no_machine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "skip2lora-0.1.0.whl").touch()
    with pytest.raises(SystemExit, match=r"expected skip2lora-VERSION-cp3N-cp3N-PLATFORM\.whl"):
        check_wheel.check(tmp_path / "skip2lora-0.1.0.whl")
