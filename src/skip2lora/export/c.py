"""``export --to c``: a folder of C that adapts on the device, for gcc, CMake and Arduino."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora import _core
from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.projected import KINDS, Projections
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.arrays import SamplesLike, choice, real, whole
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOGITS, derived_taps
from skip2lora.backbones.recipe import PAPER
from skip2lora.errors import ModelError, ParameterError
from skip2lora.export.c_blob import WEIGHTS, Network
from skip2lora.export.c_folder import ROWS, WHEN_FULL, About, Settings, files_of, names_of
from skip2lora.export.c_network import network_of
from skip2lora.files import check_output, write_files
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import CLASSIFICATION, Outputs
from skip2lora.training.lab_set import LabSet
from skip2lora.training.loop import checked
from skip2lora.training.projection import FirstPart

_CAPACITY, _BATCH_SIZE = 512, 20
# Of taps and logits, which scalar kernels round otherwise than those of this machine; and of int8
# weights.
_NEAR, _ALIKE = 1e-4, 0.9


@dataclass(frozen=True)
class Exported:
    """What was written: the files, bytes of flash for the network, and of RAM for all else.

    ``choices`` are the bytes of RAM by how rows are kept, with as many samples. ``agreement`` is
    the share of samples compared that have the class the model gives, None where none could be.
    """

    files: tuple[str, ...]
    model_bytes: int
    arena_bytes: int
    choices: Mapping[str, int]
    agreement: float | None


def export_c(
    model: Backbone | AdaptedModel,
    out: str | os.PathLike[str],
    *,
    samples: SamplesLike | LabSet | None = None,
    answers: ArrayLike | None = None,
    blob: bool = False,
    taps_only: bool = False,
    weights: str = "float32",
    cache_dtype: str = "float32",
    capacity: int = _CAPACITY,
    when_full: str = "refuse",
    projection: int | None = None,
    projection_from: str | None = None,
    rank: int | None = None,
    epochs: int = PAPER.epochs,
    batch_size: int = _BATCH_SIZE,
    learning_rate: float = PAPER.learning_rate,
    seed: int = 0,
    force: bool = False,
) -> Exported:
    """Write a folder of C99 that learns on a device from ``model``; with adapters it begins there.

    It holds the sources of the core that are needed, the network as an array in flash (with
    ``blob`` as the file ``model.bin``), a small interface (``skip2_device.h``), a Makefile, a CMake
    file, an Arduino library with a sketch, and an example that reads rows from standard input. All
    memory is one array whose size is known at export.

    The device keeps ``capacity`` samples, as ``cache_dtype`` (float32, float16 or int8), and
    with one more does what ``when_full`` says: refuse, or overwrite the oldest. ``projection``
    keeps so many numbers of each tap, found here from ``samples``, (samples, features), and, by
    ``projection_from`` pls, their ``answers``, or from a lab set. ``weights`` of the network are
    float32 or int8, with a scale an output. ``taps_only`` leaves the network out: the firmware's
    own runtime computes taps and base logits, and hands them over. ``rank``, ``epochs`` (of the
    example), ``batch_size``, ``learning_rate`` and ``seed`` are those of training by SGD, as of
    :func:`skip2lora.adapt` with ``recipe="paper"``, whose result the device has.

    Thresholds that an adapter keeps are written into ``README.md`` and ``s2_config.h``: the device
    gives logits, whatever they are.

    Unless the network is left out, the taps and logits that C makes of ``samples``, or of random
    ones, are compared with what ``model`` gives before anything is written.

    Raises:
        DataError: samples or answers that do not fit the model.
        FileError: ``out`` exists and ``force`` is not set, or holds something else, or the system
            refused.
        ModelError: C lacks a layer of the model, the model learns no classes, or logits differ.
        ParameterError: an option out of range, or a projection without samples.
    """
    backbone = model.backbone if isinstance(model, AdaptedModel) else model
    network = network_of(model, taps_only=taps_only)
    settings = Settings(
        capacity=whole("capacity", capacity, 1, 1 << 24),
        rows=choice("cache_dtype", cache_dtype, tuple(ROWS)),
        when_full=choice("when_full", when_full, tuple(WHEN_FULL)),
        rank=_rank(network, rank, projection),
        bias=network.start is not None and network.start.bias is not None,
        epochs=whole("epochs", epochs, 1, 1 << 24),
        batch_size=whole("batch_size", batch_size, 1, 1 << 16),
        learning_rate=real(
            "learning_rate", learning_rate, 1e-30, 3e38, "above 0 (1e-30 to 3e38)"
        ),
        seed=whole("seed", seed, 0, (1 << 64) - 1),
    )  # fmt: skip
    choice("weights", weights, WEIGHTS)
    target = check_output(out, force=force, names=names_of())
    lab = samples if isinstance(samples, LabSet) else None
    given = None if samples is None or lab is not None else checked(backbone, samples)
    if projection is not None or projection_from is not None:
        first = lab if lab is not None else given
        projections = _projections(
            backbone, network, first, answers, projection, projection_from, seed
        )
        network = replace(network, projections=projections)
    content = network.to_bytes(weights=weights)
    agreement = None if taps_only else _compare(model, network, content, given, weights, seed)
    choices = _choices(network, weights, settings)
    thresholds = model.thresholds
    least = None if thresholds is None else thresholds.least(CLASSIFICATION).tolist()
    about = About.of(backbone, network, weights, _titles(model, network), least)
    files = files_of(content, network, settings, about, choices, blob=blob)
    write_files(target, files, names=names_of())
    return Exported(tuple(sorted(files)), len(content), choices[settings.rows], choices, agreement)


def _rank(network: Network, rank: int | None, projection: int | None) -> int:
    """That of the adapters to begin with, or what is asked for, or the paper's."""
    start = network.start
    if start is not None:
        if rank not in (None, start.rank):
            raise ParameterError(
                f"rank is {rank}, the adapters have {start.rank}, expected the same: leave rank out"
            )
        return start.rank
    widest = max(network.tap_widths)
    widest = widest if projection is None else max(1, min(widest, projection))
    default = min(PAPER.rank, widest)
    return whole("rank", default if rank is None else rank, 1, widest, "the widest tap")


