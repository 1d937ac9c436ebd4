/*
 * exact.c - the exact solver in sample coordinates: fits that share the products with a Gram matrix.
 *
 * Outputs of sigmoid and squared losses do not know of each other: each is a fit of its own. Those of
 * softmax are one. The fits of all problems go on side by side.
 */
#include "arena.h"
#include "dual_fit.h"

#include <math.h>
#include <string.h>

enum { REFRESHED = 64 }; /* iterations until G A is computed afresh: it drifts by rounding */

enum { PANELS_AT_ONCE = 8 }; /* of 4 KiB each */

typedef struct {
    const s2_dual *dual;
    const s2_dual_solution *solution;
    s2_dual_fit whole; /* all rows, whose memory the fits share */
    s2_dual_fit *fits; /* (n_fits) */
    size_t n_fits, fits_of_problem;
    size_t n_outputs, n_rows; /* of a fit */
    size_t panels;
    uint8_t *held; /* (n_problems, panels): whether no sample of the panel has a weight */
    float *ones;   /* (lanes) */
} solver;

static solver lay_out(const s2_dual *dual, s2_arena *arena) {
    const s2_loss loss = dual->objective.loss;
    solver of = {.dual = dual, .n_outputs = loss == S2_SOFTMAX ? dual->objective.n_outputs : 1};
    of.n_rows = s2_folded_outputs(loss, (uint32_t)of.n_outputs);
    of.fits_of_problem = dual->objective.n_outputs / of.n_outputs;
    of.n_fits = s2_times(dual->n_problems, of.fits_of_problem);
    s2_dual_fit *whole = &of.whole;
    const size_t n_rows = s2_times(of.n_fits, of.n_rows);
    float **const vectors[] = {&whole->coefficients, &whole->product, &whole->step,
                               &whole->step_product};
    double **const small[] = {&whole->bias, &whole->sums, &whole->next_sums, &whole->bias_step};
    whole->lanes = s2_sample_lanes(dual->n_samples);
    for (size_t i = 0; i < 4; i++) {
        *vectors[i] = s2_take_floats(arena, n_rows, whole->lanes);
        *small[i] = s2_take(arena, n_rows, 1, sizeof(double));
    }
    whole->grad = s2_take_floats(arena, s2_times(of.n_fits, of.n_outputs), whole->lanes);
    whole->next_grad = s2_take_floats(arena, s2_times(of.n_fits, of.n_outputs), whole->lanes);
    s2_pairs_lay_out(&whole->pairs, arena, n_rows, whole->lanes, 1);
    of.panels = whole->lanes / S2_SAMPLE_LANES;
    of.fits = s2_take(arena, of.n_fits, 1, sizeof(s2_dual_fit));
    of.held = s2_take(arena, dual->n_problems, of.panels, 1);
    of.ones = s2_take_floats(arena, 1, whole->lanes);
    return of;
}

size_t s2_dual_bytes(uint32_t n_samples, uint32_t n_outputs, uint32_t n_problems) {
    s2_arena arena = {0};
    const s2_dual dual = {.n_samples = n_samples,
                          .n_problems = n_problems,
                          .objective = {.loss = S2_SIGMOID, .n_outputs = n_outputs}};
    (void)lay_out(&dual, &arena); /* the loss with most fits */
    return arena.used;
}

s2_status s2_dual_check(const s2_dual *dual) {
    if (dual->n_problems == 0 || s2_gram_floats(dual->n_samples) == SIZE_MAX) {
        return S2_BAD_SHAPE;
    }
    s2_objective objective = dual->objective;
    s2_status status = S2_OK;
    for (size_t p = 0; status == S2_OK && p < dual->n_problems; p++) {
        status = s2_samples_check(&objective, dual->n_samples);
        objective.weight += objective.lanes;
    }
    return status;
}

/* Fit i, in its part of the memory. */
static s2_dual_fit fit_of(const solver *of, size_t i) {
    const s2_dual *dual = of->dual;
    const size_t problem = i / of->fits_of_problem, first = i * of->n_rows;
    const size_t output = i % of->fits_of_problem * of->n_outputs, lanes = of->whole.lanes;
    const size_t at = first * lanes, outputs_at = i * of->n_outputs * lanes;
    s2_dual_fit part = of->whole;
    part.n_outputs = of->n_outputs;
    part.n_rows = part.pairs.n_outputs = of->n_rows;
    part.size = part.pairs.size = of->n_rows * lanes;
    part.objective = dual->objective;
    part.objective.n_outputs = (uint32_t)of->n_outputs;
    part.objective.target += output * dual->objective.target_stride;
    part.objective.weight += problem * lanes;
    part.pairs.kernels = dual->objective.kernels;
    part.offset = dual->offset ? dual->offset + output * lanes : NULL;
    part.ones = of->ones;
    part.gamma = 1.0;
    part.coefficients += at, part.product += at, part.step += at, part.step_product += at;
    part.grad += outputs_at, part.next_grad += outputs_at;
    part.bias += first, part.sums += first, part.next_sums += first, part.bias_step += first;
    for (size_t j = 0; j < S2_PAIRS; j++) {
        part.pairs.step[j] += at, part.pairs.image[j] += at, part.pairs.change[j] += at;
        part.pairs.bias_step[j] += first, part.pairs.bias_change[j] += first;
    }
    return part;
}

