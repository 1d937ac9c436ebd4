"""Options of folders of images and of recordings: how files become numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skip2lora.data.image_options import Images
from skip2lora.data.media import Media
from skip2lora.data.sound_options import CROPS, Sound
from skip2lora.errors import ParameterError

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
    """Those of images, and of recordings; :func:`media_of` takes them out of the options."""
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


def media_of(options: dict[str, Any]) -> Media | None:
    """How images or recordings become numbers, as options taken out say it; None for nothing.

    Raises:
        ParameterError: some are given of both.
    """
    size, mean, std = (options.pop(name) for name in ("size", "mean", "std"))
    names = ("rate", "window", "hop", "crop", "gain", "segments")
    sound = Sound(**{name: options.pop(name, None) for name in names}).checked()
    if (size, mean, std) == (None, None, None):
        return sound if sound.asked else None
    if sound.asked:
        raise ParameterError(
            f"options of images and of recordings are given ({Images.options}; {Sound.options}), "
            "expected one kind: leave the others out"
        )
    return Images.parse(size, mean, std)
