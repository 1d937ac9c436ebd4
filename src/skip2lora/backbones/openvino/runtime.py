"""OpenVINO itself, which is imported here alone, without its telemetry."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Any

from skip2lora.errors import MissingExtraError, ModelError, first_line

_TELEMETRY = "openvino_telemetry"


def _without_telemetry() -> Any:
    """The package ``openvino``, or ImportError.

    Importing it writes to the user's folder and sends an event to its maker, unless the package
    that does so is missing, which it takes well: it has a stub for that.
    """
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
        import openvino.opset13
    finally:
        del sys.modules[_TELEMETRY]
        if before is not None:
            sys.modules[_TELEMETRY] = before
    return openvino


try:
    openvino = _without_telemetry()
except ImportError as error:
    raise MissingExtraError(
        "models as .xml need the package openvino, which is not installed: "
        "pip install 'skip2lora[openvino]'"
    ) from error

#: What computes rows, whose bits another version may change.
RUNTIME = f"OpenVINO {openvino.__version__}"


@functools.cache
def core() -> Any:
    """The runtime's core, one a process."""
    runtime = openvino.Core()
    # Weights are read, not mapped: a file that changes while it is in use would end the process.
    runtime.set_property({"ENABLE_MMAP": False})
    return runtime


def compiled(model: Any, threads: int, *, integers: bool, path: Path) -> Any:
    """``model`` ready to run on the CPU.

    The default precision is bfloat16 where the processor has it, which is off by 1 %; weights of
    few bits would make their data integers of 8 bits. ``integers`` says that the model was
    quantised: OpenVINO would then run runs of layers in integers, and which ones depends on the
    outputs, so that reading taps moved the answers by 1 to 3 % of the largest logit (efficientnet-
    lite0). Without that, the network's own rounding stays and its answers are the same bits with
    taps and without, at the time of a model of floats.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "ENABLE_CPU_PINNING": False,
    }
    if integers:
        options["LP_TRANSFORMS_MODE"] = False
    try:
        return core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO {openvino.__version__.split('-')[0]} cannot run {path}: "
            f"{reason_of(error)}, expected operators and shapes that its CPU plugin knows: "
            "convert it again"
        ) from error


def outputs_of(sources: list[Any], parameters: list[Any]) -> Any:
    """A model that computes ``sources`` of the network that ``parameters`` belong to."""
    return openvino.Model([openvino.opset13.result(each) for each in sources], parameters)


def reason_of(error: BaseException) -> str:
    """The reason of an error of the runtime, without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not re.match(r"Exception from |Check '", line)]
    reason = next((line for line in reversed(reasons)), type(error).__name__)
    return first_line(reason.rstrip("."))
