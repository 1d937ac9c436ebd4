/* lora.c - a LoRA adapter beside one layer, Eqs. 7-14. The skip adapters of Eq. 17 are adapter.c. */
#include "kernels.h"

void s2_lora_forward(const s2_kernels *kernels, uint32_t count, uint32_t n_in, uint32_t n_out,
                     uint32_t rank, const float *x, const float *wa, const float *wb, float *hidden,
                     float *y) {
    s2_multiply(kernels, count, rank, n_in, x, wa, NULL, 0, hidden); /* Eq. 7: hidden = x . wa */
    s2_multiply(kernels, count, n_out, rank, hidden, wb, NULL, 1,
                y); /* Eqs. 8, 9: y += hidden . wb */
}

size_t s2_lora_scratch_floats(uint32_t n_in, uint32_t n_out, uint32_t rank) {
    return (size_t)rank * (n_in > n_out ? n_in : n_out);
}

void s2_lora_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t n_in,
                      uint32_t n_out, uint32_t rank, const float *x, const float *hidden,
                      const float *gy, const float *wa, const float *wb, float *gh, float *gwa,
                      float *gwb, float *gx, float *scratch) {
    kernels->transpose(rank, n_out, wb, scratch);
    s2_multiply(kernels, count, rank, n_out, gy, scratch, NULL, 0, gh); /* Eq. 11: gh = gy . wb^T */
    if (types & S2_W) {
        s2_multiply_transposed(kernels, rank, n_out, count, hidden, gy, gwb); /* Eq. 10 */
        s2_multiply_transposed(kernels, n_in, rank, count, x, gh, gwa);       /* Eq. 12 */
    }
    if (types & S2_X) { /* Eqs. 13, 14: gx += gh . wa^T */
        kernels->transpose(n_in, rank, wa, scratch);
        s2_multiply(kernels, count, n_in, rank, gh, scratch, NULL, 1, gx);
    }
}
