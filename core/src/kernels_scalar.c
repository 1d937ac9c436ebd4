/*
 * kernels_scalar.c - the naive kernels: oracle of the fast tables and fallback where none fits.
 * Same bits on every machine (no contraction, no fused multiply-add).
 */
#include "same_bits.h"

#include "kernels.h"
#include "polynomials.h"

#include <math.h>

/* Moves one weight against its gradient; move_vector is the same in vectors. NULL for a moment that
 * the rule has not. */
static inline void moved(const s2_update *update, float g, float *m, float *v, float *w) {
    const float kept = update->keep * *w;
    g += update->decay * *w;
    float direction = g;
    if (m != NULL && update->rule != S2_SGD) {
        *m = update->beta1 * *m + update->blend1 * g;
        direction = *m;
        if (v != NULL && update->rule == S2_ADAM) {
            *v = update->beta2 * *v + update->blend2 * (g * g);
            direction = *m / (sqrtf(*v) * update->root_scale + update->eps);
        }
    }
    *w = kept - update->rate * direction;
}

static void scalar_descend(size_t size, const s2_update *update, const float *restrict g,
                           float *restrict m, float *restrict v, float *restrict w) {
    const s2_update constants = *update; /* no store can change them */
    if (update->rule == S2_SGD) {
        for (size_t i = 0; i < size; i++) {
            moved(&constants, g[i], NULL, NULL, w + i);
        }
    } else if (update->rule == S2_MOMENTUM) {
        for (size_t i = 0; i < size; i++) {
            moved(&constants, g[i], m + i, NULL, w + i);
        }
    } else {
        for (size_t i = 0; i < size; i++) {
            moved(&constants, g[i], m + i, v + i, w + i);
        }
    }
}

/* Cortex-M with an FPU. Without optimisation a compiler keeps no registers for so many operands. */
#if defined(__GNUC__) && defined(__OPTIMIZE__) && defined(__thumb2__) && defined(__ARM_FP) &&      \
    __ARM_ARCH_PROFILE == 'M'
#define S2_M4F_TILES
#endif
#include "scalar_taps.h"

/* A row of c += `depth` elements of a row of a, times rows of b: a bound of UNROLL, and a constant
 * where this is inlined, as b_col may be. */
static inline __attribute__((always_inline)) void
add_products(const s2_gemm *pass, size_t row, size_t k, const size_t depth, const size_t b_col) {
    float *restrict c = pass->c + row * pass->c_row;
    const float *restrict b[TILE];
    float a[TILE];
    UNROLL for (size_t t = 0; t < depth; t++) {
        a[t] = pass->a[row * pass->a_row + (k + t) * pass->a_depth];
        b[t] = pass->b + (k + t) * pass->b_depth;
    }
    for (size_t m = 0; m < pass->cols; m++) {
        float sum = c[m];
        UNROLL for (size_t t = 0; t < depth; t++) {
            sum += a[t] * b[t][m * b_col];
        }
        c[m] = sum;
    }
    S2_OPERATIONS(2 * depth * pass->cols);
}

static void scalar_gemm(const s2_gemm *pass) {
    for (size_t r = 0; r < pass->rows; r++) {
        float *restrict c = pass->c + r * pass->c_row;
        if (!pass->add) {
            for (size_t m = 0; m < pass->cols; m++) {
                c[m] = pass->start ? pass->start[m] : 0.0f;
            }
        }
        size_t k = 0;
        for (; k + TILE <= pass->depth; k += TILE) {
            if (pass->b_col == 1) {
                add_products(pass, r, k, TILE, 1);
            } else {
                add_products(pass, r, k, TILE, pass->b_col);
            }
        }
        for (; k < pass->depth; k++) {
            add_products(pass, r, k, 1, pass->b_col);
        }
    }
}

