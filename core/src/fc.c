/* fc.c - the fully connected layer, Eqs. 1-4. */
#include "kernels.h"

void s2_fc_forward(const s2_kernels *kernels, uint32_t count, uint32_t n_in, uint32_t n_out,
                   const float *x, const float *weight, const float *bias, float *y) {
    s2_multiply(kernels, count, n_out, n_in, x, weight, bias, 0, y); /* Eq. 1 */
}

void s2_fc_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t n_in,
                    uint32_t n_out, const float *x, const float *gy, const float *weight, float *gw,
                    float *gb, float *gx) {
    if (types & S2_W) { /* Eq. 2: gw = x^T . gy */
        s2_multiply_first_transposed(kernels, n_in, n_out, count, x, gy, gw);
    }
    if (types & S2_B) { /* Eq. 3: gb = sum of gy over the batch */
        kernels->column_sums(count, n_out, gy, gb);
    }
    if (types & S2_X) { /* Eq. 4: gx = gy . weight^T */
        s2_multiply_second_transposed(kernels, count, n_in, n_out, gy, weight, gx);
    }
}
