"""PyTorch modules; forward hooks read what their layers read. Needs the extra ``[torch]``.

Importing this package imports PyTorch, so nothing else of the package does at its top.
"""

from skip2lora.backbones.torch.backbone import TorchBackbone

__all__ = ["TorchBackbone"]
