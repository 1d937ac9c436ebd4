"""Whether an exported .tflite file gives what was adapted: run on samples, before it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import SamplesLike
from skip2lora.backbones.litert.file import parse
from skip2lora.backbones.litert.runner import open_interpreter
from skip2lora.errors import ModelError
from skip2lora.export.check import ROUNDED_SHARE, SHARE, compare_outputs
from skip2lora.export.tflite_base import Base

_REAL = ("float32", "float16", "int32", "int64", "bool")


def check_tflite(content: bytes, logits: int, base: Base, samples: SamplesLike | None) -> None:
    """Compare the file ``content``, whose tensor ``logits`` has the sum, with what was adapted.

    As :func:`~skip2lora.export.check.compare_outputs` does, with LiteRT sample by sample, and call
    by call where there is a state between them. Each output must be what follows from the sum.

    Raises:
        ModelError: LiteRT does not run it, or it gives something else.
        DataError: samples the model cannot take.
    """
    backbone = base.backbone
    graph = parse(content, str(backbone.path))
    whole = graph.with_outputs([logits], streaming=True)
    interpreter = open_interpreter(whole, backbone.threads, backbone.path)
    outputs = {output.tensor.index: output for output in graph.outputs}
    wanted = [logits, *(index for index in outputs if index != logits)]

    def run(some: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        nonlocal interpreter
        arrays = backbone._arrays(some)
        values: dict[int, list[NDArray[Any]]] = {index: [] for index in wanted}
        for number in range(len(arrays[0])):
            sample = [array[number : number + 1] for array in arrays]
            if backbone.stream is not None:  # only a new interpreter begins a state anew
                interpreter = open_interpreter(whole, backbone.threads, backbone.path)
                sample = [array[number] for array in arrays]
            for call in zip(*sample, strict=True):
                for tensor, array in zip(backbone.graph.inputs, call, strict=True):
                    interpreter.set_tensor(tensor.index, array.reshape(tensor.shape or ()))
                interpreter.invoke()
                for index in wanted:
                    values[index].append(interpreter.get_tensor(index).reshape(-1))
        given = {index: np.stack(each) for index, each in values.items()}
        for index, output in outputs.items():
            tensor = output.tensor
            if tensor.scale and index != logits:
                real = given[index].astype(np.float32) - tensor.zero_point
                given[index] = real * np.float32(tensor.scale)
            if output.logits.index == logits and not output.end.agrees(given[logits], given[index]):
                raise ModelError(
                    f"{backbone.path}: output {output.name} of the exported file does not follow "
                    "from its logits, expected that it does: export with other samples"
                )
        if backbone.stream is not None:
            given = {at: backbone.stream.of_calls(each, len(some)) for at, each in given.items()}
        named = {outputs[index].name: given[index] for index in wanted if index in outputs}
        return given[logits], {name: of for name, of in named.items() if of is not given[logits]}

    rounds = any(tensor.scale for tensor in base.graph.tensors)
    compare_outputs(
        run, base.given, base.adapters, samples, share=ROUNDED_SHARE if rounds else SHARE,
        columns=None if base.apart or base.columns is None else np.linalg.pinv(base.columns),
    )  # fmt: skip
