/* lora.c - a LoRA adapter beside one layer, Eqs. 7-14. The skip adapters of Eq. 17 are adapter.c. */
#include "kernels.h"

void s2_lora_forward(const s2_kernels *kernels, const s2_lora_pass *pass) {
    const uint32_t count = pass->count, n_in = pass->n_in, n_out = pass->n_out, rank = pass->rank;
    s2_multiply_second_transposed(kernels, count, rank, n_in, pass->x, pass->lora_a,
                                  pass->hidden); /* Eq. 7 */
    s2_multiply_add(kernels, count, n_out, rank, pass->hidden, pass->lora_b,
                    pass->y); /* Eqs. 8, 9 */
}

void s2_lora_backward(const s2_kernels *kernels, unsigned types, const s2_lora_pass *pass) {
    const uint32_t count = pass->count, n_in = pass->n_in, n_out = pass->n_out, rank = pass->rank;
    const float *gy = pass->gy;
    /* Eq. 11: gh = gy . lora_b^T */
    s2_multiply_second_transposed(kernels, count, rank, n_out, gy, pass->lora_b, pass->gh);
    if (types & S2_W) { /* Eqs. 10, 12: gwb = hidden^T . gy, gwa = x^T . gh */
        s2_multiply_first_transposed(kernels, rank, n_out, count, pass->hidden, gy, pass->gwb);
        s2_multiply_first_transposed(kernels, rank, n_in, count, pass->gh, pass->x, pass->gwa);
    }
    if (types & S2_X) { /* Eqs. 13, 14: gx += gh . lora_a^T */
        s2_multiply_add(kernels, count, n_in, rank, pass->gh, pass->lora_a, pass->gx);
    }
}
