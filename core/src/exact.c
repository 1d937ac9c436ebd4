/*
 * exact.c - the exact solver in sample coordinates: fits that share the products with a Gram matrix.
 *
 * Outputs of sigmoid and squared losses do not know of each other: each is a fit of its own. Those of
 * softmax are one.
 */
#include "arena.h"
#include "dual_fit.h"

#include <math.h>

enum { MOST_ITERATIONS = 1000 };
enum { REFRESHED = 64 }; /* iterations until G A is computed afresh: it drifts by rounding */

static s2_dual_fit *lay_out(s2_dual_fit *whole, float **ones, uint32_t n_samples,
                            uint32_t n_outputs, s2_arena *arena) {
    float **const vectors[] = {&whole->logits,    &whole->grad, &whole->next_logits,
                               &whole->next_grad, &whole->step, &whole->product};
    double **const small[] = {&whole->bias, &whole->sums, &whole->next_sums, &whole->bias_step};
    whole->lanes = s2_sample_lanes(n_samples);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        *vectors[i] = s2_take_floats(arena, n_outputs, whole->lanes);
    }
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        *small[i] = s2_take(arena, n_outputs, 1, sizeof(double));
    }
    *ones = s2_take_floats(arena, 1, whole->lanes);
    whole->ones = *ones;
    for (size_t j = 0; j < S2_PAIRS; j++) {
        s2_pair *next = &whole->pairs[j];
        next->step = s2_take_floats(arena, n_outputs, whole->lanes);
        next->product = s2_take_floats(arena, n_outputs, whole->lanes);
        next->change = s2_take_floats(arena, n_outputs, whole->lanes);
        next->bias_step = s2_take(arena, n_outputs, 1, sizeof(double));
        next->bias_change = s2_take(arena, n_outputs, 1, sizeof(double));
    }
    return s2_take(arena, n_outputs, 1, sizeof(s2_dual_fit));
}

size_t s2_dual_bytes(uint32_t n_samples, uint32_t n_outputs) {
    s2_arena arena = {0};
    s2_dual_fit counted;
    float *ones;
    (void)lay_out(&counted, &ones, n_samples, n_outputs, &arena);
    return arena.used;
}

/* The fit of outputs first.. of the whole, in their part of its memory. */
static s2_dual_fit part_of(const s2_dual_fit *whole, size_t first, size_t n_outputs) {
    const size_t at = first * whole->lanes;
    s2_dual_fit part = *whole;
    part.n_outputs = n_outputs;
    part.size = n_outputs * whole->lanes;
    part.objective.n_outputs = (uint32_t)n_outputs;
    part.objective.target += first * whole->objective.target_stride;
    part.offset = whole->offset ? whole->offset + at : NULL;
    part.at.coefficients += at, part.at.products += at, part.at.bias += first;
    part.logits += at, part.grad += at, part.next_logits += at, part.next_grad += at;
    part.step += at, part.product += at;
    part.bias += first, part.sums += first, part.next_sums += first, part.bias_step += first;
    for (size_t j = 0; j < S2_PAIRS; j++) {
        part.pairs[j].step += at, part.pairs[j].product += at, part.pairs[j].change += at;
        part.pairs[j].bias_step += first, part.pairs[j].bias_change += first;
    }
    return part;
}

s2_status s2_dual_check(const s2_dual *dual) {
    const s2_status status = s2_objective_check(&dual->objective);
    const int fits = dual->n_samples > 0 &&
                     dual->objective.lanes == s2_sample_lanes(dual->n_samples) &&
                     s2_gram_floats(dual->n_samples) < SIZE_MAX;
    if (status != S2_OK || !fits) {
        return status != S2_OK ? status : S2_BAD_SHAPE;
    }
    for (size_t s = dual->n_samples; s < dual->objective.lanes; s++) {
        if (dual->objective.weight[s] != 0.0f) {
            return S2_BAD_VALUE;
        }
    }
    return S2_OK;
}

/* G . a of rows of a, panel by panel. */
static void multiply_gram(const s2_dual *dual, size_t n_rows, const float *a, float *product) {
    const size_t n_samples = dual->n_samples, lanes = dual->objective.lanes;
    for (size_t col = 0; col < n_samples; col += S2_SAMPLE_LANES) {
        dual->objective.kernels->gemm(&(s2_gemm){.rows = (uint32_t)n_rows,
                                                 .cols = S2_SAMPLE_LANES,
                                                 .depth = (uint32_t)n_samples,
                                                 .a = a,
                                                 .a_row = lanes,
                                                 .a_depth = 1,
                                                 .b = dual->gram + col * n_samples,
                                                 .b_depth = S2_SAMPLE_LANES,
                                                 .b_col = 1,
                                                 .c = product + col,
                                                 .c_row = lanes});
    }
}

