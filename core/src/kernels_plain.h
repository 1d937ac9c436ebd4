/*
 * kernels_plain.h - the kernels whose plain loops the compiler vectorises well. Each table includes
 * them and so compiles them for its own processor. Without contraction (-ffp-contract=off) they
 * give the same bits in every table.
 */
#ifndef S2_KERNELS_PLAIN_H
#define S2_KERNELS_PLAIN_H

#include "kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LANES S2_SAMPLE_LANES

static inline float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer in the low bits */

/* exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 (as in Cephes); relative
 * error about 1e-7 for -87 <= x <= 88, clamped beyond. NaN stays NaN. */
static inline float exp_poly(float x) {
    const float low = x < -87.0f ? -87.0f : x;
    const float bounded = low > 88.0f ? 88.0f : low;
    const float rounded = bounded * 1.44269504f + ROUND_MAGIC;
    const float n = rounded - ROUND_MAGIC;
    const float r = bounded - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * float_of_bits((bits_of_float(rounded) + 127u) << 23);
}

/* log of a positive normal number by x = 2^e m, sqrt(1/2) <= m < sqrt(2); error about 1e-7. */
static inline float log_poly(float x) {
    const uint32_t bits = bits_of_float(x);
    const uint32_t shifted = bits - 0x3f3504f3u; /* bits of sqrt(1/2) */
    const float e = (float)((int32_t)shifted >> 23);
    const float m = float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    const float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const float log = m + (p * m * z + e * -2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
    return x <= FLT_MAX ? log : x; /* NaN and infinity stay themselves */
}

/* Eq. 17 without the taps: logits += hidden . wb, samples in lanes. */
static void plain_head_forward(const s2_head_pass *pass) {
    for (size_t s = 0; s < pass->lanes; s += LANES) {
        for (size_t o = 0; o < pass->n_outputs; o++) {
            float *restrict logits = pass->logits + o * pass->lanes + s;
            float sum[LANES];
            memcpy(sum, logits, sizeof sum);
            for (size_t j = 0; j < pass->n_hidden; j++) {
                const float *restrict hidden = pass->hidden + j * pass->lanes + s;
                const float w = pass->wb[j * pass->n_outputs + o];
                for (size_t l = 0; l < LANES; l++) {
                    sum[l] += hidden[l] * w;
                    S2_OPERATIONS(2);
                }
            }
            memcpy(logits, sum, sizeof sum);
        }
    }
}

static inline float sum_of_lanes(const float *sum) {
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* Moves one weight against its gradient; the vector tables have the same in vectors. */
static inline void moved(const s2_update *update, float g, float *m, float *v, float *w) {
    const float kept = update->keep * *w;
    g += update->decay * *w;
    float direction = g;
    if (update->rule != S2_SGD) {
        *m = update->beta1 * *m + update->blend1 * g;
        direction = *m;
    }
    if (update->rule == S2_ADAM) {
        *v = update->beta2 * *v + update->blend2 * (g * g);
        direction = *m / (sqrtf(*v) * update->root_scale + update->eps);
    }
    *w = kept - update->rate * direction;
}

/* Of each hidden unit: Eq. 11 (gh = gy . wb^T, before wb moves), then Eqs. 10 and 16
 * (wb moves against hidden^T . gy). Lanes without a sample hold gy = 0. */
static void plain_head_update(const s2_head_pass *pass, const s2_update *update) {
    const size_t lanes = pass->lanes;
    for (size_t j = 0; j < pass->n_hidden; j++) {
        const float *restrict hidden = pass->hidden + j * lanes;
        float *restrict grad_hidden = pass->grad_hidden + j * lanes;
        float *restrict wb = pass->wb + j * pass->n_outputs;
        for (size_t s = 0; s < lanes; s += LANES) {
            float sum[LANES] = {0};
            for (size_t o = 0; o < pass->n_outputs; o++) {
                const float *restrict gy = pass->logits + o * lanes + s;
                for (size_t l = 0; l < LANES; l++) {
                    sum[l] += gy[l] * wb[o];
                    S2_OPERATIONS(2);
                }
            }
            memcpy(grad_hidden + s, sum, sizeof sum);
        }
        for (size_t o = 0; o < pass->n_outputs; o++) {
            const float *restrict gy = pass->logits + o * lanes;
            float sum[LANES] = {0};
            for (size_t s = 0; s < lanes; s += LANES) {
                for (size_t l = 0; l < LANES; l++) {
                    sum[l] += hidden[s + l] * gy[s + l];
                    S2_OPERATIONS(2);
                }
            }
            const size_t at = j * pass->n_outputs + o;
            moved(update, sum_of_lanes(sum), pass->m ? pass->m + at : NULL,
                  pass->v ? pass->v + at : NULL, wb + o);
        }
    }
}

/* Largest logit of each lane and its class, the first of equals. */
static inline void lane_maxima(const s2_loss_pass *pass, size_t s, float *best,
                               uint32_t *best_class) {
    for (size_t l = 0; l < LANES; l++) {
        best[l] = pass->logits[s + l];
        best_class[l] = 0;
    }
    for (uint32_t o = 1; o < pass->n_outputs; o++) {
        const float *restrict logits = pass->logits + o * pass->lanes + s;
        for (size_t l = 0; l < LANES; l++) {
            best_class[l] = logits[l] > best[l] ? o : best_class[l];
            best[l] = logits[l] > best[l] ? logits[l] : best[l];
        }
    }
}

/* logits become exp(logits - largest); their sum over the classes. */
static inline void lane_exponentials(const s2_loss_pass *pass, size_t s, const float *best,
                                     float *sum) {
    memset(sum, 0, LANES * sizeof *sum);
    for (size_t o = 0; o < pass->n_outputs; o++) {
        float *restrict logits = pass->logits + o * pass->lanes + s;
        for (size_t l = 0; l < LANES; l++) {
            logits[l] = exp_poly(logits[l] - best[l]);
            sum[l] += logits[l];
        }
    }
}

/* Mean cross entropy of softmax(logits), samples in lanes. The label's own probability is taken
 * off before logits are overwritten; lanes without a sample end as gradient 0. */
static void plain_cross_entropy(const s2_loss_pass *pass, s2_batch_stats *stats) {
    const float share = 1.0f / (float)pass->count;
    float loss = 0.0f;
    uint32_t correct = 0;
    for (size_t s = 0; s < pass->lanes; s += LANES) {
        const size_t used =
            pass->count > s ? (pass->count - s < LANES ? pass->count - s : LANES) : 0;
        float best[LANES], sum[LANES], log_sum[LANES], factor[LANES] = {0}, own[LANES];
        uint32_t best_class[LANES];
        for (size_t l = 0; l < used; l++) {
            own[l] = pass->logits[(size_t)pass->label[s + l] * pass->lanes + s + l];
        }
        lane_maxima(pass, s, best, best_class);
        lane_exponentials(pass, s, best, sum);
        for (size_t l = 0; l < LANES; l++) {
            log_sum[l] = log_poly(sum[l]);
        }
        for (size_t l = 0; l < used; l++) {
            factor[l] = share / sum[l];
            loss += log_sum[l] + (best[l] - own[l]);
            correct += best_class[l] == (uint32_t)pass->label[s + l];
        }
        for (size_t o = 0; o < pass->n_outputs; o++) {
            float *restrict logits = pass->logits + o * pass->lanes + s;
            for (size_t l = 0; l < LANES; l++) {
                logits[l] *= factor[l];
            }
        }
        for (size_t l = 0; l < used; l++) {
            pass->logits[(size_t)pass->label[s + l] * pass->lanes + s + l] -= share;
        }
    }
    stats->loss = loss * share;
    stats->correct = correct;
}

static void plain_transpose(uint32_t rows, uint32_t cols, const float *a, float *out) {
    enum { BLOCK = 8 };
    for (size_t r0 = 0; r0 < rows; r0 += BLOCK) {
        const size_t r1 = r0 + BLOCK < rows ? r0 + BLOCK : rows;
        for (size_t c = 0; c < cols; c++) {
            for (size_t r = r0; r < r1; r++) {
                out[c * rows + r] = a[r * cols + c];
            }
        }
    }
}

static void plain_column_sums(uint32_t count, uint32_t width, const float *restrict a,
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
static void plain_moments(uint32_t count, uint32_t width, const float *restrict z,
                          float *restrict mean, float *restrict var) {
    const float share = 1.0f / (float)count;
    plain_column_sums(count, width, z, mean);
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

static void plain_normalize(uint32_t count, uint32_t width, const float *z,
                            const float *restrict mean, const float *restrict inv_std,
                            const float *restrict gamma, const float *restrict beta, float *y) {
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            y[at] = (z[at] - mean[c]) * inv_std[c] * gamma[c] + beta[c];
        }
    }
}

/* ggamma = sum of gy * normalised z; gbeta = sum of gy. */
static void plain_norm_sums(uint32_t count, uint32_t width, const float *restrict z,
                            const float *restrict gy, const float *restrict mean,
                            const float *restrict inv_std, float *restrict ggamma,
                            float *restrict gbeta) {
    memset(ggamma, 0, width * sizeof *ggamma);
    memset(gbeta, 0, width * sizeof *gbeta);
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            ggamma[c] += gy[at] * ((z[at] - mean[c]) * inv_std[c]);
            gbeta[c] += gy[at];
        }
    }
}

