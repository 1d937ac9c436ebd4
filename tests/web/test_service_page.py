"""The page of the service in headless Chromium: label, adapt, adopt, go back, two tabs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from desk import NAMES
from serve.place import field, meter, model, readings

pytest.importorskip("uvicorn")


class Service:
    """A service in a process of its own, with samples of a new place."""

    def __init__(self, folder: Path, *words: str, file: Path | None = None) -> None:
        is_fan = file is None
        if file is None:
            file = folder / "fan.safetensors"
            model().save(file)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "skip2lora", "serve", str(file), "--port", "0", "--json",
             "--store", str(folder / "store"), *words],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        facts = json.loads(self.process.stdout.readline())
        self.url, self.token = facts["url"], facts["token"]
        if not is_fan:
            return
        x, names = field(n_samples=120)
        answer = self.ask("/api/predict", {"rows": x.tolist()})
        ids = [each["id"] for each in answer["samples"]]
        self.truth = dict(zip(ids, names, strict=True))

    def ask(self, path: str, body: Any = None) -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = "audio/wav" if isinstance(body, bytes) else "application/json"
        headers = {"content-type": kind, "authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, data, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.load(response)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services, which end after the tabs: name it first."""
    services = []

    def start_one(*words: str, file: Path | None = None) -> Service:
        services.append(Service(tmp_path, *words, file=file))
        return services[-1]

    yield start_one
    for each in services:
        each.close()


