/* vector_objective.h - what exact solvers need of a table; included by kernels_vector.h. Samples lie in
 * lanes, whose number is a multiple of V_WIDTH. */

/* Cross entropy of a vector of samples, with shares of the classes as targets. */
INLINE V softmax_samples(const s2_objective *pass, size_t s, V weight, const float *logits,
                         float *grad) {
    const size_t lanes = pass->lanes, stride = pass->target_stride, n_outputs = pass->n_outputs;
    const float *target = pass->target + s;
    V best = V_LOAD(logits + s), sum = V_ZERO(), loss = V_ZERO();
    for (size_t o = 1; o < n_outputs; o++) {
        const V logit = V_LOAD(logits + o * lanes + s);
        best = choose(V_LESS(best, logit), logit, best);
    }
    for (size_t o = 0; o < n_outputs; o++) {
        const V above = V_SUB(best, V_LOAD(logits + o * lanes + s));
        const V power = exp_vector(V_SUB(V_ZERO(), above));
        loss = V_FMA(V_LOAD(target + o * stride), above, loss);
        sum = V_ADD(sum, power);
        V_STORE(grad + o * lanes + s, power);
    }
    const V factor = V_DIV(V_SET(1.0f), sum);
    for (size_t o = 0; o < n_outputs; o++) {
        float *at = grad + o * lanes + s;
        const V off = V_FMA(V_LOAD(at), factor, V_SUB(V_ZERO(), V_LOAD(target + o * stride)));
        V_STORE(at, V_MUL(weight, off));
    }
    return V_ADD(loss, log_vector(sum));
}

/* max(z, 0) - z t + log(1 + exp(-|z|)) of each output: no exponential that overflows. */
INLINE V sigmoid_samples(const s2_objective *pass, size_t s, V weight, const float *logits,
                         float *grad) {
    V loss = V_ZERO();
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const V z = V_LOAD(logits + o * pass->lanes + s);
        const V t = V_LOAD(pass->target + o * pass->target_stride + s);
        const VI positive = V_LESS(V_ZERO(), z);
        const V power = exp_vector(choose(positive, V_SUB(V_ZERO(), z), z));
        const V sum = V_ADD(power, V_SET(1.0f));
        const V probability = V_DIV(choose(positive, V_SET(1.0f), power), sum);
        const V linear = V_SUB(choose(positive, z, V_ZERO()), V_MUL(z, t));
        loss = V_ADD(loss, V_ADD(linear, log_vector(sum)));
        V_STORE(grad + o * pass->lanes + s, V_MUL(weight, V_SUB(probability, t)));
    }
    return loss;
}

INLINE V squared_samples(const s2_objective *pass, size_t s, V weight, const float *outputs,
                         float *grad) {
    V loss = V_ZERO();
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const size_t at = o * pass->lanes + s;
        const V off =
            V_SUB(V_LOAD(outputs + at), V_LOAD(pass->target + o * pass->target_stride + s));
        loss = V_FMA(V_MUL(off, V_SET(0.5f)), off, loss);
        V_STORE(grad + at, V_MUL(weight, off));
    }
    return loss;
}

/* The lanes of v to double sums of lanes. */
INLINE void add_lanes(V v, double *total) {
    float lane[V_WIDTH];
    V_STORE(lane, v);
    for (size_t l = 0; l < V_WIDTH; l++) {
        total[l] += (double)lane[l];
    }
}

INLINE double total_of_lanes(const double *total) {
    double sum = 0.0;
    for (size_t l = 0; l < V_WIDTH; l++) {
        sum += total[l];
    }
    return sum;
}

static double vector_objective(const s2_objective *pass, const float *logits, float *grad) {
    double total[V_WIDTH] = {0};
    for (size_t s = 0; s < pass->lanes; s += V_WIDTH) {
        const V weight = V_LOAD(pass->weight + s);
        V loss;
        if (pass->loss == S2_SOFTMAX) {
            loss = softmax_samples(pass, s, weight, logits, grad);
        } else if (pass->loss == S2_SIGMOID) {
            loss = sigmoid_samples(pass, s, weight, logits, grad);
        } else {
            loss = squared_samples(pass, s, weight, logits, grad);
        }
        add_lanes(V_MUL(weight, loss), total);
    }
    return total_of_lanes(total);
}

enum { DOT_CHAINS = 4, DOT_BLOCK = 16 * DOT_CHAINS * V_WIDTH };

/* Of at most DOT_BLOCK floats in float32, so that the sums stay short. */
INLINE void dot_block(size_t size, const float *a, const float *b, double *total) {
    V sum[DOT_CHAINS] = {V_ZERO(), V_ZERO(), V_ZERO(), V_ZERO()};
    size_t i = 0;
    for (; i + DOT_CHAINS * V_WIDTH <= size; i += DOT_CHAINS * V_WIDTH) {
        UNROLL for (size_t c = 0; c < DOT_CHAINS; c++) {
            sum[c] = V_FMA(V_LOAD(a + i + c * V_WIDTH), V_LOAD(b + i + c * V_WIDTH), sum[c]);
        }
    }
    for (; i < size; i += V_WIDTH) {
        const size_t part = size - i < V_WIDTH ? size - i : V_WIDTH;
        sum[0] = V_FMA(load_part(a + i, part), load_part(b + i, part), sum[0]);
    }
    add_lanes(V_ADD(V_ADD(sum[0], sum[1]), V_ADD(sum[2], sum[3])), total);
}

static double vector_dot(size_t size, const float *a, const float *b) {
    double total[V_WIDTH] = {0};
    for (size_t i = 0; i < size; i += DOT_BLOCK) {
        dot_block(size - i < DOT_BLOCK ? size - i : DOT_BLOCK, a + i, b + i, total);
    }
    return total_of_lanes(total);
}

INLINE void add_scaled_tile(size_t i, size_t part, V factor, const float *x, float *y) {
    store_part(y + i, part, V_FMA(factor, load_part(x + i, part), load_part(y + i, part)));
}

static void vector_add_scaled(size_t size, float factor, const float *x, float *y) {
    FOR_VECTORS(size, add_scaled_tile, V_SET(factor), x, y);
}