/* gz through the batch's mean and variance; gz may be gy. */
static void plain_norm_backward(uint32_t count, uint32_t width, const float *restrict z,
                                const float *gy, const float *restrict gamma,
                                const float *restrict mean, const float *restrict inv_std,
                                const float *restrict ggamma, const float *restrict gbeta,
                                float *gz) {
    const float share = 1.0f / (float)count;
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = i * width + c;
            const float normal = (z[at] - mean[c]) * inv_std[c];
            const float centred = gy[at] - share * gbeta[c] - share * ggamma[c] * normal;
            gz[at] = gamma[c] * inv_std[c] * centred;
        }
    }
}

/* gz where the statistics are constants; gz may be gy. */
static void plain_scale_columns(uint32_t count, uint32_t width, const float *gy,
                                const float *restrict gamma, const float *restrict inv_std,
                                float *gz) {
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++) {
            gz[i * width + c] = gy[i * width + c] * (gamma[c] * inv_std[c]);
        }
    }
}

static void plain_relu_forward(size_t size, float *y) {
    for (size_t i = 0; i < size; i++) {
        y[i] = y[i] < 0.0f ? 0.0f : y[i]; /* NaN stays NaN */
    }
}

static void plain_relu_backward(size_t size, const float *restrict y, float *restrict gy) {
    for (size_t i = 0; i < size; i++) {
        gy[i] = y[i] > 0.0f ? gy[i] : 0.0f;
    }
}

static void plain_descend(size_t size, const s2_update *update, const float *restrict g,
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

/* The entries of a table that come from this file. */
#define S2_PLAIN_KERNELS                                                                           \
    .head_forward = plain_head_forward, .head_update = plain_head_update,                          \
    .cross_entropy = plain_cross_entropy, .transpose = plain_transpose,                            \
    .column_sums = plain_column_sums, .moments = plain_moments, .normalize = plain_normalize,      \
    .norm_sums = plain_norm_sums, .norm_backward = plain_norm_backward,                            \
    .scale_columns = plain_scale_columns, .relu_forward = plain_relu_forward,                      \
    .relu_backward = plain_relu_backward, .descend = plain_descend

#endif
