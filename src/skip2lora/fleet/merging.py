"""The weighted mean of adapters of one model, as one adapter.

What is averaged is what adapters add to the logits: of each tap the product ``lora_a . lora_b``,
not the two matrices, whose mean would be another product (McMahan et al., 2017, average the
matrices of one common start; adapters that were learned apart have none).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import RESULT_FILES
from skip2lora.adapters.folder import TENSORS_FILE, AdapterConfig, adapter_files, read_adapter
from skip2lora.arrays import listing
from skip2lora.backbones.derived import DerivedTap
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.errors import ModelError, ParameterError
from skip2lora.files import Tensors, check_output, write_files
from skip2lora.methods import METHODS

MOST_TAPS = 64
#: A tap of the model, by its place among these, or one that is derived.
_Tap = int | DerivedTap
_Product = NDArray[np.float64]
_Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Merged:
    """What was written: of ``n_adapters``, with ``weights`` that add up to 1.

    ``lost`` is the share of the squares of what the mean adds that ``rank`` does not hold, over all
    taps: 0 where there are as many outputs as ranks, or fewer.
    """

    n_adapters: int
    weights: tuple[float, ...]
    rank: int
    n_outputs: int
    n_taps: int
    trainable_parameters: int
    lost: float


@dataclass(frozen=True, eq=False)
class _Adapter:
    """What one adapter adds: of each tap the product, (width, n_outputs), and the bias.

    ``others`` are tensors beside these, such as statistics of batch normalisation.
    """

    path: Path
    about: AdapterConfig
    products: Mapping[_Tap, _Product]
    bias: NDArray[np.float64] | None
    others: Tensors


def merge(
    adapters: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    rank: int | None = None,
) -> Merged:
    """Write the mean of adapter folders of one model as the adapter folder ``out``.

    ``weights`` say how much each counts, such as how many samples it has learned from; by default
    all the same. ``rank`` is that of the result, by default the largest there is: each tap's mean
    product keeps its greatest singular values (Eckart and Young, 1936), all of them where there
    are no more outputs than ranks. Logarithms and powers of the sample that only some adapters read
    count for these alone. Thresholds were chosen on answers of one adapter: the result has none.

    Raises:
        ParameterError: fewer than two adapters, weights that are not positive or not one each, a
            rank below 1, or too many taps that differ.
        ModelError: adapters of other models, methods, classes, columns or layers.
        FileError: a folder cannot be read, or ``out`` not be written.
    """
    if len(adapters) < 2:
        raise ParameterError(
            f"adapters are {len(adapters)}, expected two or more to merge: name them all"
        )
    if rank is not None and rank < 1:
        raise ParameterError(f"rank is {rank}, expected 1 or more: leave it out")
    shares = _shares(weights, len(adapters))
    target = check_output(out, force=True, names=RESULT_FILES)
    each = [_read(Path(path)) for path in adapters]
    first = each[0]
    for other in each[1:]:
        _check_alike(first, other)
    taps, derived = _all_taps(each)
    means = {tap: _mean(each, shares, tap) for tap in taps}
    biases = [(share, of.bias) for of, share in zip(each, shares, strict=True)]
    with_bias = [share * bias for share, bias in biases if bias is not None]  # without: of zeros
    bias = np.asarray(sum(with_bias), np.float32) if with_bias else None
    n_outputs = means[taps[0]].shape[1]
    rank = min(n_outputs, max(of.about.rank for of in each) if rank is None else rank)
    pairs = {tap: factors(mean, rank) for tap, mean in means.items()}
    tensors = _tensors(first, derived, pairs, bias)
    tapping = replace(first.about.tapping, derived=derived)
    about = replace(first.about, rank=rank, tapping=tapping, thresholds=None)  # are of one alone
    config = json.loads((first.path / CONFIG_FILE).read_bytes())
    files = adapter_files(
        about, tensors, n_outputs=n_outputs, tap_widths=[len(means[tap]) for tap in taps],
        base_model_name_or_path=config.get("base_model_name_or_path"),
    )  # fmt: skip
    write_files(target, files, names=RESULT_FILES)
    numbers = sum(a.size for name, a in tensors.items() if "lora" in name or name == "bias")
    return Merged(
        len(each), tuple(shares), rank, n_outputs, len(taps), numbers, _lost(means, pairs)
    )


def _lost(means: Mapping[_Tap, _Product], pairs: Mapping[_Tap, _Pair]) -> float:
    """The share of the squares of all products that is not in the pairs; 0 but for rounding."""
    squares = sum(float(np.square(mean).sum()) for mean in means.values())
    lost = sum(float(np.square(means[tap] - a @ b).sum()) for tap, (a, b) in pairs.items())
    return lost / squares if squares > 0 else 0.0


def factors(product: _Product, rank: int) -> _Pair:
    """``lora_a``, (width, rank), and ``lora_b``, (rank, n_outputs), nearest to their product.

    With as many ranks as outputs that is the product itself and the identity: nothing is rounded
    but to float32.
    """
    width, n_outputs = product.shape
    if rank >= n_outputs:
        return product.astype(np.float32), np.eye(n_outputs, dtype=np.float32)
    left, sizes, right = np.linalg.svd(product, full_matrices=False)
    roots = np.sqrt(sizes[:rank])
    lora_a, lora_b = np.zeros((width, rank)), np.zeros((rank, n_outputs))
    lora_a[:, : len(roots)] = left[:, :rank] * roots
    lora_b[: len(roots)] = roots[:, None] * right[:rank]
    return lora_a.astype(np.float32), lora_b.astype(np.float32)


def _shares(weights: Sequence[float] | None, n_adapters: int) -> list[float]:
    """Weights that add up to 1."""
    if weights is None:
        return [1 / n_adapters] * n_adapters
    sizes = [float(weight) for weight in weights]
    if len(sizes) != n_adapters or not all(math.isfinite(of) and of > 0 for of in sizes):
        shown = listing([f"{of:g}" for of in sizes])
        raise ParameterError(
            f"weights are {shown}, expected {n_adapters} positive numbers, one an adapter: "
            "correct them"
        )
    total = math.fsum(sizes)
    return [of / total for of in sizes]


def _read(path: Path) -> _Adapter:
    about, tensors = read_adapter(path)
    if not METHODS[about.method].skip:
        raise ModelError(
            f"{path} is of {about.method}, expected adapters from taps to the last output alone, "
            "whose products have a mean: adapt again"
        )
    bias = tensors.pop("bias", None)
    names = sorted(int(name.split(".")[1]) for name in tensors if name.endswith(".lora_a"))
    derived = about.tapping.derived
    products: dict[_Tap, _Product] = {}
    for number in names:
        a, b = (tensors.pop(f"taps.{number}.lora_{part}", np.zeros(0)) for part in "ab")
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            raise ModelError(
                f"{path / TENSORS_FILE}: taps.{number} has lora_a {a.shape} and lora_b {b.shape}, "
                "expected matrices that have a product: copy the folder again"
            )
        tap = derived[number] if number < len(derived) else number - len(derived)
        products[tap] = a.astype(np.float64) @ b.astype(np.float64)
    if not products:
        raise ModelError(f"{path} has no adapters of taps, expected some: adapt again")
    return _Adapter(path, about, products, None if bias is None else bias.astype(float), tensors)


def _check_alike(one: _Adapter, other: _Adapter) -> None:
    """Raise ModelError, with what differs, where products cannot be averaged."""
    facts, others = _facts(one), _facts(other)
    apart = [name for name in facts if facts[name] != others[name]]
    statistics = {n: a.tobytes() for n, a in one.others.items()}
    if not apart and statistics != {n: a.tobytes() for n, a in other.others.items()}:
        apart = ["statistics of batch normalisation in the field"]
    if apart:
        shown = [f"{name} ({facts[name]!s:.40} and {others[name]!s:.40})" if name in facts else name
                 for name in apart]  # fmt: skip
        raise ModelError(
            f"{one.path} and {other.path} differ in {listing(shown)}, expected adapters of one "
            "model that were made alike: adapt again with the same options"
        )


def _facts(of: _Adapter) -> dict[str, Any]:
    """What must be the same, by name."""
    about = of.about
    tapping = replace(about.tapping, derived=())
    of_model = {tap: product.shape for tap, product in of.products.items() if isinstance(tap, int)}
    return {
        "base_fingerprint": about.base_fingerprint,
        "method": about.method,
        "task": about.task.name,
        "keep_outputs": about.keep_outputs,
        "new_labels": about.new_labels,
        "output_names": about.output_names,
        "images": about.images,
        "columns": about.columns,
        "taps": tapping,
        "shapes": of_model,
    }


def _all_taps(each: Sequence[_Adapter]) -> tuple[list[_Tap], tuple[DerivedTap, ...]]:
    """Taps with adapters, and the derived ones among all, each once and before the model's own."""
    derived = tuple(dict.fromkeys(tap for of in each for tap in of.about.tapping.derived))
    products = {tap for of in each for tap in of.products}
    taps: list[_Tap] = [tap for tap in derived if tap in products]
    taps += sorted(tap for tap in products if isinstance(tap, int))
    if len(taps) > MOST_TAPS:
        raise ParameterError(
            f"the adapters read {len(derived)} logarithms or powers of the sample that differ, "
            f"expected at most {MOST_TAPS} taps in all: adapt with recipe='paper'"
        )
    return taps, derived


def _mean(each: Sequence[_Adapter], shares: Sequence[float], tap: _Tap) -> _Product:
    """The weighted mean of what all add by a tap, nothing where one does not read it."""
    terms = [
        share * of.products[tap]
        for of, share in zip(each, shares, strict=True)
        if tap in of.products
    ]
    shape = terms[0].shape
    if any(term.shape != shape for term in terms):
        raise ModelError(
            f"{each[0].path} and others have products of other shapes of one tap, expected the "
            "same: adapt again"
        )
    return np.asarray(sum(terms), np.float64)


def _tensors(
    first: _Adapter,
    derived: Sequence[DerivedTap],
    pairs: Mapping[_Tap, _Pair],
    bias: NDArray[np.float32] | None,
) -> Tensors:
    """By their names, which count derived taps first."""
    tensors: Tensors = dict(first.others)
    for tap, (lora_a, lora_b) in pairs.items():
        at = derived.index(tap) if isinstance(tap, DerivedTap) else len(derived) + tap
        tensors[f"taps.{at}.lora_a"], tensors[f"taps.{at}.lora_b"] = lora_a, lora_b
    return tensors if bias is None else {**tensors, "bias": bias}
