"""What the columns of a table are: features in their order, answers, and those left out.

A model or an adapter keeps the :class:`Columns` that it learned; files and DataFrames are matched
with them by name, whatever their order. What has no names goes by its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.errors import ColumnsWarning, DataError, brief, warn
from skip2lora.tasks.targets import USUAL_ARRAYS, USUAL_NAMES


@dataclass(frozen=True)
class Columns:
    """The columns that a model or an adapter learned.

    ``features`` are their names in the order of a sample, None where they had none. ``ignored``
    are left out wherever they occur, as are the answers, ``target``, as the user once named them.
    """

    features: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    target: tuple[str, ...] | None = None

    def places(self, names: Sequence[str], of: str = "it") -> list[int]:
        """Where each feature is among the ``names`` of columns, in the order of a sample.

        Names that only count the columns, 0, 1, ..., are matched by place. Messages call what has
        the columns ``of``: a file, or X.

        Raises:
            DataError: one is missing, or is none of the features.
        """
        aside = {*self.ignored, *(self.target or ())} - set(self.features or ())
        at = [place for place, name in enumerate(names) if name not in aside]
        given = [names[place] for place in at]
        if self.features is None or tuple(given) == self.features:
            return at
        if set(given) == set(self.features):
            return [names.index(name) for name in self.features]
        if len(given) == len(self.features) and (counted(given) or counted(self.features)):
            return at
        raise _mismatch(given, self.features, of)

    def take(self, x: Any) -> Any:
        """A DataFrame as an array of its features, (samples, features); anything else as it is.

        Where no names are known, a :class:`~skip2lora.errors.ColumnsWarning` says so.

        Raises:
            DataError: as :meth:`places`, a name that is there twice, or a column of no numbers.
        """
        names = names_of(x)
        if names is None:
            return x
        if self.features is None:
            warn(by_place(names), ColumnsWarning)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f'X has two columns "{twice}", expected one: rename or drop one')
        return _array(x, names, self.places(names, "X"))

    def of(self, x: Any) -> Columns:
        """With the names of the columns of ``x`` where it has some and none are known."""
        names = names_of(x)
        if self.features is not None or names is None:
            return self
        return Columns(tuple(names[at] for at in self.places(names)), self.ignored, self.target)

    def over(self, earlier: Columns) -> Columns:
        """What is known here, else ``earlier``; both are left out."""
        return Columns(
            self.features or earlier.features,
            tuple(dict.fromkeys((*earlier.ignored, *self.ignored))),
            self.target or earlier.target,
        )

    def to_json(self) -> dict[str, Any]:
        """What is known, as JSON holds it."""
        return {name: list(value) for name, value in vars(self).items() if value}

    @classmethod
    def from_json(cls, entries: Any) -> Columns:
        """What :meth:`to_json` gave, or None.

        Raises:
            TypeError, ValueError: it gave something else.
        """
        known = {} if entries is None else dict(entries)
        if set(known) - set(vars(cls())) or not all(map(_are_names, known.values())):
            raise ValueError("columns")
        return cls(**{name: tuple(value) for name, value in known.items()})


def _are_names(values: Any) -> bool:
    is_list = isinstance(values, list) and all(isinstance(name, str) for name in values)
    return is_list and len(set(values)) == len(values) > 0


def counted(names: Sequence[str]) -> bool:
    """Whether they but number the columns, as pandas calls those without names."""
    return list(names) == [str(number) for number in range(len(names))]


def by_place(names: Sequence[str]) -> str:
    """What is to be said where columns with ``names`` meet none that are known."""
    return f"the model knows no names of columns, {listing(names)} are taken in this order"


def _quoted(names: Sequence[str]) -> str:
    return listing([f'"{name}"' for name in names])


def _mismatch(given: Sequence[str], features: Sequence[str], of: str) -> DataError:
    missing = [name for name in features if name not in given]
    extra = [name for name in given if name not in features]
    expected = f"expected {listing(features)}, as the model learned"
    s = "s" * (len(missing) != 1)
    if not extra:
        return DataError(f"{of} has no column{s} {_quoted(missing)}, {expected}: add the column{s}")
    if missing:
        return DataError(
            f"{of} has no column{s} {_quoted(missing)} but {_quoted(extra)}, {expected}: "
            "rename the columns if they are the same"
        )
    s = "s" * (len(extra) != 1)
    got = f"{of} has the column{s} {_quoted(extra)}, {expected}"
    if of == "X":
        return DataError(f"{got}: leave the column{s} out")
    return DataError(f"{got}: {otherwise(extra, 'say which hold the answers')}")


def otherwise(names: Sequence[str], about: str = "name the columns of answers") -> str:
    """What to do about columns that are no features: leave them out, or what ``about`` says."""
    s = "s" * (len(names) != 1)
    return f"leave the column{s} out with ignore='{','.join(names)}', or {about} with target="


def names_of(x: Any) -> list[str] | None:
    """The names of the columns of a DataFrame; None of anything else, and where they but count."""
    shape, columns = getattr(x, "shape", ()), getattr(x, "columns", None)
    if columns is None or isinstance(x, Mapping | np.ndarray) or len(shape) != 2:
        return None
    labels = _labels(x)
    plain = [int(label) if isinstance(label, np.integer) else label for label in labels]
    return None if plain == list(range(len(plain))) else [str(label) for label in plain]


def _labels(x: Any) -> list[Any]:
    """Names of the columns as ``x`` has them; of an Arrow table ``columns`` are its data."""
    return list(getattr(x, "column_names", x.columns))


def _array(x: Any, names: Sequence[str], places: Sequence[int]) -> NDArray[Any]:
    """The columns at ``places`` as one array of numbers, (samples, columns)."""
    labels = _labels(x)
    if not places:
        raise DataError("X has no columns of features, expected at least one: add them")
    return np.stack([_numbers(x[labels[at]], names[at]) for at in places], axis=1)


def _numbers(column: Any, name: str) -> NDArray[Any]:
    values = np.asarray(column)
    if values.dtype.kind in "fiub":
        return values
    text = values.dtype.kind != "O" or any(isinstance(value, str | bytes) for value in values)
    try:  # of columns that may lack values, or have a type of their own
        numbers = None if text else np.asarray(column, np.float64)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != 1:
        raise DataError(
            f'X column "{name}" has "{brief(values[0])}" ({values.dtype}), expected numbers: '
            "convert the column, or leave it out"
        )
    return numbers


class Checked(Protocol):
    """What knows of files that were checked, so that they are not checked again."""

    def has(self, path: Path, mark: Any, n_samples: int) -> bool:
        """Whether the file at ``path``, with ``n_samples`` samples, is one, by its ``mark``."""

    def of_file(self, path: Path, about: str, compute: Callable[[], bytes | None]) -> bytes | None:
        """What ``compute`` gives of a file that is read whole, or gave; OSError if it is gone."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How to tell the columns of a file apart.

    ``target`` are the answers as the user names them, ``ignore`` what the user leaves out, and
    ``no_target`` says that no column has answers; ``labels_required`` that there must be some.
    ``aside`` names what is read beside features and answers, such as ``{"group": "speaker"}``.
    ``learned`` is what the model knows, ``n_features`` the width of its samples, ``inputs`` its
    arrays where it takes several, and ``outputs`` what it calls the numbers it gives. ``split`` is
    the part of data that come in parts, train, val or test; ``usual_split`` that which is read
    where the user names none. Images, and large arrays of a
    ``.npz``, that ``checked`` has are not checked.
    """

    target: str | Sequence[str] | None = None
    ignore: Sequence[str] = ()
    no_target: bool = False
    labels_required: bool = True
    learned: Columns = field(default_factory=Columns)
    n_features: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    aside: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    usual_split: str | None = None
    checked: Checked | None = None

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The answers as the user names them."""
        if self.target is None:
            return None
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def required(self) -> bool:
        """Whether there must be answers."""
        return self.labels_required or self.chosen is not None

    def columns(self, features: Sequence[str] | None) -> Columns:
        """What is then known, of samples with these ``features``."""
        ignored = (*self.ignore, *self.aside.values())
        own = Columns(None if features is None else tuple(features), ignored, self.chosen)
        return Columns(self.learned.features, (), None).over(own).over(self.learned)

    def assign(self, names: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
        """Places of the columns with answers, of the features, and of those read ``aside``.

        The features are in the order that the model learned, others in that asked for.

        Raises:
            DataError: a column that is asked for, learned or required is not there, or which ones
                hold the answers is not clear.
        """
        answers = self.answers(names)
        called = [names[place] for place in answers]
        beside = self.beside(names, called)
        return answers, self.features(names, called), beside

    def features(self, names: Sequence[str], answers: Sequence[str] = ()) -> list[int]:
        """Places of the features among ``names``, ``answers`` and what is ignored aside.

        Raises:
            DataError: as :meth:`assign`.
        """
        for name in self.ignore:
            if name not in names or name in (self.learned.features or ()):
                learned = "" if name not in names else ", but that is a feature of the model"
                raise DataError(
                    f'ignore= names column "{name}", it has columns {listing(names)}{learned}, '
                    "expected one to leave out: correct ignore="
                )
        known = self.columns(None)
        aside = (*known.ignored, *answers, *(self.learned.target or ()))
        return Columns(known.features, aside, known.target).places(names)

    def beside(
        self, names: Sequence[str], answers: Sequence[str], what: str = "columns"
    ) -> list[int]:
        """Places of the columns, or arrays, that are read ``aside``, in its order.

        Raises:
            DataError: one is not there, or is a feature or an answer.
        """
        features = (self.learned.features or ()) if what == "columns" else self.inputs
        for keyword, name in self.aside.items():
            if name not in names:
                raise DataError(
                    f'{keyword}= names "{name}", it has {what} {listing(names)}, expected one of '
                    f"them: correct {keyword}="
                )
            if name in answers or name in features:
                role = "an answer" if name in answers else "a feature of the model"
                raise DataError(
                    f'{keyword}= names "{name}", which is {role}, expected another of its {what}: '
                    f"correct {keyword}="
                )
        return [names.index(name) for name in self.aside.values()]

    def answers(self, names: Sequence[str], what: str = "columns") -> list[int]:
        """Places of the columns, or arrays, that hold the answers, none where there are none.

        Raises:
            DataError: as :meth:`assign`.
        """
        if self.chosen is not None:
            return self._told(names, self.chosen, what)
        known = self.columns(None)
        learned = (self.learned.features or ()) if what == "columns" else self.inputs
        mistaken = {*USUAL_NAMES} & {*self.aside.values()}  # which `beside` refuses
        apart = {*known.ignored, *learned} - mistaken
        free = [name for name in names if name not in apart]
        for answers in () if self.no_target else (self.learned.target, self.outputs):
            if answers and set(answers) <= set(free):
                return [names.index(name) for name in answers]
        usual = [] if self.no_target else self._usual(free, what)
        if usual or not self.required or self.no_target:
            return [names.index(name) for name in usual]
        outputs = f" (or all of {listing(self.outputs)})" if self.outputs else ""
        raise DataError(
            f'it has {what} {listing(names)}, expected one called "label", "y" or "target"'
            f"{outputs} with the answers: say which hold them with target="
        )

    def _told(self, names: Sequence[str], chosen: tuple[str, ...], what: str) -> list[int]:
        for at, name in enumerate(chosen):
            if name not in names:
                raise DataError(
                    f'it has {what} {listing(names)}, expected one called "{name}": correct target='
                )
            if name in chosen[:at]:
                raise DataError(
                    f'target= names column "{name}" twice, expected each column once: correct it'
                )
            if what == "columns" and name in (self.learned.features or ()):
                raise DataError(
                    f'target= names column "{name}", expected another, as it is a feature of the '
                    f"model ({listing(self.learned.features or ())}): correct target="
                )
        return [names.index(name) for name in chosen]

    def _usual(self, free: Sequence[str], what: str) -> list[str]:
        """The column with a usual name, if nothing speaks against it.

        Where all columns are as many as the features of the model, none is an answer. A ``y``
        beside ``x`` and others is a coordinate, and one beside ``label`` or ``target`` a feature;
        beside an array ``X`` it is as usual a name as they.
        """
        unnamed = self.learned.features is None and what == "columns"
        if unnamed and not self.required and len(free) == self.n_features:
            return []
        known = USUAL_NAMES if what == "columns" else USUAL_ARRAYS
        usual = [name for name in known if name in free]
        others = [name for name in usual if name != "y"]
        if what == "columns" and others:
            usual = others
        elif what == "columns" and "x" in free and len(free) > 2 and not self._all_but_one(free):
            usual = []
        if len(usual) > 1:
            raise DataError(
                f"it has {what} {' and '.join(usual)}, expected the answers in one of them: leave "
                f"the other out with ignore={usual[-1]}, or say which hold them with "
                f"target={usual[0]}"
            )
        return usual

    def _all_but_one(self, free: Sequence[str]) -> bool:
        """Whether the columns are the features of the model and one more."""
        known = self.n_features if self.learned.features is None else 0
        return known is not None and len(free) == known + 1