static void scalar_gemm_double(const s2_gemm_double *pass) {
    for (size_t r = 0; r < pass->rows; r++) {
        double *restrict c = pass->c + r * pass->c_row;
        for (size_t k = 0; k < pass->depth; k++) {
            const double a = pass->a[r * pass->a_row + k * pass->a_depth];
            const double *restrict b = pass->b + k * pass->b_depth;
            for (size_t m = 0; m < pass->cols; m++) {
                c[m] += a * b[m * pass->b_col];
                S2_OPERATIONS(2);
            }
        }
    }
}

/* Eq. 17 without the taps: logits += hidden . lora_b, samples in lanes. */
static void scalar_head_forward(const s2_head_pass *pass) {
    scalar_gemm(&(s2_gemm){.rows = pass->n_outputs,
                           .cols = (uint32_t)pass->lanes,
                           .depth = pass->n_hidden,
                           .a = pass->lora_b,
                           .a_row = 1,
                           .a_depth = pass->n_outputs,
                           .b = pass->hidden,
                           .b_depth = pass->lanes,
                           .b_col = 1,
                           .c = pass->logits,
                           .c_row = pass->lanes,
                           .add = 1});
}

/* Of hidden units from j on: Eq. 11 (gh = gy . lora_b^T) and Eq. 10 (gwb = hidden^T . gy). */
static inline __attribute__((always_inline)) void backward_units(const s2_head_pass *pass, size_t j,
                                                                 const size_t units) {
    const size_t lanes = pass->lanes, n_outputs = pass->n_outputs;
    for (size_t o = 0; o < n_outputs; o++) {
        const float *restrict gy = pass->logits + o * lanes;
        const float *restrict hidden[TILE];
        float *restrict grad_hidden[TILE];
        float sum[TILE], w[TILE];
        UNROLL for (size_t u = 0; u < units; u++) {
            hidden[u] = pass->hidden + (j + u) * lanes;
            grad_hidden[u] = pass->grad_hidden + (j + u) * lanes;
            w[u] = pass->lora_b[(j + u) * n_outputs + o];
            sum[u] = 0.0f;
        }
        for (size_t s = 0; s < lanes; s++) {
            const float g = gy[s];
            UNROLL for (size_t u = 0; u < units; u++) {
                grad_hidden[u][s] += g * w[u];
                sum[u] += hidden[u][s] * g;
            }
        }
        S2_OPERATIONS(4 * units * lanes);
        UNROLL for (size_t u = 0; u < units; u++) {
            pass->grad_b[(j + u) * n_outputs + o] = sum[u];
        }
    }
}

static void scalar_head_backward(const s2_head_pass *pass) {
    memset(pass->grad_hidden, 0, pass->n_hidden * pass->lanes * sizeof(float));
    size_t j = 0;
    for (; j + TILE <= pass->n_hidden; j += TILE) {
        backward_units(pass, j, TILE);
    }
    for (; j < pass->n_hidden; j++) {
        backward_units(pass, j, 1);
    }
}

/* Softmax and cross entropy of one sample, whose logits lie `stride` apart: its loss, and the
 * gradient of the mean in their place. Of equal logits the first counts. */
static float loss_of_sample(size_t n_outputs, size_t stride, float *logits, size_t label,
                            float share, uint32_t *correct) {
    const float own = logits[label * stride];
    float best = logits[0], sum = 0.0f;
    size_t best_class = 0;
    for (size_t o = 1; o < n_outputs; o++) {
        best_class = logits[o * stride] > best ? o : best_class;
        best = logits[o * stride] > best ? logits[o * stride] : best;
    }
    for (size_t o = 0; o < n_outputs; o++) {
        logits[o * stride] = exp_poly(logits[o * stride] - best);
        sum += logits[o * stride];
    }
    for (size_t o = 0; o < n_outputs; o++) {
        logits[o * stride] *= share / sum;
    }
    logits[label * stride] -= share;
    *correct += best_class == label;
    return log_poly(sum) + (best - own);
}

