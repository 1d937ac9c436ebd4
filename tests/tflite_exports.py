"""Exported .tflite files as the stock interpreter runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Stock:
    """An interpreter of a file; ``run`` gives all outputs by name, (samples, ...)."""

    def __init__(self, path: Path | bytes) -> None:
        given = {"model_content": path} if isinstance(path, bytes) else {"model_path": str(path)}
        self.interpreter = Interpreter(**given, num_threads=1)
        self.interpreter.allocate_tensors()
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()

    def run(self, *arrays: np.ndarray, real: bool = True) -> dict[str, np.ndarray]:
        """Of arrays of real numbers, quantised as the file says; integers made real as well."""
        made: dict[str, list[np.ndarray]] = {each["name"]: [] for each in self.outputs}
        for number in range(len(arrays[0])):
            for detail, array in zip(self.inputs, arrays, strict=True):
                sample = _quantised(array[number : number + 1], detail)
                self.interpreter.set_tensor(detail["index"], sample.reshape(detail["shape"]))
            self.interpreter.invoke()
            for detail in self.outputs:
                values = self.interpreter.get_tensor(detail["index"])
                scale, zero_point = detail["quantization"]
                if scale and real:
                    values = (values.astype(np.float32) - zero_point) * np.float32(scale)
                made[detail["name"]].append(values.reshape(-1))
        return {name: np.stack(values) for name, values in made.items()}


def _quantised(values: np.ndarray, detail: Any) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale or values.dtype == detail["dtype"]:
        return values.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    whole = np.rint(values / np.float32(scale)) + zero_point
    return np.clip(whole, limits.min, limits.max).astype(detail["dtype"])
