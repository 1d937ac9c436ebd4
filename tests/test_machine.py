"""The processor by its own name."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from skip2lora.machine import cpu_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Abacus 3\n", "Abacus 3"),
        ("processor\t: 0\nHardware\t: BCM2835\nModel\t\t: A Board Zero\n", "A Board Zero"),
        ("Hardware\t: BCM2835\n", "BCM2835"),
    ],
)
def test_as_the_system_gives_it(monkeypatch, text, name):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert cpu_name() == name


def test_a_system_that_does_not(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor\t: 0\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert cpu_name() == "abacus"
