"""The adapter folder: tensors, and what must be known to use them; docs/adapter-format.md."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import Derived, DerivedTap, derived_taps
from skip2lora.backbones.loading import CONFIG_FILE, load
from skip2lora.backbones.standins import StandIn
from skip2lora.backbones.taps import Shapes
from skip2lora.data.media import KEYS, Media, media_in
from skip2lora.errors import FileError, ModelError, ParameterError, Skip2LoraError
from skip2lora.files import Tensors, read_tensors, to_bytes, unreadable
from skip2lora.limits import check_file, is_folder
from skip2lora.methods import METHODS
from skip2lora.replacing import resolved, sweep
from skip2lora.system import Opened
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.task import CLASSIFICATION, TASKS, NewLabels, Task
from skip2lora.tasks.thresholds import Thresholds


@dataclass(frozen=True)
class Tapping:
    """Names of the tapped layers, the grid of their maps, and what fixes the shapes of these.

    ``size`` is the height and width that open axes of images were fixed to. ``inputs`` are the
    shapes of the samples that a module was run on to find its layers. ``output`` is the name of the
    output that was taken of several, ``mask`` says which tokens count. Each is None where it does
    not matter or is not known. ``derived`` are taps that are derived from these.
    """

    taps: tuple[str, ...] | None = None
    grid: int | None = None
    size: tuple[int, int] | None = None
    inputs: Shapes | None = None
    output: str | None = None
    mask: str | None = None
    derived: tuple[DerivedTap, ...] = ()

    @classmethod
    def of(cls, backbone: Backbone) -> Tapping:
        """That of a backbone; of one without a choice of taps, which output is taken alone."""
        if isinstance(backbone, StandIn):
            return replace(cls.of(backbone.base), derived=derived_taps(backbone))
        output = backbone.output if len(backbone.outputs) > 1 else None
        if type(backbone).with_taps is Backbone.with_taps:
            return cls(output=output)
        shapes, layers = backbone.sample_shapes, tuple(tap.layer for tap in backbone.taps)
        return cls(layers, backbone.grid, backbone.size, shapes, output, backbone.mask)

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as JSON holds it."""
        said: dict[str, Any] = {}
        if self.taps is not None:
            said["taps"] = list(self.taps)
        if self.grid is not None:
            said["grid"] = self.grid
        if self.size is not None:
            said["input_size"] = list(self.size)
        if self.inputs is not None:
            said["inputs"] = [[name, list(shape), kind] for name, shape, kind in self.inputs]
        if self.output is not None:
            said["output"] = self.output
        if self.mask is not None:
            said["mask"] = self.mask
        if self.derived:
            said["derived_taps"] = [tap.to_json() for tap in self.derived]
        return said

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Tapping:
        """What :meth:`to_json` gave, among other keys.

        Raises:
            KeyError, TypeError, ValueError: it gave something else.
        """
        taps, grid, size = entries.get("taps"), entries.get("grid"), entries.get("input_size")
        inputs, output, mask = (entries.get(name) for name in ("inputs", "output", "mask"))
        return cls(
            None if taps is None else tuple(map(str, taps)),
            None if grid is None else _whole(grid),
            None if size is None else _pair(size),
            None
            if inputs is None
            else tuple((str(name), tuple(map(_whole, shape)), str(k)) for name, shape, k in inputs),
            None if output is None else str(output),
            None if mask is None else str(mask),
            tuple(map(DerivedTap.from_json, entries.get("derived_taps", ()))),
        )

    def apply(self, backbone: Backbone) -> Backbone:
        """The same model, tapped so.

        Raises:
            ParameterError: a layer, a size or an output that it does not have.
        """
        if self.derived:
            return Derived(replace(self, derived=()).apply(backbone), self.derived)
        if self.output is not None:
            backbone = backbone.with_output(self.output)
        if self.taps is None:
            return backbone
        if self.mask is not None:
            backbone = backbone.with_mask(self.mask)
        if self.inputs is not None:
            backbone = backbone.with_shapes(self.inputs)
        if self == Tapping.of(backbone):
            return backbone
        return backbone.with_taps(list(self.taps), grid=self.grid, size=self.size)

    def load(self, path: str | os.PathLike[str], **options: Any) -> Backbone:
        """The model of a file, tapped so; of another model perhaps, whose layers are not these.

        ``options`` are those of :func:`skip2lora.load`, which raises as it says.
        """
        options.setdefault("output", self.output)
        options.setdefault("mask", self.mask)
        try:
            model = load(path, taps=self.taps, grid=self.grid, size=self.size, **options)
        except Skip2LoraError:  # that the model is another one is to be said first
            model = load(path, **options)
        return model.base


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _pair(value: Any) -> tuple[int, int]:
    height, width = value
    return _whole(height), _whole(width)


