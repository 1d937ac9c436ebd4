/*
 * dual_fit.c - one L-BFGS iteration of a weighted convex loss with L2 in sample coordinates.
 *
 * The gradient's representer in these coordinates is R = g + penalty * A, g the gradient by the
 * logits: no product. Inner products are those of the Gram matrix, <A, B> = A . G B, and G A are the
 * logits. So an iteration costs one product with G, and a step along a direction whose product is
 * known costs none.
 */
#include "same_bits.h"

#include "dual_fit.h"

#include <string.h>

/* A step must leave at most this share of the slope. */
#define MOST_SLOPE 0.9

static double dot(const s2_dual_fit *of, const float *a, const float *b) {
    return s2_dot(of->objective.kernels, of->size, a, b);
}

static double dot_outputs(const s2_dual_fit *of, const double *a, const double *b) {
    return s2_dot_outputs(of->n_rows, a, b);
}

/* ---- softmax in one dimension less ------------------------------------------------------------ */

uint32_t s2_folded_outputs(s2_loss loss, uint32_t n_outputs) {
    return loss == S2_SOFTMAX && n_outputs > 1 ? n_outputs - 1 : n_outputs;
}

/* With r the root of n_outputs and v = (1, .. 1) / r + (0, .. 0, 1), the reflection is
 * x - v (v . x) r / (r + 1). */
void s2_fold_outputs(const s2_kernels *kernels, size_t n_outputs, size_t lanes, float *rows) {
    const float root = sqrtf((float)n_outputs);
    float *last = rows + (n_outputs - 1) * lanes;
    kernels->scaled(lanes, 1.0f + 1.0f / root, last, last);
    for (size_t o = 0; o + 1 < n_outputs; o++) {
        s2_add_scaled(kernels, lanes, 1.0f / root, rows + o * lanes, last); /* v . x */
    }
    for (size_t o = 0; o + 1 < n_outputs; o++) {
        s2_add_scaled(kernels, lanes, -1.0f / (root + 1.0f), last, rows + o * lanes);
    }
}

void s2_unfold_outputs(const s2_kernels *kernels, size_t n_outputs, size_t lanes, float *rows) {
    const float root = sqrtf((float)n_outputs);
    float *last = rows + (n_outputs - 1) * lanes;
    memset(last, 0, lanes * sizeof *last);
    for (size_t o = 0; o + 1 < n_outputs; o++) {
        s2_add_scaled(kernels, lanes, -1.0f / root, rows + o * lanes, last);
    }
    for (size_t o = 0; o + 1 < n_outputs; o++) {
        s2_add_scaled(kernels, lanes, 1.0f / (root + 1.0f), last, rows + o * lanes);
    }
}

/* ---- the objective along a line -------------------------------------------------------------- */

/* The loss at -t Q, with its gradient by the rows and their sums; `slope` is that of the loss by t. */
static double loss_at(s2_dual_fit *of, double t, float *grad, double *sums, double *slope) {
    const s2_kernels *kernels = of->objective.kernels;
    const int folded = of->n_rows < of->n_outputs;
    for (size_t o = 0; o < of->n_rows; o++) {
        const size_t at = o * of->lanes;
        kernels->move_along(of->lanes, of->product + at,
                            (float)(of->bias[o] - t * of->bias_step[o]), (float)-t,
                            of->step_product + at, grad + at);
    }
    if (folded) {
        s2_unfold_outputs(kernels, of->n_outputs, of->lanes, grad);
    }
    if (of->offset) {
        s2_add_scaled(kernels, of->n_outputs * of->lanes, 1.0f, of->offset, grad);
    }
    const double loss = s2_objective_loss(&of->objective, grad, grad);
    if (folded) {
        s2_fold_outputs(kernels, of->n_outputs, of->lanes, grad);
    }
    *slope = 0.0;
    for (size_t o = 0; o < of->n_rows; o++) {
        const float *const with[] = {of->ones, of->step_product + o * of->lanes};
        double products[2];
        kernels->dots(2, of->lanes, grad + o * of->lanes, with, products);
        sums[o] = products[0];
        *slope -= products[1] + sums[o] * of->bias_step[o];
    }
    return loss;
}

void s2_dual_fit_look(s2_dual_fit *of) {
    double slope;
    s2_pairs_forget_gradient(&of->pairs);
    of->norm = dot(of, of->coefficients, of->product);
    of->value = loss_at(of, 0.0, of->grad, of->sums, &slope) + 0.5 * of->penalty * of->norm;
}

void s2_dual_fit_begin(s2_dual_fit *of) {
    of->objective.kernels->move_along(of->size, of->grad, 0.0f, (float)of->penalty,
                                      of->coefficients, of->step);
    memcpy(of->bias_step, of->sums, of->n_rows * sizeof *of->sums);
    /* The Hessian is the penalty at least, where there is one: more would let grow what of A the Gram
     * matrix does not see. The bias has none. */
    const double most = of->gamma * of->penalty > 1.0 ? 1.0 / of->penalty : of->gamma;
    s2_pairs_begin(&of->pairs, most, of->gamma, of->step, of->bias_step);
}

