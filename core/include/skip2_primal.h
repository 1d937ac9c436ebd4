/*
 * skip2_primal.h - the convex fit of skip2_exact.h with W itself as unknowns, for many more samples
 * than columns, or where the Gram matrix of the samples finds no room. The rules of skip2.h hold.
 *
 * L-BFGS whose first guess of the inverse Hessian is a matrix of its own, the metric: the products
 * of all columns times the mean curvature of the loss (after Boehning 1992), or the Hessian of some
 * random samples (by Woodbury's identity), whose matrix is as small as they are few. Rows are
 * standardised some at a time.
 */
#ifndef SKIP2_PRIMAL_H
#define SKIP2_PRIMAL_H

#include "skip2_exact.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    s2_objective objective; /* all samples: lanes are s2_sample_lanes(n_samples) */
    uint32_t n_taps;
    const s2_columns *columns; /* (n_taps), of the same samples; together they have D columns, tap
                                  after tap */
    const float *offset;       /* (n_outputs, lanes), or NULL: zero */
} s2_primal;

/* Where to start, and what comes of it. From zeros, or from the solution at another penalty. */
typedef struct {
    float *weights;  /* W transposed, (n_outputs, D) */
    float *products; /* (n_outputs, lanes): logits less offset and bias, of samples held out, too */
    float *bias;     /* (n_outputs) */
} s2_primal_solution;

/* One of all columns serves every problem on the same rows, as folds are, at one penalty. */
typedef struct {
    uint32_t n_subset;      /* 0: of all columns */
    const uint32_t *subset; /* (n_subset) different samples, some hundreds to 2,000 */
    float *gram;            /* s2_metric_floats: of the columns or of the subset */
    void *factor;           /* s2_metric_factor_bytes */
    float shift, curvature; /* set by s2_metric_factorize */
} s2_metric;

/* S2_BAD_SHAPE also for columns of different samples and for none. */
s2_status s2_primal_check(const s2_primal *primal);
/* Enough for every call; n_subset as in the metric. */
size_t s2_primal_bytes(const s2_primal *primal, uint32_t n_subset);
/* order: D, or n_subset. */
size_t s2_metric_floats(uint32_t order);
size_t s2_metric_factor_bytes(uint32_t width, uint32_t n_subset);

/* Once for these rows: the products of the columns, weighted as the problem's samples are, or
 * those of the subset. S2_BAD_VALUE for a sample of the subset that is not there. */
s2_status s2_metric_gram(const s2_primal *primal, s2_metric *metric, void *workspace, size_t size);
/* Once for a penalty. The curvatures are those where the solution stands: of it `products` and
 * `bias` are read, which may be zero. S2_NOT_FINITE where the columns are not. */
s2_status s2_metric_factorize(const s2_primal *primal, s2_metric *metric, double penalty,
                              const s2_primal_solution *solution, void *workspace, size_t size);
/* As s2_dual_solve. */
s2_status s2_primal_solve(const s2_primal *primal, const s2_metric *metric, double penalty,
                          double tolerance, const s2_primal_solution *solution,
                          s2_dual_report *report, void *workspace, size_t size);

/* ---- which solver ---------------------------------------------------------------------------- */

typedef enum {
    S2_SOLVE_NONE = 0,   /* no room for any */
    S2_SOLVE_DUAL = 1,   /* s2_dual_solve */
    S2_SOLVE_PRIMAL = 2, /* a metric of all columns */
    S2_SOLVE_SUBSET = 3  /* a metric of s2_subset_size samples */
} s2_solver;

/* Samples of the subset: enough to speed up, too few to take long. */
uint32_t s2_subset_size(uint32_t n_samples);
/* Bytes a solver needs beside the rows, matrices included. */
size_t s2_solver_bytes(s2_solver solver, uint32_t n_samples, uint32_t width, uint32_t n_outputs);
/* The quickest solver that needs at most `memory` bytes. */
s2_solver s2_exact_choose(uint32_t n_samples, uint32_t width, uint32_t n_outputs, size_t memory);

#ifdef __cplusplus
}
#endif

#endif
