/*
 * skip2_ridge.h - ridge regression on a Gram matrix (ridge.c): one factorisation gives the solution
 * for any targets and what each sample's output would be without it; samples come and go one by
 * one. The rules of skip2.h hold.
 *
 * With G = Z . Z^T of the samples' columns z it minimises, b free,
 *
 *     sum over samples i of weight_i / 2 |z_i . W + b - y_i|^2 + shift / 2 |W|^2.
 *
 * W = Z^T . alpha, so (G + shift / weight) alpha + b = y and sum alpha = 0. Where the weights of n
 * samples have mean 1, shift is n times the penalty of a mean loss. It stays the same while samples
 * come and go, and so must the columns: their means and scales are those of the samples that were
 * there first.
 */
#ifndef SKIP2_RIDGE_H
#define SKIP2_RIDGE_H

#include "skip2_exact.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const s2_kernels *kernels;
    uint32_t capacity, n_samples; /* n_samples of at most `capacity` are there */
    double shift;                 /* above 0 */
    double *factor; /* s2_ridge_factor_bytes: U of G + shift / weight = U^T . U. In double: in float
                       outputs lose 2e-4 at a penalty of 1e-5 */
} s2_ridge;

size_t s2_ridge_factor_bytes(uint32_t capacity);
/* Enough for every call with up to this many outputs and samples left out together. */
size_t s2_ridge_workspace_bytes(const s2_ridge *ridge, uint32_t n_outputs, uint32_t left_out);

/* The factor for all n_samples. S2_BAD_VALUE for a weight or a shift that is not above 0 and
 * finite, S2_NOT_FINITE where the sum is not finite or not positive definite: rounded to float,
 * a Gram matrix is so for a shift above about 1e-6 of its largest eigenvalue. */
s2_status s2_ridge_factorize(s2_ridge *ridge, const float *gram, /* finished, as in skip2_exact.h */
                             const float *weight,                /* (n_samples), or NULL: all 1 */
                             void *workspace, size_t size);
/* One sample more, as the last; after a failure it is not there. */
s2_status s2_ridge_append(s2_ridge *ridge,
                          const float *products, /* (n_samples + 1): z . z_i, the last |z|^2 */
                          float weight, void *workspace, size_t size);
/* Without sample number `sample`; those behind it move up. */
s2_status s2_ridge_remove(s2_ridge *ridge, uint32_t sample, void *workspace, size_t size);

/* The solution for these targets; they may be new ones for an old factor. */
typedef struct {
    uint32_t n_outputs;
    size_t lanes;        /* at least n_samples, of each row below */
    const float *target; /* (n_outputs, lanes) */
    float *coefficient;  /* (n_outputs, lanes): alpha, 0 beyond n_samples */
    float *bias;         /* (n_outputs) */
} s2_ridge_fit;

/* S2_BAD_VALUE for a target that is not finite. */
s2_status s2_ridge_solve(const s2_ridge *ridge, const s2_ridge_fit *fit, void *workspace,
                         size_t size);
/* Target less the output of a solution without the sample, for each; exact, with its own bias.
 * Reads the coefficients of `fit` and neither targets nor bias. Needs two samples. */
s2_status s2_ridge_leave_one_out(const s2_ridge *ridge, const s2_ridge_fit *fit,
                                 float *residual, /* (n_outputs, lanes) */
                                 void *workspace, size_t size);
/* The same for samples that are left out together: a fold, a group. S2_BAD_VALUE for one that is
 * not there or named twice, S2_BAD_SHAPE where they are all. */
s2_status s2_ridge_leave_out(const s2_ridge *ridge, const s2_ridge_fit *fit, uint32_t count,
                             const uint32_t *sample, /* (count) */
                             float *residual,        /* (n_outputs, count) */
                             void *workspace, size_t size);

#ifdef __cplusplus
}
#endif

#endif
