/*
 * dual_fit.c - one L-BFGS iteration of a weighted convex loss with L2 in sample coordinates.
 *
 * The gradient's representer in these coordinates is R = g + penalty * A, g the gradient by the
 * logits: no product. Inner products are those of the Gram matrix, <A, B> = A . G B, and G A are the
 * logits. So an iteration costs one product with G, and a step along a direction whose product is
 * known costs none.
 */
#include "dual_fit.h"

#include <math.h>
#include <string.h>

/* A step must leave at most this share of the slope. */
#define MOST_SLOPE 0.9

static double dot(const s2_dual_fit *of, const float *a, const float *b) {
    return of->objective.kernels->dot(of->size, a, b);
}

static double dot_outputs(const s2_dual_fit *of, const double *a, const double *b) {
    return s2_dot_outputs(of->n_outputs, a, b);
}

/* Sums of a gradient over the samples. */
static void sum_samples(const s2_dual_fit *of, const float *grad, double *sums) {
    for (size_t o = 0; o < of->n_outputs; o++) {
        sums[o] = of->objective.kernels->dot(of->lanes, grad + o * of->lanes, of->ones);
    }
}

void s2_dual_fit_look(s2_dual_fit *of) {
    for (size_t o = 0; o < of->n_outputs; o++) {
        const size_t first = o * of->lanes;
        of->objective.kernels->move_along(
            of->lanes, of->at.products + first, (float)of->bias[o], of->offset ? 1.0f : 0.0f,
            of->offset ? of->offset + first : of->ones, of->logits + first);
    }
    of->norm = dot(of, of->at.coefficients, of->at.products);
    of->value =
        s2_objective_loss(&of->objective, of->logits, of->grad) + 0.5 * of->penalty * of->norm;
    sum_samples(of, of->grad, of->sums);
}

/* Pair number `age` of the ring, 0 the newest. */
static s2_pair *pair_of(s2_dual_fit *of, size_t age) {
    return &of->pairs[(of->newest + S2_PAIRS - age) % S2_PAIRS];
}

void s2_dual_fit_begin(s2_dual_fit *of) {
    const s2_kernels *kernels = of->objective.kernels;
    kernels->move_along(of->size, of->grad, 0.0f, (float)of->penalty, of->at.coefficients,
                        of->step);
    memcpy(of->bias_step, of->sums, of->n_outputs * sizeof *of->sums);
    for (size_t age = 0; age < of->n_pairs; age++) {
        const s2_pair *by = pair_of(of, age);
        of->share[age] = by->rho * (dot(of, of->step, by->product) +
                                    dot_outputs(of, of->bias_step, by->bias_step));
        kernels->add_scaled(of->size, (float)-of->share[age], by->change, of->step);
        for (size_t o = 0; o < of->n_outputs; o++) {
            of->bias_step[o] -= of->share[age] * by->bias_change[o];
        }
    }
    /* The Hessian is the penalty at least, where there is one: more would let grow what of A the Gram
     * matrix does not see. The bias has none. */
    const double most = of->gamma * of->penalty > 1.0 ? 1.0 / of->penalty : of->gamma;
    kernels->scaled(of->size, (float)most, of->step, of->step);
    for (size_t o = 0; o < of->n_outputs; o++) {
        of->bias_step[o] *= of->gamma;
    }
}

/* The part behind it, which needs the products of the pairs alone. */
static void end_direction(s2_dual_fit *of) {
    const s2_kernels *kernels = of->objective.kernels;
    for (size_t age = of->n_pairs; age-- > 0;) {
        const s2_pair *by = pair_of(of, age);
        const double less = by->rho * (dot(of, of->product, by->change) +
                                       dot_outputs(of, of->bias_step, by->bias_change));
        const double more = of->share[age] - less;
        kernels->add_scaled(of->size, (float)more, by->step, of->step);
        kernels->add_scaled(of->size, (float)more, by->product, of->product);
        for (size_t o = 0; o < of->n_outputs; o++) {
            of->bias_step[o] += more * by->bias_step[o];
        }
    }
}

/* <R, G Q>: the slope of the objective along -Q is minus that. */
static void measure_direction(s2_dual_fit *of) {
    of->slope = dot(of, of->at.coefficients, of->product);
    of->curvature = dot(of, of->step, of->product);
    of->norm = dot(of, of->at.coefficients, of->at.products);
    of->decrement = dot(of, of->grad, of->product) + of->penalty * of->slope +
                    dot_outputs(of, of->sums, of->bias_step);
}