/* Part of a panel of G . a: its columns from samples of panels first..stop, those held out, where a is
 * 0, left away; of n_rows rows of a problem. */
static void multiply_part(const solver *of, const uint8_t *held, size_t panel, size_t first,
                          size_t stop, s2_gemm *pass, const float *a) {
    const size_t n_samples = of->dual->n_samples;
    const float *columns = of->dual->gram + panel * S2_SAMPLE_LANES * n_samples;
    for (size_t next; first < stop; first = next) {
        next = first + 1;
        if (held[first]) {
            continue;
        }
        for (; next < stop && !held[next]; next++) {
        }
        const size_t sample = first * S2_SAMPLE_LANES, end = next * S2_SAMPLE_LANES;
        pass->depth = (uint32_t)((end < n_samples ? end : n_samples) - sample);
        pass->a = a + sample;
        pass->b = columns + sample * S2_SAMPLE_LANES;
        of->dual->objective.kernels->panel(pass);
        pass->add = 1;
    }
}

/* What the pass number `count` over a part that ends before panel `stop` may fetch of the next one: each
 * as many lines as it has samples. Nothing where the matrix stays in the second cache. */
static const float *ahead(const solver *of, size_t panel, size_t stop, size_t count) {
    enum { CACHED_BYTES = 1 << 20, LINE = S2_ALIGN / sizeof(float) };
    const size_t n = of->dual->n_samples, at_once = (size_t)PANELS_AT_ONCE * S2_SAMPLE_LANES;
    const size_t end = stop * S2_SAMPLE_LANES < n ? stop * S2_SAMPLE_LANES : n;
    const size_t at = (panel * n + end) * S2_SAMPLE_LANES + count * at_once * LINE;
    const int is_far = n * of->whole.lanes * sizeof(float) > CACHED_BYTES;
    return is_far && count * LINE < S2_SAMPLE_LANES && at < n * of->whole.lanes
               ? of->dual->gram + at
               : NULL;
}

/* G . a of the fits that go on, at the samples that are not held out; with `all` of every fit and at
 * every sample. All fits pass over a part of a panel while it is in the first cache. */
static void multiply_gram(const solver *of, int all, const float *a, float *product) {
    const size_t lanes = of->whole.lanes;
    s2_gemm pass = {.cols = S2_SAMPLE_LANES,
                    .a_row = lanes,
                    .a_depth = 1,
                    .b_depth = S2_SAMPLE_LANES,
                    .b_col = 1,
                    .c_row = lanes};
    for (size_t panel = 0; panel < of->panels; panel++) {
        for (size_t first = 0; first < of->panels; first += PANELS_AT_ONCE) {
            const size_t left = of->panels - first;
            const size_t stop = first + (left < PANELS_AT_ONCE ? left : PANELS_AT_ONCE);
            for (size_t i = 0, next, parts = 0; i < of->n_fits; i = next) {
                const uint8_t *held = of->held + i / of->fits_of_problem * of->panels;
                next = i + 1;
                if (!all && (of->fits[i].ended || held[panel])) {
                    continue;
                }
                while (next % of->fits_of_problem != 0 && (all || !of->fits[next].ended)) {
                    next++;
                }
                const size_t at = i * of->n_rows * lanes;
                pass.rows = (uint32_t)((next - i) * of->n_rows);
                pass.c = product + at + panel * S2_SAMPLE_LANES;
                pass.ahead = ahead(of, panel, stop, parts++);
                pass.add = memchr(held, 0, first) != NULL; /* to what came before */
                multiply_part(of, held, panel, first, stop, &pass, a + at);
            }
        }
    }
}

/* Which panels are held out. */
static void find_held(solver *of) {
    const size_t lanes = of->whole.lanes;
    for (size_t p = 0; p < of->dual->n_problems; p++) {
        for (size_t panel = 0; panel < of->panels; panel++) {
            const float *weight = of->dual->objective.weight + p * lanes + panel * S2_SAMPLE_LANES;
            uint8_t *held = &of->held[p * of->panels + panel];
            *held = 1;
            for (size_t s = 0; s < S2_SAMPLE_LANES; s++) {
                *held = *held && weight[s] == 0.0f;
            }
        }
    }
}

/* Rows of a fit from and to outputs as the caller has them; `room` is (n_outputs, lanes). */
static void fold(const solver *of, size_t lanes, const float *outputs, float *room, float *rows) {
    memcpy(room, outputs, of->n_outputs * lanes * sizeof *room);
    if (of->n_rows < of->n_outputs) {
        s2_fold_outputs(of->dual->objective.kernels, of->n_outputs, lanes, room);
    }
    memcpy(rows, room, of->n_rows * lanes * sizeof *room);
}

