/*
 * primal.c - L-BFGS with W itself as unknowns, on a metric; and which exact solver is the quickest.
 *
 * An iteration is one pass over the rows: a step of length 1 is nearly always taken.
 */
#include "same_bits.h"

#include "descent.h"
#include "primal_rows.h"

#include <math.h>
#include <string.h>

enum { MOST_IDLE = 10 };

/* A point, and the gradient there. */
typedef struct {
    float *weights, *grad; /* (n_outputs, width) */
    double *bias, *sums;   /* (n_outputs) */
    double value;
} point;

typedef struct {
    s2_rows_pass pass;
    const s2_metric *metric;
    double penalty;
    float *products; /* of the point looked at last */
    size_t size, n_outputs;
    point at, next;
    float *step; /* (n_outputs, width): the next point is one step of -t away */
    double *bias_step;
    s2_pairs pairs; /* around the metric */
    double decrement;
} fit;

static fit lay_out(const s2_primal *primal, uint32_t n_subset, s2_arena *arena) {
    fit of = {.pass = s2_rows_lay_out(primal, n_subset, arena)};
    of.n_outputs = of.pass.n_outputs;
    of.size = s2_times(of.pass.n_outputs, of.pass.width);
    float **const vectors[] = {&of.at.weights, &of.at.grad, &of.next.weights, &of.next.grad,
                               &of.step};
    double **const small[] = {&of.at.bias, &of.at.sums, &of.next.bias, &of.next.sums,
                              &of.bias_step};
    for (size_t i = 0; i < 5; i++) {
        *vectors[i] = s2_take_floats(arena, 1, of.size);
        *small[i] = s2_take(arena, 1, of.n_outputs, sizeof(double));
    }
    s2_pairs_lay_out(&of.pairs, arena, of.n_outputs, of.pass.width, 0);
    of.pairs.kernels = of.pass.kernels;
    of.pairs.size = of.size;
    of.pairs.n_outputs = of.n_outputs;
    return of;
}

size_t s2_primal_bytes(const s2_primal *primal, uint32_t n_subset) {
    s2_arena arena = {0};
    (void)lay_out(primal, n_subset, &arena);
    return arena.used;
}

s2_status s2_primal_check(const s2_primal *primal) {
    if (primal->n_taps < 1) {
        return S2_BAD_SHAPE;
    }
    const uint32_t n_samples = primal->columns[0].n_samples;
    uint64_t width = 0;
    for (uint32_t k = 0; k < primal->n_taps; k++) {
        const s2_status status = s2_columns_check(&primal->columns[k]);
        if (status != S2_OK || primal->columns[k].n_samples != n_samples) {
            return S2_BAD_SHAPE;
        }
        width += primal->columns[k].width;
    }
    if (width > S2_MAX_WIDTH) {
        return S2_BAD_SHAPE;
    }
    return s2_samples_check(&primal->objective, n_samples);
}

static double dot(const fit *of, const float *a, const float *b) {
    return s2_dot(of->pass.kernels, of->size, a, b);
}

static double dot_outputs(const fit *of, const double *a, const double *b) {
    return s2_dot_outputs(of->n_outputs, a, b);
}

/* One pass: objective and gradient at the point. */
static void look(fit *of, point *there) {
    there->value = s2_rows_look(&of->pass, there->weights, there->bias, of->products, there->grad,
                                there->sums) +
                   0.5 * of->penalty * dot(of, there->weights, there->weights);
    s2_add_scaled(of->pass.kernels, of->size, (float)of->penalty, there->weights, there->grad);
}

/* step = an estimate of the inverse Hessian times the gradient: the pairs around the metric. */
static void find_direction(fit *of) {
    memcpy(of->step, of->at.grad, of->size * sizeof *of->step);
    memcpy(of->bias_step, of->at.sums, of->n_outputs * sizeof *of->bias_step);
    s2_pairs_begin(&of->pairs, 1.0, 1.0, of->step, of->bias_step);
    s2_metric_apply(&of->pass, of->metric, of->step);
    for (size_t o = 0; o < of->n_outputs; o++) {
        of->bias_step[o] /=
            (double)of->metric->curvature; /* the weights sum to 1, the columns are centred */
    }
    s2_pairs_end(&of->pairs, of->step, of->step, of->bias_step);
    of->decrement = dot(of, of->at.grad, of->step) + dot_outputs(of, of->at.sums, of->bias_step);
}

