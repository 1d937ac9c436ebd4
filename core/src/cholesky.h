/*
 * cholesky.h - the factor U of a symmetric positive definite matrix A = U^T . U, and systems with
 * it (cholesky.c), in float and in double. Right-hand sides are rows, so every inner loop runs
 * along memory.
 */
#ifndef S2_CHOLESKY_H
#define S2_CHOLESKY_H

#include "kernels.h"

enum { S2_FACTOR_ROOM = 64 * 128 }; /* elements of s2_factor_*.room */

#define S2_DECLARE_FACTOR(real)                                                                    \
    typedef struct {                                                                               \
        const s2_kernels *kernels;                                                                 \
        uint32_t n;                                                                                \
        real *u;    /* (n, row): row i from its diagonal on; what is left of it is not read */     \
        size_t row; /* at least n */                                                               \
        real *room; /* (S2_FACTOR_ROOM) */                                                         \
    } s2_factor_##real;                                                                            \
    /* The upper half of A in u becomes U. 0 where A is not positive definite or not finite. */    \
    int s2_factorize_##real(const s2_factor_##real *factor);                                       \
    /* Each row x of (count, x_row) becomes U^-T x; before element `first` they are all zero. */   \
    void s2_solve_first_##real(const s2_factor_##real *factor, uint32_t first, uint32_t count,     \
                               real *x, size_t x_row);                                             \
    /* Each row x becomes U^-1 x: after s2_solve_first, A^-1 x. */                                 \
    void s2_solve_second_##real(const s2_factor_##real *factor, uint32_t count, real *x,           \
                                size_t x_row);

S2_DECLARE_FACTOR(float)
S2_DECLARE_FACTOR(double)

#endif
