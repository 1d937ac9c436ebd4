"""Frozen networks: the contract every model keeps, how one is loaded, and what a tap is.

One folder holds one runtime, and data of a runtime becomes taps in its ``forward`` and nowhere
else. Nothing here trains, and no module above asks which runtime a model runs in.
"""

from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.loading import load

__all__ = ["Backbone", "Taps", "load"]