/* The objective at -t Q, and its slope by t. */
static double try_step(s2_dual_fit *of, double t, double *slope) {
    for (size_t o = 0; o < of->n_outputs; o++) {
        const size_t first = o * of->lanes;
        of->objective.kernels->move_along(of->lanes, of->logits + first,
                                          (float)(-t * of->bias_step[o]), (float)-t,
                                          of->product + first, of->next_logits + first);
    }
    const double loss = s2_objective_loss(&of->objective, of->next_logits, of->next_grad);
    sum_samples(of, of->next_grad, of->next_sums);
    *slope = -dot(of, of->next_grad, of->product) - dot_outputs(of, of->next_sums, of->bias_step) -
             of->penalty * (of->slope - t * of->curvature);
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
 * there in of->value; 0 where rounding allows none. */
static double search(s2_dual_fit *of) {
    const double before = of->value, allowed = before + S2_ROUNDING * fabs(before);
    double low = 0.0, low_slope = -of->decrement, high = 0.0, high_slope = 0.0, t = 1.0;
    for (int tries = 0; tries < S2_MOST_STEPS; tries++) {
        double slope;
        const double objective = try_step(of, t, &slope);
        if (!(objective <= allowed - S2_LEAST_DECREASE * t * of->decrement)) {
            high = t;
            high_slope = slope > 0.0 ? slope : -low_slope; /* else halve */
        } else if (slope < -MOST_SLOPE * of->decrement) {
            /* a slope that hardly rose says little of where it ends */
            const double zero = t * slope / (slope + of->decrement) * -1.0;
            const double far = zero > 0.0 && zero < 10.0 ? zero : 10.0;
            low = t, low_slope = slope;
            if (high == 0.0) {
                t *= far > 2.0 ? far : 2.0;
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

/* Moves to the step tried last, and keeps it as a pair if the gradient changed along it. */
static void move_on(s2_dual_fit *of, double t) {
    const size_t slot = (of->newest + 1) % S2_PAIRS;
    s2_pair *new = &of->pairs[slot];
    of->objective.kernels->scaled(of->size, (float)-t, of->step, new->step);
    of->objective.kernels->scaled(of->size, (float)-t, of->product, new->product);
    of->objective.kernels->add_scaled(of->size, 1.0f, new->step, of->at.coefficients);
    of->objective.kernels->add_scaled(of->size, 1.0f, new->product, of->at.products);
    of->objective.kernels->move_along(of->size, of->next_grad, 0.0f, -1.0f, of->grad, new->change);
    of->objective.kernels->add_scaled(of->size, (float)of->penalty, new->step, new->change);
    for (size_t o = 0; o < of->n_outputs; o++) {
        new->bias_step[o] = -t * of->bias_step[o];
        new->bias_change[o] = of->next_sums[o] - of->sums[o];
        of->bias[o] += new->bias_step[o];
    }
    const double bend =
        dot(of, new->change, new->product) + dot_outputs(of, new->bias_change, new->bias_step);
    if (bend > 1e-12 * of->decrement) {
        new->rho = 1.0 / bend;
        of->gamma = new->rho * (dot(of, new->step, new->product) +
                                dot_outputs(of, new->bias_step, new->bias_step));
        of->newest = slot;
        of->n_pairs += of->n_pairs < S2_PAIRS;
    }
    float *const logits = of->logits, *const grad = of->grad;
    double *const sums = of->sums;
    of->logits = of->next_logits, of->next_logits = logits;
    of->grad = of->next_grad, of->next_grad = grad;
    of->sums = of->next_sums, of->next_sums = sums;
}

/* Whether the decrement is at most this. Without pairs it has no scale and may be so far from the
 * end. */
static int is_least(const s2_dual_fit *of, double tolerance) {
    return of->decrement == 0.0 || (of->n_pairs >= 2 && of->decrement > 0.0 &&
                                    of->decrement <= tolerance * s2_objective_size(of->value));
}

void s2_dual_fit_advance(s2_dual_fit *of, double tolerance) {
    /* The estimate behind the decrement is of few pairs: of the squared loss, which flattens nowhere,
     * it sees a smaller part of what is left. */
    const double share = of->objective.loss == S2_SQUARED ? 0.1 : 1.0;
    end_direction(of);
    measure_direction(of);
    const double t = of->decrement > 0.0 && !is_least(of, share * tolerance) ? search(of) : 0.0;
    if (t > 0.0) {
        move_on(of, t);
    } else if (of->n_pairs == 0 || is_least(of, tolerance)) { /* or rounding allows no more */
        of->ended = 1;
    } else {
        of->n_pairs = 0; /* once more along the gradient itself */
        of->gamma = 1.0;
    }
}
