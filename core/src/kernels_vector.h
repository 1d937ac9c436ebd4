/*
 * kernels_vector.h - the kernels that need registers by name, written once over a vector type.
 * A table's file defines the operations below for its processor and includes this file:
 *
 *   V, V_WIDTH                 the type and its floats
 *   V_ZERO(), V_SET(x)         all lanes 0, all lanes x
 *   V_LOAD(p), V_STORE(p, v)   unaligned
 *   V_LOAD_PART(p, n), V_STORE_PART(p, n, v)   the first n lanes; the rest reads 0, is not touched
 *   V_FMA(a, b, c)             a * b + c, rounded once
 *   V_MUL(a, b), V_DIV(a, b), V_SQRT(a)
 *   V_SUM4(out, a, b, c, d)    out[0..3] = sums of the lanes of a, b, c, d, each in the same order
 *
 * Tiles have fixed sizes, so their accumulators stay in registers; each tile function is inlined
 * with constant bounds.
 */
#include "kernels_plain.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { ROWS = 4, VECTORS = 3, RANKS = 4, SAMPLES = 2 }; /* 12 or 8 accumulators in 16 registers */

/* ---- gemm: a tile of `rows` x `vectors`, the last vector `part` floats wide (V_WIDTH: whole) ---- */

INLINE V load_columns(const float *p, size_t vector, size_t vectors, size_t part) {
    return vector + 1 == vectors && part < V_WIDTH ? V_LOAD_PART(p + vector * V_WIDTH, part)
                                                   : V_LOAD(p + vector * V_WIDTH);
}

INLINE void gemm_tile(const s2_gemm *pass, size_t row, size_t col, const size_t rows,
                      const size_t vectors, const size_t part) {
    V sum[ROWS][VECTORS];
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            const float *c = pass->c + (row + r) * pass->c_row + col;
            sum[r][v] = pass->add     ? load_columns(c, v, vectors, part)
                        : pass->start ? load_columns(pass->start + col, v, vectors, part)
                                      : V_ZERO();
        }
    }
    const float *a = pass->a + row * pass->a_row;
    const float *b = pass->b + col;
    for (size_t k = 0; k < pass->depth; k++, a += pass->a_depth, b += pass->b_row) {
        V column[VECTORS];
        UNROLL for (size_t v = 0; v < vectors; v++) {
            column[v] = load_columns(b, v, vectors, part);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
            const V factor = V_SET(a[r * pass->a_row]);
            UNROLL for (size_t v = 0; v < vectors; v++) {
                sum[r][v] = V_FMA(factor, column[v], sum[r][v]);
            }
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            float *c = pass->c + (row + r) * pass->c_row + col + v * V_WIDTH;
            if (v + 1 == vectors && part < V_WIDTH) {
                V_STORE_PART(c, part, sum[r][v]);
            } else {
                V_STORE(c, sum[r][v]);
            }
        }
    }
}

/* All columns of `rows` rows. */
INLINE void gemm_rows(const s2_gemm *pass, size_t row, const size_t rows) {
    size_t col = 0;
    for (; col + VECTORS * V_WIDTH <= pass->cols; col += VECTORS * V_WIDTH) {
        gemm_tile(pass, row, col, rows, VECTORS, V_WIDTH);
    }
    for (; col + V_WIDTH <= pass->cols; col += V_WIDTH) {
        gemm_tile(pass, row, col, rows, 1, V_WIDTH);
    }
    if (col < pass->cols) {
        gemm_tile(pass, row, col, rows, 1, pass->cols - col);
    }
}

static void vector_gemm(const s2_gemm *pass) {
    size_t row = 0;
    for (; row + ROWS <= pass->rows; row += ROWS) {
        gemm_rows(pass, row, ROWS);
    }
    for (; row < pass->rows; row++) {
        gemm_rows(pass, row, 1);
    }
}

/* ---- tap forward: `samples` x `ranks` sums along the tap ------------------------------------------ */

INLINE void forward_tile(const s2_tap_pass *pass, size_t sample, size_t rank, const size_t samples,
                         const size_t ranks) {
    V sum[SAMPLES][RANKS];
    UNROLL for (size_t s = 0; s < SAMPLES; s++) {
        UNROLL for (size_t r = 0; r < RANKS; r++) {
            sum[s][r] = V_ZERO();
        }
    }
    const float *a = pass->a + rank * pass->a_row;
    const float *tap[SAMPLES];
    UNROLL for (size_t s = 0; s < samples; s++) {
        tap[s] = pass->row[sample + s] + pass->offset;
    }
    size_t i = 0;
    for (; i + V_WIDTH <= pass->width; i += V_WIDTH) {
        UNROLL for (size_t s = 0; s < samples; s++) {
            const V x = V_LOAD(tap[s] + i);
            UNROLL for (size_t r = 0; r < ranks; r++) {
                sum[s][r] = V_FMA(x, V_LOAD(a + r * pass->a_row + i), sum[s][r]);
            }
        }
    }
    if (i < pass->width) { /* lora_a is padded with zeros, the tap is not */
        UNROLL for (size_t s = 0; s < samples; s++) {
            const V x = V_LOAD_PART(tap[s] + i, pass->width - i);
            UNROLL for (size_t r = 0; r < ranks; r++) {
                sum[s][r] = V_FMA(x, V_LOAD(a + r * pass->a_row + i), sum[s][r]);
            }
        }
    }
    UNROLL for (size_t s = 0; s < samples; s++) {
        float total[RANKS];
        V_SUM4(total, sum[s][0], sum[s][1], sum[s][2], sum[s][3]);
        UNROLL for (size_t r = 0; r < ranks; r++) {
            pass->hidden[(rank + r) * pass->lanes + sample + s] = total[r];
        }
    }
}

