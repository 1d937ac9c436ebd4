/* lora.c - a LoRA adapter beside one layer, Eqs. 7-14. The skip adapters of Eq. 17 are adapter.c. */
#include "kernels.h"

/* c = a . b, or c += a . b; plain row-major operands. */
static void multiply(const s2_kernels *kernels, uint32_t rows, uint32_t cols, uint32_t depth,
                     const float *a, const float *b, float *c, int add) {
    const s2_gemm pass = {.rows = rows,
                          .cols = cols,
                          .depth = depth,
                          .a = a,
                          .a_row = depth,
                          .a_depth = 1,
                          .b = b,
                          .b_row = cols,
                          .c = c,
                          .c_row = cols,
                          .add = add};
    kernels->gemm(&pass);
}

/* c = a^T . b over the batch: a (count, rows), b (count, cols). */
static void multiply_transposed(const s2_kernels *kernels, uint32_t rows, uint32_t cols,
                                uint32_t count, const float *a, const float *b, float *c) {
    const s2_gemm pass = {.rows = rows,
                          .cols = cols,
                          .depth = count,
                          .a = a,
                          .a_row = 1,
                          .a_depth = rows,
                          .b = b,
                          .b_row = cols,
                          .c = c,
                          .c_row = cols};
    kernels->gemm(&pass);
}

void s2_lora_forward(const s2_kernels *kernels, uint32_t count, uint32_t n_in, uint32_t n_out,
                     uint32_t rank, const float *x, const float *wa, const float *wb, float *hidden,
                     float *y) {
    multiply(kernels, count, rank, n_in, x, wa, hidden, 0);  /* Eq. 7: hidden = x . wa */
    multiply(kernels, count, n_out, rank, hidden, wb, y, 1); /* Eqs. 8, 9: y += hidden . wb */
}

size_t s2_lora_scratch_floats(uint32_t n_in, uint32_t n_out, uint32_t rank) {
    return (size_t)rank * (n_in > n_out ? n_in : n_out);
}

void s2_lora_backward(const s2_kernels *kernels, unsigned types, uint32_t count, uint32_t n_in,
                      uint32_t n_out, uint32_t rank, const float *x, const float *hidden,
                      const float *gy, const float *wa, const float *wb, float *gh, float *gwa,
                      float *gwb, float *gx, float *scratch) {
    kernels->transpose(rank, n_out, wb, scratch);
    multiply(kernels, count, rank, n_out, gy, scratch, gh, 0); /* Eq. 11: gh = gy . wb^T */
    if (types & S2_W) {
        multiply_transposed(kernels, rank, n_out, count, hidden, gy, gwb); /* Eq. 10 */
        multiply_transposed(kernels, n_in, rank, count, x, gh, gwa);       /* Eq. 12 */
    }
    if (types & S2_X) { /* Eqs. 13, 14: gx += gh . wa^T */
        kernels->transpose(n_in, rank, wa, scratch);
        multiply(kernels, count, n_in, rank, gh, scratch, gx, 1);
    }
}
