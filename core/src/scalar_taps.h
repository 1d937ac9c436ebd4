/*
 * scalar_taps.h - taps . lora_a and its gradient, one float at a time; included by kernels_scalar.c.
 *
 * Each sum is added up in the order of its index, as by a plain loop, and so has the same bits. But
 * TILE x TILE of them run side by side: what is loaded serves TILE of them, and none waits for its own
 * last addition.
 */

#ifndef S2_TILE
#define S2_TILE 4
#endif
enum { TILE = S2_TILE };

#ifdef S2_M4F_TILES
#include "m4f_tiles.h"
#else

/* The sums of ranks and samples from these on. */
static void forward_sums(const s2_tap_pass *pass, size_t rank, size_t sample,
                         float of[TILE][TILE]) {
    const float *a[TILE], *tap[TILE];
    float sum[TILE][TILE];
    UNROLL for (size_t t = 0; t < TILE; t++) {
        a[t] = pass->a + (rank + t) * pass->a_row;
        tap[t] = pass->row[sample + t] + pass->offset;
        UNROLL for (size_t s = 0; s < TILE; s++) {
            sum[t][s] = 0.0f;
        }
    }
    for (size_t i = pass->width; i > 0; i--) {
        float left[TILE], right[TILE];
        UNROLL for (size_t t = 0; t < TILE; t++) {
            left[t] = *a[t]++;
            right[t] = *tap[t]++;
        }
        UNROLL for (size_t r = 0; r < TILE; r++) {
            UNROLL for (size_t s = 0; s < TILE; s++) {
                sum[r][s] += right[s] * left[r];
            }
        }
    }
    memcpy(of, sum, sizeof sum);
}

/* The same of one layout, which is a constant where this is inlined. */
static inline __attribute__((always_inline)) void gradient_sums_of(const s2_tap_pass *pass,
                                                                   size_t rank, size_t column,
                                                                   size_t h_rank, size_t h_sample,
                                                                   float of[TILE][TILE]) {
    const float *grad[TILE];
    const float *const *row = pass->row;
    const size_t offset = pass->offset + column;
    float sum[TILE][TILE];
    UNROLL for (size_t r = 0; r < TILE; r++) {
        grad[r] = pass->hidden + (rank + r) * h_rank;
        UNROLL for (size_t i = 0; i < TILE; i++) {
            sum[r][i] = 0.0f;
        }
    }
    for (size_t s = pass->count; s > 0; s--) {
        const float *tap = *row++ + offset;
        float left[TILE], right[TILE];
        UNROLL for (size_t t = 0; t < TILE; t++) {
            left[t] = *grad[t];
            grad[t] += h_sample;
            right[t] = tap[t];
        }
        UNROLL for (size_t r = 0; r < TILE; r++) {
            UNROLL for (size_t i = 0; i < TILE; i++) {
                sum[r][i] += right[i] * left[r];
            }
        }
    }
    memcpy(of, sum, sizeof sum);
}

/* The sums of ranks and columns from these on. */
static void gradient_sums(const s2_tap_pass *pass, size_t rank, size_t column,
                          float of[TILE][TILE]) {
    if (pass->h_sample == 1) {
        gradient_sums_of(pass, rank, column, pass->h_rank, 1, of);
    } else {
        gradient_sums_of(pass, rank, column, 1, pass->h_sample, of);
    }
}

#endif

/* Ranks and samples one by one: up to a rank, from a sample on. */
static void forward_rest(const s2_tap_pass *pass, size_t rank, size_t to_rank, size_t sample) {
    for (size_t r = rank; r < to_rank; r++) {
        const float *a = pass->a + r * pass->a_row;
        for (size_t s = sample; s < pass->count; s++) {
            const float *tap = pass->row[s] + pass->offset;
            float sum = 0.0f;
            for (size_t i = 0; i < pass->width; i++) {
                sum += tap[i] * a[i];
                S2_OPERATIONS(2);
            }
            pass->hidden[r * pass->h_rank + s * pass->h_sample] = sum;
        }
    }
}

static void scalar_tap_forward(const s2_tap_pass *pass) {
    size_t rank = 0;
    for (; rank + TILE <= pass->rank; rank += TILE) {
        size_t sample = 0;
        for (; sample + TILE <= pass->count; sample += TILE) {
            float sum[TILE][TILE];
            forward_sums(pass, rank, sample, sum);
            S2_OPERATIONS(2 * TILE * TILE * pass->width);
            for (size_t r = 0; r < TILE; r++) {
                float *hidden = pass->hidden + (rank + r) * pass->h_rank + sample * pass->h_sample;
                for (size_t s = 0; s < TILE; s++) {
                    hidden[s * pass->h_sample] = sum[r][s];
                }
            }
        }
        forward_rest(pass, rank, rank + TILE, sample);
    }
    forward_rest(pass, rank, pass->rank, 0);
}

/* `size` weights side by side, of which the first is at `at` of lora_a. */
static void move_weights(const s2_tap_pass *pass, const s2_update *update, size_t at, size_t size,
                         const float *g) {
    scalar_descend(size, update, g, pass->m ? pass->m + at : NULL, pass->v ? pass->v + at : NULL,
                   pass->a + at);
}

static void move_tile(const s2_tap_pass *pass, const s2_update *update, size_t at,
                      float g[TILE][TILE]) {
    const s2_update constants = *update; /* no store can change them */
    float *a = pass->a + at;
    for (size_t r = 0; r < TILE; r++) {
        if (constants.rule == S2_SGD) {
            UNROLL for (size_t i = 0; i < TILE; i++) {
                moved(&constants, g[r][i], NULL, NULL, a + i);
            }
        } else {
            move_weights(pass, update, at + r * pass->a_row, TILE, g[r]);
        }
        a += pass->a_row;
    }
}

/* A rank's weights one by one, from a column on. */
static void update_rest(const s2_tap_pass *pass, const s2_update *update, size_t rank,
                        size_t column) {
    const float *grad = pass->hidden + rank * pass->h_rank;
    for (size_t i = column; i < pass->width; i++) {
        float sum = 0.0f;
        for (size_t s = 0; s < pass->count; s++) {
            sum += pass->row[s][pass->offset + i] * grad[s * pass->h_sample];
            S2_OPERATIONS(2);
        }
        move_weights(pass, update, rank * pass->a_row + i, 1, &sum);
    }
}

static void scalar_tap_update(const s2_tap_pass *pass, const s2_update *update) {
    size_t rank = 0;
    for (; rank + TILE <= pass->rank; rank += TILE) {
        size_t column = 0;
        for (; column + TILE <= pass->width; column += TILE) {
            float sum[TILE][TILE];
            gradient_sums(pass, rank, column, sum);
            S2_OPERATIONS(2 * TILE * TILE * pass->count);
            move_tile(pass, update, rank * pass->a_row + column, sum);
        }
        for (size_t r = 0; r < TILE; r++) {
            update_rest(pass, update, rank + r, column);
        }
    }
    for (; rank < pass->rank; rank++) {
        update_rest(pass, update, rank, 0);
    }
}
