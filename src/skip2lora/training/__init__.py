"""From rows and answers to adapters: one job a method, the loop over epochs.

Here every sample passes the frozen network once. What outputs mean is decided in ``tasks``, and
labels arrive as numbers: no file is read and no name is matched here.
"""

from skip2lora.training.loop import Callback, EpochReport, History, Timing, Trained, train
from skip2lora.training.pretraining import pretrain

__all__ = ["Callback", "EpochReport", "History", "Timing", "Trained", "pretrain", "train"]
