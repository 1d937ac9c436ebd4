/*
 * kernels_vector.h - the kernels, written once over a vector type. A table's file defines what
 * follows for its processor, includes this file and fills its table by S2_VECTOR_KERNELS.
 *
 *   V, V_WIDTH                 the type (a GCC vector) and its floats
 *   V_ZERO(), V_SET(x)         all lanes 0, all lanes x
 *   V_LOAD(p), V_STORE(p, v)   unaligned
 *   V_LOAD_PART(p, n), V_STORE_PART(p, n, v)   the first n lanes; the rest reads 0, is not touched
 *   V_FMA(a, b, c)             a * b + c, rounded once
 *   V_DIV(a, b), V_SQRT(a)     rounded correctly
 *   V_SUM4(out, a, b, c, d)    out[0..3] = sums of the lanes of a, b, c, d, each in the same order
 *   V_FACTOR(at, r)            factor r of a sample in all lanes, for a constant r, of the FACTOR_FLOATS
 *                              that lay_out_factors wrote at `at`. A table that defines it brings
 *                              dot_rounds and update_rounds, the innermost loops of full tiles, too
 *   V_ADD(a, b), V_SUB, V_MUL, V_LESS   GCC's operators, unless defined: those of 32-bit ARM work lane
 *                              by lane without -ffast-math
 *   V_KEEP(v)                  keeps v in its register, where gcc would load it again for each use as an
 *                              operand in memory; nothing, unless defined
 *   V_TRANSPOSE(a, a_row, out, out_row)   of a block of V_BLOCK x V_BLOCK
 *   V_HALVES(p), V_BFLOATS(p), V_BYTES(p)   V_WIDTH float16, bfloat16 or unsigned bytes at p, as floats
 *   V_NIBBLES(p, i)            columns i.. of the 16 whose int4 codes are the 8 bytes at p
 *   GEMM_ROWS, GEMM_VECTORS    tile of a product: their product plus a few fills the registers
 *   GEMM_WIDE                  vectors of the tile for a single row
 *   TAP_SAMPLES                samples a tile of the tap's forward pass, times TAP_RANKS
 *   PANEL_ROWS, PANEL_SPLIT    tile of a product with a panel of the Gram matrix: at most 6 rows, in so
 *                              many sums each
 *   TAP_VECTORS                vectors a tile of the tap's update, times TAP_RANKS
 *
 * Tiles have fixed sizes, so their accumulators stay in registers; each tile function is inlined
 * with constant bounds.
 */
#ifndef S2_KERNELS_VECTOR_H
#define S2_KERNELS_VECTOR_H

#include "kernels.h"
#include "polynomials.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline))

typedef int32_t VI __attribute__((vector_size(V_WIDTH * sizeof(int32_t))));

#ifndef V_ADD
#define V_ADD(a, b)  ((a) + (b))
#define V_SUB(a, b)  ((a) - (b))
#define V_MUL(a, b)  ((a) * (b))
#define V_LESS(a, b) ((VI)((a) < (b)))
#endif

#ifndef V_KEEP
#define V_KEEP(v) ((void)(v))
#endif

/* The first `part` lanes where that is fewer than all; `part` is a constant where it is V_WIDTH. */
INLINE V load_part(const float *p, size_t part) {
    return part < V_WIDTH ? V_LOAD_PART(p, part) : V_LOAD(p);
}

INLINE void store_part(float *p, size_t part, V v) {
    if (part < V_WIDTH) {
        V_STORE_PART(p, part, v);
    } else {
        V_STORE(p, v);
    }
}

/* Lane by lane: x where the mask is set, else y. */
INLINE V choose(VI mask, V x, V y) {
    return (V)((mask & (VI)x) | (~mask & (VI)y));
}

INLINE float sum_of_lanes(V v) {
    float sum[4];
    V_SUM4(sum, v, V_ZERO(), V_ZERO(), V_ZERO());
    return sum[0];
}

/* Calls tile(i, part) for the vectors of 0..size-1; the last may be a part of one. */
#define FOR_VECTORS(size, tile, ...)                                                               \
    do {                                                                                           \
        size_t at_ = 0;                                                                            \
        for (; at_ + V_WIDTH <= (size); at_ += V_WIDTH) {                                          \
            tile(at_, V_WIDTH, __VA_ARGS__);                                                       \
        }                                                                                          \
        if (at_ < (size)) {                                                                        \
            tile(at_, (size) - at_, __VA_ARGS__);                                                  \
        }                                                                                          \
    } while (0)

/* Gradient descent without a decay: one multiply-add a weight. */
INLINE int is_plain(const s2_update *update) {
    return update->rule == S2_SGD && update->keep == 1.0f && update->decay == 0.0f;
}

