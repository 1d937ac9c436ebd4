"""Going on from an adapter: what it learned is kept, new samples join as if all came at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.kept import Kept, KeptSamples, kept_beside
from skip2lora.adapters.store import CacheFolder
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.data.joined import joined as joined_samples
from skip2lora.data.lazy import digests_of
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.tasks.joined import joined as joined_answers
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Encoded
from skip2lora.tasks.weights import check_weights, leave_out
from skip2lora.training.loop import checked
from skip2lora.training.watch import Checkpoint

#: Options that are as they were where nothing else is said.
_LASTING = (
    "method", "recipe", "rank", "epochs", "batch_size", "learning_rate", "seed", "optimizer",
    "weight_decay", "schedule", "validation", "patience", "task", "new_classes", "keep_outputs",
    "standardize", "class_weight", "solver", "penalty", "keep_weight", "projection",
    "projection_from", "cache_dtype",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned, before weights of classes: checked samples and encoded answers."""

    x: Any
    answers: Encoded
    weight: NDArray[np.float32] | None
    group: NDArray[Any] | None

    @classmethod
    def of(
        cls, x: Any, answers: Encoded, weight: NDArray[np.float32] | None, groups: Any,
        row: NDArray[np.int64],
    ) -> Learned:  # fmt: skip
        """``groups`` are those of all samples, of which the ones at ``row`` are left."""
        return cls(x, answers, weight, None if groups is None else np.asarray(groups)[row])


@dataclass(frozen=True, eq=False)
class Going:
    """What is to be learned in all, by ``options``, the keywords of ``adapt``."""

    model: Backbone
    x: Any
    y: Any
    options: dict[str, Any]
    asked: dict[str, Any]
    keeps: bool = False
    earlier: KeptSamples | None = None
    gone: NDArray[np.int64] | None = None
    gone_digests: tuple[bytes, ...] = ()
    place: Any = None

    @classmethod
    def of(
        cls, model: Backbone | AdaptedModel, x: Any, y: Any, options: dict[str, Any],
        usual: Mapping[str, Any],
    ) -> Going:  # fmt: skip
        """What is passed, behind what ``model`` learned if it is an adapted one.

        Raises:
            DataError: samples or answers that do not fit, or an id that is not there.
            ParameterError: nothing is kept, or an option that does not go with it.
        """
        options = dict(options)
        keep_rows, forget = options.pop("keep_rows"), options.pop("forget")
        if isinstance(model, AdaptedModel):
            return cls._behind(model, x, y, options, usual, forget)
        if forget is not None:
            raise ParameterError(
                "forget is set without an adapter whose samples are kept, expected one: pass an "
                "adapted model, of keep_rows=True"
            )
        network, checkpoint = check_backbone(model).network, options["checkpoint"]
        if not keep_rows:
            if isinstance(checkpoint, Checkpoint) and options["cache"] is None and network is None:
                options["cache"] = CacheFolder(Path(checkpoint.path) / "rows")
            return cls(model, x, y, options, {})
        asked, place = _asked(options, usual), None
        if METHODS[options["method"] or "skip2-lora"].tunes_network:
            raise ParameterError(
                f"keep_rows is set with method {options['method']}, which changes the network, "
                "expected one that gives an adapter: leave keep_rows out"
            )
        if network is None and not isinstance(options["cache"], CacheFolder):
            place = tempfile.TemporaryDirectory(prefix="skip2lora-rows-")
            options["cache"] = CacheFolder(place.name)
        return cls(model, x, y, options, asked, keeps=True, place=place)

    @classmethod
    def _behind(
        cls, adapted: AdaptedModel, x: Any, y: Any, options: dict[str, Any],
        usual: Mapping[str, Any], forget: ArrayLike | None,
    ) -> Going:  # fmt: skip
        memory = adapted.memory or kept_beside(adapted.path)
        model, earlier, gone, digests = adapted.base, memory.samples, memory.gone, memory.gone_rows
        asked = {**earlier.asked, **_asked(options, usual)}
        if earlier.asked.get("keep") is True and options["keep"] is None:
            raise ParameterError(
                "the adapter learned old samples too, which are not kept, expected them again: "
                "pass keep=, or keep=False to leave them"
            )
        if forget is not None:
            ids = _ids(forget)
            earlier, gone = earlier.without(ids), ids if gone is None else np.union1d(gone, ids)
            if memory.cache is not None:
                left = memory.samples.x[np.isin(memory.samples.ids, ids)]
                digests = (*digests, *digests_of(left))
        options |= {name: _pairs(name, value) for name, value in asked.items() if name != "keep"}
        if asked.get("keep") is False:
            options["keep"] = False
        options |= {"columns": adapted.columns, "images": options["images"] or adapted.images}
        learned = TASKS[adapted.task]
        if options["keep_outputs"] or learned.numeric_targets:
            options["output_names"] = adapted.output_names
        parts = [Learned(earlier.x, earlier.answers, earlier.weight, earlier.group)]
        if len(x):
            parts.append(_new(model, x, y, options, earlier, adapted))
        if model.network is None and not isinstance(options["cache"], CacheFolder):
            options["cache"] = memory.cache
        options["sample_weight"] = _weights(parts)
        options["groups"] = _groups(parts)
        if digests:  # unless it is there still, or again
            there = {digest for part in parts for digest in digests_of(part.x)}
            digests = tuple(set(digests) - there)
        return cls(
            model, joined_samples([part.x for part in parts], settled=model.network is None),
            joined_answers([part.answers for part in parts]), options, asked, True, earlier, gone,
            digests, memory.place,
        )  # fmt: skip

    def memory(self, learned: Learned) -> Kept | None:
        """What is to be kept beside the adapter that came of it; None where nothing is."""
        if not self.keeps:
            return None
        n_new, ids, next_id = len(learned.x), np.empty(0, np.int64), 0
        if self.earlier is not None:
            ids, next_id = self.earlier.ids, self.earlier.next_id
            n_new -= len(ids)
        ids = np.concatenate([ids, np.arange(next_id, next_id + n_new)])
        samples = KeptSamples(
            ids, next_id + n_new, learned.x, learned.answers, learned.weight, learned.group,
            self.asked,
        )  # fmt: skip
        folder = self.options["cache"]
        return Kept(
            samples, folder if isinstance(folder, CacheFolder) else None, self.place, self.gone,
            self.gone_digests,
        )  # fmt: skip