static void scalar_loss(const s2_loss_pass *pass, size_t next, size_t stride,
                        s2_batch_stats *stats) {
    const float share = 1.0f / (float)pass->count;
    float loss = 0.0f;
    stats->correct = 0;
    for (size_t s = 0; s < pass->count; s++) {
        const float own =
            loss_of_sample(pass->n_outputs, stride, pass->logits + s * next, (size_t)pass->label[s],
                           s2_weighted(pass->weight, s, share), &stats->correct);
        loss += s2_weighted(pass->weight, s, own);
    }
    stats->loss = loss * share;
}

static void scalar_loss_lanes(const s2_loss_pass *pass, s2_batch_stats *stats) {
    scalar_loss(pass, 1, pass->lanes, stats);
}

static void scalar_loss_rows(const s2_loss_pass *pass, s2_batch_stats *stats) {
    scalar_loss(pass, pass->n_outputs, 1, stats);
}

static void scalar_column_sums(uint32_t count, uint32_t width, const float *restrict a,
                               float *restrict sum) {
    memset(sum, 0, width * sizeof *sum);
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            sum[c] += a[i * width + c];
            S2_OPERATIONS(1);
        }
    }
}

/* Mean and biased variance of each column. */
static void scalar_moments(uint32_t count, uint32_t width, const float *restrict z,
                           float *restrict mean, float *restrict var) {
    const float share = 1.0f / (float)count;
    scalar_column_sums(count, width, z, mean);
    for (size_t c = 0; c < width; c++) {
        mean[c] *= share;
        var[c] = 0.0f;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            const float d = z[i * width + c] - mean[c];
            var[c] += d * d;
        }
    }
    for (size_t c = 0; c < width; c++) {
        var[c] *= share;
    }
}

static void scalar_normalize(const s2_bn_pass *pass) {
    const size_t width = pass->width;
    const float *z = pass->z; /* may be y */
    const float *restrict mean = pass->mean, *restrict inv_std = pass->inv_std;
    const float *restrict gamma = pass->gamma, *restrict beta = pass->beta;
    float *y = pass->y;
    for (size_t i = 0; i < pass->count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            y[at] = (z[at] - mean[c]) * inv_std[c] * gamma[c] + beta[c];
        }
    }
}

/* ggamma = sum of gy * normalised z; gbeta = sum of gy. */
static void scalar_norm_sums(const s2_bn_pass *pass) {
    const size_t width = pass->width;
    const float *restrict z = pass->z, *restrict gy = pass->gy;
    const float *restrict mean = pass->mean, *restrict inv_std = pass->inv_std;
    float *restrict ggamma = pass->ggamma, *restrict gbeta = pass->gbeta;
    memset(ggamma, 0, width * sizeof *ggamma);
    memset(gbeta, 0, width * sizeof *gbeta);
    for (size_t i = 0; i < pass->count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            ggamma[c] += gy[at] * ((z[at] - mean[c]) * inv_std[c]);
            gbeta[c] += gy[at];
        }
    }
}

static void scalar_norm_backward(const s2_bn_pass *pass) {
    const size_t width = pass->width;
    const float share = 1.0f / (float)pass->count;
    const float *restrict z = pass->z, *restrict gamma = pass->gamma;
    const float *restrict mean = pass->mean, *restrict inv_std = pass->inv_std;
    const float *restrict ggamma = pass->ggamma, *restrict gbeta = pass->gbeta;
    const float *gy = pass->gy; /* may be gz */
    float *gz = pass->gz;
    for (size_t i = 0; i < pass->count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            const float normal = (z[at] - mean[c]) * inv_std[c];
            const float centred = gy[at] - share * gbeta[c] - share * ggamma[c] * normal;
            gz[at] = gamma[c] * inv_std[c] * centred;
        }
    }
}

static void scalar_scale_columns(const s2_bn_pass *pass) {
    const size_t width = pass->width;
    const float *restrict gamma = pass->gamma, *restrict inv_std = pass->inv_std;
    const float *gy = pass->gy; /* may be gz */
    float *gz = pass->gz;
    for (size_t i = 0; i < pass->count; i++) {
        for (size_t c = 0; c < width; c++) {
            gz[i * width + c] = gy[i * width + c] * (gamma[c] * inv_std[c]);
        }
    }
}

