"""Labels are studied in a process of its own, so that predictions go on beside it.

What is asked and answered is JSON and the bytes of files. The process has the model and the lab set
from the start, reads the store itself, and writes nothing.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skip2lora import errors
from skip2lora.data.media import Media, media_in
from skip2lora.errors import Skip2LoraError
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.classes import Classes
from skip2lora.serve.database import FILE, Reader
from skip2lora.serve.numbers import Numbers
from skip2lora.serve.nursery import MOST_S, Nursery
from skip2lora.serve.study import Now, Studied, Study
from skip2lora.serve.versions import read_version
from skip2lora.serve.vocabulary import remembered
from skip2lora.system import own_bytes

_STUDIED, _REFUSED = b"studied", b"refused"
_ERRORS = {
    of.__name__: of
    for of in (
        errors.DataError, errors.FileError, errors.ModelError, errors.ParameterError,
        errors.DivergedError,
    )
}  # fmt: skip


class StudyApart:
    """As :class:`~skip2lora.serve.study.Study` of the store in a folder, each call in a process.

    Make it before there are threads and connections.
    """

    def __init__(self, frozen: Frozen, labels: Classes | Numbers, store: Path) -> None:
        store = store.absolute()

        def load(number: int) -> Version:
            return Version(number, frozen, read_version(store, number, frozen.model))

        def work(asked: bytes) -> bytes:
            with closing(Reader(store / FILE)) as reader:
                frozen.vocabulary = remembered(reader) or frozen.vocabulary
                return _studied(Study(frozen, labels, reader, load), json.loads(asked))

        self._nursery = Nursery(work, MOST_S)

    @property
    def there(self) -> bool:
        """Whether calls can be made."""
        return self._nursery.process is not None

    def close(self) -> None:
        """End what runs."""
        self._nursery.close()

    def contradiction(self, now: Now) -> str | None:
        """As there.

        Raises:
            FileError: the process ended, too.
        """
        said: str | None = json.loads(self._asked(asdict(now)))
        return said

    def candidate(self, now: Now, images: Media | None) -> Studied:
        """As there.

        Raises:
            FileError: the process ended, too.
        """
        said = {} if images is None else {images.key: images.to_json()}
        return Studied.from_bytes(self._asked(asdict(now) | {"media": said}))

    def weighed(self, now: Now) -> tuple[int, int]:
        """Bytes of the process that waits, and of one that has learned, which others do not share.

        Raises:
            FileError: as :meth:`candidate`.
        """
        learned: int = json.loads(self._asked(asdict(now) | {"media": {}, "weigh": True}))
        process = self._nursery.process
        return (0 if process is None else own_bytes(process)), learned

    def _asked(self, asked: dict[str, Any]) -> bytes:
        kind, _, content = self._nursery.call(json.dumps(asked).encode()).partition(b"\n")
        if kind == _REFUSED:
            name, text = json.loads(content)
            raise _ERRORS.get(name, Skip2LoraError)(text)
        return content


def _studied(study: Study, asked: dict[str, Any]) -> bytes:
    """The answer: whether it was refused, and behind a line end what came of it."""
    media, weigh = asked.pop("media", None), asked.pop("weigh", False)
    try:
        if media is None:
            content = json.dumps(study.contradiction(Now(**asked))).encode()
        else:
            content = study.candidate(Now(**asked), media_in(media)).to_bytes()
        if weigh:
            content = json.dumps(own_bytes(os.getpid())).encode()
    except Skip2LoraError as error:
        return _REFUSED + b"\n" + json.dumps([type(error).__name__, str(error)]).encode()
    return _STUDIED + b"\n" + content
