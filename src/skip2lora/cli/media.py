"""Options of folders of images and of recordings: how files become numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skip2lora.data.sound_options import CROPS

_Function = TypeVar("_Function", bound=Callable[..., Any])


def image_options(function: _Function) -> _Function:
    """``--size``, ``--mean`` and ``--std`` of image folders; the function gets the three texts."""
    for option in (
        click.option(
            "--std", metavar="NUMBERS", help="Divisor after that. Default 1; 1/255 for 0 to 255."
        ),
        click.option(
            "--mean", metavar="NUMBERS",
            help="Taken off pixels of 0 to 1: one, or one a channel, or imagenet. Default 0.",
        ),
        click.option(
            "--size", metavar="HxW",
            help="Pixels of images, if MODEL takes any. Default: the model's or the adapter's.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def media_options(function: _Function) -> _Function:
    """Those of images, and of recordings, as ``common.media_of`` reads them."""
    for option in (
        click.option(
            "--segments", type=click.Path(path_type=Path), metavar="FILE",
            help="Which parts of recordings are what: labels of Audacity or BirdNET, or Raven's "
            "selections.",
        ),
        click.option("--gain", type=float, help="Of sound, which is from -1 to 1. Default 1."),
        click.option(
            "--crop", type=click.Choice(CROPS),
            help="Windows side by side, one in the middle, or one where it is loudest. Default: "
            "slide, or the adapter's.",
        ),
        click.option(
            "--hop", type=float, metavar="SECONDS",
            help="From one window of sound to the next. Default: a window.",
        ),
        click.option(
            "--window", type=float, metavar="SECONDS",
            help="Of sound, if MODEL takes any length. Default: the model's or the adapter's.",
        ),
        click.option(
            "--rate", type=int, metavar="HZ",
            help="Samples of sound a second that MODEL takes; recordings are resampled. Default: "
            "the adapter's.",
        ),
    ):  # fmt: skip
        function = option(function)
    return image_options(function)