TENSORS_FILE = "adapter_model.safetensors"
KIND = "adapter"
_TRIES = 200  # to read a folder that others replace
Result = TypeVar("Result")
_PEFT_TYPE = "SKIP2LORA"  # unknown to PEFT, which then refuses the folder instead of misusing it
#: What only some adapters have, in both files.
_OPTIONAL = (
    "task", "keep_outputs", "new_labels", "output_names", *KEYS, "columns", "taps", "grid",
    "input_size", "inputs", "output", "mask", "derived_taps", "thresholds",
)  # fmt: skip


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter says of itself.

    ``output_names`` are those of the base model's outputs where the base model has none,
    ``images`` is how images became its samples, ``columns`` are those of a table. Without
    ``keep_outputs`` the base model's outputs are left out, and its fingerprint is that of the whole
    model all the same.
    """

    method: str
    rank: int
    base_fingerprint: str
    task: Task = CLASSIFICATION
    new_labels: NewLabels = ()
    output_names: tuple[str, ...] | None = None
    images: Media | None = None
    tapping: Tapping = field(default_factory=Tapping)
    keep_outputs: bool = True
    columns: Columns = field(default_factory=Columns)
    thresholds: Thresholds | None = None

    def to_json(self) -> dict[str, Any]:
        """What stands in both files; what only some adapters have is left out of the others."""
        said: dict[str, Any] = {}
        if self.task is not CLASSIFICATION:
            said["task"] = self.task.name
        if not self.keep_outputs:
            said["keep_outputs"] = False
        if self.new_labels:
            said["new_labels"] = list(self.new_labels)
        if self.output_names is not None:
            said["output_names"] = list(self.output_names)
        if self.images is not None:
            said[self.images.key] = self.images.to_json()
        if self.columns != Columns():
            said["columns"] = self.columns.to_json()
        if self.thresholds is not None:
            said["thresholds"] = self.thresholds.to_json()
        return said | self.tapping.to_json()

    @classmethod
    def from_json(cls, file: Path, entries: Mapping[str, Any]) -> AdapterConfig:
        """What :func:`adapter_files` wrote.

        Raises:
            ModelError: it is damaged.
        """
        try:
            names, least = entries.get("output_names"), entries.get("thresholds")
            return cls(
                METHODS[str(entries["method"])].name,
                int(entries["rank"]),
                str(entries["base_fingerprint"]),
                TASKS[str(entries.get("task", CLASSIFICATION.name))],
                _labels(entries.get("new_labels", [])),
                None if names is None else tuple(map(str, names)),
                media_in(entries),
                Tapping.from_json(entries),
                _truth(entries.get("keep_outputs", True)),
                Columns.from_json(entries.get("columns")),
                None if least is None else Thresholds.from_json(least),
            )
        except (
            KeyError, AttributeError, TypeError, ValueError, OverflowError, ParameterError,
        ) as error:  # fmt: skip
            raise ModelError(
                f"{file}: its description is damaged ({error}), expected it as adapt wrote it: "
                "adapt again"
            ) from error


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("keep_outputs")
    return value


def _labels(listed: Any) -> NewLabels:
    kinds = {type(label) for label in listed} if isinstance(listed, list) else {None}
    if kinds - {int} and kinds - {str}:
        raise ValueError("new_labels")
    return tuple(listed)


def adapter_files(about: AdapterConfig, tensors: Tensors, **facts: Any) -> dict[str, bytes]:
    """Both files by name; ``facts`` join the description for who lacks the model."""
    entries = about.to_json()
    identity = {
        "kind": KIND,
        "version": 1,
        "method": about.method,
        "rank": about.rank,
        "base_fingerprint": about.base_fingerprint,
        **entries,
    }
    config = {
        "peft_type": _PEFT_TYPE,
        "revision": about.base_fingerprint,
        "method": about.method,
        "r": about.rank,
        "target_modules": sorted({name.rpartition(".")[0] for name in tensors if "." in name}),
        **facts,
        **entries,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    return {TENSORS_FILE: to_bytes(tensors, identity), CONFIG_FILE: text.encode()}


def read_unchanged(folder: Path, read: Callable[[], Result]) -> Result:
    """What ``read`` gives, called again where somebody replaced ``folder`` meanwhile.

    A folder that a killed run moved away is put back first.

    Raises:
        FileError: it was replaced each time.
    """
    for _ in range(_TRIES):
        with ExitStack() as stack:
            opened = _open_folder(folder)
            if opened is None:  # a file, nothing, or without permission: for ``read`` to say
                return read()
            stack.callback(opened.close)
            try:
                result = read()
            except Skip2LoraError:
                if opened.is_still(folder):
                    raise
            else:
                if opened.is_still(folder):
                    return result
    raise FileError(f"{folder} is being replaced all the time, expected it to last: try again")


def _open_folder(folder: Path) -> Opened | None:
    for attempt in range(_TRIES):
        try:
            return Opened(folder)
        except FileNotFoundError:
            place = resolved(folder)
            if isinstance(place, int) or not (sweep(place) or attempt < 3):
                return None
            time.sleep(1e-3)  # seconds, between the two renames of another process
        except OSError:
            return None
    return None


def read_adapter(path: str | os.PathLike[str]) -> tuple[AdapterConfig, Tensors]:
    """What :func:`adapter_files` wrote; both files of one adapter where another replaces it.

    Raises:
        FileError: no such folder.
        ModelError: damaged, or not an adapter.
    """
    folder = Path(path)
    return read_unchanged(folder, lambda: _read_adapter(folder))


def _read_adapter(folder: Path) -> tuple[AdapterConfig, Tensors]:
    if not (folder / TENSORS_FILE).is_file() or not (folder / CONFIG_FILE).is_file():
        raise FileError(
            f"{folder} is not an adapter folder, expected {TENSORS_FILE} and {CONFIG_FILE} in it: "
            "make one with `skip2lora adapt`"
        )
    tensors, metadata = read_tensors(folder / TENSORS_FILE, kind=KIND)
    config = _read_config(folder / CONFIG_FILE)
    about = AdapterConfig.from_json(folder, metadata)
    in_config = {name: config.get(name) for name in ("method", "r", "revision")}
    in_tensors = {"method": about.method, "r": about.rank, "revision": about.base_fingerprint}
    for name in _OPTIONAL:
        in_config[name], in_tensors[name] = config.get(name), metadata.get(name)
    if in_config != in_tensors:
        raise ModelError(
            f"{folder} holds no whole adapter, expected one, as {CONFIG_FILE} and {TENSORS_FILE} "
            "disagree: copy both again"
        )
    return about, tensors


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether it is the folder of an adapter, as far as its files' names tell."""
    folder = Path(path)
    return read_unchanged(folder, lambda: is_folder(folder) and (folder / CONFIG_FILE).is_file())


