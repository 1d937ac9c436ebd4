/* primal_metric.c - first guesses of the inverse Hessian that the primal solver starts from. */
#include "same_bits.h"

#include "cholesky.h"
#include "primal_rows.h"

#include <math.h>
#include <string.h>

enum { MOST_TRIES = 8 };

/* What a float factor of all columns needs beside the penalty, of their curvature as a whole, lest it
 * breaks down. */
#define LEAST_SHIFT 1e-6
/* How flat the flattest sample may be, beside the mean. */
#define FLATTEST 1e-3

static size_t row_of(size_t order) {
    return s2_round_up(order, S2_LANES);
}

size_t s2_metric_floats(uint32_t order) {
    return s2_times(order, row_of(order));
}

size_t s2_metric_factor_bytes(uint32_t width, uint32_t n_subset) {
    return n_subset ? s2_times(s2_metric_floats(n_subset), sizeof(double))
                    : s2_times(s2_metric_floats(width), sizeof(float));
}

static s2_factor_float columns_factor(const s2_rows_pass *pass, const s2_metric *metric) {
    return (s2_factor_float){.kernels = pass->kernels,
                             .n = (uint32_t)pass->width,
                             .u = metric->factor,
                             .row = row_of(pass->width),
                             .room = (void *)pass->room};
}

/* In double: of what Woodbury's identity subtracts little is left. */
static s2_factor_double subset_factor(const s2_rows_pass *pass, const s2_metric *metric) {
    return (s2_factor_double){.kernels = pass->kernels,
                              .n = metric->n_subset,
                              .u = metric->factor,
                              .row = row_of(metric->n_subset),
                              .room = pass->room};
}

/* The upper half of sum of weight z^T z, (width, row). */
static void multiply_columns(const s2_rows_pass *pass, float *gram) {
    enum { STRIPE = 64 };
    const size_t width = pass->width, row = row_of(width);
    memset(gram, 0, width * row * sizeof *gram);
    for (size_t s = 0; s < pass->n_samples; s += pass->at_once) {
        const size_t left = pass->n_samples - s;
        const size_t count = left < pass->at_once ? left : pass->at_once;
        s2_rows_standardise(pass, NULL, s, count, pass->z);
        for (size_t r = 0; r < count; r++) {
            pass->kernels->scaled(width, sqrtf(pass->primal->objective.weight[s + r]),
                                  pass->z + r * pass->row, pass->z + r * pass->row);
        }
        for (size_t i = 0; i < width; i += STRIPE) {
            pass->kernels->gemm(
                &(s2_gemm){.rows = (uint32_t)(width - i < STRIPE ? width - i : STRIPE),
                           .cols = (uint32_t)(width - i),
                           .depth = (uint32_t)count,
                           .a = pass->z + i,
                           .a_row = 1,
                           .a_depth = pass->row,
                           .b = pass->z + i,
                           .b_depth = pass->row,
                           .b_col = 1,
                           .c = gram + i * row + i,
                           .c_row = row,
                           .add = 1});
        }
    }
}

/* The upper half of the products of the subset's samples, (n_subset, row). */
static void multiply_samples(const s2_rows_pass *pass, const s2_metric *metric) {
    const size_t n = metric->n_subset, row = row_of(n);
    for (size_t i = 0; i < n; i += pass->at_once) {
        const size_t rows = n - i < pass->at_once ? n - i : pass->at_once;
        s2_rows_standardise(pass, metric->subset, i, rows, pass->z);
        for (size_t m = i; m < n; m += pass->at_once) {
            const size_t cols = n - m < pass->at_once ? n - m : pass->at_once;
            s2_rows_standardise(pass, metric->subset, m, cols, pass->other);
            pass->kernels->gemm(&(s2_gemm){.rows = (uint32_t)rows,
                                           .cols = (uint32_t)cols,
                                           .depth = (uint32_t)pass->width,
                                           .a = pass->z,
                                           .a_row = pass->row,
                                           .a_depth = 1,
                                           .b = pass->other,
                                           .b_depth = 1,
                                           .b_col = pass->row,
                                           .c = metric->gram + i * row + m,
                                           .c_row = row});
        }
    }
}

static s2_status check_metric(const s2_rows_pass *pass, const s2_metric *metric) {
    for (uint32_t i = 0; i < metric->n_subset; i++) {
        if (metric->subset[i] >= pass->n_samples) {
            return S2_BAD_VALUE;
        }
    }
    return S2_OK;
}