def _projections(
    backbone: Backbone,
    network: Network,
    samples: Any,
    answers: ArrayLike | None,
    rank: int | None,
    kind: str | None,
    seed: int,
) -> Projections:
    """A of each tap that is wider, found from samples of the lab."""
    if rank is None:
        raise ParameterError(
            f"projection_from is {kind} without a projection, expected both: set projection, or "
            "leave projection_from out"
        )
    whole("projection", rank, 1, max(1, max(network.tap_widths) - 1), "less than the widest tap")
    if network.start is not None:
        raise ParameterError(
            f"projection is {rank} beside adapters of whole taps, expected one of them: leave "
            "projection out, or export the model without an adapter"
        )
    if samples is None:
        raise ParameterError(
            f"projection is {rank} without samples, expected some of the lab to find it from: pass "
            "samples="
        )
    lab = samples if isinstance(samples, LabSet) else None
    usual = "pca" if answers is None and lab is None else "pls"
    kind = choice("projection_from", kind or usual, KINDS)
    y: NDArray[Any] = np.zeros(len(samples), np.int32)
    cache = SkipCache.of(RowFormat.of(backbone, copy_input=True), len(samples))
    if lab is not None:
        y, cache.floats[:] = lab.answers, lab.rows_for(backbone)[1]
    else:
        cache.fill(backbone, samples)
    if answers is not None:
        outputs = Outputs.of(backbone, CLASSIFICATION)
        y = encode(CLASSIFICATION, answers, len(samples), outputs).y
    elif kind == "pls" and lab is None:
        raise ParameterError(
            "projection_from is pls without answers, expected those of the samples: pass answers, "
            "or projection_from='pca'"
        )
    return FirstPart(cache, y, None).projections(rank, kind, CLASSIFICATION, seed)


def _compare(
    model: Backbone | AdaptedModel,
    network: Network,
    content: bytes,
    samples: Any,
    weights: str,
    seed: int,
) -> float:
    """The share of samples that have the same class here and there.

    Raises:
        ModelError: logits differ by more than rounding explains, or int8 weights change classes.
    """
    x = samples
    if x is None:
        random = np.random.Generator(np.random.PCG64(seed))
        x = random.standard_normal((64, network.n_features), dtype=np.float32)
    x = np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
    if weights == "float32":
        _compare_taps(model, network, x)
    rank = 1 if network.start is None else 0
    device = _core.Device(content, 1, 0, rank, False, 1, 0.01, seed, "scalar")
    logits, expected = np.empty((len(x), network.n_outputs), np.float32), model.logits(x)
    device.predict(x, logits)
    alike = float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean())
    off = float(np.abs(logits - expected).max() / max(np.abs(expected).max(), 1e-30))
    if (weights == "float32" and off > _NEAR) or alike < _ALIKE:
        raise ModelError(
            f"C gives logits that differ by {off:.2g} of the largest, and {100 * alike:.0f} % of "
            "the same classes, expected those of the model: export with weights='float32', or the "
            "taps alone with taps_only=True"
        )
    return alike


def _compare_taps(model: Backbone | AdaptedModel, network: Network, x: Any) -> None:
    """That taps in C are those of the model, of which the adapters in C are, or will be.

    Raises:
        ModelError: one differs by more than rounding explains.
    """
    backbone = model.backbone if isinstance(model, AdaptedModel) else model
    bare = replace(network, projections=(), start=None)
    device = _core.Device(bare.to_bytes(), 1, 0, 1, False, 1, 0.01, 0, "scalar")
    rows = np.empty((len(x), sum(network.tap_widths) + network.n_outputs), np.float32)
    device.rows(x, rows)
    logits = [place for place, of in enumerate(derived_taps(backbone)) if of.kind == LOGITS]
    given = backbone.forward(backbone.check(x)).taps
    taps = [tap for place, tap in enumerate(given) if place not in logits]
    ends = np.cumsum(network.tap_widths)
    own = np.split(rows, ends, axis=1)[: len(ends)]
    for number, (tap, got) in enumerate(zip(taps[-len(own) :], own, strict=True)):
        off = float(np.abs(got - tap).max() / max(np.abs(tap).max(), 1e-30))
        if not off <= _NEAR:
            raise ModelError(
                f"C gives a tap {number} that differs by {off:.2g} of its largest number, expected "
                "that of the model: export the taps alone with taps_only=True"
            )


def _choices(network: Network, weights: str, settings: Settings) -> dict[str, int]:
    """Bytes of the arena by how rows are kept."""
    content = network.to_bytes(weights=weights)
    rank = 0 if network.start is not None else settings.rank
    return {
        rows: _core.Device(
            content, settings.capacity, number, rank, settings.bias, settings.batch_size,
            settings.learning_rate, settings.seed, "scalar",
        ).arena_bytes
        for rows, number in ROWS.items()
    }  # fmt: skip


def _titles(model: Backbone | AdaptedModel, network: Network) -> tuple[str, ...]:
    """What the classes are called."""
    titles = Outputs.of(model, CLASSIFICATION).titles
    if isinstance(model, AdaptedModel) and len(titles) < network.n_outputs:
        titles += tuple(map(str, model.new_labels))
    numbers = tuple(map(str, range(network.n_outputs)))
    return titles if len(titles) == network.n_outputs else numbers