/* The next point, t steps away; its slope by t. */
static double try_step(fit *of, double t) {
    of->pass.kernels->move_along(of->size, of->at.weights, 0.0f, (float)-t, of->step,
                                 of->next.weights);
    for (size_t o = 0; o < of->n_outputs; o++) {
        of->next.bias[o] = of->at.bias[o] - t * of->bias_step[o];
    }
    look(of, &of->next);
    return -dot(of, of->next.grad, of->step) - dot_outputs(of, of->next.sums, of->bias_step);
}

/* The length of a step to a point that lowers the objective as its slope promises, up to rounding,
 * with the slope there; 0: there is none. A step that does not is shortened to where the slope, if it
 * is linear, is zero. */
static double search(fit *of, double *slope) {
    const double allowed = of->at.value + S2_ROUNDING * fabs(of->at.value);
    double t = 1.0;
    for (int tries = 0; tries < S2_MOST_STEPS; tries++) {
        *slope = try_step(of, t);
        if (of->next.value <= allowed - S2_LEAST_DECREASE * t * of->decrement) {
            return t;
        }
        const double zero = *slope > 0.0 ? of->decrement / (of->decrement + *slope) : 0.5;
        t *= zero > 0.1 && zero < 0.9 ? zero : zero < 0.9 ? 0.1 : 0.9;
    }
    return 0.0;
}

/* Moves to the point tried last, and keeps the way as a pair if the gradient changed along it. */
static void move_on(fit *of, double t, double bend) {
    const s2_kernels *kernels = of->pass.kernels;
    if (bend > 1e-12 * of->decrement) {
        const size_t new = s2_pairs_add(&of->pairs, bend);
        kernels->scaled(of->size, (float)-t, of->step, of->pairs.step[new]);
        kernels->move_along(of->size, of->next.grad, 0.0f, -1.0f, of->at.grad,
                            of->pairs.change[new]);
        for (size_t o = 0; o < of->n_outputs; o++) {
            of->pairs.bias_step[new][o] = -t * of->bias_step[o];
            of->pairs.bias_change[new][o] = of->next.sums[o] - of->at.sums[o];
        }
    }
    const point old = of->at;
    of->at = of->next;
    of->next = old;
}

/* Whether the decrement is small. Without pairs the metric alone may see less than is left; and that
 * of a subset does so of the squared loss, which flattens nowhere. */
static int is_least(const fit *of, double tolerance) {
    const int squared = of->pass.primal->objective.loss == S2_SQUARED;
    const double share = squared && of->metric->n_subset ? 0.1 : 1.0;
    return of->decrement == 0.0 ||
           (of->pairs.count >= 2 && of->decrement > 0.0 &&
            of->decrement <= share * tolerance * s2_objective_size(of->at.value));
}

/* Ends where the decrement is small, or where rounding allows no more: no step, or many of them in a
 * row that lower nothing. */
static void descend(fit *of, double tolerance, s2_dual_report *report) {
    double least = of->at.value;
    for (int idle = 0; report->iterations < S2_MOST_ITERATIONS && idle < MOST_IDLE;) {
        find_direction(of);
        report->iterations++;
        if (is_least(of, tolerance)) {
            report->converged = 1;
            return;
        }
        double slope = 0.0;
        const double t = of->decrement > 0.0 ? search(of, &slope) : 0.0;
        if (t > 0.0) {
            move_on(of, t, t * (slope + of->decrement));
            idle = of->at.value < least - S2_ROUNDING * fabs(least) ? 0 : idle + 1;
            least = of->at.value < least ? of->at.value : least;
            continue;
        }
        look(of, &of->at); /* the products of the point that stays */
        if (of->pairs.count == 0) {
            break;
        }
        of->pairs.count = 0; /* once more along the gradient in the metric alone */
    }
    report->converged =
        report->iterations < S2_MOST_ITERATIONS && s2_is_rounding(of->decrement, of->at.value);
}