/* `moved` of kernels_scalar.c for a vector of weights; m and v are not read where the rule has none. */
INLINE void move_vector(const s2_update *update, const int plain, size_t part, V g, float *m,
                        float *v, float *w) {
    const V old = load_part(w, part);
    V kept = old, direction = g;
    if (!plain) {
        kept = V_MUL(V_SET(update->keep), old);
        direction = g = V_FMA(V_SET(update->decay), old, g);
        if (update->rule != S2_SGD) {
            direction =
                V_FMA(V_SET(update->beta1), load_part(m, part), V_MUL(V_SET(update->blend1), g));
            store_part(m, part, direction);
        }
        if (update->rule == S2_ADAM) {
            const V squared = V_MUL(V_SET(update->blend2), V_MUL(g, g));
            const V second = V_FMA(V_SET(update->beta2), load_part(v, part), squared);
            store_part(v, part, second);
            direction = V_DIV(direction,
                              V_FMA(V_SQRT(second), V_SET(update->root_scale), V_SET(update->eps)));
        }
    }
    store_part(w, part, V_FMA(V_SET(-update->rate), direction, kept));
}

INLINE void descend_tile(size_t i, size_t part, const s2_update *update, const int plain,
                         const float *g, float *m, float *v, float *w) {
    move_vector(update, plain, part, load_part(g + i, part), m ? m + i : NULL, v ? v + i : NULL,
                w + i);
}

static void vector_descend(size_t size, const s2_update *update, const float *g, float *m, float *v,
                           float *w) {
    const s2_update constants = *update; /* no store can change them */
    if (is_plain(update)) {
        FOR_VECTORS(size, descend_tile, &constants, 1, g, m, v, w);
    } else {
        FOR_VECTORS(size, descend_tile, &constants, 0, g, m, v, w);
    }
}

/* As many chains as keep every multiply-add unit busy, whatever its latency. */
static double vector_multiply_adds(size_t rounds, float *result) {
    enum { CHAINS = 12 };
    V sum[CHAINS];
    const V x = V_SET(*result), y = V_SET(1.0f - *result);
    UNROLL for (size_t i = 0; i < CHAINS; i++) {
        sum[i] = V_SET((float)i);
    }
    for (size_t round = 0; round < rounds; round++) {
        UNROLL for (size_t i = 0; i < CHAINS; i++) {
            sum[i] = V_FMA(sum[i], x, y);
        }
    }
    UNROLL for (size_t i = 1; i < CHAINS; i++) {
        sum[0] = V_ADD(sum[0], sum[i]);
    }
    *result = sum_of_lanes(sum[0]);
    return 2.0 * CHAINS * V_WIDTH * (double)rounds;
}

#include "plain_codes.h"
#include "plain_loops.h"
#include "vector_codes.h"
#include "vector_double.h"
#include "vector_gemm.h"
#include "vector_head.h"
#include "vector_norm.h"
#include "vector_objective.h"
#include "vector_taps.h"

#define S2_VECTOR_KERNELS(of_name)                                                                 \
    {                                                                                              \
        .name = of_name,                                                                           \
        .lanes = V_WIDTH,                                                                          \
        .gemm = vector_gemm,                                                                       \
        .gemm_double = S2_OF_RIDGE(vector_gemm_double),                                            \
        .tap_forward = vector_tap_forward,                                                         \
        .tap_update = vector_tap_update,                                                           \
        .head_forward = vector_head_forward,                                                       \
        .head_backward = vector_head_backward,                                                     \
        .loss_lanes = vector_loss_lanes,                                                           \
        .loss_rows = vector_loss_rows,                                                             \
        .loss_sigmoid = S2_OF_TARGETS(vector_loss_sigmoid),                                        \
        .loss_squared = S2_OF_TARGETS(vector_loss_squared),                                        \
        .column_sums = S2_OF_NETWORKS(vector_column_sums),                                         \
        .moments = S2_OF_NETWORKS(vector_moments),                                                 \
        .normalize = S2_OF_NETWORKS(vector_normalize),                                             \
        .norm_sums = S2_OF_NETWORKS(vector_norm_sums),                                             \
        .norm_backward = S2_OF_NETWORKS(vector_norm_backward),                                     \
        .scale_columns = S2_OF_NETWORKS(vector_scale_columns),                                     \
        .relu_forward = S2_OF_NETWORKS(vector_relu_forward),                                       \
        .relu_backward = S2_OF_NETWORKS(vector_relu_backward),                                     \
        .descend = vector_descend,                                                                 \
        .column_moments = vector_column_moments,                                                   \
        .scale_row = scale_row,                                                                    \
        .decode = S2_OF_CODES(vector_decode),                                                      \
        .encode = S2_OF_CODES(encode),                                                             \
        .move_along = move_along,                                                                  \
        .scaled = scaled,                                                                          \
        .transpose = transpose,                                                                    \
        .panel = vector_panel,                                                                     \
        .objective = vector_objective,                                                             \
        .dots = vector_dots,                                                                       \
        .combine = vector_combine,                                                                 \
        .multiply_adds = S2_OF_PEAK(vector_multiply_adds),                                         \
    }

#endif
