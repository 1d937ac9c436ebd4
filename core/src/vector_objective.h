/* vector_objective.h - what exact solvers need of a table; included by kernels_vector.h. Samples lie in
 * lanes, whose number is a multiple of V_WIDTH. */

/* weight * x, and 0 for a weight of 0 whatever x is. */
INLINE V weighted(V weight, V x) {
    return choose(V_LESS(V_ZERO(), weight), V_MUL(weight, x), V_ZERO());
}

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
        V_STORE(at, weighted(weight, off));
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
        V_STORE(grad + o * pass->lanes + s, weighted(weight, V_SUB(probability, t)));
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
        V_STORE(grad + at, weighted(weight, off));
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
        if (sum_of_lanes(weight) == 0.0f) { /* held out */
            for (size_t o = 0; o < pass->n_outputs; o++) {
                V_STORE(grad + o * pass->lanes + s, V_ZERO());
            }
            continue;
        }
        if (pass->loss == S2_SOFTMAX) {
            loss = softmax_samples(pass, s, weight, logits, grad);
        } else if (pass->loss == S2_SIGMOID) {
            loss = sigmoid_samples(pass, s, weight, logits, grad);
        } else {
            loss = squared_samples(pass, s, weight, logits, grad);
        }
        add_lanes(weighted(weight, loss), total);
    }
    return total_of_lanes(total);
}

enum { MOST_TOGETHER = 4, SUM_TERMS = 16 };

/* With about SUM_TERMS floats a chain, so that the sums stay short. */
INLINE void dots_block(const size_t count, const size_t chains, size_t size, const float *a,
                       const float *const *b, size_t from, double (*total)[V_WIDTH]) {
    V sum[MOST_TOGETHER][MOST_TOGETHER];
    UNROLL for (size_t j = 0; j < count; j++) {
        UNROLL for (size_t c = 0; c < chains; c++) {
            sum[j][c] = V_ZERO();
        }
    }
    size_t i = from;
    for (; i + chains * V_WIDTH <= size; i += chains * V_WIDTH) {
        UNROLL for (size_t c = 0; c < chains; c++) {
            const V own = V_LOAD(a + i + c * V_WIDTH);
            UNROLL for (size_t j = 0; j < count; j++) {
                sum[j][c] = V_FMA(own, V_LOAD(b[j] + i + c * V_WIDTH), sum[j][c]);
            }
        }
    }
    for (; i < size; i += V_WIDTH) {
        const size_t part = size - i < V_WIDTH ? size - i : V_WIDTH;
        UNROLL for (size_t j = 0; j < count; j++) {
            sum[j][0] = V_FMA(load_part(a + i, part), load_part(b[j] + i, part), sum[j][0]);
        }
    }
    UNROLL for (size_t j = 0; j < count; j++) {
        UNROLL for (size_t c = 1; c < chains; c++) {
            sum[j][0] = V_ADD(sum[j][0], sum[j][c]);
        }
        add_lanes(sum[j][0], total[j]);
    }
}

INLINE void dots_together(const size_t count, const size_t chains, size_t size, const float *a,
                          const float *const *b, double *products) {
    const size_t block = SUM_TERMS * chains * V_WIDTH;
    double total[MOST_TOGETHER][V_WIDTH] = {{0}};
    for (size_t i = 0; i < size; i += block) {
        dots_block(count, chains, size - i < block ? size : i + block, a, b, i, total);
    }
    for (size_t j = 0; j < count; j++) {
        products[j] = total_of_lanes(total[j]);
    }
}

static void vector_dots(size_t count, size_t size, const float *a, const float *const *b,
                        double *products) {
    for (; count >= MOST_TOGETHER; count -= MOST_TOGETHER) {
        dots_together(MOST_TOGETHER, 2, size, a, b, products);
        b += MOST_TOGETHER, products += MOST_TOGETHER;
    }
    if (count == 3) {
        dots_together(3, 2, size, a, b, products);
    } else if (count == 2) {
        dots_together(2, 4, size, a, b, products);
    } else if (count == 1) {
        dots_together(1, 4, size, a, b, products);
    }
}

INLINE void combine_tile(size_t i, size_t part, const size_t count, V own, const V *factor,
                         const float *const *x, float *y) {
    V sum = V_MUL(own, load_part(y + i, part));
    UNROLL for (size_t j = 0; j < count; j++) {
        sum = V_FMA(factor[j], load_part(x[j] + i, part), sum);
    }
    store_part(y + i, part, sum);
}

INLINE void scaled_tile(size_t i, size_t part, V own, float *y) {
    store_part(y + i, part, V_MUL(own, load_part(y + i, part)));
}

