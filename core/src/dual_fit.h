/*
 * dual_fit.h - outputs that are fitted together in sample coordinates, W = Z^T A, and their L-BFGS
 * iteration (dual_fit.c). exact.c has the products with the Gram matrix.
 */
#ifndef S2_DUAL_FIT_H
#define S2_DUAL_FIT_H

#include "descent.h"

/* Outputs that are solved together. Those of softmax have one row less: see s2_fold_outputs. */
typedef struct {
    s2_objective objective;
    const float *offset; /* (n_outputs, lanes), or NULL */
    double penalty;
    size_t lanes, n_outputs;
    size_t n_rows, size;           /* size = n_rows * lanes */
    float *coefficients, *product; /* (n_rows, lanes): A and G A */
    double *bias;                  /* (n_rows) */
    float *grad, *next_grad;    /* (n_outputs, lanes), of which n_rows count: by the logits, at the
                                      solution and after a step that is tried */
    double *sums, *next_sums;   /* (n_rows), of the gradients over the samples */
    float *step, *step_product; /* (n_rows, lanes): Q and G Q: the step is -t Q */
    double *bias_step;          /* (n_rows) */
    const float *ones;          /* (lanes) */
    s2_pairs pairs;
    double gamma; /* scale of the first guess of the inverse Hessian */
    double value, decrement;
    double norm, slope, curvature; /* A . G A, A . G Q, Q . G Q */
    uint32_t iterations;
    int ended;
} s2_dual_fit;

/* Rows for so many outputs of a loss that are solved together. */
uint32_t s2_folded_outputs(s2_loss loss, uint32_t n_outputs);
/* The probabilities of softmax do not change where all logits of a sample do alike, so that its outputs
 * have one dimension too many. Both ways in place, (n_outputs, lanes): folded, without what they have
 * in common, they are the first n_outputs - 1 rows of their reflection that takes (1, .. 1) to the last
 * axis. Lengths, and inner products, stay. */
void s2_fold_outputs(const s2_kernels *kernels, size_t n_outputs, size_t lanes, float *rows);
void s2_unfold_outputs(const s2_kernels *kernels, size_t n_outputs, size_t lanes, float *rows);

/* Gradient and objective at the solution, whose products are those of its coefficients. */
void s2_dual_fit_look(s2_dual_fit *of);
/* Q = an estimate of the inverse Hessian times R, by the pairs: the part before the product. */
void s2_dual_fit_begin(s2_dual_fit *of);
/* With G Q in `step_product`: the rest of the direction, and a step along it or the end. */
void s2_dual_fit_advance(s2_dual_fit *of, double tolerance);

#endif
