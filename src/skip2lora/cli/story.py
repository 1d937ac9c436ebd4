"""``skip2lora demo --field``: a service meets noise on simulated data, with its page."""

from __future__ import annotations

import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from skip2lora.arrays import real
from skip2lora.backbones.loading import load
from skip2lora.cli import bars, common
from skip2lora.errors import FileError, SuspectLabelsWarning
from skip2lora.serve import security
from skip2lora.serve.http import application, need_starlette
from skip2lora.serve.server import Stop, listening, run
from skip2lora.serve.service import Service
from skip2lora.serve.story import N_SAMPLES, Scenes, Story, play, prepare
from skip2lora.training.rehearsal import lab_set_beside

HOST, MOST_BYTES = "127.0.0.1", 1 << 20
_MOST_S = 3_600


class _StoppedError(Exception):
    """The story was stopped by a signal."""


@dataclass(frozen=True)
class Setting:
    """Where the story takes place, and how fast.

    Without a ``store`` it is in a folder that goes at the end. ``stay`` serves the page after the
    end until a signal comes.
    """

    seed: int
    store: Path | None
    port: int
    seconds: float
    stay: bool


def tell(setting: Setting, *, as_json: bool) -> None:
    """Play the story and print it.

    Raises:
        FileError: there is a store already, or the system refused.
        MissingExtraError: what the page needs is not installed.
        ParameterError: an option is out of range.
    """
    real("seconds", setting.seconds, 0, _MOST_S, f"from 0 to {_MOST_S}")
    need_starlette()
    warnings.simplefilter("ignore", SuspectLabelsWarning)  # the page lists them
    stop = Stop()
    with ExitStack() as stack:
        store = setting.store
        if store is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fan"
        file = _model_of(store)
        at = stack.enter_context(listening(HOST, setting.port))
        with bars.progress_bar("pretrain") as callback:
            scenes = prepare(file, seed=setting.seed, callback=callback)
        service = stack.enter_context(Service(load(file), store, name="fan", seed=setting.seed))
        url = f"http://{HOST}:{at.getsockname()[1]}"
        worker = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(stop.say)  # before the worker is waited for
        _introduce(setting, url, as_json=as_json)
        policy = security.policy_for(HOST, at.getsockname()[1], None, MOST_BYTES)
        playing = _Playing(setting, stop, as_json)
        run(
            application(service, policy, stop), at, stop,
            lambda: playing.begin(worker, service, scenes),
        )  # fmt: skip
        stop.say()
        story = playing.story()
    if story is None:
        signal.raise_signal(signal.Signals(stop.signal or signal.SIGINT))
        return
    if as_json:
        facts = {"url": url, "store": setting.store and str(setting.store), **asdict(story)}
        common.show(facts, [], as_json=True)
    elif setting.store is not None:
        click.echo(f"go on: skip2lora serve {file} --store {store}")


def _model_of(store: Path) -> Path:
    """Where the model of a new store is written: beside it.

    Raises:
        FileError: something is there already.
    """
    file = store.parent / f"{store.name}.safetensors"
    for each in (store, file, lab_set_beside(file)):
        if each.exists() or each.is_symlink():
            raise FileError(f"{each} is there already, expected a new name: choose another")
    return file


def _introduce(setting: Setting, url: str, *, as_json: bool) -> None:
    """Say where the page is, before anything happens there."""
    stays = "until Ctrl-C" if setting.stay else "until the story ends (--stay keeps it)"
    line = f"the page: {url} {stays}"
    if as_json:
        common.say_notes([line])
    else:
        click.echo(f"A fan monitor that knows a quiet room, on simulated data.\n{line}")


class _Playing:
    """The story in a thread, beside the page."""

    def __init__(self, setting: Setting, stop: Stop, as_json: bool) -> None:
        self._setting, self._stop, self._as_json = setting, stop, as_json
        self._future: Future[Story] | None = None

    def begin(self, worker: ThreadPoolExecutor, service: Service, scenes: Scenes) -> None:
        """Play it, and stop what serves the page at the end, unless that stays."""
        say: Callable[[str], object] = (lambda _: None) if self._as_json else click.echo
        self._future = worker.submit(play, service, scenes, self._step, say)
        if not self._setting.stay:
            self._future.add_done_callback(lambda _: self._stop.say())

    def _step(self) -> None:
        if self._stop():
            raise _StoppedError
        time.sleep(self._setting.seconds / N_SAMPLES)

    def story(self) -> Story | None:
        """What happened; None where a signal came first."""
        if self._future is None:
            return None
        try:
            return self._future.result()
        except _StoppedError:
            return None
