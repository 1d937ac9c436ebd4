"""The paper's equations in float64 NumPy: what every faster implementation is compared with.

Written from the paper alone ([6] is its reference on batch normalisation); imports no project code.
Whatever precision goes in, float64 comes out; no argument is written to. x is (batch, n_inputs),
y (batch, n_outputs), weight (n_inputs, n_outputs), wa (n_inputs, rank), wb (rank, n_outputs).
"""

import numpy as np


def wide(*arrays):
    return [np.asarray(array, dtype=np.float64) for array in arrays]


def fc_forward(x, weight, bias):
    x, weight, bias = wide(x, weight, bias)
    return x @ weight + bias  # Eq. 1 without G: batch norm and ReLU are functions of their own


def fc_backward(types, x, gy, weight):
    """Table 1: of {"w", "b", "x"}, only the gradients that `types` (out of "ywbx") asks for."""
    x, gy, weight = wide(x, gy, weight)
    gw = x.T @ gy  # Eq. 2
    gb = gy.sum(axis=0)  # Eq. 3
    gx = gy @ weight.T  # Eq. 4
    return {name: grad for name, grad in zip("wbx", (gw, gb, gx), strict=True) if name in types}


def lora_forward(x, wa, wb):
    x, wa, wb = wide(x, wa, wb)
    hidden = x @ wa  # Eq. 7: y_A (batch, rank)
    return hidden, hidden @ wb  # Eq. 8: y_B; adding it (Eq. 9 or 17) is the caller's


def lora_backward(types, x, hidden, gy, wa, wb):
    """Table 1: {"gh"}, with "w" also {"a", "b"}, with "x" also {"x"}."""
    x, hidden, gy, wa, wb = wide(x, hidden, gy, wa, wb)
    gwb = hidden.T @ gy  # Eq. 10
    gh = gy @ wb.T  # Eq. 11: gx_B (batch, rank)
    gwa = x.T @ gh  # Eq. 12
    gxa = gh @ wa.T  # Eq. 13: adding it (Eq. 14) is the caller's
    grads = {"gh": gh} | ({"a": gwa, "b": gwb} if "w" in types else {})
    return grads | ({"x": gxa} if "x" in types else {})


def bn_forward_batch(z, gamma, beta, eps=1e-5):
    """Statistics of the batch: y, and the cache (z_hat, 1 / std) that bn_backward takes."""
    z, gamma, beta = wide(z, gamma, beta)
    assert len(z) > 1, f"batch statistics need 2 rows or more, got {len(z)}"
    return bn_forward_frozen(z, gamma, beta, z.mean(axis=0), z.var(axis=0), eps)  # [6] Alg. 1


def bn_forward_frozen(z, gamma, beta, mean, var, eps=1e-5):
    z, gamma, beta, mean, var = wide(z, gamma, beta, mean, var)
    inverse_std = 1 / np.sqrt(var + eps)
    z_hat = (z - mean) * inverse_std
    return gamma * z_hat + beta, (z_hat, inverse_std)  # [6] Alg. 2


def bn_running(z, mean, var, momentum=0.1):
    """Running mean and variance after the batch z: the unbiased variance, as in PyTorch."""
    z, mean, var = wide(z, mean, var)
    mean = (1 - momentum) * mean + momentum * z.mean(axis=0)
    return mean, (1 - momentum) * var + momentum * z.var(axis=0, ddof=1)  # [6] Alg. 2


def bn_backward(gy, gamma, cache, *, batch_statistics):
    """gz, ggamma, gbeta; with batch statistics gy also flows through the mean and the variance."""
    gy, gamma, z_hat, inverse_std = wide(gy, gamma, *cache)
    gz = gamma * gy  # [6] section 3: the gradient of z_hat
    if batch_statistics:
        gz = gz - gz.mean(axis=0) - z_hat * (gz * z_hat).mean(axis=0)
    return gz * inverse_std, (gy * z_hat).sum(axis=0), gy.sum(axis=0)


def relu_forward(z):
    return np.maximum(*wide(z, 0))


def relu_backward(gy, z):
    return np.where(np.asarray(z) > 0, *wide(gy, 0))


