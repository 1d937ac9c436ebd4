"""Models of OpenVINO as ``.xml`` with a ``.bin`` beside it; their taps are outputs of the model.

What reads a network's operators lives here; the runtime itself is imported by ``runtime`` alone.
"""

from skip2lora.backbones.openvino.backbone import OpenVINOBackbone

__all__ = ["OpenVINOBackbone"]
