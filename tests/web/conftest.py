"""The module of WebAssembly, compiled once, where there is a compiler for it and Node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``skip2.wasm``; without a compiler or Node the tests are skipped and say what is missing."""
    environment = {**os.environ, "PYTHON": sys.executable}
    compiler = ["sh", ROOT / "tools" / "wasm-cc.sh", "module"]
    search = subprocess.run(compiler, env=environment, capture_output=True, text=True)
    if search.returncode:
        pytest.skip(search.stderr.strip())
    if shutil.which("node") is None:
        pytest.skip("missing on this system: nodejs; install with: sudo apt install nodejs")
    room = tmp_path_factory.mktemp("module")
    made = room / "skip2.wasm"
    command = ["make", "-C", ROOT / "web", f"MODULE={made}", f"BUILD={room}"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; without it or playwright the tests are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("missing on this system: chromium; install with: sudo apt install chromium")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
