"""What a device does: adapt to its own samples, and judge what the fleet sends back.

Its samples and its model are files of its own, named by `--node-config` of its SuperNode:

    model   the model's file, the same on every device
    data    an `.npz` with `X` and `y`, the labelled samples
    folder  where the adapter in use is written, as `adapter`; none while the model is in use

A third of the samples is kept apart: no adapter learns them, and all are judged on them by the gate
of `skip2lora serve`, an exact test of McNemar.
"""

from __future__ import annotations

import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import skip2lora as s2
from skip2lora.serve.gate import Verdict, verdict
from skip2lora_fleet.folders import packed, unpacked

app = ClientApp()


@dataclass(frozen=True, eq=False)
class Device:
    """One device: model, folder, samples, and which of them are ``apart``, (samples,)."""

    model: s2.Backbone
    folder: Path
    x: np.ndarray
    y: np.ndarray
    apart: np.ndarray

    @classmethod
    def of(cls, context: Context) -> Device:
        """The one that the options of its SuperNode describe."""
        said = context.node_config
        with np.load(str(said["data"]), allow_pickle=False) as data:
            x, y = data["X"], data["y"]
        # By content, so that a sample stays on its side when others join it.
        apart = np.array([zlib.crc32(sample.tobytes()) % 3 == 0 for sample in x])
        return cls(s2.load(str(said["model"])), Path(str(said["folder"])), x, y, apart)

    @property
    def own(self) -> Path:
        """Where what it learned itself lies, in use or not."""
        return self.folder / "own"

    @property
    def in_use(self) -> Path:
        """Where the adapter in use lies, if there is one."""
        return self.folder / "adapter"

    def adapter(self, folder: Path) -> s2.AdaptedModel:
        """The model with the adapter of that folder; one of another model is refused."""
        return s2.AdaptedModel.load(self.model, folder)

    def judge(self, candidate: s2.AdaptedModel) -> Verdict:
        """The candidate against what is in use; it is in use from now on if it is proved better."""
        now = self.adapter(self.in_use) if self.in_use.exists() else self.model
        x, y = self.x[self.apart], self.y[self.apart]
        done = verdict(y, now.predict(x), candidate.predict(x))
        if done.adopt:
            candidate.save(self.in_use)
        return done


def answer(message: Message, what: str, done: Verdict, **more: ConfigRecord) -> Message:
    """The verdict, and what else is to be told."""
    told = ConfigRecord({"what": what, "adopt": done.adopt, "reason": done.reason})
    return Message(RecordDict({"verdict": told, **more}), reply_to=message)


@app.train()
def learn(message: Message, context: Context) -> Message:
    """Adapt to the samples that are not kept apart, judge, and send the adapter."""
    device = Device.of(context)
    rows = ~device.apart
    adapted = s2.adapt(device.model, device.x[rows], device.y[rows])
    adapted.save(device.own)
    done = device.judge(adapted)
    samples = ConfigRecord({"samples": int(rows.sum())})
    return answer(message, "own", done, adapter=packed(device.own), learned=samples)


@app.evaluate()
def judge(message: Message, context: Context) -> Message:
    """Judge the adapter of the fleet."""
    device = Device.of(context)
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked(message.content["adapter"], Path(scratch, "fleet"))
        done = device.judge(device.adapter(folder))
    return answer(message, "fleet", done)
