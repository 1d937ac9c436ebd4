"""Many devices with the same model.

``merging`` makes one adapter of theirs. What learns is below; nothing here asks the model.
"""