/* Iterations until all fits ended; how many. */
static uint32_t descend(const s2_dual *dual, const s2_dual_fit *whole, s2_dual_fit *fits,
                        size_t n_fits, double tolerance) {
    const size_t of_fit = dual->objective.n_outputs / n_fits;
    size_t first = 0, stop = n_fits; /* those outside have ended */
    for (uint32_t iteration = 0; iteration < MOST_ITERATIONS; iteration++) {
        for (; first < stop && fits[first].ended; first++) {
        }
        for (; first < stop && fits[stop - 1].ended; stop--) {
        }
        if (first == stop) {
            return iteration;
        }
        const size_t at = first * of_fit * dual->objective.lanes;
        const size_t n_rows = (stop - first) * of_fit;
        if (iteration > 0 && iteration % REFRESHED == 0) {
            multiply_gram(dual, n_rows, whole->at.coefficients + at, whole->at.products + at);
        }
        for (size_t i = first; i < stop; i++) {
            if (!fits[i].ended) {
                if (iteration > 0 && iteration % REFRESHED == 0) {
                    s2_dual_fit_look(&fits[i]);
                }
                s2_dual_fit_begin(&fits[i]);
            }
        }
        multiply_gram(dual, n_rows, whole->step + at, whole->product + at);
        for (size_t i = first; i < stop; i++) {
            if (!fits[i].ended) {
                s2_dual_fit_advance(&fits[i], tolerance);
            }
        }
    }
    return MOST_ITERATIONS;
}

/* Every fit at the solution given; whether the objective is a number there. */
static int start(const s2_dual_fit *whole, s2_dual_fit *fits, size_t n_fits, size_t n_outputs) {
    int finite = 1;
    for (size_t o = 0; o < n_outputs; o++) {
        whole->bias[o] = (double)whole->at.bias[o];
    }
    for (size_t i = 0; i < n_fits; i++) {
        fits[i] = part_of(whole, i * (n_outputs / n_fits), n_outputs / n_fits);
        s2_dual_fit_look(&fits[i]);
        finite &= isfinite(fits[i].value) != 0;
    }
    return finite;
}

/* What became of it, with the products and the bias that belong to the coefficients. */
static void finish(const s2_dual *dual, const s2_dual_fit *whole, s2_dual_fit *fits, size_t n_fits,
                   s2_dual_report *report) {
    const size_t n_outputs = dual->objective.n_outputs;
    multiply_gram(dual, n_outputs, whole->at.coefficients, whole->at.products);
    report->objective = report->decrement = 0.0;
    report->converged = 1;
    for (size_t i = 0; i < n_fits; i++) {
        s2_dual_fit_look(&fits[i]);
        report->objective += fits[i].value;
        report->decrement += fits[i].decrement;
        report->converged &= fits[i].ended;
    }
    for (size_t o = 0; o < n_outputs; o++) {
        whole->at.bias[o] = (float)whole->bias[o];
    }
}

s2_status s2_dual_solve(const s2_dual *dual, double penalty, double tolerance,
                        const s2_dual_solution *solution, s2_dual_report *report, void *workspace,
                        size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    s2_dual_fit whole = {.objective = dual->objective,
                         .offset = dual->offset,
                         .penalty = penalty,
                         .at = *solution,
                         .gamma = 1.0};
    float *ones;
    s2_dual_fit *fits = lay_out(&whole, &ones, dual->n_samples, dual->objective.n_outputs, &arena);
    const size_t n_outputs = dual->objective.n_outputs;
    const size_t n_fits = dual->objective.loss == S2_SOFTMAX ? 1 : n_outputs;
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!(penalty >= 0.0 && tolerance >= 0.0) || !isfinite(penalty) || !isfinite(tolerance)) {
        return S2_BAD_VALUE;
    }
    for (size_t s = 0; s < whole.lanes; s++) {
        ones[s] = 1.0f;
    }
    if (!start(&whole, fits, n_fits, n_outputs)) {
        return S2_NOT_FINITE;
    }
    report->iterations = descend(dual, &whole, fits, n_fits, tolerance);
    finish(dual, &whole, fits, n_fits, report);
    return S2_OK;
}