def _asked(options: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Lasting options that are not as ``usual``, as JSON has them."""
    asked = {name: options[name] for name in _LASTING if options[name] != usual[name]}
    if isinstance(asked.get("class_weight"), Mapping):
        asked["class_weight"] = [list(pair) for pair in asked["class_weight"].items()]
    if options["keep"] is not None:
        asked["keep"] = options["keep"] is not False
    return asked


def _ids(forget: ArrayLike) -> NDArray[np.int64]:
    """Numbers of samples, each once.

    Raises:
        DataError: they are no whole numbers.
    """
    ids = np.asarray(forget)
    if len(ids.reshape(-1)) and ids.dtype.kind not in "iu":
        raise DataError(
            f"forget has numbers of type {ids.dtype}, expected ids of samples, whole numbers: "
            "correct it"
        )
    return np.unique(ids.astype(np.int64))


def _pairs(name: str, value: Any) -> Any:
    return dict(value) if name == "class_weight" and isinstance(value, list) else value


def _new(
    model: Backbone, x: Any, y: Any, options: Mapping[str, Any], earlier: KeptSamples,
    adapted: AdaptedModel,
) -> Learned:  # fmt: skip
    """New samples, as the earlier ones are kept."""
    samples, weight, group = checked(model, adapted.columns.take(x)), None, options["groups"]
    group = None if group is None else np.asarray(group)
    if options["sample_weight"] is not None:
        weight = check_weights(options["sample_weight"], len(samples))
        group = None if group is None else group[weight > 0]
        samples, y, weight = leave_out(samples, y, weight)
    anew = options["new_classes"] or not options["keep_outputs"]
    outputs = earlier.answers.outputs
    answers = encode(TASKS[adapted.task], y, len(samples), outputs, new_outputs=anew)
    return Learned(samples, answers, weight, group)


def _weights(parts: Sequence[Learned]) -> NDArray[np.float32] | None:
    """Of all samples, 1 of those that have none; None where no part has any."""
    if all(part.weight is None for part in parts):
        return None
    ones = [np.ones(len(part.x), np.float32) for part in parts]
    own = [part.weight for part in parts]
    return np.concatenate([one if of is None else of for of, one in zip(own, ones, strict=True)])


def _groups(parts: Sequence[Learned]) -> NDArray[Any] | None:
    """Of all samples, where all have groups.

    Raises:
        DataError: only some have.
    """
    groups = [part.group for part in parts if part.group is not None]
    if not groups:
        return None
    if len(groups) < len(parts):
        raise DataError(
            "some samples have groups and others none, expected groups of all or of none: pass "
            "groups= of the new ones as of the earlier ones"
        )
    return np.concatenate(groups)
