/*
 * descent.h - what the L-BFGS solvers of exact.c and primal.c share: limits, sums over outputs, and
 * when an end is the least.
 */
#ifndef S2_DESCENT_H
#define S2_DESCENT_H

#include <math.h>
#include <stddef.h>

enum { S2_PAIRS = 8, S2_MOST_ITERATIONS = 1000, S2_MOST_STEPS = 20 };

/* A step must lower the objective by this share of what its slope promises, up to rounding. */
#define S2_LEAST_DECREASE 1e-4
#define S2_ROUNDING       2e-7
/* The least objective that a tolerance is relative to. */
#define S2_LEAST_OBJECTIVE 1e-3
/* Where no step lowers the objective and more than this share of it seems to be left, it is not
 * rounding that allows none. */
#define S2_ROUNDED_OFF 1e-2

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