INLINE void forward_ranks(const s2_tap_pass *pass, size_t rank, const size_t ranks) {
    size_t sample = 0;
    for (; sample + SAMPLES <= pass->count; sample += SAMPLES) {
        forward_tile(pass, sample, rank, SAMPLES, ranks);
    }
    for (; sample < pass->count; sample++) {
        forward_tile(pass, sample, rank, 1, ranks);
    }
}

static void vector_tap_forward(const s2_tap_pass *pass) {
    size_t rank = 0;
    for (; rank + RANKS <= pass->rank; rank += RANKS) {
        forward_ranks(pass, rank, RANKS);
    }
    switch (pass->rank - rank) {
    case 3:
        forward_ranks(pass, rank, 3);
        break;
    case 2:
        forward_ranks(pass, rank, 2);
        break;
    case 1:
        forward_ranks(pass, rank, 1);
        break;
    default:
        break;
    }
}

/* ---- tap update: `vectors` x `ranks` sums along the batch, then one move of lora_a ----------------- */

/* `moved` of kernels_plain.h for one vector of lora_a at `at`. */
INLINE void move_vector(const s2_tap_pass *pass, const s2_update *update, V g, size_t at) {
    const V w = V_LOAD(pass->a + at);
    const V kept = V_MUL(V_SET(update->keep), w);
    g = V_FMA(V_SET(update->decay), w, g);
    V direction = g;
    if (update->rule != S2_SGD) {
        direction =
            V_FMA(V_SET(update->beta1), V_LOAD(pass->m + at), V_MUL(V_SET(update->blend1), g));
        V_STORE(pass->m + at, direction);
    }
    if (update->rule == S2_ADAM) {
        const V squared = V_MUL(V_SET(update->blend2), V_MUL(g, g));
        const V v = V_FMA(V_SET(update->beta2), V_LOAD(pass->v + at), squared);
        V_STORE(pass->v + at, v);
        const V root = V_FMA(V_SQRT(v), V_SET(update->root_scale), V_SET(update->eps));
        direction = V_DIV(direction, root);
    }
    V_STORE(pass->a + at, V_FMA(V_SET(-update->rate), direction, kept));
}

INLINE void update_tile(const s2_tap_pass *pass, const s2_update *update, size_t i, size_t rank,
                        const size_t vectors, const size_t ranks, const size_t part) {
    V sum[VECTORS][RANKS];
    UNROLL for (size_t v = 0; v < vectors; v++) {
        UNROLL for (size_t r = 0; r < ranks; r++) {
            sum[v][r] = V_ZERO();
        }
    }
    const float *grad = pass->hidden + rank * pass->lanes;
    for (size_t s = 0; s < pass->count; s++) {
        const float *tap = pass->row[s] + pass->offset + i;
        V x[VECTORS];
        UNROLL for (size_t v = 0; v < vectors; v++) {
            x[v] = load_columns(tap, v, vectors, part);
        }
        UNROLL for (size_t r = 0; r < ranks; r++) {
            const V factor = V_SET(grad[r * pass->lanes + s]);
            UNROLL for (size_t v = 0; v < vectors; v++) {
                sum[v][r] = V_FMA(factor, x[v], sum[v][r]);
            }
        }
    }
    UNROLL for (size_t r = 0; r < ranks; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) {
            move_vector(pass, update, sum[v][r], (rank + r) * pass->a_row + i + v * V_WIDTH);
        }
    }
}

INLINE void update_ranks(const s2_tap_pass *pass, const s2_update *update, size_t rank,
                         const size_t ranks) {
    size_t i = 0;
    for (; i + VECTORS * V_WIDTH <= pass->width; i += VECTORS * V_WIDTH) {
        update_tile(pass, update, i, rank, VECTORS, ranks, V_WIDTH);
    }
    for (; i + V_WIDTH <= pass->width; i += V_WIDTH) {
        update_tile(pass, update, i, rank, 1, ranks, V_WIDTH);
    }
    if (i < pass->width) {
        update_tile(pass, update, i, rank, 1, ranks, pass->width - i);
    }
}

static void vector_tap_update(const s2_tap_pass *pass, const s2_update *update) {
    size_t rank = 0;
    for (; rank + RANKS <= pass->rank; rank += RANKS) {
        update_ranks(pass, update, rank, RANKS);
    }
    switch (pass->rank - rank) {
    case 3:
        update_ranks(pass, update, rank, 3);
        break;
    case 2:
        update_ranks(pass, update, rank, 2);
        break;
    case 1:
        update_ranks(pass, update, rank, 1);
        break;
    default:
        break;
    }
}