s2_status s2_metric_gram(const s2_primal *primal, s2_metric *metric, void *workspace, size_t size) {
    s2_arena arena = {.base = workspace, .size = size};
    const s2_rows_pass pass = s2_rows_lay_out(primal, metric->n_subset, &arena);
    const s2_status status = s2_primal_check(primal);
    if (status != S2_OK || check_metric(&pass, metric) != S2_OK) {
        return status != S2_OK ? status : S2_BAD_VALUE;
    }
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    s2_rows_begin(&pass);
    if (metric->n_subset) {
        multiply_samples(&pass, metric);
    } else {
        multiply_columns(&pass, metric->gram);
    }
    return S2_OK;
}

/* Second derivatives of the loss of some samples by their logits, the mean over directions that
 * change it: of softmax one is lost. What the gradient is for targets of zero and weights of 1
 * are the probabilities p, and p (1 - p) the derivatives. */
static void curve(const s2_rows_pass *pass, const uint32_t *subset, size_t first, size_t count,
                  const s2_primal_solution *at, double *curvature) {
    const s2_primal *primal = pass->primal;
    const int softmax = primal->objective.loss == S2_SOFTMAX && pass->n_outputs > 1;
    const double share = 1.0 / (double)(pass->n_outputs - (softmax ? 1u : 0u));
    s2_objective block = primal->objective;
    block.lanes = pass->at_once;
    block.target = pass->none;
    block.target_stride = pass->at_once;
    block.weight = pass->ones;
    memset(pass->logits, 0, pass->n_outputs * pass->at_once * sizeof(float));
    for (size_t o = 0; o < pass->n_outputs; o++) {
        for (size_t r = 0; r < count; r++) {
            const size_t sample =
                o * primal->objective.lanes + (subset ? subset[first + r] : first + r);
            pass->logits[o * pass->at_once + r] =
                at->products[sample] + at->bias[o] + (primal->offset ? primal->offset[sample] : 0);
        }
    }
    (void)s2_objective_loss(&block, pass->logits, pass->logits);
    for (size_t r = 0; r < count; r++) {
        double sum = 0.0;
        for (size_t o = 0; o < pass->n_outputs; o++) {
            const double p = (double)pass->logits[o * pass->at_once + r];
            sum += p * (1.0 - p);
        }
        curvature[r] = primal->objective.loss == S2_SQUARED ? 1.0 : sum * share;
    }
}

/* The weighted mean of all samples, not quite flat. */
static double mean_curvature(const s2_rows_pass *pass, const s2_primal_solution *at) {
    double curvature[2 * S2_SAMPLE_LANES], mean = 0.0;
    for (size_t s = 0; s < pass->n_samples; s += pass->at_once) {
        const size_t left = pass->n_samples - s;
        const size_t count = left < pass->at_once ? left : pass->at_once;
        curve(pass, NULL, s, count, at, curvature);
        for (size_t r = 0; r < count; r++) {
            mean += (double)pass->primal->objective.weight[s + r] * curvature[r];
        }
    }
    return mean > FLATTEST ? mean : FLATTEST;
}

/* shift / S + Z Z^T of the subset, S its curvatures in place of those of all samples; its factor. */
static int factorize_subset(const s2_rows_pass *pass, const s2_metric *metric,
                            const s2_primal_solution *at) {
    const float *weight = pass->primal->objective.weight;
    const s2_factor_double factor = subset_factor(pass, metric);
    double curvature[2 * S2_SAMPLE_LANES], total = 0.0, mean = 0.0, *own = pass->solved;
    for (size_t s = 0; s < factor.n; s += pass->at_once) {
        const size_t count = factor.n - s < pass->at_once ? factor.n - s : pass->at_once;
        curve(pass, metric->subset, s, count, at, curvature);
        for (size_t r = 0; r < count; r++) {
            own[s + r] = (double)weight[metric->subset[s + r]] * curvature[r];
            total += (double)weight[metric->subset[s + r]];
            mean += own[s + r] / (double)factor.n;
        }
    }
    for (size_t i = 0; i < factor.n; i++) {
        const float *gram = metric->gram + i * factor.row;
        double *u = factor.u + i * factor.row;
        for (size_t m = i; m < factor.n; m++) {
            u[m] = (double)gram[m];
        }
        const double least = FLATTEST * mean, curved = own[i] > least ? own[i] : least;
        u[i] += curved > 0.0 ? (double)metric->shift * total / curved : 1.0;
    }
    return s2_factorize_double(&factor);
}