def model_beside(path: str | os.PathLike[str]) -> Path | None:
    """The file of the model that the adapter in the folder ``path`` was made for, by its name.

    It is looked for beside the folder, then in the working directory; None where it is not there.
    """
    folder = Path(path)
    config = read_unchanged(folder, lambda: _read_config(folder / CONFIG_FILE))
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or Path(name).name != name:
        return None
    places = (Path(path).absolute().parent / name, Path(name))
    return next((file for file in places if file.is_file()), None)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an adapter folder says of itself: method, rank, base_fingerprint, parameters, task.

    Raises:
        FileError: no such folder.
        ModelError: damaged, or not an adapter.
    """
    about, tensors = read_adapter(path)
    return {
        "method": about.method,
        "rank": about.rank,
        "base_fingerprint": about.base_fingerprint,
        "trainable_parameters": sum(
            a.size for n, a in tensors.items() if "lora" in n or n == "bias"
        ),
        "task": about.task.name,
        **about.to_json(),
        "tensors": {name: list(array.shape) for name, array in sorted(tensors.items())},
    }


def _read_config(file: Path) -> dict[str, Any]:
    check_file(file, "the description of an adapter")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} is damaged ({error}), it is not JSON as expected: copy the folder again"
        ) from error
    if not isinstance(config, dict) or config.get("peft_type") != _PEFT_TYPE:
        raise ModelError(
            f"{file} is no adapter of skip2lora, expected peft_type {_PEFT_TYPE}: check the path"
        )
    return config
