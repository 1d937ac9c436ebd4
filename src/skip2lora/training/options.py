"""What a training run is: one field an option, documented, defaulted and checked here alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from skip2lora import _core
from skip2lora.adapters.coded import DTYPES
from skip2lora.adapters.projected import KINDS, projected_widths
from skip2lora.adapters.rows import POLICIES
from skip2lora.arrays import choice, real, size, whole
from skip2lora.backbones.recipe import PAPER, Recipe
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import METHODS, Method
from skip2lora.training.budget import BOUNDS, check_cache

DEFAULT_BATCH_SIZE = 20


@dataclass(frozen=True)
class Optimizer:
    """One row of numbers for the rule that the core executes; ``beta1`` is the momentum."""

    rule: int
    beta1: float = 0.0
    beta2: float = 0.0
    decoupled: bool = False
    weight_decay: float = 0.0


#: The defaults of PyTorch, but for momentum, which has none there.
OPTIMIZERS = {
    "sgd": Optimizer(_core.SGD),
    "momentum": Optimizer(_core.MOMENTUM, beta1=0.9),
    "adam": Optimizer(_core.ADAM, beta1=0.9, beta2=0.999),
    "adamw": Optimizer(_core.ADAM, beta1=0.9, beta2=0.999, decoupled=True, weight_decay=0.01),
}
_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option as a person meets it.

    ``default`` None is the recipe's where a recipe has that field, else what ``unset`` says.
    Numbers are from ``low`` to ``high``, which ``limits`` says of real ones; of the kind ``bytes``
    they may be words such as 64KiB. Words are one of ``choices``. The range of what is ``sized``
    depends on the model and the samples.
    """

    help: str
    kind: type = int
    default: Any = None
    unset: str = ""
    low: float = 1
    high: float | None = None
    limits: str = ""
    choices: tuple[str, ...] = ()
    sized: bool = False

    def checked(self, name: str, value: Any) -> Any:
        """``value`` if it may be in range, or None for the default; else ParameterError."""
        if self.sized or (value is None and self.default is None):
            return value
        if self.kind is bool:
            return bool(value)
        if self.choices:
            return choice(name, self.default if value is None else value, self.choices)
        high = self.high
        if self.kind is bytes:
            return size(name, value)
        if self.kind is float:
            return real(name, value, self.low, math.inf if high is None else high, self.limits)
        return whole(name, value, int(self.low), None if high is None else int(high))


def _option(help_text: str, **of: Any) -> Any:
    return field(metadata={"option": Option(help=help_text, **of)})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training run is; :func:`resolve_options` makes it.

    A new option is a field here, a keyword of :func:`~skip2lora.adapt` and one of the estimators.
    """

    method: str = _option(
        "One of the paper's methods, by steps.", kind=str, unset="skip2-lora",
        choices=tuple(METHODS),
    )  # fmt: skip
    recipe: str | None = _option(
        "All chosen by samples held out, or what the paper says.", kind=str,
        unset="auto where nothing is set that it chooses", choices=("auto", "paper"),
    )  # fmt: skip
    rank: int = _option("Rank of each adapter, if any.", sized=True)
    epochs: int = _option("Passes over the data.")
    batch_size: int = _option("Samples a step.", unset="20, or all samples if fewer", sized=True)
    learning_rate: float = _option(
        "Step size.", kind=float, low=1e-30, high=3e38, limits="above 0 (1e-30 to 3e38)"
    )
    seed: int = _option("Seed of all that is random.", default=0, low=0, high=(1 << 64) - 1)
    optimizer: str = _option("Rule of a step.", kind=str, choices=tuple(OPTIMIZERS))
    weight_decay: float = _option(
        "Pull of every number towards 0.", kind=float, unset="0.01 for adamw, else 0",
        low=0.0, high=3e38, limits="from 0",
    )  # fmt: skip
    schedule: str = _option(
        "Course of the learning rate.", kind=str, unset="constant",
        choices=("constant", "cosine"),
    )  # fmt: skip
    validation: float = _option(
        "Share held out to choose by.", kind=float, default=0.0,
        low=0.0, high=0.9, limits="from 0 to 0.9",
    )  # fmt: skip
    patience: int | None = _option(
        "Early stopping: after so many epochs without a better one.", unset="never"
    )
    cache: bool = _option("Skip-Cache.", kind=bool, unset="on for skip2-lora alone")
    cache_samples: int | None = _option(
        "Rows that the Skip-Cache keeps; others are computed each epoch.", low=0, unset="all"
    )
    cache_size: int | None = _option(
        "The same in bytes, with padding and rows held out: 64KiB.", kind=bytes, unset="all"
    )
    cache_policy: str = _option(
        "What makes room in such a cache: nothing, or the row added or used longest ago goes.",
        kind=str, unset="pin", choices=tuple(POLICIES),
    )  # fmt: skip
    projection: int | None = _option(
        "Numbers of each tap that rows keep, found from a first part of the samples.", unset="all"
    )
    projection_from: str = _option(
        "What varies with the answers, what varies, or chance.", kind=str, unset="pls",
        choices=KINDS,
    )  # fmt: skip
    cache_dtype: str = _option(
        "How rows are kept in memory.", kind=str, default="float32", choices=tuple(DTYPES)
    )
    standardize: bool = _option("Train on scaled taps, or features.", kind=bool)
    solver: str = _option(
        "By steps, or exactly: the best that all taps can give.", kind=str,
        unset="as the recipe has it, else steps",
        choices=("steps", "exact"),
    )  # fmt: skip
    penalty: float | None = _option(
        "Of the exact solver, times half the squares of its weights.", kind=float,
        unset="of 1, 0.1 .. 1e-6 what does best on samples held out",
        low=0.0, high=3e38, limits="from 0",
    )  # fmt: skip

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))

    def core_optimizer(self) -> _core.Optimizer:
        """The optimiser as the core takes it."""
        of = OPTIMIZERS[self.optimizer]
        return _core.Optimizer(
            of.rule, of.beta1, of.beta2, _EPS, weight_decay=self.weight_decay,
            decoupled=of.decoupled,
        )  # fmt: skip


#: Every option by its name, in the order in which help shows them.
OPTIONS: dict[str, Option] = {each.name: each.metadata["option"] for each in fields(Options)}


#: Options of training by steps, which the exact solver does not take.
OF_STEPS = (
    "epochs", "batch_size", "learning_rate", "optimizer", "weight_decay", "schedule", "patience",
    "standardize", "cache", *BOUNDS,
)  # fmt: skip
#: What the recipe auto chooses: whoever sets any of it wants something else.
_OF_AUTO = ("rank", "solver", "penalty", *OF_STEPS)


def asked_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the ``arguments`` of a function that are options of training."""
    return {name: value for name, value in arguments.items() if name in OPTIONS}