/* curvature Z^T Z + shift of all columns; its factor. */
static int factorize_columns(const s2_rows_pass *pass, const s2_metric *metric) {
    const s2_factor_float factor = columns_factor(pass, metric);
    for (size_t i = 0; i < factor.n; i++) {
        const float *gram = metric->gram + i * factor.row;
        float *u = factor.u + i * factor.row;
        for (size_t m = i; m < factor.n; m++) {
            u[m] = metric->curvature * gram[m];
        }
        u[i] += metric->shift;
    }
    return s2_factorize_float(&factor);
}

/* Samples of the subset that count: those of unequal weights count as fewer of equal ones. */
static double effective_size(const s2_rows_pass *pass, const s2_metric *metric) {
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < metric->n_subset; i++) {
        const double weight = (double)pass->primal->objective.weight[metric->subset[i]];
        sum += weight;
        squares += weight * weight;
    }
    return squares > 0.0 ? sum * sum / squares : 1.0;
}

/* A subset of m samples does not see all directions, and of those that it sees it takes the least
 * curved for flatter than they are: about an m-th of the curvature as a whole is missing in each. With
 * it, at a penalty of 1e-5, the passes were half as many. */
static double least_shift(const s2_rows_pass *pass, const s2_metric *metric) {
    const size_t order = metric->n_subset ? metric->n_subset : pass->width, row = row_of(order);
    double trace = 0.0;
    for (size_t i = 0; i < order; i++) {
        trace += (double)metric->gram[i * row + i];
    }
    if (metric->n_subset == 0) {
        return (double)metric->curvature * trace * LEAST_SHIFT;
    }
    return (double)metric->curvature * trace / (double)order / effective_size(pass, metric);
}

s2_status s2_metric_factorize(const s2_primal *primal, s2_metric *metric, double penalty,
                              const s2_primal_solution *solution, void *workspace, size_t size) {
    s2_arena arena = {.base = workspace, .size = size};
    const s2_rows_pass pass = s2_rows_lay_out(primal, metric->n_subset, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!(penalty >= 0.0) || !isfinite(penalty) || check_metric(&pass, metric) != S2_OK) {
        return S2_BAD_VALUE;
    }
    s2_rows_begin(&pass);
    metric->curvature = (float)mean_curvature(&pass, solution);
    metric->shift = (float)(penalty + least_shift(&pass, metric));
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        if (metric->n_subset ? factorize_subset(&pass, metric, solution)
                             : factorize_columns(&pass, metric)) {
            return S2_OK;
        }
        metric->shift *= 10.0f;
    }
    return S2_NOT_FINITE;
}

/* With samples Z and their curvatures S, (shift + Z^T S Z)^-1 v is, by Woodbury,
 * (v - Z^T (shift / S + Z Z^T)^-1 Z v) / shift. */
static void apply_subset(const s2_rows_pass *pass, const s2_metric *metric, float *v) {
    const s2_factor_double factor = subset_factor(pass, metric);
    const size_t n = factor.n, row = factor.row;
    for (size_t s = 0; s < n; s += pass->at_once) {
        const size_t count = n - s < pass->at_once ? n - s : pass->at_once;
        s2_rows_standardise(pass, metric->subset, s, count, pass->z);
        s2_rows_multiply(pass, count, v);
        for (size_t i = 0; i < count * pass->n_outputs; i++) {
            pass->solved[i % pass->n_outputs * row + s + i / pass->n_outputs] =
                (double)pass->products[i];
        }
    }
    s2_solve_first_double(&factor, 0, (uint32_t)pass->n_outputs, pass->solved, row);
    s2_solve_second_double(&factor, (uint32_t)pass->n_outputs, pass->solved, row);
    for (size_t s = 0; s < n; s += pass->at_once) {
        const size_t count = n - s < pass->at_once ? n - s : pass->at_once;
        s2_rows_standardise(pass, metric->subset, s, count, pass->z);
        for (size_t o = 0; o < pass->n_outputs; o++) {
            for (size_t r = 0; r < count; r++) {
                pass->logits[o * pass->at_once + r] = (float)-pass->solved[o * row + s + r];
            }
        }
        s2_rows_add(pass, count, pass->logits, pass->at_once, v);
    }
    pass->kernels->scaled(pass->n_outputs * pass->width, 1.0f / metric->shift, v, v);
}

void s2_metric_apply(const s2_rows_pass *pass, const s2_metric *metric, float *v) {
    if (metric->n_subset) {
        apply_subset(pass, metric, v);
    } else {
        const s2_factor_float factor = columns_factor(pass, metric);
        s2_solve_first_float(&factor, 0, (uint32_t)pass->n_outputs, v, pass->width);
        s2_solve_second_float(&factor, (uint32_t)pass->n_outputs, v, pass->width);
    }
}
