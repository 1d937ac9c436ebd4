"""Whether wheels hold what they should and nothing else: `make wheels` checks what it builds.

    python tools/check_wheel.py WHEEL...

The extension is of the machine that the name of the wheel says, and needs no newer system; what
was compiled and all licences come along; every other file is one of the sources.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email import message_from_string
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
#: The kind of an extension by what the name of the wheel calls its machine.
KINDS = {
    "x86_64": "ELF of 64 bits, machine 62",
    "aarch64": "ELF of 64 bits, machine 183",
    "armv7l": "ELF of 32 bits, machine 40",
    "arm64": "Mach-O of 64 bits, machine 16777228",
    "win_amd64": "PE of 64 bits, machine 34404",
}
LICENCES = {"LICENSE", "LICENSE.nanobind", "LICENSE.robin-map"}
RECORDS = {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}
#: Libraries that every system with glibc has; the C++ library is in the extension.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"}
#: Those that every Windows since 10 has, and Python's own, beside the parts of the C library.
WINDOWS_LIBRARIES = {"kernel32.dll", "advapi32.dll", "ntdll.dll"}
NEEDS = {"click", "numpy", "rich"}
_NAME = re.compile(r"skip2lora-[\w.]+-(cp3\d+)-(cp3\d+)-(\w+)\.whl")


def kind(extension: bytes) -> str:
    """What a compiled file is, by its head: format, and number of the machine in it."""
    if extension[:4] == b"\x7fELF":
        bits = {1: 32, 2: 64}.get(extension[4], 0)
        return f"ELF of {bits} bits, machine {int.from_bytes(extension[18:20], 'little')}"
    if extension[:4] == b"\xcf\xfa\xed\xfe":
        return f"Mach-O of 64 bits, machine {int.from_bytes(extension[4:8], 'little')}"
    if extension[:2] == b"MZ":
        head = int.from_bytes(extension[60:64], "little")
        if extension[head : head + 4] == b"PE\0\0":
            bits = {0x10B: 32, 0x20B: 64}.get(_number(extension, head + 24), 0)
            return f"PE of {bits} bits, machine {_number(extension, head + 4)}"
    return "of no known format"


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def sources() -> dict[str, Path]:
    """The files that a wheel has as they are, by their place in it."""
    package = ROOT / "src" / "skip2lora"
    files = {
        f"skip2lora/{path.relative_to(package).as_posix()}": path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".so", ".pyd"}
    }
    for folder in ("include", "src"):
        core = ROOT / "core" / folder
        for path in [*core.rglob("*.c"), *core.rglob("*.h")]:
            files[f"skip2lora/csrc/{folder}/{path.relative_to(core).as_posix()}"] = path
    return files


def flaws(wheel: Path) -> Iterator[str]:
    """What is wrong with a wheel, a line each."""
    name = _NAME.fullmatch(wheel.name)
    if not name:
        yield f"its name is {wheel.name}, expected skip2lora-VERSION-cp3N-cp3N-PLATFORM.whl"
        return
    with zipfile.ZipFile(wheel) as opened:
        members = {each: opened.read(each) for each in opened.namelist() if each[-1] != "/"}
    yield from _files(members)
    extensions = {each: of for each, of in members.items() if _is_extension(each)}
    if len(extensions) != 1:
        yield f"it has {len(extensions)} extensions, expected one skip2lora/_core.*"
    else:
        yield from _extension(*extensions.popitem(), name[3])
    yield from _metadata(members, "-".join(name.groups()))


def _is_extension(place: str) -> bool:
    return PurePosixPath(place).match("skip2lora/_core*") and not place.endswith(".pyi")


def _files(members: Mapping[str, bytes]) -> Iterator[str]:
    expected = sources()
    for place, path in sorted(expected.items()):
        if place not in members:
            yield f"{place} is missing"
        elif members[place] != path.read_bytes():
            yield f"{place} differs from {path.relative_to(ROOT)}"
    for place in sorted(set(members) - set(expected)):
        if not _is_extension(place) and not _is_record(place):
            yield f"{place} is needless"
    names = {PurePosixPath(place).name for place in members if "dist-info/licenses/" in place}
    yield from (f"the licence {each} is missing" for each in sorted(LICENCES - names))


def _is_record(place: str) -> bool:
    path = PurePosixPath(place)
    of = {"licenses": LICENCES}.get(path.parent.name, RECORDS)
    return path.parts[0].endswith(".dist-info") and path.name in of


def _extension(place: str, extension: bytes, platform: str) -> Iterator[str]:
    machine = next((each for each in KINDS if platform.endswith(each)), None)
    if machine is None:
        yield f"its platform is {platform}, expected one that ends with {', '.join(KINDS)}"
    elif kind(extension) != KINDS[machine]:
        yield f"{place} is {kind(extension)}, expected {KINDS[machine]}"
    if of := re.match(r"manylinux_(\d+)_(\d+)_", platform):
        limit = (int(of[1]), int(of[2]))
        used = {tuple(map(int, each)) for each in re.findall(rb"GLIBC_(\d+)\.(\d+)", extension)}
        for major, minor in sorted(each for each in used if each > limit):
            yield f"{place} needs glibc {major}.{minor}, but {platform} promises {of[1]}.{of[2]}"
        needed = _names(rb"lib[\w+-]+\.so[\d.]*", extension)
        yield from (f"{place} needs {each}" for each in sorted(needed - LIBRARIES))
    if platform == "win_amd64":
        needed = _names(rb"[\w.-]+\.dll", extension)
        yield from (
            f"{place} needs {each}"
            for each in sorted(needed)
            if each.lower() not in WINDOWS_LIBRARIES
            and not re.fullmatch(r"(api-ms-win-crt-.*|python3\d+)\.dll", each, re.I)
        )


def _names(pattern: bytes, extension: bytes) -> set[str]:
    """Strings that end in a zero, of libraries as the file names them."""
    whole = rb"(?<=\0)(?i:" + pattern + rb")(?=\0)"
    return {each.decode() for each in re.findall(whole, extension)}


def _metadata(members: Mapping[str, bytes], tag: str) -> Iterator[str]:
    texts = {
        PurePosixPath(place).name: message_from_string(content.decode())
        for place, content in members.items()
        if place.endswith((".dist-info/METADATA", ".dist-info/WHEEL"))
    }
    if set(texts) != {"METADATA", "WHEEL"}:
        yield f"of METADATA and WHEEL it has {', '.join(sorted(texts)) or 'none'}"
        return
    if (tags := texts["WHEEL"].get_all("Tag", [])) != [tag]:
        yield f"WHEEL has the tags {tags}, expected {tag} as in the name"
    all_needs = texts["METADATA"].get_all("Requires-Dist", [])
    needs = {re.split(r"\W", each)[0] for each in all_needs if "extra ==" not in each}
    if needs != NEEDS:
        yield f"it needs {', '.join(sorted(needs))}, expected {', '.join(sorted(NEEDS))}"


def check(wheel: Path) -> None:
    """End with what is wrong with a wheel, if anything is."""
    if wrong := list(flaws(wheel)):
        raise SystemExit("\n".join(f"{wheel.name}: {line}" for line in wrong))


def main(wheels: Iterable[str]) -> int:
    """Check each of the wheels."""
    for wheel in wheels:
        check(Path(wheel))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