static void unfold(const solver *of, size_t lanes, const float *rows, float *outputs) {
    memcpy(outputs, rows, of->n_rows * lanes * sizeof *outputs);
    if (of->n_rows < of->n_outputs) {
        s2_unfold_outputs(of->dual->objective.kernels, of->n_outputs, lanes, outputs);
    }
}

/* Every fit at the solution given; whether the objective is a number there. */
static int start(solver *of) {
    const size_t lanes = of->whole.lanes, n_rows = of->n_fits * of->n_rows;
    const s2_dual_solution *from = of->solution;
    int finite = 1;
    find_held(of);
    for (size_t s = 0; s < lanes; s++) {
        of->ones[s] = 1.0f;
    }
    /* also where samples are held out, which no product reaches */
    memset(of->whole.step_product, 0, n_rows * lanes * sizeof(float));
    memset(of->whole.bias_step, 0, n_rows * sizeof(double));
    for (size_t i = 0; i < of->n_fits; i++) {
        s2_dual_fit *fit = &of->fits[i];
        const size_t first = i * of->n_outputs;
        *fit = fit_of(of, i);
        fold(of, 1, from->bias + first, fit->grad, fit->next_grad);
        for (size_t row = 0; row < of->n_rows; row++) {
            fit->bias[row] = (double)fit->next_grad[row];
        }
        fold(of, lanes, from->coefficients + first * lanes, fit->grad, fit->coefficients);
        fold(of, lanes, from->products + first * lanes, fit->grad, fit->product);
        s2_dual_fit_look(fit);
        finite &= isfinite(fit->value) != 0;
    }
    return finite;
}

/* Iterations until all fits ended. What a fit does after a product and before the next one is done in
 * one go, while its pairs are in a cache. */
static void descend(solver *of, double tolerance) {
    size_t n_left = of->n_fits;
    for (size_t i = 0; i < of->n_fits; i++) {
        s2_dual_fit_begin(&of->fits[i]);
    }
    for (uint32_t iteration = 1; n_left > 0; iteration++) {
        const int is_stale = iteration % REFRESHED == 0;
        multiply_gram(of, 0, of->whole.step, of->whole.step_product);
        for (size_t i = 0; i < of->n_fits; i++) {
            s2_dual_fit *fit = &of->fits[i];
            if (!fit->ended) {
                s2_dual_fit_advance(fit, tolerance);
                fit->iterations = iteration;
                n_left -= fit->ended != 0;
            }
            if (!fit->ended && !is_stale) {
                s2_dual_fit_begin(fit);
            }
        }
        if (iteration == S2_MOST_ITERATIONS) {
            return;
        }
        if (is_stale) {
            multiply_gram(of, 0, of->whole.coefficients, of->whole.product);
        }
        for (size_t i = 0; is_stale && i < of->n_fits; i++) {
            if (!of->fits[i].ended) {
                s2_dual_fit_look(&of->fits[i]);
                s2_dual_fit_begin(&of->fits[i]);
            }
        }
    }
}

/* The solution of fit i, as the caller has it. */
static void settle(const solver *of, size_t i) {
    const size_t first = i * of->n_outputs, lanes = of->whole.lanes;
    const s2_dual_fit *fit = &of->fits[i];
    float *bias = of->solution->bias + first;
    unfold(of, lanes, fit->coefficients, of->solution->coefficients + first * lanes);
    unfold(of, lanes, fit->product, of->solution->products + first * lanes);
    for (size_t row = 0; row < of->n_rows; row++) {
        fit->next_grad[row] = (float)fit->bias[row];
    }
    unfold(of, 1, fit->next_grad, bias);
}

/* What became of it, with the products and the bias that belong to the coefficients. */
static void finish(solver *of, s2_dual_report *reports) {
    multiply_gram(of, 1, of->whole.coefficients, of->whole.product);
    for (size_t p = 0; p < of->dual->n_problems; p++) {
        reports[p] = (s2_dual_report){.converged = 1};
    }
    for (size_t i = 0; i < of->n_fits; i++) {
        s2_dual_fit *fit = &of->fits[i];
        s2_dual_report *report = &reports[i / of->fits_of_problem];
        s2_dual_fit_look(fit);
        settle(of, i);
        report->objective += fit->value;
        report->decrement += fit->decrement;
        report->converged &= fit->ended && s2_is_rounding(fit->decrement, fit->value);
        if (fit->iterations > report->iterations) {
            report->iterations = fit->iterations;
        }
    }
}

s2_status s2_dual_solve(const s2_dual *dual, double penalty, double tolerance,
                        const s2_dual_solution *solution, s2_dual_report *report, void *workspace,
                        size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    solver of = lay_out(dual, &arena);
    of.whole.penalty = penalty;
    of.solution = solution;
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!(penalty >= 0.0 && tolerance >= 0.0) || !isfinite(penalty) || !isfinite(tolerance)) {
        return S2_BAD_VALUE;
    }
    if (!start(&of)) {
        return S2_NOT_FINITE;
    }
    descend(&of, tolerance);
    finish(&of, report);
    return S2_OK;
}
