/* fc.c - the fully connected layer, Eqs. 1-4. */
#include "kernels.h"

void s2_fc_forward(const s2_kernels *kernels, uint32_t count, uint32_t n_in, uint32_t n_out,
                   const float *x, const float *weight, const float *bias, float *y) {
    const s2_gemm pass = {.rows = count,
                          .cols = n_out,
                          .depth = n_in,
                          .a = x,
                          .a_row = n_in,
                          .a_depth = 1,
                          .b = weight,
                          .b_row = n_out,
                          .c = y,
                          .c_row = n_out,
                          .start = bias};
    kernels->gemm(&pass); /* Eq. 1 */
}

size_t s2_fc_scratch_floats(uint32_t n_in, uint32_t n_out) {
    return (size_t)n_in * n_out;
}

void s2_fc_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t n_in,
                    uint32_t n_out, const float *x, const float *gy, const float *weight, float *gw,
                    float *gb, float *gx, float *scratch) {
    if (types & S2_W) { /* Eq. 2: gw = x^T . gy */
        const s2_gemm pass = {.rows = n_in,
                              .cols = n_out,
                              .depth = count,
                              .a = x,
                              .a_row = 1,
                              .a_depth = n_in,
                              .b = gy,
                              .b_row = n_out,
                              .c = gw,
                              .c_row = n_out};
        kernels->gemm(&pass);
    }
    if (types & S2_B) { /* Eq. 3: gb = sum of gy over the batch */
        kernels->column_sums(count, n_out, gy, gb);
    }
    if (types & S2_X) { /* Eq. 4: gx = gy . weight^T */
        kernels->transpose(n_in, n_out, weight, scratch);
        const s2_gemm pass = {.rows = count,
                              .cols = n_in,
                              .depth = n_out,
                              .a = gy,
                              .a_row = n_out,
                              .a_depth = 1,
                              .b = scratch,
                              .b_row = n_in,
                              .c = gx,
                              .c_row = n_in};
        kernels->gemm(&pass);
    }
}