@pytest.fixture
def service(start: Start) -> Service:
    return start("--approve")


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens a tab; what it complains of fails the test."""
    complaints: list[str] = []
    pages = []

    def open_tab(url: str, **look: Any) -> Any:
        page = browser.new_page(**look)
        page.set_default_timeout(40_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.goto(url)
        pages.append(page)
        return page

    yield open_tab
    for page in pages:
        page.close()
    assert [each for each in complaints if "401" not in each] == []


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait; the page's policy lets no test evaluate a text while it waits."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(100)
    raise TimeoutError


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


def label_by_keys(page: Any, service: Service, count: int) -> None:
    """Label what the page asks for, by keys alone."""
    page.wait_for_selector("#cards > li:not(.done)")
    page.locator("#cards > li:not(.done)").first.focus()
    for _ in range(count):
        card = focused(page)
        number = int(card.split()[-1])
        page.keyboard.press(str(NAMES.index(service.truth[number]) + 1))
        until(page, lambda card=card: focused(page) not in (card, "None"))  # type: ignore[misc]


def test_label_adapt_adopt_go_back_and_reload(service: Service, opened: Any) -> None:
    page = opened(service.url)
    label_by_keys(page, service, 19)
    labels = service.ask("/api/labels")["labels"]
    assert len(labels) == 19
    assert all(each["answer"] == service.truth[each["sample"]] for each in labels)
    assert {each["source"] for each in labels} == {"page"}
    page.keyboard.press("u")
    until(page, lambda: page.locator("#cards > li.done").count() < 19)
    assert sum(each["undone"] is not None for each in service.ask("/api/labels")["labels"]) == 1
    rest = [
        number for number in service.truth if service.ask(f"/api/samples/{number}")["label"] is None
    ]
    entries = [{"id": number, "label": service.truth[number]} for number in rest[:80]]
    service.ask("/api/labels", {"labels": entries})
    page.click("#learn")
    page.click("#versions tbody tr:has-text('waiting') button")
    page.wait_for_selector("#versions tbody tr:has-text('in use'):has-text('1')")
    page.reload()
    page.wait_for_selector("#versions tbody tr:has-text('in use')")
    assert service.ask("/api/status")["version"] >= 1
    page.locator("#versions tbody tr", has_text="the base").locator("button").click()
    page.wait_for_selector("#versions tbody tr:has-text('the base'):has-text('in use')")
    assert service.ask("/api/status")["version"] == 0


def test_two_tabs_see_what_the_other_does(service: Service, opened: Any) -> None:
    one, other = opened(service.url), opened(service.url)
    other.wait_for_selector("#cards > li:not(.done)")
    label_by_keys(one, service, 1)
    other.wait_for_selector("#events li:has-text(' is ')")
    number = service.ask("/api/labels")["labels"][0]["sample"]
    other.select_option("#filter", f"label={service.truth[number]}")
    other.wait_for_selector(f"#cards > li.done[aria-label='Sample {number}']")


def test_many_are_labelled_at_once(service: Service, opened: Any) -> None:
    page = opened(service.url)
    page.wait_for_selector("#cards > li")
    cards = page.locator("#cards > li")
    count = cards.count()
    page.click("#select-all")
    cards.first.focus()
    page.keyboard.press("2")
    until(page, lambda: len(service.ask("/api/labels")["labels"]) == count)
    assert [each["answer"] for each in service.ask("/api/labels")["labels"]] == [NAMES[1]] * count


def test_a_new_class_is_asked_for(service: Service, opened: Any) -> None:
    page = opened(service.url)
    page.wait_for_selector("#cards > li select")
    page.locator("#cards > li select").first.select_option("+")
    page.fill("#new-name", "<b>rattles</b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("#events li:has-text('<b>rattles</b>')")  # as text
    assert service.ask("/api/labels")["labels"][0]["answer"] == "<b>rattles</b>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(service: Service, opened: Any, scheme: Any) -> None:
    look = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    page = opened(service.url, **look)
    page.wait_for_selector("#cards > li")
    entries = [{"id": number, "label": name} for number, name in list(service.truth.items())[:80]]
    service.ask("/api/labels", {"labels": entries})
    service.ask("/api/learn", {})
    page.wait_for_selector("#versions tbody tr.why:has-text('fixed')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = "(table => [table.scrollWidth, table.parentElement.clientWidth])"
    taken, there = page.evaluate(f"{wide}(document.querySelector('#versions'))")
    assert taken <= there  # no column is out of sight
    heights = page.evaluate(
        "[...document.querySelectorAll('#versions tr')].map(r => r.offsetHeight)"
    )
    assert max(heights) < 130


def test_a_token_is_asked_for_once_a_tab(tmp_path: Path, opened: Any) -> None:
    service = Service(tmp_path, "--new-token")
    try:
        page = opened(service.url)
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-error:not(:empty)")
        page.fill("#token", service.token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#cards > li")
        page.reload()
        page.wait_for_selector("#cards > li")
        page.close()
    finally:
        service.close()


def test_it_says_when_the_service_is_gone(tmp_path: Path, browser: Any) -> None:
    service = Service(tmp_path)
    page = browser.new_page()
    page.goto(service.url)
    page.wait_for_selector("#cards > li")
    service.close()
    page.wait_for_selector("#connection:not([hidden])", timeout=30_000)
    page.close()


def test_a_recording_is_drawn_and_heard(tmp_path: Path, start: Start, opened: Any) -> None:
    """By keys and by hand, at the width of a telephone; what is loud is dark at its own height."""
    pytest.importorskip("soundfile")
    sound_models = pytest.importorskip("sound_models")
    pytest.importorskip("onnxruntime")
    file = sound_models.listener(tmp_path / "ear.onnx")
    tone = sound_models.record(tmp_path / "a.wav", sound_models.tone(1000, 0.5))
    service = start("--rate", str(sound_models.RATE), "--new-token", file=file)
    service.ask("/api/predict", tone.read_bytes())
    page = opened(service.url, viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.fill("#token", service.token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#cards > li canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert loudest_row(page) == 64 - 1 - 16  # of 64 to 4,000 Hz, the lowest at the foot
    page.locator("#cards > li").first.focus()
    page.keyboard.press("p")
    page.wait_for_selector("#cards button.play[aria-pressed='true']")
    until(page, lambda: page.evaluate("document.querySelector('audio')?.currentTime > 0"))
    assert abs(page.evaluate("document.querySelector('audio').duration") - 0.25) < 0.01
    until(page, lambda: page.locator("audio").count() == 0)  # at its end nothing stays
    assert page.locator("button.play[aria-pressed='true']").count() == 0
    page.locator("#cards button.play").last.click()
    page.locator("#cards button.play").first.click()
    until(page, lambda: page.locator("audio").count() == 0)
    page.keyboard.press("1")  # of what was heard last
    until(page, lambda: len(service.ask("/api/labels")["labels"]) == 1)


def loudest_row(page: Any) -> int:
    """Of the first spectrogram, from the top."""
    return int(
        page.evaluate("""() => {
          const canvas = document.querySelector("#cards canvas");
          const { data, width, height } = canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height);
          const rows = Array.from({ length: height }, (_, y) => {
            let sum = 0;
            for (let x = 0; x < width; x += 1) sum += data[4 * (y * width + x) + 3];
            return sum;
          });
          return rows.indexOf(Math.max(...rows));
        }""")
    )


def test_an_image_is_shown_on_its_card(tmp_path: Path, start: Start, opened: Any) -> None:
    pytest.importorskip("PIL.Image")
    onnx_models = pytest.importorskip("onnx_models")
    pytest.importorskip("onnxruntime")
    file = onnx_models.save(onnx_models.cnn(), tmp_path / "camera.onnx")
    service = start(file=file)
    x = np.random.default_rng(0).random((3, 14, 14)).astype(np.float32)
    service.ask("/api/predict", {"rows": [x.tolist()]})
    page = opened(service.url)
    page.wait_for_selector("#cards > li img")
    until(page, lambda: page.evaluate("document.querySelector('#cards img').naturalWidth") == 14)


def test_numbers_are_typed_learned_and_undone(tmp_path: Path, start: Start, opened: Any) -> None:
    file = tmp_path / "meter.safetensors"
    meter().save(file)
    service = start(file=file)
    x, y = readings(n_samples=60)
    service.ask("/api/predict", {"rows": x.tolist()})
    page = opened(service.url, viewport={"width": 360, "height": 740})
    page.wait_for_selector("#cards > li input")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#cards > li").first.focus()
    for _ in range(2):
        card = focused(page)
        page.keyboard.type(f"{y[int(card.split()[-1]) - 1]:.3f}", delay=100)  # as cards go
        assert focused(page).startswith("Number of")
        page.keyboard.press("Enter")
        until(page, lambda card=card: focused(page) not in (card, f"Number of {card.lower()}"))  # type: ignore[misc]
    until(page, lambda: len(service.ask("/api/labels")["labels"]) == 2)
    labels = service.ask("/api/labels")["labels"]
    assert [each["answer"] for each in labels] == [
        round(float(y[each["sample"] - 1]), 3) for each in labels
    ]
    page.keyboard.press("u")
    until(page, lambda: any(each["undone"] for each in service.ask("/api/labels")["labels"]))
    entries = [{"id": at + 1, "label": float(each)} for at, each in enumerate(y)]
    service.ask("/api/labels", {"labels": entries, "settle": True})
    page.click("#learn")
    page.wait_for_selector(
        "#versions tbody tr:has-text('in use') + tr.why:has-text('proved better')"
    )
    assert page.locator("#versions thead th", has_text="Nearer").count() == 1
