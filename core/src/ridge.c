/* ridge.c - exact ridge regression in the coordinates of the samples. */
#include "same_bits.h"

#include "skip2_ridge.h"

#include "arena.h"
#include "cholesky.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { TOGETHER = 64 }; /* samples whose columns of the inverse are solved for together */

static size_t row_of(uint32_t capacity) {
    return s2_round_up(capacity, S2_LANES);
}

/* What a call keeps in its workspace. */
typedef struct {
    s2_factor_double factor;
    double *solved;     /* (n_outputs + 1, row): right-hand sides; the last for ones */
    double *units;      /* (TOGETHER or left_out, row) */
    double *block;      /* (left_out, left_out) */
    double *block_rows; /* (n_outputs, left_out) */
    size_t row, block_row;
} scratch;

static scratch lay_out(const s2_ridge *ridge, uint32_t n_outputs, uint32_t left_out,
                       s2_arena *arena) {
    scratch s = {.row = row_of(ridge->capacity), .block_row = row_of(left_out)};
    const uint32_t units = left_out > TOGETHER ? left_out : TOGETHER;
    s.factor = (s2_factor_double){
        .kernels = ridge->kernels, .n = ridge->n_samples, .u = ridge->factor, .row = s.row};
    s.factor.room = s2_take(arena, 1, S2_FACTOR_ROOM, sizeof(double));
    s.solved = s2_take(arena, s2_plus(n_outputs, 1), s.row, sizeof(double));
    s.units = s2_take(arena, units, s.row, sizeof(double));
    s.block = s2_take(arena, left_out, s.block_row, sizeof(double));
    s.block_rows = s2_take(arena, n_outputs, s.block_row, sizeof(double));
    return s;
}

size_t s2_ridge_factor_bytes(uint32_t capacity) {
    s2_arena arena = {0};
    (void)s2_take(&arena, capacity, row_of(capacity), sizeof(double));
    return arena.used;
}

size_t s2_ridge_workspace_bytes(const s2_ridge *ridge, uint32_t n_outputs, uint32_t left_out) {
    s2_arena arena = {0};
    (void)lay_out(ridge, n_outputs, left_out, &arena);
    return arena.used;
}

/* Lays the workspace out; not S2_OK where it, or the ridge, is unfit. */
static s2_status prepare(const s2_ridge *ridge, uint32_t n_outputs, uint32_t left_out,
                         void *workspace, size_t size, scratch *s) {
    if (ridge->n_samples > ridge->capacity || ridge->capacity > S2_MAX_WIDTH) {
        return S2_BAD_SHAPE;
    }
    if (!(ridge->shift > 0.0 && ridge->shift <= DBL_MAX)) {
        return S2_BAD_VALUE;
    }
    s2_arena arena = {.base = workspace, .size = size};
    *s = lay_out(ridge, n_outputs, left_out, &arena);
    const int sayable = s2_ridge_factor_bytes(ridge->capacity) < SIZE_MAX;
    return sayable && s2_fits(&arena) ? S2_OK : S2_NO_ROOM;
}

static int is_weight(float weight) {
    return weight > 0.0f && weight <= FLT_MAX;
}

s2_status s2_ridge_factorize(s2_ridge *ridge, const float *gram, const float *weight,
                             void *workspace, size_t size) {
    const uint32_t n = ridge->n_samples;
    scratch s;
    const s2_status status = prepare(ridge, 0, 0, workspace, size, &s);
    if (status != S2_OK) {
        return status;
    }
    if (n < 1) {
        return S2_BAD_SHAPE;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (weight && !is_weight(weight[i])) {
            return S2_BAD_VALUE;
        }
        double *u = ridge->factor + i * s.row;
        for (size_t m = i; m < n; m++) {
            const size_t lane = m % S2_SAMPLE_LANES;
            u[m] = (double)gram[(m - lane) * n + (size_t)i * S2_SAMPLE_LANES + lane];
        }
        u[i] += ridge->shift / (weight ? (double)weight[i] : 1.0);
    }
    return s2_factorize_double(&s.factor) ? S2_OK : S2_NOT_FINITE;
}

/* The new column of U solves U^T x = products; what is left of |z|^2 is the new pivot's square. */
s2_status s2_ridge_append(s2_ridge *ridge, const float *products, float weight, void *workspace,
                          size_t size) {
    const uint32_t n = ridge->n_samples;
    scratch s;
    const s2_status status = prepare(ridge, 0, 0, workspace, size, &s);
    if (status != S2_OK) {
        return status;
    }
    if (n == ridge->capacity) {
        return S2_NO_ROOM;
    }
    if (!is_weight(weight)) {
        return S2_BAD_VALUE;
    }
    double *x = s.solved, left = (double)products[n] + ridge->shift / (double)weight;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (double)products[i];
    }
    s2_solve_first_double(&s.factor, 0, 1, x, s.row);
    for (uint32_t i = 0; i < n; i++) {
        left -= x[i] * x[i];
    }
    if (!(left > 0.0) || !(left <= DBL_MAX)) {
        return S2_NOT_FINITE;
    }
    for (uint32_t i = 0; i < n; i++) {
        ridge->factor[i * s.row + n] = x[i];
    }
    ridge->factor[n * s.row + n] = sqrt(left);
    ridge->n_samples = n + 1;
    return S2_OK;
}

