"""Any PyTorch module as a backbone: forward hooks read what its layers read. Extra ``[torch]``."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, SamplesLike, whole
from skip2lora.backbones import formats, masks
from skip2lora.backbones.alone import N_SAMPLES
from skip2lora.backbones.base import MOST_THREADS, Backbone, Size, Taps
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.outputs import OutputSpec, named, task_of
from skip2lora.backbones.taps import FORWARD_AT_ONCE, Selection, Shapes, Tap, check_grid, widths_of
from skip2lora.errors import DataError, MissingExtraError, ModelError, ParameterError, first_line
from skip2lora.tasks.labels import check_names

try:
    from torch import nn, version
except ImportError as error:
    raise MissingExtraError(
        "TorchBackbone needs PyTorch: pip install 'skip2lora[torch]'"
    ) from error

from skip2lora.backbones.torch import network as torch_layers
from skip2lora.backbones.torch.fingerprint import fingerprint
from skip2lora.backbones.torch.frozen import Frozen
from skip2lora.backbones.torch.frozen import frozen as frozen_module
from skip2lora.backbones.torch.inputs import (
    Numbers,
    Samples,
    by_keyword,
    check_array,
    check_inputs,
    converted,
    different,
    extremes,
    made_up,
    readings,
    shapes_of,
    specs_of,
    told,
)
from skip2lora.backbones.torch.network import Network, Place, select
from skip2lora.backbones.torch.refusals import check_module
from skip2lora.backbones.torch.rows import Reader


class TorchBackbone(Backbone):
    """A frozen ``nn.Module`` of any kind, run in eval mode without gradients on its own device.

    ``taps`` selects layers as :func:`skip2lora.backbones.taps.chosen` says, by the names of
    ``module.named_modules()``. A layer that is called again in one forward pass (shared weights)
    is one layer for each call, ``name``, ``name@2``, ...: each reads another tensor, and a network
    that repeats one block would otherwise lose all but one of its taps. Layers that read the same
    tensor share one tap, under the name of the first. Of ``nn.MultiheadAttention`` the inputs
    (query, key, value) are taps; the input of its ``out_proj`` stays inside it.

    ``example`` is one sample or more, as for :meth:`check`. Shapes are known by running alone, so
    without it the first :meth:`check` or :meth:`forward` finds the taps. ``batch_size`` samples are
    passed at a time; 1 for a module that takes one sample alone. PyTorch runs on ``threads``
    threads, None for as many as the caller has set (``torch.set_num_threads``).

    A module may take several inputs (pass a mapping by the keywords of its ``forward``, or a
    tuple), and return logits (samples, outputs), (samples,) for one output, or an object, mapping
    or tuple with them. ``output`` is the field, key or number of those that are taken, by default
    ``logits`` or the one that classifies (:func:`~skip2lora.backbones.outputs.choose`). Where an
    ``nn.Softmax``, ``nn.LogSoftmax`` or ``nn.Sigmoid`` made it, the logits are its input; where
    probabilities or labels have none, there are no outputs to keep. The mean
    of a sequence leaves out the tokens that a mask leaves out, where it has as many: ``mask`` says
    which input and how, by default as running the module tells (``skip2lora.backbones.masks``).

    Raises:
        ModelError: no module with weights, or an output that says nothing of the samples.
        DataError: the module cannot take the example.
        ParameterError: ``module`` is no ``nn.Module``, or an option out of range.
    """

    grid: int
    class_names: tuple[str, ...] | None
    runtime = f"PyTorch {version.__version__}"

    def __init__(
        self,
        module: nn.Module,
        *,
        taps: Selection = None,
        grid: int | None = None,
        threads: int | None = None,
        class_names: Sequence[str] | None = None,
        output: str | int | None = None,
        mask: str | None = None,
        example: Any = None,
        batch_size: int = 64,
    ) -> None:
        self.grid, self.batch_size = check_grid(grid), whole("batch_size", batch_size, 1)
        self.threads = None if threads is None else whole("threads", threads, 1, MOST_THREADS)
        module = check_module(module)
        self.module: nn.Module = getattr(module, "_orig_mod", module)  # of torch.compile
        torch_layers.layers_of(self.module)  # refuses one without
        self._selection, self._asked, self._asked_mask = taps, output, mask
        self.class_names = None if class_names is None else tuple(class_names)
        self._network: Network | None = None
        self._places: tuple[Place, ...] = ()
        self._taken: dict[Shapes, dict[str, Numbers]] = {}
        if example is not None:
            self.check(example)

    def __repr__(self) -> str:
        known = self._network is not None
        facts = f"{len(self._places)} taps, {self.n_outputs} outputs" if known else "no samples yet"
        return f"TorchBackbone({self._name}, {facts})"

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    def _known(self) -> Network:
        if self._network is None:
            raise ParameterError(
                f"the taps of {self._name} are not known yet, as finding them needs samples to "
                "run: pass example=, one sample or more, or call check(X) first"
            )
        return self._network

    @property
    def layers(self) -> tuple[Tap, ...]:
        """The input of every layer that was called, in order, each tensor once."""
        return tuple(place.tap for place in self._known().places)

    @property
    def tappable(self) -> tuple[Tap, ...]:
        """All of ``layers``."""
        return self.layers

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The chosen ones of :attr:`layers`."""
        self._known()
        return tuple(place.tap for place in self._places)

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Width of each tap."""
        return widths_of(self.taps)

    @property
    def n_outputs(self) -> int:
        """Width of the logits; 0 where there are none."""
        return self._known().n_outputs

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """All that ``forward`` returns: by key or field, or by number in a tuple."""
        return self._known().outputs

    @property
    def output(self) -> str | None:
        """The name of the output that is taken, None where no output has logits."""
        return self._known().output

    @property
    def task(self) -> str:
        """What the end of the model tells (``skip2lora.backbones.outputs.task_of``)."""
        return task_of(self._known().taken)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the state dict (names, types, shapes, values) and the modules' structure."""
        return fingerprint(self.module)

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> TorchBackbone:
        """The same module with other taps, or another grid.

        Raises:
            ParameterError: a name, pattern or number that fits no layer.
        """
        formats.refuse(self._name, "whose samples have their sizes", size=size)
        other = copy.copy(self)
        other._selection, other._taken = selection, dict(self._taken)
        if grid is not None and grid != self.grid:
            other.grid, other._network, other._taken = grid, None, {}
            return other if self.sample_shapes is None else other.with_shapes(self.sample_shapes)
        if other._network is not None:
            other._places = select(other._network.places, selection)
        return other

    def with_output(self, output: str | int) -> TorchBackbone:
        """The same module, of which another output is taken, its taps chosen as before.

        Raises:
            ParameterError: there is none, or it is no row of numbers a sample.
        """
        known = self._network
        if known and known.outputs[named(known.outputs, output, self._name)].name == known.output:
            return self
        other = copy.copy(self)
        other._asked, other._network, other._taken, other.class_names = output, None, {}, None
        return other if self.sample_shapes is None else other.with_shapes(self.sample_shapes)

    @property
    def sample_shapes(self) -> Shapes | None:
        """Inputs of the samples by which the layers were found, None where they are not yet."""
        return next(iter(self._taken), None)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Inputs of those samples; a table of any width where they are not known yet."""
        if self.sample_shapes is None:
            return super().inputs
        return specs_of(self.sample_shapes)

    @property
    def mask(self) -> str | None:
        """Which input says what counts, as ``pad=padding``; None where none may, or not known."""
        return self._asked_mask

    def with_mask(self, mask: str) -> TorchBackbone:
        """The same module, in which other tokens count; what is no mask is refused by ``check``."""
        other = copy.copy(self)
        other._asked_mask, other._taken = mask, dict(self._taken)
        return other

    def with_shapes(self, shapes: Shapes) -> TorchBackbone:
        """The same module, its layers found by running it on a made-up sample of these shapes.

        Itself where they are known. Raises as :meth:`check`.
        """
        if self._network is not None:
            return self
        other = copy.copy(self)
        other._taken = {}
        other.check(made_up(shapes))
        return other

    # --- samples ----------------------------------------------------------------------------

    def check(self, X: Any) -> Samples:
        """Samples that :meth:`forward` takes: one array, or ``Inputs`` for several.

        ``X`` is array-like, (samples, ...); a mapping by the keywords of the module's ``forward``;
        or a tuple of arrays in their order, or a list where several are required. Floats become
        float32. Whole numbers stay what they are where the module takes them (token ids), else they
        become floats too. Of a new shape, a few like the first pass through the module.

        Raises:
            DataError: wrong shape, type or length, no samples, NaN, or a name the module lacks.
            ModelError: the module has no layers to tap, or gives no logits.
        """
        given = by_keyword(self.module, X.arrays if isinstance(X, Inputs) else X)
        return self._fit(check_inputs(given) if isinstance(given, Mapping) else check_array(given))

    def _fit(self, x: Samples) -> Samples:
        """``x`` as the numbers the module takes; a shape that is new is tried first."""
        shapes = shapes_of(x)
        if shapes not in self._taken:
            self._taken[shapes] = self._try(x, shapes)
            fitted = converted(x, self._taken[shapes])
            self._taken.setdefault(shapes_of(fitted), self._taken[shapes])
            if self._asked_mask is None and isinstance(fitted, Inputs):
                specs = specs_of(shapes_of(fitted))
                self._asked_mask = masks.find_mask(self, specs, fitted[:1].arrays)
            return fitted
        return converted(x, self._taken[shapes])

    def _try(self, x: Samples, shapes: Shapes) -> dict[str, Numbers]:
        """Find what the module does with such samples, and that it is what is known already."""
        reasons: list[Exception] = []
        for numbers in readings(shapes):
            try:
                network = self._find(converted(extremes(x), numbers))
            except (ModelError, ParameterError):
                raise
            except Exception as error:  # noqa: BLE001, whatever a module raises
                reasons.append(error)
                continue
            self._accept(network, shapes)
            return numbers
        # Floats were tried last; a module that looks numbers up tells more about whole ones.
        reason = reasons[0 if self._looks_up() else -1]
        raise DataError(
            f"X has samples as {told(shapes)}, which {self._name} cannot take "
            f"({first_line(reason)}), expected {self._expected()}: pass such"
        ) from reason

    def _looks_up(self) -> bool:
        tables = (nn.Embedding, nn.EmbeddingBag)
        return any(isinstance(part, tables) for part in self.module.modules())

    def _find(self, x: Samples) -> Network:
        """What the module does with samples like ``x``; one that takes but one sample gets one."""
        reasons: list[Exception] = []
        for size, varied in itertools.product(sorted({self.batch_size, 1})[::-1], (True, False)):
            samples = different(x, N_SAMPLES, varied=varied)
            try:
                network = torch_layers.find_network(
                    self.module, samples, grid=self.grid, one_by_one=size == 1, output=self._asked
                )
            except (ModelError, ParameterError):
                raise
            except Exception as error:  # noqa: BLE001, whatever a module raises
                reasons.append(error)
                continue
            self.batch_size = size
            return network
        raise reasons[0]

    def _accept(self, network: Network, shapes: Shapes) -> None:
        if self._network is None:
            self._places = select(network.places, self._selection)
            self._network, self._asked = network, network.output
            check_names(self.class_names, network.n_outputs)
            return
        if network.n_outputs != self.n_outputs:
            raise DataError(
                f"X has samples as {told(shapes)}, which make {network.n_outputs} outputs, not "
                f"{self.n_outputs}, expected {self._expected()}: pass such"
            )
        widths = {place.key: place.tap.width for place in network.places}
        for place in self._places:
            if widths.get(place.key) != place.tap.width:
                raise DataError(
                    f"X has samples as {told(shapes)}, which make {widths.get(place.key)} numbers "
                    f"at layer {place.tap.layer}, not {place.tap.width}, expected "
                    f"{self._expected()}: pass such"
                )

    def _expected(self) -> str:
        if not self._taken:
            return "samples the module was trained on: check their shape and type"
        return f"{told(next(iter(self._taken)))} as before: pass samples of that shape and type"

    def forward(self, x: Samples) -> Taps:
        """Taps and base logits of samples that :meth:`check` gave, of any count.

        Raises:
            DataError: a shape the module cannot take.
            ModelError: the module raised an error, or did something else than at first.
        """
        x = self._fit(x)
        logits = np.empty((len(x), self.n_outputs), np.float32)
        with frozen_module(self.module, self.threads, walked=self._known().walked) as frozen:
            reader = Reader(frozen, self._places, len(x))
            for batch in self._batches(len(x)):
                mask = self._counting(x[batch])
                reader.start(batch, None if mask is None else frozen.tensor(mask).float())
                logits[batch] = self._run(x, batch, frozen)
                reader.finish()
        return Taps(tuple(reader.taps), logits)

    @property
    def samples_at_once(self) -> int:
        """Whole batches."""
        return self.batch_size * max(1, FORWARD_AT_ONCE // self.batch_size)

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Outputs before softmax, (samples, n_outputs); as :meth:`check`, ModelError without."""
        samples = self.check(x)
        self.need_outputs()
        logits = np.empty((len(samples), self.n_outputs), np.float32)
        with frozen_module(self.module, self.threads, walked=self._known().walked) as frozen:
            for batch in self._batches(len(samples)):
                logits[batch] = self._run(samples, batch, frozen)
        return logits

    def _counting(self, x: Samples) -> NDArray[np.float32] | None:
        """1 for the tokens that count, (samples, tokens), where an input says so."""
        if self._asked_mask is None or not isinstance(x, Inputs):
            return None
        mask = masks.mask_of(self._asked_mask, specs_of(shapes_of(x)), self._name)
        return None if mask is None else mask.counts(x.arrays)

    def _batches(self, n_samples: int) -> Iterator[slice]:
        for at in range(0, n_samples, self.batch_size):
            yield slice(at, min(at + self.batch_size, n_samples))

    def _run(self, x: Samples, batch: slice, frozen: Frozen) -> NDArray[np.float32]:
        """The logits of one batch."""
        try:
            output = frozen.run(x[batch])
        except Exception as error:
            raise ModelError(
                f"{self._name} failed on samples {batch.start} to {batch.stop - 1} "
                f"({first_line(error)}), expected logits: see the error above"
            ) from error
        logits = frozen.logits(output, batch.stop - batch.start, self.output)
        if logits.shape[1] != self.n_outputs:
            raise ModelError(
                f"{self._name} gave {logits.shape[1]} outputs, expected {self.n_outputs} as at "
                "first: make a new TorchBackbone where the module was changed"
            )
        values: NDArray[np.float32] = logits.float().numpy(force=True)
        return values
