"""The page of web/digits in headless Chromium: drawn by hand, adapted beside onnxruntime-web."""

from __future__ import annotations

import os
import runpy
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core

ROOT = Path(__file__).parents[2]
NEEDED = "needs what `make test-web` fetches"
MODULES = Path(os.environ.get("NODE_MODULES", ROOT / "build" / "web" / "node_modules"))
DIGITS = {
    0: [[(0.5 + 0.25 * np.sin(t), 0.5 - 0.35 * np.cos(t)) for t in np.linspace(0, 6.3, 25)]],
    7: [[(0.25, 0.15), (0.75, 0.15), (0.45, 0.88)]],
}


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        "": "application/octet-stream",
        ".html": "text/html",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(module: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of the page with its model, served on this machine alone, and its address."""
    for needed in ("onnx", "onnxruntime", "sklearn"):
        pytest.importorskip(needed, reason=f"needs {needed}")
    if not (MODULES / "onnxruntime-web").is_dir():
        pytest.skip(f"no onnxruntime-web in {MODULES}: {NEEDED}")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "web", folder, dirs_exist_ok=True)
    shutil.copy(module, folder / "skip2.wasm")
    (folder / "node_modules").symlink_to(MODULES)
    runpy.run_path(str(ROOT / "web" / "digits" / "model.py"))["write"](folder / "digits")
    server = ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(site: tuple[Path, str]) -> Iterator[Any]:
    """The page, ready, 360 pixels wide; errors in it fail the test, and requests elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDED)
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("missing on this system: chromium; install with: sudo apt install chromium")
    _, address = site
    with playwright.sync_playwright() as runs:
        browser = runs.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        opened = browser.new_page(viewport={"width": 360, "height": 780})
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", lambda said: said.type == "error" and faults.append(said.text))
        elsewhere: list[str] = []
        opened.on(
            "request",
            lambda each: each.url.startswith((address, "blob:")) or elsewhere.append(each.url),
        )
        opened.goto(f"{address}/digits/index.html")
        playwright.expect(opened.locator("#state")).to_contain_text("Ready", timeout=20_000)
        yield opened
        browser.close()
    assert (faults, elsewhere) == ([], [])


def draw(page: Any, digit: int) -> str:
    """Draw it with the mouse; what the page says it is."""
    box = page.locator("#pad").bounding_box()
    for stroke in DIGITS[digit]:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()
    page.wait_for_function("document.getElementById('says').textContent !== '…'")
    return str(page.locator("#says").text_content())


def is_a(page: Any, label: int, count: int) -> None:
    page.get_by_role("button", name=str(label), exact=True).click()
    page.wait_for_function(f"demo.labels.length === {count}")


def test_a_hand_is_learned_and_python_loads_the_adapter(
    page: Any, site: tuple[Path, str], tmp_path: Path
) -> None:
    assert draw(page, 7) != "7"  # the model's own sevens have a bar
    is_a(page, 7, 1)
    assert draw(page, 0) == "0"
    is_a(page, 0, 2)
    page.wait_for_function("document.getElementById('state').textContent.includes('to 2 of')")
    assert draw(page, 0) == "0"
    page.get_by_role("button", name="Clear").click()
    assert draw(page, 7) == "7"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/digits-360.png")
    for link in page.locator("#files a").all():
        with page.expect_download() as download:
            link.click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    adapted = s2.AdaptedModel.load(site[0] / "digits" / "digits.onnx", tmp_path)
    x = np.array(page.evaluate("demo.samples.map((sample) => [...sample])"), np.float32)
    assert x.min() >= 0
    assert 10 < x.max() <= 16  # as load_digits has them
    there = np.array(page.evaluate("[...demo.adapter.logits(demo.rows)]"), np.float32)
    np.testing.assert_allclose(adapted.logits(x), there.reshape(-1, 10), rtol=1e-3, atol=1e-3)
    assert adapted.predict(x).tolist() == [7, 0]


def test_steps_have_the_bits_of_the_scalar_table_here(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    random = np.random.default_rng(0)
    layout = _core.RowLayout((11,), 3, False)
    rows = np.zeros((30, layout.row_stride), np.float32)
    rows[:, :11] = random.normal(size=(30, 11))
    y = random.integers(0, 3, 30).astype(np.int32)
    adapter = _core.SkipAdapter(layout, 4, bias=True)
    adapter.init(1)
    trainer = _core.SkipTrainer(adapter, 20, _core.Optimizer(_core.ADAM, 0.9, 0.999), 1)
    source = _core.RowSource(layout, rows, np.ones(30, np.uint8), lambda *_: None)
    for _ in range(20):
        trainer.epoch(rows, y, source, 0.01)
    a, b = np.empty((11, 4), np.float32), np.empty((4, 3), np.float32)
    adapter.unpack(0, a, b)
    script = """async ([taps, labels]) => {
        const { Skip2 } = await import("/index.js"), core = await Skip2.load();
        const logits = new Float32Array(3), rate = { epochs: 20, learningRate: 0.01 };
        const rows = taps.map((tap) => ({ taps: [Float32Array.from(tap)], logits }));
        const options = { ...rate, seed: 1, standardize: false, kernels: "scalar" };
        const adapter = core.fit(rows, labels, options);
        return [...adapter.loraA[0], ...adapter.loraB[0]];
    }"""
    got = page.evaluate(script, [rows[:, :11].tolist(), y.tolist()])
    assert np.array(got, np.float32).tobytes() == a.tobytes() + b.tobytes()
