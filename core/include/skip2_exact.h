/*
 * skip2_exact.h - convex fits on rows: the loss of weighted samples. The rules of skip2.h hold.
 *
 * Everywhere the objective is
 *
 *     sum over samples i of weight_i * loss(offset_i + z_i . W + bias, target_i)
 *         + penalty / 2 * |W|^2
 *
 * where z_i are the standardised columns of a row and the bias is free. The weights sum to 1.
 *
 * Arrays of samples lie in lanes, (n_outputs, lanes): the samples of one output side by side. Lanes
 * are padded to a multiple of S2_SAMPLE_LANES; those without a sample have weight 0.
 */
#ifndef SKIP2_EXACT_H
#define SKIP2_EXACT_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

#define S2_SAMPLE_LANES 32u

/* ---- columns (columns.c) --------------------------------------------------------------------- */

/* Mean and variance of columns whose rows come in chunks; `has_rows` and `total` start at 0. */
typedef struct {
    uint32_t width;
    int has_rows;
    double total;          /* of the weights so far */
    float *first;          /* (width): the first row */
    double *sum, *squares; /* (width): weighted, of x - first */
} s2_moments;

void s2_moments_add(const s2_kernels *kernels, s2_moments *moments, uint32_t count,
                    const float *rows, /* (count, row_stride), of which `width` floats are read */
                    size_t row_stride, const float *weight); /* (count), or NULL: 1 each */
/* With a total above 0: mean and biased variance, (width). */
void s2_moments_finish(const s2_moments *moments, double *mean, double *var);
/* (row - mean) * scale in place: rows (count, row_stride), mean and scale (row_stride). */
void s2_scale_rows(const s2_kernels *kernels, uint32_t count, size_t row_stride, const float *mean,
                   const float *scale, float *rows);

/* Columns of all samples, a tap's: z = (x - mean) * scale. */
typedef struct {
    const s2_kernels *kernels;
    uint32_t n_samples;
    uint32_t first, width; /* within a row */
    const float *rows;     /* (n_samples, row_stride) */
    size_t row_stride;
    const float *mean, *scale; /* (row_stride) */
    const s2_coded
        *coded; /* in place of the rows, whose scale and offset then give z itself; or NULL.
                              `first` is a multiple of S2_LANES */
} s2_columns;

s2_status s2_columns_check(const s2_columns *columns);

/* Samples rounded up to lanes. */
size_t s2_sample_lanes(uint32_t n_samples);
/* The Gram matrix Z Z^T of the samples lies in panels of S2_SAMPLE_LANES columns, each with all
 * n_samples rows: element (i, j) at ((j / 32) * n_samples + i) * 32 + j % 32. */
size_t s2_gram_floats(uint32_t n_samples);
size_t s2_gram_bytes(uint32_t n_samples);
/* Adds the products of these columns, the lower half alone. `gram`, s2_gram_floats, starts at zero,
 * all of it. */
s2_status s2_gram_add(const s2_columns *columns, float *gram, void *workspace,
                      size_t workspace_bytes);
double s2_gram_trace(uint32_t n_samples, const float *gram);
/* Multiplies by the factor and mirrors the lower half into the upper. */
void s2_gram_finish(const s2_kernels *kernels, uint32_t n_samples, float factor, float *gram);

size_t s2_column_weights_bytes(uint32_t n_outputs);
/* W = Z^T A: coefficients A (n_outputs, lanes), weights (width, n_outputs). */
s2_status s2_column_weights(const s2_columns *columns, uint32_t n_outputs,
                            const float *coefficients, float *weights, void *workspace,
                            size_t workspace_bytes);

/* ---- loss (objective.c) ---------------------------------------------------------------------- */

/* A chunk of samples, or all of them. A sample of weight 0 is left out: its gradient is 0. */
typedef struct {
    const s2_kernels *kernels;
    s2_loss loss;
    uint32_t n_outputs;
    size_t lanes;         /* a multiple of S2_SAMPLE_LANES */
    const float *target;  /* (n_outputs, target_stride): shares of the classes, which sum to 1, for
                             softmax; 0 to 1 for sigmoid; numbers for squared */
    size_t target_stride; /* floats from one output to the next, lanes or more */
    const float *weight;  /* (lanes) */
} s2_objective;

/* S2_BAD_SHAPE for lanes that are no multiple; S2_BAD_VALUE for an unknown loss, a weight that is
 * negative or not finite, weights that are all 0, targets of samples with a weight that are out of
 * their range. */
s2_status s2_objective_check(const s2_objective *objective);
/* Of all samples at once: S2_BAD_SHAPE also for none and for other lanes than theirs, S2_BAD_VALUE
 * for a weight where there is no sample. */
s2_status s2_samples_check(const s2_objective *objective, uint32_t n_samples);
/* The weighted sum of the samples' losses, each summed over its outputs: cross entropy, binary
 * cross entropy, half the squared error. */
double s2_objective_loss(const s2_objective *objective,
                         const float *logits, /* (n_outputs, lanes) */
                         float *grad);        /* (n_outputs, lanes): weight * (prediction - target);
                                                 may be logits */

/* ---- exact solver in sample coordinates (exact.c) -------------------------------------------- */

/* W = Z^T A with a row of A for each sample: all that is asked of the columns is the Gram matrix.
 * Samples of weight 0 are held out: their coefficients are 0, their logits known all the same.
 * Problems that differ in their weights alone (folds, and all samples) are solved side by side: a
 * panel of the Gram matrix is read once for all of them, and S2_SAMPLE_LANES samples side by side
 * that are held out cost nothing. */
typedef struct {
    s2_objective objective; /* all samples: lanes are s2_sample_lanes(n_samples), the weights are
                               (n_problems, lanes) */
    uint32_t n_samples, n_problems;
    const float *gram;   /* s2_gram_floats, finished: both halves */
    const float *offset; /* (n_outputs, lanes), or NULL: zero */
} s2_dual;

/* Where to start, and what comes of it. From zeros, or from the solution at another penalty. Arrays
 * of one problem follow those of the one before. */
typedef struct {
    float *coefficients; /* A, (n_problems, n_outputs, lanes) */
    float *products; /* G A, (n_problems, n_outputs, lanes), at the start, too: logits less offset
                            and bias, those of samples held out among them */
    float *bias;     /* (n_problems, n_outputs) */
} s2_dual_solution;

typedef struct {
    uint32_t iterations;
    double objective; /* penalty included */
    double decrement; /* about twice what is left above the least objective */
    int converged;    /* as far as asked for, or as rounding allows; 0: too many iterations, or no
                         step lowers an objective that is far from its least */
} s2_dual_report;

s2_status s2_dual_check(const s2_dual *dual);
size_t s2_dual_bytes(uint32_t n_samples, uint32_t n_outputs, uint32_t n_problems);
/* L-BFGS in the metric of the Gram matrix until the decrement is at most `tolerance` of the
 * objective, or of 0.001 if that is larger: 1e-5 leaves less than 1e-4 of it, 3e-5 mostly.
 * S2_BAD_VALUE for a penalty or a tolerance that is negative or not finite, S2_NOT_FINITE where the
 * objective is at the start. */
s2_status s2_dual_solve(const s2_dual *dual, double penalty, double tolerance,
                        const s2_dual_solution *solution, s2_dual_report *report, /* (n_problems) */
                        void *workspace, size_t workspace_bytes);

#ifdef __cplusplus
}
#endif

#endif