def method_of(name: str | None) -> Method:
    """The method of that name, by default Skip2-LoRA.

    Raises:
        ParameterError: there is none.
    """
    return METHODS["skip2-lora" if name is None else name]


def chosen_recipe(asked: Mapping[str, Any]) -> str | None:
    """The recipe that is ``asked`` for, else auto, or None where something is set that it chooses.

    Raises:
        ParameterError: there is no such recipe.
    """
    recipe: str | None = OPTIONS["recipe"].checked("recipe", asked.get("recipe"))
    said = any(asked.get(name) is not None for name in ("method", *_OF_AUTO))
    return "auto" if recipe is None and not said else recipe


def by_steps(asked: Mapping[str, Any]) -> bool:
    """Whether training goes by steps, as what is ``asked`` for tells.

    Raises:
        ParameterError: as :func:`resolve_options`.
    """
    exact = chosen_recipe(asked) == "auto" or _is_exact(method_of(asked.get("method")), asked)
    return not exact


def asked_by(estimator: Mapping[str, Any]) -> dict[str, Any]:
    """Options of training that an estimator of such parameters asks for, whatever its rows.

    Without a ``model`` training is by steps where nothing is said: its network has learned the
    samples that are held out.

    Raises:
        ParameterError: the recipe auto with another method than its own, or without a model.
    """
    asked, own = asked_of(estimator), estimator["model"] is None
    if own and asked["recipe"] == "auto":
        raise ParameterError(
            "recipe is auto without a model, expected one that has not seen the samples, as it "
            "chooses by some held out: pass a model, or leave recipe out"
        )
    asked["recipe"] = None if own and asked["recipe"] is None else chosen_recipe(asked)
    if asked["recipe"] == "auto":
        check_auto(method_of(asked["method"]), {})
    elif asked["solver"] is None:
        asked["solver"] = "steps"
    return asked


