"""Which part of a PyTorch module makes a sample's numbers depend on the others of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from skip2lora.backbones.alone import Batch, Verdict, depends_on_samples, mixed, verdict_of
from skip2lora.backbones.torch.frozen import frozen
from skip2lora.errors import ModelError

_MOST_NUMBERS = 1 << 20  # of one sample's tensor, that are compared


def numbers_of(tensor: Tensor, n_samples: int) -> NDArray[Any]:
    """A copy of its numbers, of a large one of some places along the last axis."""
    step = -(-tensor.numel() // (n_samples * _MOST_NUMBERS)) if tensor.ndim > 2 else 1
    some = tensor[..., ::step].detach()
    some = some.dequantize() if some.is_quantized else some
    values: NDArray[Any] = (some.float() if some.is_floating_point() else some).numpy(force=True)
    return values.copy()


def rounds_batches(module: nn.Module) -> bool:
    """Whether numbers become integers with one scale for all samples of a batch."""
    return any(".dynamic" in type(part).__module__ for part in module.modules())


def mixing(module: nn.Module, x: Any, batches: Sequence[Batch], verdict: Verdict) -> ModelError:
    """The error that names the part which does so first; ``verdict`` is that of the logits."""
    name, dynamic = type(module).__name__, rounds_batches(module)
    if verdict.fits(dynamic=dynamic):
        return mixed(name, "its output", verdict)
    runs = [(batch, _tensors(module, x, batch)) for batch in batches]
    for place, (title, _) in enumerate(runs[0][1]):
        if not all(len(tensors) > place and tensors[place][0] == title for _, tensors in runs):
            break  # another path for other batches
        own = [(batch, tensors[place][1]) for batch, tensors in runs]
        of_part = verdict_of(own)
        if not of_part.fits(dynamic=dynamic) and depends_on_samples(own):
            return mixed(name, title, of_part)
    return mixed(name, "its output", verdict)


def _tensors(module: nn.Module, x: Any, batch: Batch) -> list[tuple[str, NDArray[Any]]]:
    """What each part reads and makes, in the order in which that happens, with a title."""
    tensors: list[tuple[str, NDArray[Any]]] = []
    with frozen(module) as running:
        for name, part in module.named_modules():
            kind = type(part).__name__
            before = f"what is computed before {name} ({kind})" if name else "its input"
            behind = f"{name or 'forward'} ({kind})"

            def read(_: Any, args: Any, kwargs: Any, title: str = before) -> None:
                given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
                tensors.extend((title, numbers_of(each, len(batch))) for each in given[:1])

            def make(_: Any, __: Any, output: Any, title: str = behind) -> None:
                given = output if isinstance(output, tuple | list) else [output]
                some = [each for each in given if isinstance(each, Tensor)]
                tensors.extend((title, numbers_of(each, len(batch))) for each in some[:1])

            running.stack.callback(part.register_forward_pre_hook(read, with_kwargs=True).remove)
            running.stack.callback(part.register_forward_hook(make).remove)
        running.run(x[list(batch)])
    return tensors
