/*
 * primal_rows.h - what the primal solver asks of the rows: passes over standardised blocks of them
 * (primal_rows.c) and the metric built of some (primal_metric.c).
 */
#ifndef S2_PRIMAL_ROWS_H
#define S2_PRIMAL_ROWS_H

#include "arena.h"
#include "skip2_primal.h"

typedef struct {
    const s2_primal *primal;
    const s2_kernels *kernels;
    size_t width, n_outputs, n_samples;
    size_t at_once;     /* rows a block, S2_SAMPLE_LANES or twice that */
    size_t row;         /* floats of a standardised row */
    float *z, *other;   /* (at_once, row); `other` only for a metric */
    float *products;    /* (at_once, n_outputs) */
    float *logits;      /* (n_outputs, at_once) */
    float *ones, *none; /* (at_once) of 1 and (n_outputs, at_once) of 0 */
    double *solved;     /* (n_outputs, metric's row), of a subset */
    double *room;       /* (S2_FACTOR_ROOM) */
} s2_rows_pass;

s2_rows_pass s2_rows_lay_out(const s2_primal *primal, uint32_t n_subset, s2_arena *arena);
void s2_rows_begin(const s2_rows_pass *pass);

/* Standardises samples first.. (of the subset where that is given) into z (count, row). */
void s2_rows_standardise(const s2_rows_pass *pass, const uint32_t *subset, size_t first,
                         size_t count, float *z);
/* pass->products = z . W^T of such a block. */
void s2_rows_multiply(const s2_rows_pass *pass, size_t count, const float *weights);
/* sum += factors^T . z: factors (n_outputs, factors_row), sum (n_outputs, width). */
void s2_rows_add(const s2_rows_pass *pass, size_t count, const float *factors, size_t factors_row,
                 float *sum);

/* The loss at W and bias; its gradient (n_outputs, width) and the bias's, (n_outputs). products
 * (n_outputs, lanes) as in s2_primal_solution. */
double s2_rows_look(const s2_rows_pass *pass, const float *weights, const double *bias,
                    float *products, float *grad, double *sums);

/* Each of the n_outputs rows of v (width) becomes the metric's inverse times it. */
void s2_metric_apply(const s2_rows_pass *pass, const s2_metric *metric, float *v);

#endif
