"""What training gives: adapters in memory, as a folder; rows, and the Skip-Cache that keeps them.

No training and no backbone lives here; a row is laid out here as the cache and the adapters both
need it, and what an adapter adds to base logits is computed here and nowhere else.
"""

from skip2lora.adapters.adapters import Adapters, LayerAdapters, Result, SkipAdapters, TunedNetwork

__all__ = ["Adapters", "LayerAdapters", "Result", "SkipAdapters", "TunedNetwork"]
