"""The paper's fine-tuning methods as rows of compute types, and networks to run them on."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kernels.cases import normal


@dataclass(frozen=True)
class Method:
    fc: tuple[str, str, str]  # compute types of the first, the middle and the last layer
    lora: tuple[str, str, str]
    bn: str  # of the hidden layers: s, statistics of the batch; w, gamma and beta are trained

    def rows(self, depth):
        """A dict a layer, as oracle.net_step takes them."""
        places = [0] + [1] * (depth - 2) + [2]
        return [
            {"fc": self.fc[at], "lora": self.lora[at], "bn": "" if at == 2 else self.bn}
            for at in places
        ]


NO_LORA, OWN_LORA = ("", "", ""), ("yw", "ywx", "ywx")
FC_ALL = ("ywb", "ywbx", "ywbx")
METHODS = {
    "ft-all": Method(FC_ALL, NO_LORA, "sw"),
    "ft-last": Method(("y", "y", "ywb"), NO_LORA, ""),
    "ft-bias": Method(("yb", "ybx", "ybx"), NO_LORA, "s"),
    "ft-all-lora": Method(FC_ALL, OWN_LORA, "sw"),
    "lora-all": Method(("y", "yx", "yx"), OWN_LORA, "s"),
    "lora-last": Method(("y", "y", "y"), ("", "", "yw"), ""),
    # With frozen statistics a hidden bias has a gradient: those of the batch take it off again
    "ft-all, frozen statistics": Method(FC_ALL, NO_LORA, "w"),
    "ft-bias, frozen statistics": Method(("yb", "ybx", "ybx"), NO_LORA, ""),
    "lora-all, frozen statistics": Method(("y", "yx", "yx"), OWN_LORA, "w"),
    # and statistics that move while the parameters of batch norm, or all below, are left alone
    "ft-last, batch statistics": Method(("y", "y", "ywb"), NO_LORA, "s"),
}
SKIP_LORA = Method(("y", "y", "y"), ("yw", "yw", "yw"), "")


def make_params(widths, rows, rank, *, seed=0, batch_norm=True, lora_to_last=False):
    """Random tensors, W_B among them; None where the rows name no adapter."""
    params = []
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        at, hidden = 100 * seed + 10 * number, batch_norm and number + 2 < len(widths)
        rank_here, lora_out = min(rank, n_in), widths[-1] if lora_to_last else n_out
        lora = {
            "lora_a": normal(at + 6, n_in, rank_here, scale=1 / np.sqrt(n_in)),
            "lora_b": normal(at + 7, rank_here, lora_out, scale=0.5),
        }
        params.append(
            {
                "weight": normal(at, n_in, n_out, scale=1 / np.sqrt(n_in)),
                "bias": normal(at + 1, n_out, scale=0.5),
                # beta opens a ReLU more often than not: a narrow layer must not be all shut
                "gamma": normal(at + 2, n_out, scale=0.7) if hidden else None,
                "beta": normal(at + 3, n_out, scale=0.5) + np.float32(0.5) if hidden else None,
                "mean": normal(at + 4, n_out) if hidden else None,
                "var": np.abs(normal(at + 5, n_out)) + np.float32(0.5) if hidden else None,
            }
            | (lora if rows[number]["lora"] else dict.fromkeys(lora))
        )
    return params
