"""Training on rows that were computed before, and samples of two domains held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.methods import METHODS
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import stratified_split, train, train_on_rows
from skip2lora.training.options import resolve_options
from skip2lora.training.skip_job import SkipJob

WIDTHS = [9, 16, 5, 3]


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["skip2-lora", "skip-lora", "lora-last"])
def test_the_same_bits_as_from_samples(
    backbone: Any, make_samples: Any, method: str, standardize: bool
) -> None:
    x, y = make_samples(300, 9)  # more than are computed at once
    given = {"standardize": standardize, "validation": 0.25, "epochs": 4, "learning_rate": 0.01}
    options = resolve_options(ANY_MODEL, backbone.tap_widths, 300, method=method, **given)
    part = CheckedSamples(x, y.astype(np.int32))
    expected = train(backbone, part, options).adapters.tensors()
    first_tap = range(3)[METHODS[method].adapted].start
    cache = SkipCache.of(RowFormat.of(backbone, first_tap, copy_input=True), 300)
    cache.fill(backbone, x[:100])
    cache.fill(backbone, x[100:], 100)
    rows = cache.rows.copy()
    done = train_on_rows(cache, CheckedSamples(cache.rows, part.y), options)
    assert done.adapters.tensors().keys() == expected.keys()
    for name, array in done.adapters.tensors().items():
        assert array.tobytes() == expected[name].tobytes(), name
    np.testing.assert_array_equal(cache.rows, rows)
    assert cache.filled.all()


STEPS, EXACT = {"standardize": False}, {"solver": "exact", "penalty": 0.01}


@pytest.mark.parametrize(
    ("given", "copied"),
    [
        (STEPS, False), ({"standardize": True}, True), (STEPS | {"cache": False}, True),
        (STEPS | {"cache_samples": 30}, True), (EXACT, False), (EXACT | {"validation": 0.2}, True),
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_stay_as_they_are_are_not_copied(
    given: dict[str, Any], copied: bool, backbone: Any, make_samples: Any
) -> None:
    """Those that training scales, or keeps a part of, are; the result is the same."""
    x, y = make_samples(60, 9)
    options = resolve_options(ANY_MODEL, backbone.tap_widths, 60, **given)
    row_format = RowFormat.of(backbone, copy_input=True)
    rows = row_format.empty(60)
    row_format.compute(backbone, x, rows)
    before, tensors = rows.copy(), []
    known = KnownRows(row_format.tap_widths, row_format.n_outputs, row_format.layout)
    part, held = stratified_split(CheckedSamples(rows, y.astype(np.int32)), options)
    elsewhere = np.empty(part.x.size + 1, np.float32)[1:].reshape(part.x.shape)  # not aligned
    elsewhere[:] = part.x
    for table in (part.x, elsewhere):
        job = {"exact": ExactJob, "steps": SkipJob}[options.solver](
            known, replace(part, x=table), options, held=held
        )
        if isinstance(job, ExactJob):
            list(job.path())
            tensors.append(job.result()[0].tensors())
        else:
            job.epoch(0.01)
            tensors.append(job.result().tensors())
        assert np.shares_memory(job.cache.rows, table) == (table is rows and not copied)
    for name, array in tensors[0].items():
        assert tensors[1][name].tobytes() == array.tobytes()
    np.testing.assert_array_equal(rows, before)


def test_each_domain_has_its_share_held_out() -> None:
    x, y = np.arange(80, dtype=np.float32)[:, None], np.arange(80, dtype=np.int32) % 2
    old = np.arange(80) >= 72
    options = resolve_options(ANY_MODEL, WIDTHS[:-1], 80, validation=0.25)
    training, held = stratified_split(CheckedSamples(x, y, old=old), options)
    assert held is not None
    for part, n_new, n_old in ((training, 54, 6), (held, 18, 2)):
        np.testing.assert_array_equal(part.old, part.x[:, 0] >= 72)
        for domain, count in ((~part.old, n_new), (part.old, n_old)):
            assert np.bincount(part.y[domain]).tolist() == [count // 2] * 2
