"""Frozen networks. Whatever runs inference can be adapted, since no gradient flows through it."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import SamplesLike, check_samples
from skip2lora.backbones import formats
from skip2lora.backbones.inputs import NO_MASK, InputSpec
from skip2lora.backbones.outputs import OutputSpec, named
from skip2lora.backbones.recipe import ANY_MODEL, Recipe
from skip2lora.backbones.said import Said
from skip2lora.backbones.taps import FORWARD_AT_ONCE, SAMPLES_AT_ONCE, Selection, Shapes, Tap
from skip2lora.data.media import Media
from skip2lora.errors import ModelError, ParameterError
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import check_names
from skip2lora.tasks.predictor import Predictor, lacks, member
from skip2lora.tasks.thresholds import Thresholds

if TYPE_CHECKING:
    from skip2lora import _core

#: Threads that a runtime may be asked for.
MOST_THREADS = 1024
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Taps:
    """What a frozen forward pass gives: the input of every layer and the last layer's output.

    ``taps[k]`` is (samples, tap_widths[k]), x^(k+1) of the paper, after batch norm and ReLU;
    ``base_logits`` is (samples, n_outputs), c^n of the paper. All float32.
    """

    taps: tuple[NDArray[np.float32], ...]
    base_logits: NDArray[np.float32]


class Backbone(Predictor):
    """A frozen network: all that the package asks of a model, for subclasses to say.

    A subclass defines ``tap_widths``, ``n_outputs``, ``fingerprint`` and ``forward``; every other
    member has a default. It may define a member as a property, a cached property, an attribute of
    the class or of the instance, or a field of a dataclass. Data of any runtime becomes taps in
    ``forward`` and nowhere else. What takes something else than a table of features defines
    ``inputs`` and ``check`` as well. ``forward`` and ``check`` take ``Any`` here, so that a
    subclass may say which samples it takes. docs/add-a-runtime.md shows one.
    """

    def __repr__(self) -> str:
        facts = [] if self.path is None else [repr(Path(self.path).name)]
        facts += [f"{len(self.tap_widths)} taps", f"{self.n_outputs} outputs"]
        return f"{type(self).__name__}({', '.join(facts)})"

    @member
    def tap_widths(self) -> tuple[int, ...]:
        """Width of each tap; required."""
        raise lacks(self, "tap_widths", "the width of each tap, a tuple of whole numbers from 1")

    @member
    def fingerprint(self) -> str:
        """Changes when the weights or the preprocessing change; required."""
        raise lacks(self, "fingerprint", "a text that changes with the weights, such as a SHA-256")

    def forward(self, x: Any) -> Taps:
        """Taps and base logits of samples ``x`` that :meth:`check` gave; required."""
        raise lacks(self, "forward", "a method that gives the Taps of checked samples")

    @member
    def first_tap_is_input(self) -> bool:
        """Whether the first tap is the sample itself, which then needs no copy in the cache."""
        return False

    @member
    def inputs(self) -> tuple[InputSpec, ...]:
        """What a sample consists of: by default one row of a table, of any width if not known."""
        width = self.tap_widths[0] if self.first_tap_is_input else None
        return (InputSpec("X", (width,), "float32"),)

    @member
    def said(self) -> Said:
        """What its file says of what it learned, as an exported one does; by default nothing."""
        return Said()

    @member
    def columns(self) -> Columns:
        """What the columns of a table are called, where the model learned that."""
        return self.said.columns

    @member
    def images(self) -> Media | None:
        """How files became the samples that it learned; None of a table, or where not known."""
        return self.said.images

    @member
    def class_numbers(self) -> NDArray[np.int64]:
        """The number that is the label of each output, (n_outputs,): its place, unless said."""
        numbers = self.said.fitting(self.n_outputs).class_numbers
        return np.array(range(self.n_outputs) if numbers is None else numbers, np.int64)

    @member
    def thresholds(self) -> Thresholds | None:
        """Least probabilities that predictions go by, where its file says some."""
        return self.said.fitting(self.n_outputs).thresholds

    def check(self, X: Any) -> Any:
        """What a user passes as :meth:`forward` takes it: by default a table of features, float32.

        Columns of a DataFrame are put in order by their names.

        Raises:
            DataError: samples the model cannot take.
        """
        n_features = self.tap_widths[0] if self.first_tap_is_input else None
        return check_samples(self.columns.take(X), n_features=n_features)[0]

    @property
    def takes_table(self) -> bool:
        """Whether samples are a table of features, as :meth:`check` is the default."""
        return type(self).check is Backbone.check

    @member
    def outputs(self) -> tuple[OutputSpec, ...]:
        """All outputs of the model, in its order: by default one with the logits, if there are."""
        return (OutputSpec("output", (self.n_outputs,)),) if self.n_outputs else ()

    @member
    def output(self) -> str | None:
        """The name of the one whose logits are adapted; None for a model without logits."""
        return self.outputs[0].name if self.n_outputs else None

    def with_output(self, output: str | int) -> Backbone:
        """The same model, of which another output is taken, by its name or number.

        Raises:
            ParameterError: there is none, or it is no row of numbers a sample; by default there is
                one output.
        """
        named(self.outputs, output, self.path or type(self).__name__)
        return self

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Outputs before the last activation, (samples, n_outputs).

        Raises:
            DataError: as :meth:`check`.
            ModelError: the model has no outputs of its own.
        """
        self.need_outputs()
        samples = self.check(x)
        starts = range(0, len(samples), SAMPLES_AT_ONCE)
        parts = [self.forward(samples[at : at + SAMPLES_AT_ONCE]).base_logits for at in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def need_outputs(self, *, closed: bool = False) -> None:
        """Raise ModelError for a model without logits; ``closed``: only if it says of classes."""
        reason = "".join(f" ({of.name} is {of.reason})" for of in self.outputs if of.reason)
        if self.n_outputs == 0 and (reason or not closed):
            raise ModelError(
                f"{self.path or type(self).__name__} gives no row of logits for a sample{reason}, "
                "expected one to predict: learn outputs of your own with keep_outputs=False"
            )

    @property
    def base(self) -> Backbone:
        """The model with its own outputs: itself but for stand-ins."""
        return self

    def named(self, class_names: Sequence[str] | None) -> Self:
        """A copy whose outputs have these names; itself for None.

        Raises:
            ParameterError: not one distinct name an output, or the class has names of its own.
        """
        if class_names is None:
            return self
        names = check_names(class_names, self.n_outputs)
        model = copy.copy(self)
        try:
            object.__setattr__(model, "class_names", names)
        except AttributeError as error:
            raise ParameterError(
                f"class_names is {names}, {type(self).__name__} takes none as it computes its own: "
                "leave class_names out"
            ) from error
        return model

    # --- taps -------------------------------------------------------------------------------

    @member
    def taps(self) -> tuple[Tap, ...]:
        """The tapped layers, in order: by default a vector for each of ``tap_widths``."""
        names = [f"layers.{number}" for number in range(len(self.tap_widths))]
        widths = zip(names, self.tap_widths, strict=True)
        return tuple(Tap(name, name, "vector", (width,)) for name, width in widths)

    @member
    def tappable(self) -> tuple[Tap, ...]:
        """Every layer that could be tapped, in order: by default those that are."""
        return self.taps

    @member
    def grid(self) -> int | None:
        """Places that an axis of a map keeps, at most; None where there are no maps."""
        return None

    @member
    def size(self) -> Size | None:
        """Height and width that open axes of images were fixed to; None where none were."""
        return None

    @member
    def mask(self) -> str | None:
        """Which input says what counts, as ``pad=padding``, or ``none``; None where none may."""
        return None

    @member
    def sample_shapes(self) -> Shapes | None:
        """Shapes of the samples by which taps were found; None where the model itself tells."""
        return None

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> Backbone:
        """The same model with other taps, or another grid or size of images.

        Raises:
            ParameterError: there is no such choice; by default there is none.
        """
        formats.refuse(
            type(self).__name__, "whose adapters start at every layer",
            taps=selection, grid=grid, size=size,
        )  # fmt: skip
        return self

    def with_mask(self, mask: str) -> Backbone:
        """The same with that mask; ParameterError where it has no such, as by default."""
        if mask != NO_MASK:
            formats.refuse(
                type(self).__name__, "which has no input that says what counts", mask=mask
            )
        return self

    def with_shapes(self, shapes: Shapes) -> Backbone:
        """The same model, its taps found by samples of these shapes; by default itself."""
        del shapes
        return self

    # --- running and training ---------------------------------------------------------------

    @member
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the model is run, a sentence each."""
        return ()

    @member
    def runtime(self) -> str | None:
        """What computes rows, with its version; None for this package, or a class of a user."""
        return None

    @member
    def recipe(self) -> Recipe:
        """Defaults of training."""
        return ANY_MODEL

    @member
    def network(self) -> _core.Network | None:
        """The network in the C core where it runs there: it then writes rows itself."""
        return None

    @member
    def samples_at_once(self) -> int:
        """How many samples :meth:`forward` is given at once where there are more, at most."""
        return FORWARD_AT_ONCE

    @member
    def path(self) -> str | os.PathLike[str] | None:
        """The file it was read from, None where there is none."""
        return None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        taps: Selection = None,
        grid: int | None = None,
        size: Size | None = None,
        threads: int = 1,
        class_names: Sequence[str] | None = None,
        output: str | int | None = None,
        mask: str | None = None,
    ) -> Self:
        """Read a file; the options are those of :func:`skip2lora.load`.

        Raises:
            ModelError: the class reads no files, as by default.
        """
        del taps, grid, size, threads, class_names, output, mask
        raise ModelError(
            f"{cls.__name__} reads no files, got {path}, expected a class with a method load: "
            "make the model in Python"
        )

    @classmethod
    def load_for_images(
        cls, path: str | os.PathLike[str], size: Size | None, **options: Any
    ) -> Self:
        """As :meth:`load`, but ``size`` counts only where the model takes images of any size."""
        del size
        return cls.load(path, **options)


def check_backbone(model: object) -> Backbone:
    """``model`` if it is one.

    Raises:
        ParameterError: it is something else.
    """
    if not isinstance(model, Backbone):
        raise ParameterError(
            f"model is {type(model).__name__}, expected a skip2lora.Backbone: read a file with "
            "skip2lora.load, pass skip2lora.TorchBackbone(module), or subclass skip2lora.Backbone"
        )
    return model
