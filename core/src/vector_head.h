/* vector_head.h - logits, loss and their gradients; included by kernels_vector.h. */

/* exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 (as in Cephes); relative
 * error about 1e-7 for -87 <= x <= 88, clamped beyond. NaN stays NaN. */
INLINE V exp_vector(V x) {
    x = choose(V_LESS(x, V_SET(-87.0f)), V_SET(-87.0f), x);
    x = choose(V_LESS(V_SET(88.0f), x), V_SET(88.0f), x);
    const V magic = V_SET(ROUND_MAGIC);
    const V rounded = V_FMA(x, V_SET(1.44269504f), magic);
    const V n = V_SUB(rounded, magic);
    V r = V_FMA(n, V_SET(-0.693359375f), x);
    r = V_FMA(n, V_SET(2.12194440e-4f), r);
    V p = V_FMA(V_SET(1.9875691500e-4f), r, V_SET(1.3981999507e-3f));
    p = V_FMA(p, r, V_SET(8.3334519073e-3f));
    p = V_FMA(p, r, V_SET(4.1665795894e-2f));
    p = V_FMA(p, r, V_SET(1.6666665459e-1f));
    p = V_FMA(p, r, V_SET(5.0000001201e-1f));
    p = V_ADD(V_FMA(p, V_MUL(r, r), r), V_SET(1.0f));
    return V_MUL(p, (V)(((VI)rounded + 127) << 23));
}

/* log of positive normal numbers by x = 2^e m, sqrt(1/2) <= m < sqrt(2); error about 1e-7. NaN and
 * infinity stay themselves. */
INLINE V log_vector(V x) {
    const VI shifted = (VI)x - 0x3f3504f3; /* bits of sqrt(1/2) */
    const V e = __builtin_convertvector(shifted >> 23, V);
    const V m = V_SUB((V)((shifted & 0x007fffff) + 0x3f3504f3), V_SET(1.0f));
    const V z = V_MUL(m, m);
    V p = V_FMA(V_SET(7.0376836292e-2f), m, V_SET(-1.1514610310e-1f));
    p = V_FMA(p, m, V_SET(1.1676998740e-1f));
    p = V_FMA(p, m, V_SET(-1.2420140846e-1f));
    p = V_FMA(p, m, V_SET(1.4249322787e-1f));
    p = V_FMA(p, m, V_SET(-1.6668057665e-1f));
    p = V_FMA(p, m, V_SET(2.0000714765e-1f));
    p = V_FMA(p, m, V_SET(-2.4999993993e-1f));
    p = V_FMA(p, m, V_SET(3.3333331174e-1f));
    p = V_FMA(V_MUL(p, m), z, V_FMA(e, V_SET(-2.12194440e-4f), V_MUL(V_SET(-0.5f), z)));
    p = V_ADD(p, m);
    return choose(V_LESS(x, V_SET(INFINITY)), V_FMA(e, V_SET(0.693359375f), p), x);
}

/* ---- few outputs: samples in lanes ----------------------------------------------------------- */

INLINE void head_forward_tile(const s2_head_pass *pass, size_t s, size_t output,
                              const size_t outputs) {
    float *logits = pass->logits + output * pass->lanes + s;
    V sum[4];
    UNROLL for (size_t o = 0; o < outputs; o++) {
        sum[o] = V_LOAD(logits + o * pass->lanes);
    }
    for (size_t j = 0; j < pass->n_hidden; j++) {
        const V hidden = V_LOAD(pass->hidden + j * pass->lanes + s);
        const float *lora_b = pass->lora_b + j * pass->n_outputs + output;
        UNROLL for (size_t o = 0; o < outputs; o++) {
            sum[o] = V_FMA(hidden, V_SET(lora_b[o]), sum[o]);
        }
    }
    UNROLL for (size_t o = 0; o < outputs; o++) {
        V_STORE(logits + o * pass->lanes, sum[o]);
    }
}

/* Eq. 17 without the taps: logits += hidden . lora_b. */
static void vector_head_forward(const s2_head_pass *pass) {
    for (size_t s = 0; s < pass->lanes; s += V_WIDTH) {
#define OUTPUTS(n) head_forward_tile(pass, s, first, n)
        IN_FOURS(pass->n_outputs, OUTPUTS);
#undef OUTPUTS
    }
}