/* Of U the sample's column goes away, and its row x leaves U'^T U' = U^T U + x^T x for the rows
 * below it: rotations take x into them one by one. All terms are positive, so nothing cancels. */
s2_status s2_ridge_remove(s2_ridge *ridge, uint32_t sample, void *workspace, size_t size) {
    const uint32_t n = ridge->n_samples;
    scratch s;
    const s2_status status = prepare(ridge, 0, 0, workspace, size, &s);
    if (status != S2_OK) {
        return status;
    }
    if (sample >= n) {
        return S2_BAD_SHAPE;
    }
    for (uint32_t i = 0; i < sample; i++) {
        double *u = ridge->factor + i * s.row;
        memmove(u + sample, u + sample + 1, (n - 1 - sample) * sizeof *u);
    }
    double *restrict x = s.solved;
    memcpy(x, ridge->factor + sample * s.row, n * sizeof *x);
    for (uint32_t j = sample + 1; j < n; j++) {
        const double *restrict u = ridge->factor + j * s.row;
        double *restrict to = ridge->factor + (j - 1) * s.row; /* row and columns move up */
        const double pivot = sqrt(u[j] * u[j] + x[j] * x[j]);
        const double cosine = u[j] / pivot, sine = x[j] / pivot;
        to[j - 1] = pivot;
        for (uint32_t m = j + 1; m < n; m++) {
            const double own = u[m];
            to[m - 1] = cosine * own + sine * x[m];
            x[m] = cosine * x[m] - sine * own;
        }
    }
    ridge->n_samples = n - 1;
    return S2_OK;
}

static double sum_of(uint32_t n, const double *x) {
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum;
}

/* ones = (G + shift / weight)^-1 1, which the free bias needs everywhere; returns its sum. */
static double solve_ones(const s2_ridge *ridge, const scratch *s, double *ones) {
    for (uint32_t i = 0; i < ridge->n_samples; i++) {
        ones[i] = 1.0;
    }
    s2_solve_first_double(&s->factor, 0, 1, ones, s->row);
    s2_solve_second_double(&s->factor, 1, ones, s->row);
    return sum_of(ridge->n_samples, ones);
}

/* As prepare, for a fit of `least` samples or more. */
static s2_status prepare_fit(const s2_ridge *ridge, const s2_ridge_fit *fit, uint32_t least,
                             uint32_t left_out, void *workspace, size_t size, scratch *s) {
    const s2_status status = prepare(ridge, fit->n_outputs, left_out, workspace, size, s);
    const int fits =
        ridge->n_samples >= least && fit->n_outputs >= 1 && fit->lanes >= ridge->n_samples;
    return status == S2_OK && !fits ? S2_BAD_SHAPE : status;
}

static int are_finite(const s2_ridge_fit *fit, uint32_t n) {
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        for (uint32_t i = 0; i < n; i++) {
            if (!isfinite(fit->target[o * fit->lanes + i])) {
                return 0;
            }
        }
    }
    return 1;
}

/* Bordered by ones: b = ones . y / sum ones, alpha = G'^-1 (y - b). */
s2_status s2_ridge_solve(const s2_ridge *ridge, const s2_ridge_fit *fit, void *workspace,
                         size_t size) {
    const uint32_t n = ridge->n_samples;
    scratch s;
    const s2_status status = prepare_fit(ridge, fit, 1, 0, workspace, size, &s);
    if (status != S2_OK) {
        return status;
    }
    if (!are_finite(fit, n)) {
        return S2_BAD_VALUE;
    }
    double *ones = s.solved + fit->n_outputs * s.row;
    const double total = solve_ones(ridge, &s, ones);
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        for (uint32_t i = 0; i < n; i++) {
            s.solved[o * s.row + i] = (double)fit->target[o * fit->lanes + i];
        }
    }
    s2_solve_first_double(&s.factor, 0, fit->n_outputs, s.solved, s.row);
    s2_solve_second_double(&s.factor, fit->n_outputs, s.solved, s.row);
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        const double *solved = s.solved + o * s.row, bias = sum_of(n, solved) / total;
        float *coefficient = fit->coefficient + o * fit->lanes;
        for (uint32_t i = 0; i < fit->lanes; i++) {
            coefficient[i] = i < n ? (float)(solved[i] - bias * ones[i]) : 0.0f;
        }
        fit->bias[o] = (float)bias;
    }
    return S2_OK;
}

/* units (count, row): U^-T of the unit vectors of these samples; their products are those of the
 * inverse's rows. Returns the first column that is not zero. */