def resolve_options(
    recipe: Recipe, tap_widths: Sequence[int], n_samples: int, validated: bool = False, /,
    **asked: Any,
) -> Options:  # fmt: skip
    """The options for a model with such taps and ``n_samples`` samples.

    What is not ``asked`` for, or asked for as None, is the default. ``validated`` says that there
    are other samples for validation.

    Raises:
        ParameterError: one is out of range, or does not go with the method.
        DataError: too few samples for the statistics of a batch, or to hold some out.
    """
    chosen = asked["recipe"] = chosen_recipe(asked)
    method = method_of(asked.pop("method", None))
    if chosen == "auto":
        check_auto(method, asked)
    recipe = PAPER if chosen == "paper" else recipe
    if asked.get("projection") is not None or asked.get("projection_from") is not None:
        kind = asked.get("projection_from")
        tap_widths = projected_widths(method, tap_widths, asked.get("projection"), kind)
    exact = chosen == "auto" or _is_exact(method, asked)
    asked["cache"] = exact or check_cache(method, asked)
    values: dict[str, Any] = {name: of.default for name, of in OPTIONS.items()}
    for name, value in asked.items():
        if not (type(value) is type(values[name]) and value == values[name]):
            values[name] = OPTIONS[name].checked(name, value)
    for name, value in vars(recipe).items():
        if values[name] is None:
            values[name] = value
    values["method"], values["solver"] = method.name, "exact" if exact else "steps"
    if exact:  # of any rank that the taps allow
        recipe = replace(recipe, rank=max(tap_widths[method.adapted]))
    values["rank"] = _rank(method, tap_widths, asked.get("rank"), recipe)
    if asked.get("standardize") is None:
        values["standardize"] = exact or (method.skip and recipe.standardize)
    values["schedule"] = values["schedule"] or "constant"
    values["cache_policy"] = values["cache_policy"] or "pin"
    values["projection_from"] = values["projection_from"] or "pls"
    if values["weight_decay"] is None:
        values["weight_decay"] = OPTIMIZERS[values["optimizer"]].weight_decay
    least = 2 if method.batch_statistics else 1
    n_trained = _n_trained(method, n_samples, values["validation"], least)
    values["batch_size"] = _batch_size(values["batch_size"], least, n_trained)
    if values["patience"] is not None and not (values["validation"] or validated):
        raise ParameterError(
            f"patience is {values['patience']} without validation, expected both: set validation "
            "to 0.2"
        )
    return Options(**values)


def check_auto(method: Method, asked: Mapping[str, Any]) -> None:
    """Refuse what the recipe auto chooses itself.

    Raises:
        ParameterError: something of it is set, or another method.
    """
    if method.name != "skip2-lora":
        raise ParameterError(
            f"recipe is auto with method {method.name}, expected skip2-lora: leave one of them out"
        )
    for name in _OF_AUTO:
        value = asked.get(name)
        if value is not None:
            raise ParameterError(
                f"{name} is {value} with recipe='auto', which chooses it, expected one of them: "
                f"leave {name} out, or the recipe"
            )


def _is_exact(method: Method, asked: Mapping[str, Any]) -> bool:
    """Whether the exact solver is asked for; nothing beside it may be that it does not take.

    Raises:
        ParameterError: something is, or ``penalty`` without it.
    """
    solver = OPTIONS["solver"].checked("solver", asked.get("solver"))
    penalty = OPTIONS["penalty"].checked("penalty", asked.get("penalty"))
    if solver != "exact":
        if penalty is not None:
            raise ParameterError(
                f"penalty is {penalty:g} with solver steps, expected the exact one: pass "
                "solver='exact', or leave penalty out"
            )
        return False
    if not method.skip or (method.lora_inner and not method.cache):
        raise ParameterError(
            f"solver is exact with method {method.name}, expected one whose rows are kept, "
            "skip2-lora or lora-last: use skip2-lora"
        )
    for name in OF_STEPS:
        value = asked.get(name)
        if value is not None and value is not True:
            raise ParameterError(
                f"{name} is {value} beside solver='exact', which has no such choice, expected "
                f"none: leave {name} out"
            )
    return True


def n_held_out(n_samples: int, share: float) -> int:
    """How many of ``n_samples`` a share holds out."""
    return round(n_samples * share)


def _rank(method: Method, tap_widths: Sequence[int], asked: int | None, recipe: Recipe) -> int:
    """A rank that fits the taps or layers that get an adapter.

    Skip adapters may have more than a narrow tap needs; beside a layer it is too much.
    """
    widths = tap_widths[method.adapted]
    if not widths:
        return recipe.rank if asked is None else whole("rank", asked, 1)
    of, why = (max, "the largest width of a tap") if method.skip else (
        min, "the smallest width of a layer"
    )  # fmt: skip
    highest = of(widths)
    return min(recipe.rank, highest) if asked is None else whole("rank", asked, 1, highest, why)


def _n_trained(method: Method, n_samples: int, share: float, least: int) -> int:
    """How many samples are trained on."""
    n_held = n_held_out(n_samples, share)
    n_trained = n_samples - n_held
    if share > 0 and not 0 < n_trained < n_samples:
        raise DataError(
            f"got {n_samples} samples, validation {share:g} holds out {n_held} of "
            "them, expected at least 1 to train and 1 to validate: collect more"
        )
    if n_trained < least:
        raise DataError(
            f"got {n_trained} sample{'s' * (n_trained != 1)}, {method.name} needs at least {least} "
            "for the statistics of a batch: collect more, or adapt with skip2-lora"
        )
    return n_trained


def _batch_size(batch_size: int | None, low: int, n_samples: int) -> int:
    if batch_size is None:
        return min(DEFAULT_BATCH_SIZE, n_samples)
    size = whole("batch_size", batch_size, low)
    if size > n_samples:
        raise ParameterError(
            f"batch_size is {size}, expected {low} to {n_samples}, the number of samples: "
            "make it smaller or leave it out"
        )
    return size
