"""Images and recordings that a request brings, as samples.

The bytes lie in a file of a folder of its own, whose name no request tells, while they are read by
what reads files from anywhere: its bounds on memory hold here too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip2lora.arrays import Inputs
from skip2lora.data.file_folder import IMAGES, SOUNDS, kind_for
from skip2lora.data.image_layout import layout_of
from skip2lora.data.lazy import read
from skip2lora.data.piped import suffix_of
from skip2lora.data.reading import read_table
from skip2lora.errors import DataError

if TYPE_CHECKING:
    from skip2lora.serve.service import Service

_HEAD = 12  # bytes, by which a file is known
_CALLED = "the upload"


def read_upload(service: Service, body: bytes) -> Mapping[str, Any]:
    """The samples in ``body``, by the names of the model's inputs: one, or a window each.

    Raises:
        DataError: it is no whole image or recording, or the model takes none.
        MissingExtraError: what reads it is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix_of(body[:_HEAD])}"
        if not any(kind.holds(path) for kind in (IMAGES, SOUNDS)):
            raise DataError(
                f"{_CALLED} is another file, expected an image or a recording: convert it"
            )
        path.write_bytes(body)
        return read_file(service, path, called=_CALLED)


def read_file(service: Service, path: Path, *, called: str | None = None) -> Mapping[str, Any]:
    """The samples of an image, a recording or a table, by the names of the model's inputs.

    Raises:
        DataError: it is of another kind than the model was adapted on, or damaged.
        FileError: it cannot be read.
        MissingExtraError: what reads it is not installed.
    """
    model = service.model
    inputs = model.inputs
    kind = next((kind for kind in (IMAGES, SOUNDS) if kind.holds(path)), None)
    images = service.images
    if images is not None and kind is not kind_for(images, path):
        expected = kind_for(images, path).one
        raise DataError(
            f"{called or path.name} is another kind of file, expected {expected} as the model "
            "learned: convert it"
        )
    if kind is None:
        table = read_table(
            path, learned=model.columns, labels_required=False, called=called,
            inputs=tuple(of.name for of in inputs) if len(inputs) > 1 else (),
        )  # fmt: skip
    else:
        table = read_table(
            path, images=kind.media().following(images), labels_required=False, called=called,
            layout=layout_of(inputs) if kind is IMAGES else inputs,
        )  # fmt: skip
    x = read(table.x)
    return x.arrays if isinstance(x, Inputs) else {inputs[0].name: x}