static uint32_t solve_units(const scratch *s, uint32_t count, const uint32_t *sample,
                            uint32_t first) {
    memset(s->units, 0, count * s->row * sizeof *s->units);
    uint32_t start = sample ? sample[0] : first;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = sample ? sample[i] : first + i;
        s->units[i * s->row + at] = 1.0;
        start = at < start ? at : start;
    }
    s2_solve_first_double(&s->factor, start, count, s->units, s->row);
    return start;
}

/* alpha_i over the element M_ii of the inverse with its border. */
s2_status s2_ridge_leave_one_out(const s2_ridge *ridge, const s2_ridge_fit *fit, float *residual,
                                 void *workspace, size_t size) {
    const uint32_t n = ridge->n_samples;
    scratch s;
    const s2_status status = prepare_fit(ridge, fit, 2, 0, workspace, size, &s);
    if (status != S2_OK) {
        return status;
    }
    double *ones = s.solved + fit->n_outputs * s.row;
    const double total = solve_ones(ridge, &s, ones);
    for (uint32_t first = 0; first < n; first += TOGETHER) {
        const uint32_t count = n - first < TOGETHER ? n - first : TOGETHER;
        (void)solve_units(&s, count, NULL, first);
        for (uint32_t i = first; i < first + count; i++) {
            const double *unit = s.units + (i - first) * s.row;
            double own = -ones[i] * ones[i] / total;
            for (uint32_t m = first; m < n; m++) {
                own += unit[m] * unit[m];
            }
            for (uint32_t o = 0; o < fit->n_outputs; o++) {
                const size_t at = o * fit->lanes + i;
                residual[at] = (float)((double)fit->coefficient[at] / own);
            }
        }
    }
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        memset(residual + o * fit->lanes + n, 0, (fit->lanes - n) * sizeof *residual);
    }
    return S2_OK;
}

static s2_status check_left_out(const s2_ridge *ridge, const scratch *s, uint32_t count,
                                const uint32_t *sample) {
    double *seen = s->solved;
    memset(seen, 0, ridge->n_samples * sizeof *seen);
    for (uint32_t i = 0; i < count; i++) {
        if (sample[i] >= ridge->n_samples || seen[sample[i]] > 0.0) {
            return S2_BAD_VALUE;
        }
        seen[sample[i]] = 1.0;
    }
    return count < ridge->n_samples ? S2_OK : S2_BAD_SHAPE;
}

/* block = M of the samples left out, from the first column of their units that is not zero. */
static void fill_block(const s2_ridge *ridge, const scratch *s, uint32_t count,
                       const uint32_t *sample, const double *ones, double total, uint32_t start) {
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t m = 0; m < count; m++) {
            s->block[i * s->block_row + m] = -ones[sample[i]] * ones[sample[m]] / total;
        }
    }
    ridge->kernels->gemm_double(&(s2_gemm_double){.rows = count,
                                                  .cols = count,
                                                  .depth = ridge->n_samples - start,
                                                  .a = s->units + start,
                                                  .a_row = s->row,
                                                  .a_depth = 1,
                                                  .b = s->units + start,
                                                  .b_depth = 1,
                                                  .b_col = s->row,
                                                  .c = s->block,
                                                  .c_row = s->block_row});
}

/* (M_BB)^-1 alpha_B. */
s2_status s2_ridge_leave_out(const s2_ridge *ridge, const s2_ridge_fit *fit, uint32_t count,
                             const uint32_t *sample, float *residual, void *workspace,
                             size_t size) {
    scratch s;
    s2_status status = prepare_fit(ridge, fit, 2, count, workspace, size, &s);
    status = status == S2_OK ? check_left_out(ridge, &s, count, sample) : status;
    if (status != S2_OK || count == 0) {
        return status;
    }
    double *ones = s.solved + fit->n_outputs * s.row;
    const double total = solve_ones(ridge, &s, ones);
    const uint32_t start = solve_units(&s, count, sample, 0);
    fill_block(ridge, &s, count, sample, ones, total, start);
    s2_factor_double block = s.factor;
    block.n = count;
    block.u = s.block;
    block.row = s.block_row;
    if (!s2_factorize_double(&block)) {
        return S2_NOT_FINITE;
    }
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        for (uint32_t i = 0; i < count; i++) {
            s.block_rows[o * s.block_row + i] =
                (double)fit->coefficient[o * fit->lanes + sample[i]];
        }
    }
    s2_solve_first_double(&block, 0, fit->n_outputs, s.block_rows, s.block_row);
    s2_solve_second_double(&block, fit->n_outputs, s.block_rows, s.block_row);
    for (uint32_t o = 0; o < fit->n_outputs; o++) {
        for (uint32_t i = 0; i < count; i++) {
            residual[(size_t)o * count + i] = (float)s.block_rows[o * s.block_row + i];
        }
    }
    return S2_OK;
}
