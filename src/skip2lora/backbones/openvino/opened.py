"""An OpenVINO model that was read, as far as it does not depend on what is tapped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from skip2lora.backbones.base import Size
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.openvino.file import fingerprint, read_model
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import fix_size, specs_of, takes_any_size
from skip2lora.backbones.openvino.probe import Look, look_at


@dataclass(frozen=True, eq=False)
class Opened:
    """``fingerprint`` is that of the file; ``size`` is what open axes of images were fixed to."""

    path: Path
    graph: Graph
    inputs: tuple[InputSpec, ...]
    fingerprint: str
    size: Size | None

    @cached_property
    def look(self) -> Look:
        """What its tensors show, whichever are tapped: noise is run once.

        Raises:
            ModelError: the runtime cannot run the model.
        """
        return look_at(self.graph, self.inputs, self.path)


def open_model(path: Path, size: Size | None, *, if_open: bool = False) -> Opened:
    """Read and check a model. With ``if_open``, ``size`` counts only where images have any size.

    Raises:
        FileError: the file or its weights are missing.
        ModelError: damaged, with a state, with loops or branches, or with inputs that are no
            numbers.
        ParameterError: it does not take images of that size.
    """
    model = read_model(path)
    graph, base = Graph(model), fingerprint(model)
    graph.cut_before_state(path)
    inputs = specs_of(graph, path)
    if if_open and not takes_any_size(inputs):
        size = None
    if size is not None:
        fix_size(model, inputs, path, size)
        inputs = specs_of(graph, path)
    return Opened(path, graph, inputs, base, size)
