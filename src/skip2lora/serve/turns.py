"""When it learns: a thread of its own, which wakes as labels come and waits for enough of them."""

from __future__ import annotations

import threading

from skip2lora.errors import Skip2LoraError
from skip2lora.serve.events import Events
from skip2lora.serve.learner import Learner
from skip2lora.serve.store import Store

_PAUSE = 0.2  # seconds, in which more labels may come


class Turns:
    """Lets ``learner`` check and learn, once it is started and until it is closed."""

    def __init__(self, learner: Learner, store: Store, events: Events) -> None:
        self._learner, self._store, self._events = learner, store, events
        self._closing, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="skip2lora-learn", daemon=True)

    def start(self) -> None:
        """Learn from now on."""
        self._thread.start()

    def wake(self) -> None:
        """Say that labels came, or that the disk takes some again."""
        self._news.set()

    def close(self) -> None:
        """Wait until it learns no more."""
        self._closing.set()
        self._news.set()
        self._learner.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        store, learner, limits = self._store, self._learner, self._store.limits
        n_learned, newest = learner.records.all()[-1].n_labels, store.newest_label
        while True:
            self._news.wait()
            self._closing.wait(_PAUSE)
            self._news.clear()
            if self._closing.is_set():
                return
            try:
                learner.check()
                n_labels = store.n_labelled
                n_learned = max(n_learned, learner.records.all()[-1].n_labels)  # by hand
                enough = n_learned + limits.batch if n_learned else limits.first_batch
                due = n_labels >= enough
                if n_labels >= limits.labelled:  # as many as are kept: new ones replace old
                    due = due or store.n_labelled_after(newest) >= limits.batch
                if store.paused is None and due:
                    newest = store.newest_label
                    learner.learn()
                    n_learned = n_labels
            except Skip2LoraError as error:
                if self._closing.is_set():
                    return
                self._events.say("refused", version=None, reason=str(error))
