/* fc.c - the fully connected layer, Eqs. 1-4. */
#include "kernels.h"

void s2_fc_forward(const s2_kernels *kernels, const s2_fc_pass *pass) {
    s2_multiply_from(kernels, pass->count, pass->n_out, pass->n_in, pass->x, pass->weight,
                     pass->bias, pass->y); /* Eq. 1 */
}

void s2_fc_backward(const s2_kernels *kernels, unsigned types, const s2_fc_pass *pass) {
    const uint32_t count = pass->count, n_in = pass->n_in, n_out = pass->n_out;
    if (types & S2_W) { /* Eq. 2: gw = x^T . gy */
        s2_multiply_first_transposed(kernels, n_in, n_out, count, pass->x, pass->gy, pass->gw);
    }
    if (types & S2_B) { /* Eq. 3: gb = sum of gy over the batch */
        kernels->column_sums(count, n_out, pass->gy, pass->gb);
    }
    if (types & S2_X) { /* Eq. 4: gx = gy . weight^T */
        s2_multiply_second_transposed(kernels, count, n_in, n_out, pass->gy, pass->weight,
                                      pass->gx);
    }
}
