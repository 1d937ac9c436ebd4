"""EfficientNet-lite0 in int8 (QDQ), calibrated on digits that no other sample is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import FOLDER, About, Job
from models.efficientnet import digits, enlarged, exported, new_digits

CALIBRATION = slice(5000, 5064)
ABOUT = About(
    "EfficientNet-lite0 int8", "image",
    "ImageNet weights, static QDQ int8 by ONNX Runtime's quantiser, 64 calibration images",
    "10 new classes: handwritten digits, as above",
)  # fmt: skip


def quantised() -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    file = FOLDER / "efficientnet-lite0-int8.onnx"
    if not file.is_file():

        class Images(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                images = enlarged(digits()[0][CALIBRATION])
                self.batches = iter([{"image": images[at : at + 8]} for at in range(0, 64, 8)])

            def get_next(self) -> Any:
                return next(self.batches, None)

        prepared, fresh = file.with_suffix(".prepared"), file.with_suffix(".part")
        quant_pre_process(exported(), prepared)
        quantize_static(
            prepared, fresh, Images(), per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        prepared.unlink()
        fresh.rename(file)
    return file


def make(seed: int) -> Job:
    return new_digits(quantised(), seed)