s2_status s2_primal_solve(const s2_primal *primal, const s2_metric *metric, double penalty,
                          double tolerance, const s2_primal_solution *solution,
                          s2_dual_report *report, void *workspace, size_t size) {
    s2_arena arena = {.base = workspace, .size = size};
    fit of = lay_out(primal, metric->n_subset, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!(penalty >= 0.0 && tolerance >= 0.0) || !isfinite(penalty) || !isfinite(tolerance)) {
        return S2_BAD_VALUE;
    }
    of.metric = metric;
    of.penalty = penalty;
    of.products = solution->products;
    s2_rows_begin(&of.pass);
    memcpy(of.at.weights, solution->weights, of.size * sizeof(float));
    for (size_t o = 0; o < of.n_outputs; o++) {
        of.at.bias[o] = (double)solution->bias[o];
    }
    look(&of, &of.at);
    if (!isfinite(of.at.value)) {
        return S2_NOT_FINITE;
    }
    *report = (s2_dual_report){0};
    descend(&of, tolerance, report);
    report->objective = of.at.value;
    report->decrement = of.decrement;
    memcpy(solution->weights, of.at.weights, of.size * sizeof(float));
    for (size_t o = 0; o < of.n_outputs; o++) {
        solution->bias[o] = (float)of.at.bias[o];
    }
    return S2_OK;
}

/* ---- which solver ---------------------------------------------------------------------------- */

uint32_t s2_subset_size(uint32_t n_samples) {
    enum { SHARE = 16, LEAST = 256, MOST = 2000 };
    const uint32_t size = n_samples / SHARE < LEAST ? LEAST : n_samples / SHARE;
    const uint32_t most = n_samples < MOST ? n_samples : MOST;
    return size < most ? size : most;
}

size_t s2_solver_bytes(s2_solver solver, uint32_t n_samples, uint32_t width, uint32_t n_outputs) {
    const size_t lanes = s2_sample_lanes(n_samples);
    if (solver == S2_SOLVE_DUAL) {
        const size_t floats =
            s2_plus(s2_gram_floats(n_samples), s2_times(2, s2_times(n_outputs, lanes)));
        return s2_plus(s2_plus(s2_times(floats, sizeof(float)), s2_gram_bytes(n_samples)),
                       s2_dual_bytes(n_samples, n_outputs, 1));
    }
    const s2_columns columns = {.n_samples = n_samples, .width = width};
    const s2_primal primal = {
        .objective = {.n_outputs = n_outputs}, .n_taps = 1, .columns = &columns};
    const uint32_t n_subset = solver == S2_SOLVE_SUBSET ? s2_subset_size(n_samples) : 0;
    const size_t floats = s2_plus(s2_metric_floats(n_subset ? n_subset : width),
                                  s2_times(n_outputs, s2_plus(width, lanes)));
    return s2_plus(
        s2_plus(s2_times(floats, sizeof(float)), s2_metric_factor_bytes(width, n_subset)),
        s2_primal_bytes(&primal, n_subset));
}

/* A pass in the samples' coordinates is n^2 products of n_outputs, in the columns' 2 n D at
 * about half the pace: equal where n is 3.5 D. */
s2_solver s2_exact_choose(uint32_t n_samples, uint32_t width, uint32_t n_outputs, size_t memory) {
    static const s2_solver few[] = {S2_SOLVE_DUAL, S2_SOLVE_PRIMAL, S2_SOLVE_SUBSET};
    static const s2_solver many[] = {S2_SOLVE_PRIMAL, S2_SOLVE_DUAL, S2_SOLVE_SUBSET};
    const s2_solver *const order = (uint64_t)n_samples * 2 <= (uint64_t)width * 7 ? few : many;
    for (size_t i = 0; i < 3; i++) {
        const size_t bytes = s2_solver_bytes(order[i], n_samples, width, n_outputs);
        if (bytes < SIZE_MAX && bytes <= memory) {
            return order[i];
        }
    }
    return S2_SOLVE_NONE;
}
