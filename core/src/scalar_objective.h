/* scalar_objective.h - what exact solvers need of a table; included by kernels_scalar.c. */

/* Cross entropy of one sample, whose logits lie `lanes` apart, with shares of the classes as its
 * target. */
static float scalar_softmax(const s2_objective *pass, size_t s, const float *logits, float *grad) {
    const size_t lanes = pass->lanes;
    const float *target = pass->target + s;
    const float weight = pass->weight[s];
    float best = logits[s], sum = 0.0f, loss = 0.0f;
    for (size_t o = 1; o < pass->n_outputs; o++) {
        best = logits[o * lanes + s] > best ? logits[o * lanes + s] : best;
    }
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const float below = logits[o * lanes + s] - best, power = exp_poly(below);
        loss -= target[o * pass->target_stride] * below;
        sum += power;
        grad[o * lanes + s] = power;
    }
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const float probability = grad[o * lanes + s] / sum;
        grad[o * lanes + s] = weight * (probability - target[o * pass->target_stride]);
    }
    return loss + log_poly(sum);
}

/* max(z, 0) - z t + log(1 + exp(-|z|)) of each output: no exponential that overflows. */
static float scalar_sigmoid(const s2_objective *pass, size_t s, const float *logits, float *grad) {
    float loss = 0.0f;
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const float z = logits[o * pass->lanes + s], t = pass->target[o * pass->target_stride + s];
        const float power = exp_poly(z > 0.0f ? -z : z), sum = 1.0f + power;
        const float probability = (z > 0.0f ? 1.0f : power) / sum;
        loss += (z > 0.0f ? z : 0.0f) - z * t + log_poly(sum);
        grad[o * pass->lanes + s] = pass->weight[s] * (probability - t);
    }
    return loss;
}

static float scalar_squared(const s2_objective *pass, size_t s, const float *outputs, float *grad) {
    float loss = 0.0f;
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const size_t at = o * pass->lanes + s;
        const float off = outputs[at] - pass->target[o * pass->target_stride + s];
        loss += 0.5f * off * off;
        grad[at] = pass->weight[s] * off;
    }
    return loss;
}

static double scalar_objective(const s2_objective *pass, const float *logits, float *grad) {
    double total = 0.0;
    for (size_t s = 0; s < pass->lanes; s++) {
        if (pass->weight[s] == 0.0f) { /* left out, whatever it is */
            for (size_t o = 0; o < pass->n_outputs; o++) {
                grad[o * pass->lanes + s] = 0.0f;
            }
            continue;
        }
        const float loss = pass->loss == S2_SOFTMAX   ? scalar_softmax(pass, s, logits, grad)
                           : pass->loss == S2_SIGMOID ? scalar_sigmoid(pass, s, logits, grad)
                                                      : scalar_squared(pass, s, logits, grad);
        total += (double)(loss * pass->weight[s]);
    }
    return total;
}

static void scalar_column_moments(const s2_moments *moments, const s2_moments_pass *pass) {
    size_t at = 0;
    for (; at + COLUMNS_AT_ONCE <= moments->width; at += COLUMNS_AT_ONCE) {
        moments_of_columns(moments, pass, at, COLUMNS_AT_ONCE);
    }
    moments_of_columns(moments, pass, at, moments->width - at);
}

static void scalar_dots(size_t count, size_t size, const float *a, const float *const *b,
                        double *products) {
    for (size_t j = 0; j < count; j++) {
        double sum = 0.0;
        for (size_t i = 0; i < size; i++) {
            sum += (double)(a[i] * b[j][i]);
        }
        products[j] = sum;
    }
}

static void scalar_combine(size_t count, size_t size, float own, const float *factors,
                           const float *const *x, float *restrict y) {
    for (size_t i = 0; own != 1.0f && i < size; i++) {
        y[i] *= own;
    }
    for (size_t j = 0; j < count; j++) {
        const float *restrict by = x[j];
        for (size_t i = 0; i < size; i++) {
            y[i] += factors[j] * by[i];
        }
    }
}

static void scalar_transpose(size_t rows, size_t cols, const float *a, size_t a_row, float *out,
                             size_t out_row) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            out[c * out_row + r] = a[r * a_row + c];
        }
    }
}