/* Of `count` hidden units from j: Eq. 11 (gh = gy . lora_b^T) and Eq. 10 (gwb = hidden^T . gy). */
INLINE void head_backward_tile(const s2_head_pass *pass, size_t j, const size_t count) {
    const size_t lanes = pass->lanes, n_outputs = pass->n_outputs;
    const float *lora_b = pass->lora_b + j * n_outputs;
    for (size_t s = 0; s < lanes; s += V_WIDTH) {
        V sum[4] = {V_ZERO(), V_ZERO(), V_ZERO(), V_ZERO()};
        for (size_t o = 0; o < n_outputs; o++) {
            const V gy = V_LOAD(pass->logits + o * lanes + s);
            UNROLL for (size_t i = 0; i < count; i++) {
                sum[i] = V_FMA(gy, V_SET(lora_b[i * n_outputs + o]), sum[i]);
            }
        }
        UNROLL for (size_t i = 0; i < count; i++) {
            V_STORE(pass->grad_hidden + (j + i) * lanes + s, sum[i]);
        }
    }
    for (size_t o = 0; o < n_outputs; o++) {
        V sum[4] = {V_ZERO(), V_ZERO(), V_ZERO(), V_ZERO()};
        for (size_t s = 0; s < lanes; s += V_WIDTH) {
            const V gy = V_LOAD(pass->logits + o * lanes + s);
            UNROLL for (size_t i = 0; i < count; i++) {
                sum[i] = V_FMA(V_LOAD(pass->hidden + (j + i) * lanes + s), gy, sum[i]);
            }
        }
        float total[4];
        V_SUM4(total, sum[0], sum[1], sum[2], sum[3]);
        UNROLL for (size_t i = 0; i < count; i++) {
            pass->grad_b[(j + i) * n_outputs + o] = total[i];
        }
    }
}

static void vector_head_backward(const s2_head_pass *pass) {
#define UNITS(n) head_backward_tile(pass, first, n)
    IN_FOURS(pass->n_hidden, UNITS);
#undef UNITS
}

/* Logits become exp(logits - largest) times `share` over their sum: softmax, averaged. Returns the
 * cross entropy, given the labels' own logits; best_class is the first of equals. */
INLINE V softmax_lanes(const s2_loss_pass *pass, size_t s, V share, V own, V *best_class) {
    float *logits = pass->logits + s;
    V best = V_LOAD(logits), sum = V_ZERO();
    *best_class = V_ZERO();
    for (size_t o = 1; o < pass->n_outputs; o++) {
        const V logit = V_LOAD(logits + o * pass->lanes);
        const VI larger = V_LESS(best, logit);
        *best_class = choose(larger, V_SET((float)o), *best_class);
        best = choose(larger, logit, best);
    }
    for (size_t o = 0; o < pass->n_outputs; o++) {
        const V power = exp_vector(V_SUB(V_LOAD(logits + o * pass->lanes), best));
        V_STORE(logits + o * pass->lanes, power);
        sum = V_ADD(sum, power);
    }
    const V factor = V_DIV(share, sum);
    for (size_t o = 0; o < pass->n_outputs; o++) {
        V_STORE(logits + o * pass->lanes, V_MUL(V_LOAD(logits + o * pass->lanes), factor));
    }
    return V_ADD(log_vector(sum), V_SUB(best, own));
}

/* Mean cross entropy of softmax(logits). The label's own logit is read before it is overwritten;
 * lanes without a sample end as gradient 0. */
static void vector_loss_lanes(const s2_loss_pass *pass, s2_batch_stats *stats) {
    const float share = 1.0f / (float)pass->count;
    V loss = V_ZERO();
    stats->correct = 0;
    for (size_t s = 0; s < pass->lanes; s += V_WIDTH) {
        const size_t left = pass->count > s ? pass->count - s : 0;
        const size_t used = left < V_WIDTH ? left : V_WIDTH;
        const int32_t *label = pass->label + s;
        float *logits = pass->logits + s;
        float own[V_WIDTH] = {0}, of_lane[V_WIDTH], found[V_WIDTH], shares[V_WIDTH];
        const V weight = pass->weight ? load_part(pass->weight + s, used) : V_SET(1.0f);
        V best_class;
        for (size_t l = 0; l < used; l++) {
            own[l] = logits[(size_t)label[l] * pass->lanes + l];
        }
        V_STORE(shares, V_MUL(weight, V_SET(share)));
        const V each = softmax_lanes(pass, s, V_LOAD(shares), V_LOAD(own), &best_class);
        V_STORE(of_lane, V_MUL(weight, each));
        V_STORE(found, best_class);
        for (size_t l = 0; l < used; l++) {
            stats->correct += found[l] == (float)label[l];
            logits[(size_t)label[l] * pass->lanes + l] -= shares[l];
        }
        loss = V_ADD(loss, load_part(of_lane, used));
        for (size_t o = 0; used < V_WIDTH && o < pass->n_outputs; o++) {
            V_STORE(logits + o * pass->lanes, load_part(logits + o * pass->lanes, used));
        }
    }
    stats->loss = sum_of_lanes(loss) * share;
}

