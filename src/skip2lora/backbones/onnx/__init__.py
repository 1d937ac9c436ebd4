"""Models as ``.onnx``, run by ONNX Runtime; their taps are outputs of a copy of the graph.

What reads or writes graphs lives here. The package ``onnx`` is imported on use alone, as a
prepared file needs ONNX Runtime and NumPy only.
"""

from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.preparing import prepare

__all__ = ["OnnxBackbone", "prepare"]
