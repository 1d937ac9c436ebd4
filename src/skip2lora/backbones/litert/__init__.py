"""Models as ``.tflite``, run by LiteRT; their taps are outputs added to the file in memory.

What reads the file's tables lives here; the runtime itself is imported by ``runner`` alone.
"""

from skip2lora.backbones.litert.backbone import LiteRTBackbone

__all__ = ["LiteRTBackbone"]