INLINE void combine_together(const size_t count, size_t size, float own, const float *factors,
                             const float *const *x, float *y) {
    V factor[MOST_TOGETHER];
    const float *from[MOST_TOGETHER];
    UNROLL for (size_t j = 0; j < count; j++) {
        factor[j] = V_SET(factors[j]);
        from[j] = x[j];
    }
    FOR_VECTORS(size, combine_tile, count, V_SET(own), factor, from, y);
}

static void vector_combine(size_t count, size_t size, float own, const float *factors,
                           const float *const *x, float *y) {
    for (; count >= MOST_TOGETHER; count -= MOST_TOGETHER) {
        combine_together(MOST_TOGETHER, size, own, factors, x, y);
        x += MOST_TOGETHER, factors += MOST_TOGETHER;
        own = 1.0f;
    }
    if (count == 3) {
        combine_together(3, size, own, factors, x, y);
    } else if (count == 2) {
        combine_together(2, size, own, factors, x, y);
    } else if (count == 1) {
        combine_together(1, size, own, factors, x, y);
    } else if (own != 1.0f) {
        FOR_VECTORS(size, scaled_tile, V_SET(own), y);
    }
}

/* ---- products with a panel of S2_SAMPLE_LANES columns ---------------------------------------- */

enum { PANEL_VECTORS = S2_SAMPLE_LANES / V_WIDTH, MOST_PANEL_ROWS = 6 };

/* One tile; its depth in PANEL_SPLIT interleaved sums, so that few rows fill the pipeline as well. */
INLINE void panel_tile(const s2_gemm *pass, size_t row, const size_t rows) {
    V sum[PANEL_SPLIT][MOST_PANEL_ROWS][PANEL_VECTORS];
    const float *a = pass->a + row * pass->a_row, *b = pass->b;
    const float *ahead = row == 0 ? pass->ahead : NULL;
    UNROLL for (size_t h = 0; h < PANEL_SPLIT; h++) {
        UNROLL for (size_t r = 0; r < rows; r++) {
            UNROLL for (size_t v = 0; v < PANEL_VECTORS; v++) {
                sum[h][r][v] = V_ZERO();
            }
        }
    }
#define PANEL_STEP(h)                                                                              \
    V column[PANEL_VECTORS];                                                                       \
    UNROLL for (size_t v = 0; v < PANEL_VECTORS; v++) {                                            \
        column[v] = V_LOAD(b + (h) * S2_SAMPLE_LANES + v * V_WIDTH);                               \
        V_KEEP(column[v]);                                                                         \
    }                                                                                              \
    UNROLL for (size_t r = 0; r < rows; r++) {                                                     \
        const V factor = V_SET(a[r * pass->a_row + (h)]);                                          \
        UNROLL for (size_t v = 0; v < PANEL_VECTORS; v++) {                                        \
            sum[h][r][v] = V_FMA(factor, column[v], sum[h][r][v]);                                 \
        }                                                                                          \
    }
    size_t k = 0;
    for (; k + PANEL_SPLIT <= pass->depth; k += PANEL_SPLIT) {
        if (ahead) {
            UNROLL for (size_t h = 0; h < PANEL_SPLIT; h++) {
                S2_PREFETCH(ahead + (k + h) * S2_ALIGN / sizeof *ahead);
            }
        }
        UNROLL for (size_t h = 0; h < PANEL_SPLIT; h++){PANEL_STEP(h)} a += PANEL_SPLIT,
            b += PANEL_SPLIT * S2_SAMPLE_LANES;
    }
    for (; k < pass->depth; k++, a++, b += S2_SAMPLE_LANES) {
        PANEL_STEP(0)
    }
#undef PANEL_STEP
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < PANEL_VECTORS; v++) {
            float *c = pass->c + (row + r) * pass->c_row + v * V_WIDTH;
            V total = sum[0][r][v];
            UNROLL for (size_t h = 1; h < PANEL_SPLIT; h++) {
                total = V_ADD(total, sum[h][r][v]);
            }
            if (pass->add) {
                total = V_ADD(V_LOAD(c), total);
            }
            V_STORE(c, total);
        }
    }
}

/* In tiles of nearly the same size. */
static void vector_panel(const s2_gemm *pass) {
    size_t tiles = (pass->rows + PANEL_ROWS - 1) / PANEL_ROWS;
    for (size_t row = 0; row < pass->rows; tiles--) {
        const size_t rows = (pass->rows - row + tiles - 1) / tiles;
        switch (rows) {
        case 1:
            panel_tile(pass, row, 1);
            break;
#define PANEL_CASE(n)                                                                              \
    case n:                                                                                        \
        panel_tile(pass, row, n <= PANEL_ROWS ? n : 1);                                            \
        break;
            PANEL_CASE(2)
            PANEL_CASE(3)
            PANEL_CASE(4)
            PANEL_CASE(5)
            PANEL_CASE(6)
#undef PANEL_CASE
        default:
            break;
        }
        row += rows;
    }
}
