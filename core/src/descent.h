/*
 * descent.h - what the L-BFGS solvers of exact.c and primal.c share: limits, when an end is the least,
 * and the pairs (descent.c) that estimate the inverse Hessian.
 */
#ifndef S2_DESCENT_H
#define S2_DESCENT_H

#include "arena.h"

#include <math.h>

enum { S2_PAIRS = 8, S2_MOST_ITERATIONS = 1000, S2_MOST_STEPS = 20 };

/* A step must lower the objective by this share of what its slope promises, up to rounding. */
#define S2_LEAST_DECREASE 1e-4
#define S2_ROUNDING       2e-7
/* The least objective that a tolerance is relative to. */
#define S2_LEAST_OBJECTIVE 1e-3
/* Where no step lowers the objective and more than this share of it seems to be left, it is not
 * rounding that allows none. */
#define S2_ROUNDED_OFF 1e-2

/* Steps and the changes of the gradient along them, of arrays of `size` floats and of the bias. Inner
 * products are those of a metric: `image` is a step in it, the step itself where there is none.
 *
 * Products of pairs with each other are kept, so that the two loops of L-BFGS are over numbers:
 * arrays are read once for all pairs. */
typedef struct {
    const s2_kernels *kernels;
    size_t size, n_outputs;
    float *step[S2_PAIRS], *image[S2_PAIRS], *change[S2_PAIRS];
    double *bias_step[S2_PAIRS], *bias_change[S2_PAIRS]; /* (n_outputs) */
    double bend[S2_PAIRS][S2_PAIRS]; /* <change i, step j>, where step j is not newer than i */
    double along[S2_PAIRS];          /* <gradient, step j>, at s2_pairs_begin */
    double share[S2_PAIRS];          /* of change i in the direction */
    size_t count, newest;            /* pairs lie in a ring, from 0 on */
    int is_new;                      /* the newest has come since s2_pairs_begin */
} s2_pairs;

/* Memory for arrays of (rows, cols) and a bias of `rows`; with images, unless a step is its own. */
void s2_pairs_lay_out(s2_pairs *of, s2_arena *arena, size_t rows, size_t cols, int has_images);
/* The gradient becomes what the first guess of the inverse Hessian, `guess` of the arrays and
 * `bias_guess` of the bias, is multiplied by. */
void s2_pairs_begin(s2_pairs *of, double guess, double bias_guess, float *gradient, double *bias);
/* That product becomes the direction, and `image` its image; they may be the same. */
void s2_pairs_end(s2_pairs *of, float *direction, float *image, double *bias);
/* Where the next pair is written once it is known to be one, with `bend` = <change, step>. */
size_t s2_pairs_add(s2_pairs *of, double bend);
/* The gradient was computed afresh: it is no longer, to the bit, what the pairs were measured with. */
void s2_pairs_forget_gradient(s2_pairs *of);

static inline double s2_dot_outputs(size_t n_outputs, const double *a, const double *b) {
    double sum = 0.0;
    for (size_t o = 0; o < n_outputs; o++) {
        sum += a[o] * b[o];
    }
    return sum;
}

/* What a tolerance is a share of. */
static inline double s2_objective_size(double value) {
    return fabs(value) > S2_LEAST_OBJECTIVE ? fabs(value) : S2_LEAST_OBJECTIVE;
}

/* Whether a decrement where no step lowers the objective may be rounding alone; NaN may not. */
static inline int s2_is_rounding(double decrement, double value) {
    return fabs(decrement) <= S2_ROUNDED_OFF * s2_objective_size(value);
}

#endif
