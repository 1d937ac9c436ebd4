/* cholesky.c - symmetric positive definite systems: blocks of rows, by the kernels' products. */
#include "same_bits.h"

#include "cholesky.h"

#include <float.h>
#include <math.h>

enum {
    STRIPE = 64, /* rows that are factorised together */
    FEW = 8,     /* rows of them that are done one by one */
    DEPTH = S2_FACTOR_ROOM / STRIPE,
    BLOCK = 32, /* unknowns that are solved one by one */
    ROWS = S2_FACTOR_ROOM / BLOCK
};

static float root_float(float x) {
    return sqrtf(x);
}
static double root_double(double x) {
    return sqrt(x);
}

#define REAL                      float
#define FACTOR                    s2_factor_float
#define NAME(f)                   f##_float
#define MOST                      FLT_MAX
#define ADD_PRODUCT(kernels, ...) (kernels)->gemm(&(s2_gemm){__VA_ARGS__, .add = 1})
#include "cholesky_of.h"

#define REAL                      double
#define FACTOR                    s2_factor_double
#define NAME(f)                   f##_double
#define MOST                      DBL_MAX
#define ADD_PRODUCT(kernels, ...) (kernels)->gemm_double(&(s2_gemm_double){__VA_ARGS__})
#include "cholesky_of.h"
