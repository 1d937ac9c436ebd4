"""Files of samples: tables, arrays and folders of images, read, checked and written.

What a file says becomes ``Samples`` here; what its labels mean to a model is decided in ``tasks``.
No model is run here.
"""

from skip2lora.data.predictions import write_predictions
from skip2lora.data.reading import read_samples, write_samples

__all__ = ["read_samples", "write_predictions", "write_samples"]
