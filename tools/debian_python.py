"""Python of Debian for another processor: its headers, and a tree in which it runs under QEMU.

Both come out of packages that ``apt-get`` fetches into a folder of its own: nothing is installed,
and neither root nor a container is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The release of Debian, and of Raspberry Pi OS, that has the Python of this minor version.
RELEASES = {11: "bookworm", 13: "trixie"}
#: Packages of Debian by the command that they bring.
TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "qemu-aarch64": "qemu-user",
    "qemu-arm": "qemu-user",
    "wine64": "wine64",
}
_BESIDE = "/usr/lib/wine"  # a folder of programs that is in no search path
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def program(command: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(command) or shutil.which(command, path=_BESIDE)


def missing(commands: Iterable[str]) -> list[str]:
    """Packages of Debian that would bring these commands, and the keys of its archive."""
    names = {TOOLS[command] for command in commands if program(command) is None}
    if not _KEYS.exists():
        names.add("debian-archive-keyring")
    return sorted(names)


def release(minor: int = sys.version_info.minor) -> str:
    """The release of Debian with Python 3.``minor``, or an end that says so."""
    if minor not in RELEASES:
        known = " and ".join(f"3.{each}" for each in RELEASES)
        raise SystemExit(f"got Python 3.{minor}, expected {known}: Debian has no headers of it")
    return RELEASES[minor]


class Archive:
    """Packages of one release of Debian for one processor, fetched into a folder."""

    def __init__(self, processor: str, folder: Path, of: str) -> None:
        self.processor, self._folder = processor, folder.resolve()
        (self._folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (self._folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        source = f"deb [signed-by={_KEYS}] http://deb.debian.org/debian {of} main\n"
        (self._folder / "sources.list").write_text(source, encoding="ascii")
        self._apt("update")

    def _apt(self, *words: str) -> None:
        of = self._folder
        options = {
            "APT::Architecture": self.processor,
            "APT::Architectures": self.processor,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Dir::State": of,
            "Dir::State::status": of / "status",
            "Dir::Cache": of,
            "Dir::Etc::sourcelist": of / "sources.list",
            "Dir::Etc::sourceparts": "-",
        }
        set_them = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        done = subprocess.run(  # noqa: S603
            ["apt-get", "-qq", *set_them, *words],  # noqa: S607
            cwd=of / "archives",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise SystemExit(f"apt-get {' '.join(words)}: {done.stdout.strip()}")

    def unpack(self, names: Iterable[str], into: Path, *, alone: bool = False) -> None:
        """Lay the files of packages, and unless ``alone`` of all that they need, into a folder.

        The folder comes to be at the end: one that exists is whole.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        archives = self._folder / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        self._apt(*(("download",) if alone else ("install", "--yes", "--download-only")), *names)
        room = Path(tempfile.mkdtemp(dir=into.parent))
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, room], check=True)  # noqa: S603, S607
        room.chmod(0o755)
        room.rename(into)


def headers(processor: str, place: Path) -> Path:
    """The folder with Python's headers for a processor, as Debian names it, under ``place``."""
    version = f"3.{sys.version_info.minor}"
    into = place / f"headers-{version}-{processor}"
    if not into.exists():
        archive = Archive(processor, place / f"apt-{version}-{processor}", release())
        archive.unpack([f"libpython{version}-dev"], into, alone=True)
    return into / "usr" / "include"