def softmax_cross_entropy(logits, labels):
    """The mean loss, and its gradient: divided by the size of this very batch."""
    (logits,) = wide(logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    share = np.eye(logits.shape[1])[labels] / len(logits)  # one-hot labels over the batch size
    return -(share * log_softmax).sum(), np.exp(log_softmax) / len(logits) - share


def net_forward(params, rows, x, *, lora_to_last=False):
    """Algorithm 1, line 6: the taps x^k, y^n before Eq. 17, and what the backward pass needs."""
    taps, saved = [], []
    for layer, row in zip(params, rows, strict=True):
        y = fc_forward(x, layer["weight"], layer["bias"])  # Eq. 1
        if row["lora"] and not lora_to_last:
            y = y + lora_forward(x, layer["lora_a"], layer["lora_b"])[1]  # Eq. 9, before batch norm
        seen = {"before_bn": y}
        if layer["gamma"] is not None:
            scale, running = (layer["gamma"], layer["beta"]), (layer["mean"], layer["var"])
            if "s" in row["bn"]:
                y, seen["bn"] = bn_forward_batch(y, *scale)
            else:
                y, seen["bn"] = bn_forward_frozen(y, *scale, *running)
        taps, saved = [*taps, x], [*saved, seen | {"before_relu": y}]
        x = relu_forward(y)  # G of every layer but the last
    return taps, y, saved


def net_step(
    params, rows, x, labels, learning_rate, *, lora_to_last=False, cached=None,
    mean_loss=softmax_cross_entropy,
):  # fmt: skip
    """One batch of SGD: the parameters after it, the mean loss before it, the gradients.

    params: a dict a layer: weight, bias, gamma, beta, mean, var, lora_a, lora_b (None if absent).
    rows: a dict a layer of compute types: fc "ywbx"; lora "", "yw" or "ywx"; bn with "s" (batch
    statistics) and "w" (gamma, beta trained). lora_to_last: Eq. 17 in place of Eq. 9; with it,
    cached (taps, base_logits) stands in for x (Skip2-LoRA). mean_loss is one of oracle_losses, of
    labels or targets. Other tensors come back untouched.
    """
    whole = lora_to_last and cached and (*cached, [{}] * len(rows))
    taps, logits, saved = whole or net_forward(params, rows, x, lora_to_last=lora_to_last)
    for layer, row, tap in zip(params, rows, taps, strict=True):
        if row["lora"] and lora_to_last:
            logits = logits + lora_forward(tap, layer["lora_a"], layer["lora_b"])[1]  # Eq. 17
    loss, grad_logits = mean_loss(logits, labels)
    after, grads, gy = [], [], grad_logits  # gy: None below the last layer that computes gx
    for layer, row, tap, seen in reversed(list(zip(params, rows, taps, saved, strict=True))):
        new, grad, lora = dict(layer), {}, {}
        asked = row["fc"].strip("y") + row["bn"].strip("s") + row["lora"] * (not lora_to_last)
        assert gy is not None or not asked, f"{row} gets no gradient: add x to the layer above"
        if after and gy is not None:  # a layer that is not the last
            gy = relu_backward(gy, seen["before_relu"])
        if "bn" in seen and gy is not None:
            batch = "s" in row["bn"]
            gy, *scale = bn_backward(gy, layer["gamma"], seen["bn"], batch_statistics=batch)
            grad.update(zip(("gamma", "beta"), scale, strict=True) if "w" in row["bn"] else {})
        fc = {} if gy is None else fc_backward(row["fc"], tap, gy, layer["weight"])
        grad.update({name: fc[name[0]] for name in ("weight", "bias") if name[0] in fc})
        if row["lora"]:
            wa, wb, lora_gy = layer["lora_a"], layer["lora_b"], grad_logits if lora_to_last else gy
            lora = lora_backward(row["lora"], tap, lora_forward(tap, wa, wb)[0], lora_gy, wa, wb)
            grad.update(lora_a=lora["a"], lora_b=lora["b"])
        gx = [part["x"] for part in (fc, lora) if "x" in part]
        gy = sum(gx) if gx else None  # Eq. 14
        for name, gradient in grad.items():
            new[name] = layer[name] - learning_rate * gradient  # Eqs. 5, 6, 15, 16
        if "bn" in seen and "s" in row["bn"]:
            new["mean"], new["var"] = bn_running(seen["before_bn"], layer["mean"], layer["var"])
        after, grads = [new, *after], [grad, *grads]
    return after, loss, grads
