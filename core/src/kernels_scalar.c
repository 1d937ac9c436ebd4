/*
 * kernels_scalar.c - the naive kernels: oracle of the fast tables and fallback where none fits.
 * Same bits on every machine (no contraction, no fused multiply-add).
 */
#include "kernels_plain.h"

static void scalar_gemm(const s2_gemm *pass) {
    for (size_t r = 0; r < pass->rows; r++) {
        float *restrict c = pass->c + r * pass->c_row;
        if (!pass->add) {
            for (size_t m = 0; m < pass->cols; m++) {
                c[m] = pass->start ? pass->start[m] : 0.0f;
            }
        }
        for (size_t k = 0; k < pass->depth; k++) {
            const float a = pass->a[r * pass->a_row + k * pass->a_depth];
            const float *restrict b = pass->b + k * pass->b_row;
            for (size_t m = 0; m < pass->cols; m++) {
                c[m] += a * b[m];
                S2_OPERATIONS(2);
            }
        }
    }
}

static void scalar_tap_forward(const s2_tap_pass *pass) {
    for (size_t r = 0; r < pass->rank; r++) {
        const float *a = pass->a + r * pass->a_row;
        for (size_t s = 0; s < pass->count; s++) {
            const float *tap = pass->row[s] + pass->offset;
            float sum = 0.0f;
            for (size_t i = 0; i < pass->width; i++) {
                sum += tap[i] * a[i];
                S2_OPERATIONS(2);
            }
            pass->hidden[r * pass->lanes + s] = sum;
        }
    }
}

static void scalar_tap_update(const s2_tap_pass *pass, const s2_update *update) {
    for (size_t r = 0; r < pass->rank; r++) {
        float *a = pass->a + r * pass->a_row;
        for (size_t i = 0; i < pass->width; i++) {
            float sum = 0.0f;
            for (size_t s = 0; s < pass->count; s++) {
                sum += pass->row[s][pass->offset + i] * pass->hidden[r * pass->lanes + s];
                S2_OPERATIONS(2);
            }
            const size_t at = r * pass->a_row + i;
            moved(update, sum, pass->m ? pass->m + at : NULL, pass->v ? pass->v + at : NULL, a + i);
        }
    }
}

const s2_kernels s2_kernels_scalar = {
    .name = "scalar",
    .gemm = scalar_gemm,
    .tap_forward = scalar_tap_forward,
    .tap_update = scalar_tap_update,
    S2_PLAIN_KERNELS,
};
