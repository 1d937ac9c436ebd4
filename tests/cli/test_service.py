"""``plan --serve`` as a user types it, and what it shares with ``serve``."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk import refused
from skip2lora.cli.service import LIMITS, limits_of
from skip2lora.serve.limits import Limits


def test_limits_that_are_left_out_are_the_defaults() -> None:
    typed: dict[str, int | None] = dict.fromkeys(LIMITS)
    assert limits_of(typed) == Limits()
    assert limits_of(typed | {"labelled": 7}) == Limits(labelled=7)


def test_every_limit_is_told(type_in, desk: Path) -> None:
    words = ("--serve", "--unlabelled", 123, "--labelled", 456, "--per-second", 78, "--versions", 9)
    told = type_in("plan", "model.safetensors", *words, "--learn", 400)
    assert told.code == 0, told.err
    for part in (
        "learned from 400 samples", "123 samples: the newest half", "456 samples, the newest",
        "78 samples a second", "9, the one in use", "64.0 MiB within 30 s",
        "200 requests a second", "512;", "from 456 labels", "it fits", "in all",
    ):  # fmt: skip
        assert part in told.out
    facts = type_in("plan", "model.safetensors", *words, "--json").json
    assert facts["limits"]["labelled"] == 456
    assert facts["limits"].keys() == vars(Limits()).keys()
    assert facts["n_unlabelled"] == 123
    memory, disk = facts["memory"], facts["disk"]
    assert memory["most_bytes"] == memory["peak_bytes"] + memory["waiting_bytes"]
    parts = [value for name, value in disk.items() if not name.startswith(("total", "bytes_a"))]
    assert disk["total_bytes"] == sum(parts)
    assert facts["requests"]["request_bytes"] == 1 << 26
    assert facts["fits"] is True
    assert not list(desk.glob("store*"))


def test_what_does_not_fit_is_said_with_what_does(type_in, desk: Path) -> None:
    words = ("plan", "model.safetensors", "--serve", "--labelled", 200_000)
    roomy = type_in(*words, "--json").json["memory"]
    limit = roomy["most_bytes"] - roomy["learning_bytes"] // 2
    tight = type_in(*words, "--memory", limit, "--json").json
    assert tight["fits"] is False
    assert 10_000 < tight["n_labelled_that_fit"] < 190_000
    assert "it does not fit; with --labelled " in type_in(*words, "--memory", limit).out
    assert "it does not fit\n" in type_in(*words, "--memory", "1MiB").out


BAD = {
    "data": (("field.npz", "--serve"), ["got DATA beside --serve", "leave it out"]),
    "training": (("--serve", "--rank", 3), ["got --rank beside --serve", "leave it out"]),
    "a limit alone": (("--labelled", 3), ["got --labelled without --serve", "add --serve"]),
    "a lab set alone": (("--lab-set", "x.npz"), ["got --lab-set without --serve"]),
    "a limit": (("--serve", "--learn", 3), ["learn is 3"]),
    "memory": (("--serve", "--memory", "lots"), ["memory is 'lots'"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_refuses(type_in, desk: Path, options, parts) -> None:
    refused(type_in("plan", "model.safetensors", *options), *parts)