static void scalar_relu_forward(size_t size, float *y) {
    for (size_t i = 0; i < size; i++) {
        y[i] = y[i] < 0.0f ? 0.0f : y[i]; /* NaN stays NaN */
    }
}

static void scalar_relu_backward(size_t size, const float *restrict y, float *restrict gy) {
    for (size_t i = 0; i < size; i++) {
        gy[i] = y[i] > 0.0f ? gy[i] : 0.0f;
    }
}

/* max(z, 0) - z t + log(1 + exp(-|z|)): no exponential that overflows. */
static float scalar_loss_sigmoid(size_t n_outputs, const float *target, float share,
                                 float *logits) {
    float loss = 0.0f;
    for (size_t o = 0; o < n_outputs; o++) {
        const float z = logits[o], power = exp_poly(z > 0.0f ? -z : z), sum = 1.0f + power;
        const float probability = (z > 0.0f ? 1.0f : power) / sum;
        loss += (z > 0.0f ? z : 0.0f) - z * target[o] + log_poly(sum);
        logits[o] = (probability - target[o]) * share;
    }
    return loss;
}

static float scalar_loss_squared(size_t n_outputs, const float *target, float share,
                                 float *outputs) {
    float loss = 0.0f;
    for (size_t o = 0; o < n_outputs; o++) {
        const float off = outputs[o] - target[o];
        loss += 0.5f * off * off;
        outputs[o] = off * share;
    }
    return loss;
}

#include "plain_codes.h"
#include "plain_loops.h"
#include "scalar_objective.h"

static double scalar_multiply_adds(size_t rounds, float *result) {
    enum { CHAINS = 16 };
    float sum[CHAINS] = {0};
    const float x = *result, y = 1.0f - *result;
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < CHAINS; i++) {
            sum[i] = sum[i] * x + y;
        }
    }
    for (size_t i = 1; i < CHAINS; i++) {
        sum[0] += sum[i];
    }
    *result = sum[0];
    return 2.0 * CHAINS * (double)rounds;
}

const s2_kernels s2_kernels_scalar = {
    .name = "scalar",
    .lanes = 1,
    .gemm = scalar_gemm,
    .gemm_double = S2_OF_RIDGE(scalar_gemm_double),
    .tap_forward = scalar_tap_forward,
    .tap_update = scalar_tap_update,
    .head_forward = scalar_head_forward,
    .head_backward = scalar_head_backward,
    .loss_lanes = scalar_loss_lanes,
    .loss_rows = scalar_loss_rows,
    .loss_sigmoid = S2_OF_TARGETS(scalar_loss_sigmoid),
    .loss_squared = S2_OF_TARGETS(scalar_loss_squared),
    .column_sums = S2_OF_NETWORKS(scalar_column_sums),
    .moments = S2_OF_NETWORKS(scalar_moments),
    .normalize = S2_OF_NETWORKS(scalar_normalize),
    .norm_sums = S2_OF_NETWORKS(scalar_norm_sums),
    .norm_backward = S2_OF_NETWORKS(scalar_norm_backward),
    .scale_columns = S2_OF_NETWORKS(scalar_scale_columns),
    .relu_forward = S2_OF_NETWORKS(scalar_relu_forward),
    .relu_backward = S2_OF_NETWORKS(scalar_relu_backward),
    .descend = scalar_descend,
    .column_moments = scalar_column_moments,
    .scale_row = scale_row,
    .decode = S2_OF_CODES(plain_decode),
    .encode = S2_OF_CODES(encode),
    .move_along = move_along,
    .scaled = scaled,
    .transpose = scalar_transpose,
    .panel = scalar_gemm,
    .objective = scalar_objective,
    .dots = scalar_dots,
    .combine = scalar_combine,
    .multiply_adds = S2_OF_PEAK(scalar_multiply_adds),
};
