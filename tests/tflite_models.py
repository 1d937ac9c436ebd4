"""Small .tflite files, built field by field, and the same networks in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.lib.stride_tricks import sliding_window_view

from skip2lora.backbones.litert.backbone import LiteRTBackbone

Load = Callable[..., LiteRTBackbone]
RELU = schema.ActivationFunctionType.RELU
NONE = schema.ActivationFunctionType.NONE
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "string": schema.TensorType.STRING,
    "bool": schema.TensorType.BOOL,
}


def loader(folder: Path) -> Load:
    """load(content, **options): the backbone of a file with that content."""

    def load(content: bytes, **options: Any) -> LiteRTBackbone:
        path = folder / "model.tflite"
        path.write_bytes(content)
        return LiteRTBackbone.load(path, **options)

    return load


class File:
    """Tensors and operators of one graph; ``pack`` gives the file's bytes."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        scale: Any = (),
        zero_point: int = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), TYPES[dtype]
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.buffer, tensor.hasRank = 0, True
        if np.size(scale):
            tensor.quantization = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(len(scales), zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, data: np.ndarray, **options: Any) -> int:
        return self.tensor(name, data.shape, str(data.dtype), data=data, **options)

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        name = {
            "FULLY_CONNECTED": "FullyConnectedOptions", "CONV_2D": "Conv2DOptions",
            "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
            "RESHAPE": "ReshapeOptions", "SOFTMAX": "SoftmaxOptions", "ARG_MAX": "ArgMaxOptions",
            "BATCH_MATMUL": "BatchMatMulOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
            "CONCATENATION": "ConcatenationOptions", "MEAN": "ReducerOptions", "ADD": "AddOptions",
            "PACK": "PackOptions", "SQUEEZE": "SqueezeOptions", "GATHER": "GatherOptions",
            "VAR_HANDLE": "VarHandleOptions", "CALL_ONCE": "CallOnceOptions",
            "STRIDED_SLICE": "StridedSliceOptions",
        }.get(kind)  # fmt: skip
        if name:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


@dataclass
class Layer:
    """One operator of a chain; ``weight`` as the format wants it: (out, in), (out, h, w, in) or,
    depthwise, (1, h, w, channels)."""

    kind: str
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    relu: bool = False
    stride: int = 1

    def real(self, x: np.ndarray) -> np.ndarray:
        """What it computes, in float64."""
        if self.kind == "AVERAGE_POOL_2D":
            n, h, w, c = x.shape
            return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        if self.kind == "RESHAPE":
            return x.reshape(len(x), -1)
        assert self.weight is not None
        if self.kind == "FULLY_CONNECTED":
            y = x @ self.weight.T
        else:
            windows = sliding_window_view(self.padded(x), (3, 3), axis=(1, 2))
            windows = windows[:, :: self.stride, :: self.stride]  # n, h, w, c, 3, 3
            form = "nhwcij,oijc->nhwo" if self.kind == "CONV_2D" else "nhwcij,oijc->nhwc"
            y = np.einsum(form, windows, self.weight)
        y = y + self.bias
        return np.maximum(y, 0) if self.relu else y

    def padded(self, x: np.ndarray) -> np.ndarray:
        """SAME padding of a 3 x 3 window: with stride 2 and an even size, after only."""
        before = 1 if self.stride == 1 else 0
        return np.pad(x, ((0, 0), (before, 1), (before, 1), (0, 0)))