/* ---- many outputs: classes in lanes ---------------------------------------------------------- */

INLINE void largest_tile(size_t o, size_t part, const float *logits, V *best) {
    const V first = V_SET(logits[0]); /* for lanes without a class */
    float padded[V_WIDTH];
    V logit;
    if (part < V_WIDTH) {
        V_STORE(padded, first);
        memcpy(padded, logits + o, part * sizeof *padded);
        logit = V_LOAD(padded);
    } else {
        logit = V_LOAD(logits + o);
    }
    *best = choose(V_LESS(*best, logit), logit, *best);
}

INLINE float largest(size_t n_outputs, const float *logits) {
    V best = V_SET(logits[0]);
    float lane[V_WIDTH];
    FOR_VECTORS(n_outputs, largest_tile, logits, &best);
    V_STORE(lane, best);
    for (size_t l = 1; l < V_WIDTH; l++) {
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    }
    return lane[0];
}

INLINE void exponentials_tile(size_t o, size_t part, V best, float *logits, V *sum) {
    const V power = exp_vector(V_SUB(load_part(logits + o, part), best));
    store_part(logits + o, part, power);
    *sum = V_ADD(*sum, part < V_WIDTH ? load_part(logits + o, part) : power);
}

INLINE void scale_tile(size_t o, size_t part, V factor, float *logits) {
    store_part(logits + o, part, V_MUL(load_part(logits + o, part), factor));
}

/* Whether an earlier class has the same logit: the first of equals is the answer. */
INLINE int is_first(const float *logits, size_t label) {
    int found = 0;
    for (size_t o = 0; o < label; o++) {
        found |= logits[o] == logits[label];
    }
    return !found;
}

static void vector_loss_rows(const s2_loss_pass *pass, s2_batch_stats *stats) {
    const float share = 1.0f / (float)pass->count;
    float loss = 0.0f;
    uint32_t correct = 0;
    for (size_t s = 0; s < pass->count; s++) {
        float *logits = pass->logits + s * pass->n_outputs;
        const size_t label = (size_t)pass->label[s];
        const float best = largest(pass->n_outputs, logits), own = logits[label];
        V sum = V_ZERO();
        correct += own == best && is_first(logits, label);
        FOR_VECTORS(pass->n_outputs, exponentials_tile, V_SET(best), logits, &sum);
        const float total = sum_of_lanes(sum);
        const float own_share = s2_weighted(pass->weight, s, share);
        FOR_VECTORS(pass->n_outputs, scale_tile, V_SET(own_share / total), logits);
        logits[label] -= own_share;
        loss += s2_weighted(pass->weight, s, log_poly(total) + (best - own));
    }
    stats->loss = loss * share;
    stats->correct = correct;
}

/* ---- targets: of one sample, outputs in lanes ------------------------------------------------ */

/* max(z, 0) - z t + log(1 + exp(-|z|)): no exponential that overflows. */
INLINE void sigmoid_tile(size_t o, size_t part, const float *target, V share, float *logits,
                         float *losses, V *loss) {
    const V z = load_part(logits + o, part), t = load_part(target + o, part);
    const VI positive = V_LESS(V_ZERO(), z);
    const V power = exp_vector(choose(positive, V_SUB(V_ZERO(), z), z));
    const V sum = V_ADD(power, V_SET(1.0f));
    const V probability = V_DIV(choose(positive, V_SET(1.0f), power), sum);
    const V linear = V_SUB(choose(positive, z, V_ZERO()), V_MUL(z, t));
    V_STORE(losses, V_ADD(linear, log_vector(sum)));
    *loss = V_ADD(*loss, load_part(losses, part));
    store_part(logits + o, part, V_MUL(V_SUB(probability, t), share));
}

static float vector_loss_sigmoid(size_t n_outputs, const float *target, float share,
                                 float *logits) {
    V loss = V_ZERO();
    float losses[V_WIDTH];
    FOR_VECTORS(n_outputs, sigmoid_tile, target, V_SET(share), logits, losses, &loss);
    return sum_of_lanes(loss);
}

INLINE void squared_tile(size_t o, size_t part, const float *target, V share, float *outputs,
                         V *loss) {
    const V off = V_SUB(load_part(outputs + o, part), load_part(target + o, part));
    *loss = V_FMA(V_MUL(off, V_SET(0.5f)), off, *loss);
    store_part(outputs + o, part, V_MUL(off, share));
}

static float vector_loss_squared(size_t n_outputs, const float *target, float share,
                                 float *outputs) {
    V loss = V_ZERO();
    FOR_VECTORS(n_outputs, squared_tile, target, V_SET(share), outputs, &loss);
    return sum_of_lanes(loss);
}