/* <R, G Q>: the slope of the objective along -Q is minus that. */
static void measure_direction(s2_dual_fit *of) {
    const float *const with[] = {of->coefficients, of->step, of->grad};
    double products[3];
    of->objective.kernels->dots(3, of->size, of->step_product, with, products);
    of->slope = products[0];
    of->curvature = products[1];
    of->decrement =
        products[2] + of->penalty * of->slope + dot_outputs(of, of->sums, of->bias_step);
}

/* The objective at -t Q, and its slope by t. */
static double try_step(s2_dual_fit *of, double t, double *slope) {
    const double loss = loss_at(of, t, of->next_grad, of->next_sums, slope);
    *slope -= of->penalty * (of->slope - t * of->curvature);
    return loss + 0.5 * of->penalty * (of->norm - 2.0 * t * of->slope + t * t * of->curvature);
}

/* The next length between low and high, by the zero of a slope that is linear between them. */
static double next_length(double low, double low_slope, double high, double high_slope) {
    const double zero = low + (high - low) * low_slope / (low_slope - high_slope);
    const double margin = 0.1 * (high - low);
    const double inside = zero > low + margin ? zero : low + margin;
    return inside < high - margin ? inside : high - margin;
}

/* The length of a step that lowers the objective enough and leaves little slope, with the objective
 * there in of->value and what is left of the slope; 0 where rounding allows none. */
static double search(s2_dual_fit *of, double *slope) {
    const double before = of->value, allowed = before + S2_ROUNDING * fabs(before);
    double low = 0.0, low_slope = -of->decrement, high = 0.0, high_slope = 0.0, t = 1.0;
    for (int tries = 0; tries < S2_MOST_STEPS; tries++) {
        const double objective = try_step(of, t, slope);
        if (!(objective <= allowed - S2_LEAST_DECREASE * t * of->decrement)) {
            high = t;
            high_slope = *slope > 0.0 ? *slope : -low_slope; /* else halve */
        } else if (*slope < -MOST_SLOPE * of->decrement) {
            /* a slope that hardly rose says little of where it ends */
            const double zero = -t * *slope / (*slope + of->decrement);
            low = t, low_slope = *slope;
            if (high == 0.0) {
                t *= zero > 0.0 && zero < 10.0 ? zero : 10.0;
                continue;
            }
        } else {
            of->value = objective;
            return t;
        }
        t = next_length(low, low_slope, high, high_slope);
    }
    return 0.0;
}

/* The step of -t Q as a pair, if the gradient changes along it. */
static void add_pair(s2_dual_fit *of, double t, double bend) {
    const s2_kernels *kernels = of->objective.kernels;
    s2_pairs *pairs = &of->pairs;
    if (!(bend > 1e-12 * of->decrement)) {
        return;
    }
    const size_t new = s2_pairs_add(pairs, bend);
    kernels->scaled(of->size, (float)-t, of->step, pairs->step[new]);
    kernels->scaled(of->size, (float)-t, of->step_product, pairs->image[new]);
    kernels->move_along(of->size, of->next_grad, 0.0f, -1.0f, of->grad, pairs->change[new]);
    s2_add_scaled(kernels, of->size, (float)of->penalty, pairs->step[new], pairs->change[new]);
    for (size_t o = 0; o < of->n_rows; o++) {
        pairs->bias_step[new][o] = -t * of->bias_step[o];
        pairs->bias_change[new][o] = of->next_sums[o] - of->sums[o];
    }
    of->gamma = t * t * (of->curvature + dot_outputs(of, of->bias_step, of->bias_step)) / bend;
}

/* Moves to the step tried last. */
static void move_on(s2_dual_fit *of, double t) {
    const s2_kernels *kernels = of->objective.kernels;
    s2_add_scaled(kernels, of->size, (float)-t, of->step, of->coefficients);
    s2_add_scaled(kernels, of->size, (float)-t, of->step_product, of->product);
    of->norm += t * (t * of->curvature - 2.0 * of->slope);
    for (size_t o = 0; o < of->n_rows; o++) {
        of->bias[o] -= t * of->bias_step[o];
    }
    float *const grad = of->grad;
    double *const sums = of->sums;
    of->grad = of->next_grad, of->next_grad = grad;
    of->sums = of->next_sums, of->next_sums = sums;
}

/* Whether the decrement is at most this. Without pairs it has no scale and may be so far from the
 * end. */
static int is_least(const s2_dual_fit *of, double tolerance) {
    return of->decrement == 0.0 || (of->pairs.count >= 2 && of->decrement > 0.0 &&
                                    of->decrement <= tolerance * s2_objective_size(of->value));
}

void s2_dual_fit_advance(s2_dual_fit *of, double tolerance) {
    /* The estimate behind the decrement is of few pairs: of the squared loss, which flattens nowhere,
     * it sees a smaller part of what is left. */
    const double share = of->objective.loss == S2_SQUARED ? 0.1 : 1.0;
    s2_pairs_end(&of->pairs, of->step, of->step_product, of->bias_step);
    measure_direction(of);
    double slope = 0.0;
    const double t =
        of->decrement > 0.0 && !is_least(of, share * tolerance) ? search(of, &slope) : 0.0;
    if (t > 0.0) {
        add_pair(of, t, t * (slope + of->decrement));
        move_on(of, t);
    } else if (of->pairs.count == 0 || is_least(of, tolerance)) { /* or rounding allows no more */
        of->ended = 1;
    } else {
        of->pairs.count = 0; /* once more along the gradient itself */
        of->gamma = 1.0;
    }
}