@dataclass
class Network:
    """Layers in a row, and the .tflite file of them; ``integers`` is None, int8 or uint8.

    ``pixels`` are from 0 to 1, in bytes of 0 to 255; with ``label`` the place of the largest is an
    output as well.
    """

    shape: tuple[int, ...]
    layers: list[Layer]
    integers: str | None = None
    per_channel: bool = False
    end: str = "SOFTMAX"
    pixels: bool = False
    label: bool = False

    def taps(self, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """The input of every layer with weights, and the logits."""
        taps, values = [], x.astype(np.float64)
        for layer in self.layers:
            if layer.weight is not None:
                taps.append(values)
            values = layer.real(values)
        return taps, values

    def content(self) -> bytes:
        file = File()
        x = np.random.default_rng(5).normal(size=(50, *self.shape))
        if self.pixels:
            x = (x - x.min()) / np.ptp(x)
        at = first = self.activation(file, "input", x, None)
        for number, layer in enumerate(self.layers):
            x, before = layer.real(x), at
            same = layer.weight is None  # pooling and reshaping keep scale and zero point
            at = self.activation(file, f"layer{number}", x, before if same else None)
            self.put(file, layer, number, before, at, x.shape)
        if self.end:
            end = "float32" if self.integers is None else self.integers
            out = x.shape[1:] if self.end != "ARG_MAX" else ()
            kind = {"scale": 1 / 256, "zero_point": -128 if end == "int8" else 0}
            kind = {} if end == "float32" else kind
            if self.end == "ARG_MAX":
                axis = file.constant("axis", np.array(1, np.int32))
                made = file.tensor("label", (1, *out), "int64")
                file.operator("ARG_MAX", [at, axis], [made],
                              outputType=schema.TensorType.INT64)  # fmt: skip
            else:
                made = file.tensor("probabilities", (1, *out), end, **kind)
                file.operator(self.end, [at], [made], **(
                    {"beta": 1.0} if self.end == "SOFTMAX" else {}))  # fmt: skip
            at = made
        if not self.label:
            return file.pack([first], [at])
        axis, label = (
            file.constant("axis", np.array(1, np.int32)),
            file.tensor("label", (1,), "int64"),
        )
        file.operator("ARG_MAX", [at, axis], [label], outputType=schema.TensorType.INT64)
        return file.pack([first], [label, at])

    def activation(self, file: File, name: str, x: np.ndarray, like: int | None) -> int:
        shape = (1, *x.shape[1:])
        if self.integers is None:
            return file.tensor(name, shape)
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = (high - low) / 255
        lowest = -128 if self.integers == "int8" else 0
        zero = round(lowest - low / scale)
        if like is not None:
            known = file.graph.tensors[like].quantization
            scale, zero = float(known.scale[0]), int(known.zeroPoint[0])
        return file.tensor(name, shape, self.integers, scale=scale, zero_point=zero)

    def put(
        self, file: File, layer: Layer, number: int, at: int, to: int, shape: Sequence[int]
    ) -> None:
        pad = {"padding": schema.Padding.SAME, "strideH": layer.stride, "strideW": layer.stride}
        if layer.kind == "RESHAPE":
            target = file.constant(f"shape{number}", np.array([1, *shape[1:]], np.int32))
            file.operator("RESHAPE", [at, target], [to], newShape=[1, *shape[1:]])
            return
        if layer.kind == "AVERAGE_POOL_2D":
            size = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
            file.operator("AVERAGE_POOL_2D", [at], [to], padding=schema.Padding.VALID, **size)
            return
        inputs = [at, *self.weights(file, layer, number, at)]
        options: dict[str, Any] = {"fusedActivationFunction": RELU if layer.relu else NONE}
        if layer.kind == "DEPTHWISE_CONV_2D":
            options["depthMultiplier"] = 1
        file.operator(
            layer.kind, inputs, [to], **options | (pad if layer.kind != "FULLY_CONNECTED" else {})
        )

    def weights(self, file: File, layer: Layer, number: int, at: int) -> list[int]:
        weight, bias = layer.weight, layer.bias
        assert weight is not None
        assert bias is not None
        if self.integers is None:
            return [
                file.constant(f"weight{number}", weight.astype(np.float32)),
                file.constant(f"bias{number}", bias.astype(np.float32)),
            ]
        axis = 3 if layer.kind == "DEPTHWISE_CONV_2D" else 0
        others = tuple(a for a in range(weight.ndim) if a != axis)
        scale = np.abs(weight).max(axis=others if self.per_channel else None, keepdims=True) / 127
        whole, zero = np.rint(weight / scale), 0
        if self.integers == "uint8":
            whole, zero = whole + 128, 128
        flat = scale.reshape(-1).astype(np.float32)
        given = float(file.graph.tensors[at].quantization.scale[0])
        summed = np.rint(bias / (given * flat)).astype(np.int32)
        return [
            file.constant(f"weight{number}", whole.astype(self.integers), scale=flat, axis=axis,
                          zero_point=zero),
            file.constant(f"bias{number}", summed, scale=flat * given),
        ]  # fmt: skip


def mlp(widths: Sequence[int], seed: int = 0, **options: Any) -> Network:
    random = np.random.default_rng([seed, *widths])
    layers = [
        Layer(
            "FULLY_CONNECTED",
            (random.normal(size=(n_out, n_in)) / np.sqrt(n_in)),
            random.normal(size=n_out) / 4,
            relu=number < len(widths) - 2,
        )
        for number, (n_in, n_out) in enumerate(pairwise(widths))
    ]
    return Network((widths[0],), layers, **options)


def cnn(seed: int = 0, *, channels: int = 2, classes: int = 3, **options: Any) -> Network:
    """(8, 8, channels): two convolutions, one of them depthwise, pooling, a layer of classes."""
    random = np.random.default_rng(seed)
    ends = (classes, 24), classes
    return Network(
        (8, 8, channels),
        [
            Layer("CONV_2D", random.normal(size=(6, 3, 3, channels)) / 3,
                  random.normal(size=6) / 4, True),
            Layer("DEPTHWISE_CONV_2D", random.normal(size=(1, 3, 3, 6)) / 2,
                  random.normal(size=6) / 4, True, 2),
            Layer("AVERAGE_POOL_2D"),
            Layer("RESHAPE"),
            Layer("FULLY_CONNECTED", *(random.normal(size=size) / 4 for size in ends)),
        ],
        **options,
    )  # fmt: skip


def repacked(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with its first graph changed."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def of_tensor(number: int, *shape: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        graph.tensors[number].shape = list(shape)

    return change
