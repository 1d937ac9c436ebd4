"""Options of images, recordings and streams of sensors: how files become numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from skip2lora.adapted import AdaptedModel
from skip2lora.backbones.base import Backbone
from skip2lora.data.crop_options import CONFIDENCE
from skip2lora.data.file_folder import IMAGES, SENSORS, SOUNDS, Kind, kind_of
from skip2lora.data.image_options import Images
from skip2lora.data.media import Media
from skip2lora.data.sensor_features import FEATURES
from skip2lora.data.sensor_options import LABELLED_BY, MIXED, TARGET_OF, Sensors
from skip2lora.data.sound_options import CROPS, Sound
from skip2lora.errors import ParameterError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WINDOWS = ("rate", "window", "hop")
_OF_SENSORS = ("channels", "features", "time", "label_by", "mixed", "target_of", "group")
_OF_CROPS = ("segments", "confidence", "category", "margin", "square", "group")
#: The options of each kind; what several have means what the kind of DATA makes of it.
_NAMES: dict[Kind, tuple[str, ...]] = {
    IMAGES: ("size", "mean", "std", "every", *_OF_CROPS),
    SOUNDS: (*_WINDOWS, "crop", "gain", "segments"),
    SENSORS: (*_WINDOWS, *_OF_SENSORS),
}
_ALL = tuple(dict.fromkeys(name for known in _NAMES.values() for name in known))


def _images(said: dict[str, Any]) -> Images:
    scale = [said.pop(name, None) for name in ("size", "mean", "std")]
    return Images.parse(*scale, **said)


_PARSED: dict[Kind, Callable[[dict[str, Any]], Media]] = {
    IMAGES: _images,
    SOUNDS: lambda said: Sound.parse(**said),
    SENSORS: lambda said: Sensors.parse(**said),
}


def media_of(
    options: dict[str, Any], data: Path | None = None, *, beside: str | None = None
) -> Media | None:
    """How files become numbers, as options taken out say it; None for nothing.

    ``data`` tells what an option means that several kinds have. ``beside`` is an option of sensors
    and of crops that is one of tables too, and left where they are such.

    Raises:
        ParameterError: some are given of several kinds, or one cannot be read.
    """
    names = [name for name in _ALL if name in options and name != beside]
    given = {name: value for name in names if (value := options.pop(name)) is not None}
    of_table = None if beside is None else options[beside]
    if not given and (of_table is None or data is None or not data.is_dir()):
        return None
    kinds = [kind for kind, known in _NAMES.items() if given.keys() <= {*known}]
    cropped = "segments" in given
    if not cropped and "group" in given:  # which of images is one of boxes alone
        kinds = [kind for kind in kinds if kind is not IMAGES]
    if not kinds:
        claimed = [(kind, known) for kind, known in _NAMES.items() if given.keys() & {*known}]
        several = " and of ".join(kind.many for kind, _ in claimed)
        listed = "; ".join(kind.media.options for kind, _ in claimed)
        raise ParameterError(
            f"options of {several} are given ({listed}), expected one kind: leave the others out"
        )
    if len(kinds) > 1:
        among = kinds[::-1] if str(data) == "-" else kinds
        kinds = kinds[:1] if data is None else [kind_of(data, among)]
    if of_table is not None and (kinds[0] is SENSORS or (kinds[0] is IMAGES and cropped)):
        given[str(beside)], options[str(beside)] = of_table, None
    return _PARSED[kinds[0]](given) if given else None


def check_no_media(media: Media | None, data: str) -> None:
    """Raise ParameterError for options of files where there are none, which ``data`` would name."""
    if media is None or not media.asked:
        return
    words = (
        word if word == "or" else f"--{word.replace('_', '-')}" for word in media.options.split()
    )
    raise ParameterError(
        f"got {' '.join(words)} without {data}, expected a folder of {media.files}: name one"
    )


def grouped(
    media: Media | None, group: str | None, model: Backbone | AdaptedModel, data: Path | None
) -> tuple[Media | None, str | None]:
    """``--group`` where ``data`` is a stream, as ``model`` learned some: part of ``media`` then."""
    if group is None or media is not None or data is None or data.suffix.lower() == ".npz":
        return media, group
    if not isinstance(model.images, Sensors):
        return media, group
    return Sensors.parse(group=group), None


def names_groups(media: Media | None) -> bool:
    """Whether options say what is held out together."""
    if isinstance(media, Sensors):
        return media.group is not None
    return isinstance(media, Images) and media.crops is not None and media.crops.group is not None


def _decorated(
    function: _Function, options: tuple[Callable[[_Function], _Function], ...]
) -> _Function:
    for option in reversed(options):
        function = option(function)
    return function


def image_options(function: _Function) -> _Function:
    """``--size``, ``--mean`` and ``--std`` of image folders, as texts, and how crops are cut."""
    return _decorated(function, (
        click.option(
            "--size", metavar="HxW",
            help="Pixels of images, if MODEL takes any. Default: the model's or the adapter's.",
        ),
        click.option(
            "--mean", metavar="NUMBERS",
            help="Taken off pixels of 0 to 1: one, or one a channel, or imagenet. Default 0.",
        ),
        click.option(
            "--std", metavar="NUMBERS", help="Divisor after that. Default 1; 1/255 for 0 to 255."
        ),
        click.option(
            "--every", type=float, metavar="SECONDS",
            help="From one frame of a video to the next that is a sample. Default: the adapter's.",
        ),
        click.option(
            "--segments", type=click.Path(path_type=Path), metavar="FILE",
            help="Which parts of DATA are samples. Of images: boxes, as MegaDetector or COCO write "
            "them. Of recordings: labels of Audacity or BirdNET, or Raven's selections.",
        ),
        click.option(
            "--confidence", type=float,
            help=f"Least one of a box. Default {CONFIDENCE}, or the adapter's.",
        ),
        click.option(
            "--category", metavar="NAMES",
            help="Whose boxes count, such as animal. Default: all, or the adapter's.",
        ),
        click.option(
            "--margin", type=float,
            help="What is added around a box, as a share of it. Default 0.",
        ),
        click.option(
            "--square/--no-square", default=None, help="Widen boxes to squares. Default: no."
        ),
    ))  # fmt: skip


def window_options(function: _Function) -> _Function:
    """``--rate``, ``--window`` and ``--hop`` of sound and of streams, and what streams have."""
    return _decorated(function, (
        click.option(
            "--rate", type=float, metavar="HZ",
            help="Samples a second that MODEL takes, of sound or of a stream, which is resampled. "
            "Default: the adapter's, or that of the stream.",
        ),
        click.option(
            "--window", metavar="LENGTH",
            help="Of sound in seconds; of a stream in rows, 128, or seconds, 2.5s. Default: the "
            "model's or the adapter's.",
        ),
        click.option(
            "--hop", metavar="LENGTH",
            help="From one window to the next, as --window. Default: a window.",
        ),
        click.option(
            "--channels", metavar="COLUMNS",
            help="Columns of a stream that make a sample, in its order. Default: all that are no "
            "time, group or label, or the adapter's.",
        ),
        click.option(
            "--features", metavar="NAMES",
            help=f"Of each window instead of its rows: {', '.join(FEATURES)}, or several.",
        ),
        click.option(
            "--time", metavar="COLUMN",
            help="Of a stream: seconds, dates, or as in t:ms. Default: one that is called so; none "
            "for even rows.",
        ),
        click.option(
            "--label-by", type=click.Choice(LABELLED_BY),
            help="What says the class of a stream. Default: a column or sub-folders.",
        ),
        click.option(
            "--mixed", type=click.Choice(MIXED),
            help="Windows with several labels: that of most rows, left out, or refused. Default: "
            f"{MIXED[0]}.",
        ),
        click.option(
            "--target-of", type=click.Choice(TARGET_OF),
            help="The number a window stands for, of its rows in the column --target, for --task "
            "regression. Default: the adapter's.",
        ),
    ))  # fmt: skip


stream_group = click.option(
    "--group", metavar="COLUMNS",
    help="Columns that tell streams apart, such as user,session: no window goes over both.",
)  # fmt: skip


def media_options(function: _Function) -> _Function:
    """Those of images, of recordings and of streams, as :func:`media_of` reads them."""
    function = _decorated(function, (
        click.option(
            "--crop", type=click.Choice(CROPS),
            help="Windows of sound side by side, one in the middle, or one where it is loudest. "
            "Default: slide, or the adapter's.",
        ),
        click.option("--gain", type=float, help="Of sound, which is from -1 to 1. Default 1."),
    ))  # fmt: skip
    return image_options(window_options(function))


def every_window(media: Media | None, saved: Media | None) -> Media | None:
    """Every window of a recording is predicted, whichever the adapter was made from."""
    if isinstance(saved, Sound) and (media is None or isinstance(media, Sound)):
        said, slide = media or Sound(), CROPS[0]
        hop = said.hop or (saved.hop if saved.crop == slide else saved.window)
        return replace(said, crop=said.crop or slide, hop=hop)
    return media
