"""An option of training is written once: keyword, command line and estimators follow its field."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2
from skip2lora.backbones.recipe import ANY_MODEL, PAPER, Recipe
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor
from skip2lora.training.budget import BOUNDS
from skip2lora.training.options import (
    OPTIONS,
    Options,
    asked_by,
    chosen_recipe,
    n_held_out,
    resolve_options,
)

WIDTHS = (9, 16, 5)
SOURCES = Path(s2.__file__).parent
# What an estimator does not have: scikit-learn's random_state stands for the seed, rows are always
# kept for partial_fit, and the step is that of its own defaults.
NOT_OF_ESTIMATORS = {"seed", "cache", *BOUNDS, "weight_decay", "schedule"}


def defaults(call: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(call).parameters
    return {name: of.default for name, of in parameters.items() if name in OPTIONS}


def resolved(of: Recipe = PAPER, /, n_samples: int = 50, **asked: Any) -> Options:
    return resolve_options(of, WIDTHS, n_samples, **asked)


def test_every_field_is_documented() -> None:
    assert list(OPTIONS) == [field.name for field in dataclasses.fields(Options)]
    for name, option in OPTIONS.items():
        assert option.help.endswith("."), name
        of_recipe = name in {field.name for field in dataclasses.fields(Recipe)}
        given = option.default is not None
        assert [of_recipe, given, bool(option.unset)].count(True) == 1, name


def test_every_field_is_a_keyword_of_adapt_with_its_default() -> None:
    assert defaults(s2.adapt) == {name: option.default for name, option in OPTIONS.items()}
    for name in OPTIONS:
        assert f"``{name}``" in (inspect.getdoc(s2.adapt) or ""), name


@pytest.mark.parametrize("estimator", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_estimators_have_the_options_of_adapt_with_its_defaults(estimator: Any) -> None:
    own = defaults(estimator)
    assert own.keys() == OPTIONS.keys() - NOT_OF_ESTIMATORS
    for name, default in own.items():
        assert default == OPTIONS[name].default, name
        assert getattr(estimator(), name) == default


def test_estimators_train_with_what_they_were_given() -> None:
    x = [[0.0, 1.0], [1.0, 0.0], [0.5, 2.0], [3.0, 1.0]]
    model = Skip2LoRAClassifier(epochs=3, batch_size=2, pretrain_epochs=1, hidden=(4,), rank=1)
    adapted = model.set_params(epochs=5).fit(x, [0, 1, 0, 1]).adapted_
    assert len(adapted.history.loss) == 5
    assert adapted.history.n_batches == 10
    assert adapted.adapters.rank == 1


def test_a_new_option_is_written_in_three_places() -> None:
    """``patience``: the field, adapt and the estimators; elsewhere it is used, not handed on."""
    places = [
        f"{file.relative_to(SOURCES)}: {line.strip()}"
        for file in sorted(SOURCES.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("patience:", "patience="))
    ]
    assert [place.partition(":")[0] for place in places] == [
        "adapt.py", "estimators.py", "training/options.py",
    ]  # fmt: skip


# --- defaults --------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [PAPER, ANY_MODEL])
def test_what_is_not_said_is_of_the_recipe(recipe: Recipe) -> None:
    options = resolved(recipe, solver="steps")
    assert {name: getattr(options, name) for name in vars(recipe)} == vars(recipe)
    assert (options.batch_size, options.weight_decay, options.patience) == (20, 0.0, None)
    assert (options.method, options.schedule, options.recipe) == ("skip2-lora", "constant", None)
    said_nothing = dict.fromkeys(vars(recipe))
    assert resolved(recipe, solver="steps", **said_nothing) == options
    assert resolved(recipe, **said_nothing) == resolved(recipe, recipe="auto")


STEPS_MEANT = {
    "method": "skip2-lora", "rank": 4, "epochs": 50, "batch_size": 20, "learning_rate": 0.001,
    "optimizer": "adam", "weight_decay": 0.0, "schedule": "constant", "patience": 5,
    "cache": True, "standardize": True, "solver": "steps",
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_said_of_steps_means_steps(name: str) -> None:
    """Even at its usual value; what says who judges, and how chance falls, does not."""
    limits = {"cache_samples": 9, "cache_size": 999, "cache_policy": "pin"}
    of_both = {"penalty": 0.1, "recipe": "paper", "seed": 3, "validation": 0.2}
    of_both |= {"projection": 2, "projection_from": "pca"}
    said = STEPS_MEANT | limits | of_both
    said["cache_dtype"] = "int8"
    assert said.keys() == OPTIONS.keys()
    for none in ({}, dict.fromkeys(OPTIONS)):
        chosen = chosen_recipe({**none, name: said[name]})
        if name in ("seed", "validation", "projection", "projection_from", "cache_dtype"):
            assert chosen == "auto"
        else:
            assert chosen == ("paper" if name == "recipe" else None)
    if name in STEPS_MEANT:
        options = resolved(ANY_MODEL, validation=0.2, **{name: said[name]})
        patience = 5 if name == "patience" else None
        meant = STEPS_MEANT | {"validation": 0.2, "patience": patience}
        assert options == resolved(ANY_MODEL, **meant)


def test_what_is_said_is_taken() -> None:
    asked = {
        "method": "skip-lora", "recipe": "paper",
        "rank": 7, "epochs": 3, "batch_size": 4, "learning_rate": 0.5,
        "seed": 9, "optimizer": "adamw", "weight_decay": 0.25, "schedule": "cosine",
        "validation": 0.2, "patience": 2, "cache": True, "standardize": True, "solver": "steps",
        "penalty": None, "cache_samples": 30, "cache_size": None, "cache_policy": "lru",
            "projection": 8, "projection_from": "random",
        "cache_dtype": "float32",
    }  # fmt: skip
    assert asked.keys() == OPTIONS.keys()
    assert vars(resolved(**asked)) == asked


def test_defaults_that_depend() -> None:
    assert resolved(n_samples=7).batch_size == 7
    assert resolved(n_samples=25, validation=0.4, epochs=3).batch_size == 15
    assert resolved(optimizer="adamw").weight_decay == 0.01
    assert [name for name in METHODS if resolved(method=name).cache] == ["skip2-lora"]
    scaled = [name for name in METHODS if resolved(ANY_MODEL, method=name).standardize]
    assert scaled == ["lora-last", "skip-lora", "skip2-lora"]


@pytest.mark.parametrize(
    ("method", "widths", "rank"),
    [
        ("skip2-lora", (2, 9), 4),
        ("skip2-lora", (2, 3), 3),
        ("lora-last", (9, 2), 2),
        ("lora-all", (9, 3), 3),
        ("ft-all", (1, 1), 4),
    ],
)
def test_the_default_rank_fits(method: str, widths: tuple[int, ...], rank: int) -> None:
    assert resolve_options(PAPER, widths, 20, method=method).rank == rank


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"method": "skip3"}, ParameterError, "method 'skip3' is unknown"),
        ({"rank": 17}, ParameterError, "rank is 17, expected a whole number from 1 to 16, the"),
        ({"rank": 6, "method": "lora-all"}, ParameterError, "1 to 5, the smallest width of a"),
        ({"rank": 0, "method": "ft-all"}, ParameterError, "rank is 0, expected a whole number"),
        ({"epochs": 0}, ParameterError, "epochs is 0, expected a whole number from 1"),
        ({"seed": None}, ParameterError, "seed is None, expected a whole number"),
        ({"schedule": "linear"}, ParameterError, "schedule is 'linear', expected one of constant"),
        ({"weight_decay": -1}, ParameterError, "weight_decay is -1, expected a number from 0"),
        ({"validation": 0.95}, ParameterError, "validation is 0.95, expected a number from 0 to"),
        (
            {"patience": 3},
            ParameterError,
            "patience is 3 without validation, expected both: set validation",
        ),
        ({"cache": True, "method": "lora-all"}, ParameterError, "cache is on, but lora-all"),
        ({"validation": 0.001}, DataError, "validation 0.001 holds out 0 of them"),
    ],
    ids=str,
)
def test_out_of_range(
    asked: dict[str, Any], error: type[Exception], said: str, refused: Callable[..., str]
) -> None:
    assert said in refused(error, resolved, **asked)


def test_the_exact_solver_takes_any_rank_on_scaled_taps() -> None:
    options = resolved(solver="exact")
    assert (options.solver, options.rank, options.penalty) == ("exact", 16, None)
    assert (options.standardize, options.cache) == (True, True)
    last = resolved(solver="exact", method="lora-last", penalty=0.5, rank=2)
    assert (last.rank, last.penalty, last.cache) == (2, 0.5, True)


#: The smallest and the largest number that each may be, as help and documentation say it.
RANGES: dict[str, tuple[Any, Any]] = {
    "epochs": (1, None), "seed": (0, (1 << 64) - 1), "patience": (1, None),
    "cache_samples": (0, None), "projection": (1, None), "learning_rate": (1e-30, 3e38),
    "weight_decay": (0.0, 3e38), "validation": (0.0, 0.9), "penalty": (0.0, 3e38),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_each_number_may_be_what_its_range_says(name: str, refused: Callable[..., str]) -> None:
    option, (low, high) = OPTIONS[name], RANGES[name]
    below = low - 1 if option.kind is int else low * (1 - 1e-6) - 1e-36
    values = [(low, below)] if high is None else [(low, below), (high, high * 1.001 + 1)]
    for value, beyond in values:
        assert option.checked(name, value) == value
        assert f"{name} is " in refused(ParameterError, option.checked, name, beyond)
    others = {name for name, of in OPTIONS.items() if of.kind in (int, float) and not of.sized}
    assert others == RANGES.keys()


@pytest.mark.parametrize(
    ("estimator", "recipe", "solver"),
    [
        ({}, "auto", None), ({"solver": "exact"}, None, "exact"), ({"rank": 2}, None, "steps"),
        ({"model": None}, None, "steps"), ({"model": None, "recipe": "paper"}, "paper", "steps"),
        ({"recipe": "auto"}, "auto", None), ({"model": None, "solver": "exact"}, None, "exact"),
    ],
)  # fmt: skip
def test_what_an_estimator_asks_for(
    estimator: dict[str, Any], recipe: str | None, solver: str | None
) -> None:
    """Without a model by steps, as its network has learned what would be held out."""
    asked = asked_by({**dict.fromkeys(OPTIONS), "model": "a model", **estimator})
    assert (asked["recipe"], asked["solver"]) == (recipe, solver)


@pytest.mark.parametrize(("n_samples", "share", "n_held"), [(2, 0.3, 1), (10, 0.9, 9)])
def test_one_sample_is_enough_on_either_side(n_samples: int, share: float, n_held: int) -> None:
    assert n_held_out(n_samples, share) == n_held
    assert resolved(n_samples=n_samples, validation=share).batch_size == n_samples - n_held
    for method, least in (("ft-all", 2), ("skip2-lora", 1)):
        assert resolved(n_samples=least, method=method).batch_size == least


def test_too_few_for_the_statistics_of_a_batch(refused: Callable[..., str]) -> None:
    said = refused(DataError, resolved, n_samples=1, method="ft-all")
    assert "got 1 sample, ft-all needs at least 2 for the statistics of a batch" in said
    said = refused(ParameterError, resolved, n_samples=5, method="ft-all", batch_size=6)
    assert "batch_size is 6, expected 2 to 5, the number of samples" in said
    said = refused(ParameterError, resolved, n_samples=5, method="ft-all", batch_size=1)
    assert "batch_size is 1, expected a whole number from 2" in said


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.4] * 4), ("cosine", [0.4, 0.341421, 0.2, 0.058579])],
)
def test_the_rate_of_each_epoch(schedule: str, rates: list[float]) -> None:
    options = resolved(epochs=4, learning_rate=0.4, schedule=schedule)
    assert [options.rate(epoch) for epoch in range(4)] == pytest.approx(rates, abs=1e-6)
