"""A base model in memory, with the adapters that it is exported with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOGITS, DerivedTap, derived_taps
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.onnx.anatomy import Anatomy, Source
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.file import embed, read_model
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.tapped import understand
from skip2lora.backbones.standins import Bare, Binary, Headless
from skip2lora.backbones.taps import chosen_taps
from skip2lora.errors import ModelError, brief
from skip2lora.export.onnx_head import drop_narrow, drop_stale, feeds_states, readers_elsewhere
from skip2lora.export.onnx_mlp import twin


@dataclass(frozen=True, eq=False)
class Base:
    """A base model in memory, whole, with the adapters that go with its ``sources``.

    ``bare`` says that its activations are not those of what was learned, or cannot hold as many
    classes; ``own`` is the anatomy without regard to that. ``given`` is ``backbone``, or what
    stands in for it, or the network that ``backbone`` runs.
    """

    given: Backbone
    backbone: OnnxBackbone
    adapters: SkipAdapters
    model: Any
    graph: Graph
    anatomy: Anatomy
    own: Anatomy
    sources: tuple[Source | DerivedTap, ...]
    bare: bool = False

    @property
    def fingerprint(self) -> str:
        """That of the model that the adapters were made for."""
        return self.given.base.fingerprint

    @property
    def folds(self) -> bool:
        """Whether the last layer's weights may change, as nothing else needs its logits."""
        needed = any(isinstance(of, DerivedTap) and of.kind == LOGITS for of in self.sources)
        return not self.bare and not needed and not readers_elsewhere(self.graph, self.anatomy)


def read_base(given: Backbone, adapters: Result) -> Base:
    """The model that ``given`` is or stands in for, and whether ``adapters`` fit it.

    Raises:
        ModelError: it is no ONNX model or ``MLP``, it changed, or they do not fit.
    """
    with TemporaryDirectory() as folder:
        return _read(given, twin(given, Path(folder)), adapters)


def _read(given: Backbone, backbone: Backbone, adapters: Result) -> Base:
    if not isinstance(backbone, OnnxBackbone) or not isinstance(adapters, SkipAdapters):
        raise ModelError(
            f"got {type(adapters).__name__} for {type(backbone).__name__}, expected adapters from "
            "the taps of a model as .onnx, or of an MLP: adapt such a model with skip2-lora"
        )
    model = read_model(backbone.path)
    anatomy, graph, fingerprint = understand(
        model, backbone.path, grid=backbone.grid, size=backbone.size, output=backbone.output,
        mask=backbone.mask,
    )  # fmt: skip
    own = anatomy
    if isinstance(given, Headless):
        anatomy = replace(anatomy, head=None, n_outputs=0)
    if isinstance(given, Binary) and anatomy.head is not None:
        turned = 1 if anatomy.columns is None else anatomy.columns.item()
        anatomy = replace(anatomy, columns=turned * PAIR, n_outputs=2)
    # What a state is made of stays as it is, or later calls would be of another model.
    bare = isinstance(given, Bare) or feeds_states(graph, anatomy)
    if adapters.n_outputs > anatomy.n_outputs > 0:
        bare |= drop_narrow(graph, anatomy)
    anew = bare or isinstance(given, Headless)
    drop_stale(graph, own, replaced=(backbone.output or "") if anew else None)
    if fingerprint != backbone.fingerprint:
        raise ModelError(
            f"{backbone.path} changed since it was loaded ({brief(fingerprint)}, expected "
            f"{brief(backbone.fingerprint)}): load it and adapt again"
        )
    layers = [source.tap for source in anatomy.sources]
    places, widths_of_all = chosen_taps(layers, [tap.layer for tap in backbone.taps])
    derived = derived_taps(given)
    sources: tuple[Source | DerivedTap, ...] = derived
    sources += tuple(anatomy.sources[place] for place in places)
    sources = sources[adapters.first_tap :]
    widths = [*(of.width(backbone) for of in derived), *widths_of_all][adapters.first_tap :]
    got = [len(array) for array in adapters.lora_a]
    if widths != got or adapters.n_outputs < anatomy.n_outputs:
        raise ModelError(
            f"the model has taps of {widths} with {anatomy.n_outputs} outputs, expected {got} with "
            f"{adapters.n_outputs} as the adapters: load it with the taps they were made for"
        )
    embed(model, backbone.path.parent)
    return Base(given, backbone, adapters, model, graph, anatomy, own, sources, bare)
