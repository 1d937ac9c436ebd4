/* lora.c - a LoRA adapter beside one layer, Eqs. 7-14. The skip adapters of Eq. 17 are adapter.c. */
#include "kernels.h"

void s2_lora_forward(const s2_kernels *kernels, uint32_t count, uint32_t n_in, uint32_t n_out,
                     uint32_t rank, const float *x, const float *wa, const float *wb, float *hidden,
                     float *y) {
    s2_multiply_second_transposed(kernels, count, rank, n_in, x, wa, hidden); /* Eq. 7 */
    s2_multiply(kernels, count, n_out, rank, hidden, wb, NULL, 1, y);         /* Eqs. 8, 9 */
}

void s2_lora_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t n_in,
                      uint32_t n_out, uint32_t rank, const float *x, const float *hidden,
                      const float *gy, const float *wa, const float *wb, float *gh, float *gwa,
                      float *gwb, float *gx) {
    s2_multiply_second_transposed(kernels, count, rank, n_out, gy, wb, gh); /* Eq. 11: gy . wb^T */
    if (types & S2_W) {
        s2_multiply_first_transposed(kernels, rank, n_out, count, hidden, gy, gwb); /* Eq. 10 */
        s2_multiply_first_transposed(kernels, rank, n_in, count, gh, x, gwa);       /* Eq. 12 */
    }
    if (types & S2_X) { /* Eqs. 13, 14: gx += gh . wa^T */
        s2_multiply(kernels, count, n_in, rank, gh, wa, NULL, 1, gx);
    }
}
