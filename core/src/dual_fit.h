/*
 * dual_fit.h - outputs that are fitted together in sample coordinates, W = Z^T A, and their L-BFGS
 * iteration (dual_fit.c). exact.c has the products with the Gram matrix.
 */
#ifndef S2_DUAL_FIT_H
#define S2_DUAL_FIT_H

#include "descent.h"
#include "kernels.h"

/* A step and the change of the gradient along it. */
typedef struct {
    float *step, *product, *change;  /* (n_outputs, lanes): S, G S, Y */
    double *bias_step, *bias_change; /* (n_outputs) */
    double rho;
} s2_pair;

/* Outputs that are solved together. */
typedef struct {
    s2_objective objective;
    const float *offset; /* (n_outputs, lanes), or NULL */
    double penalty;
    s2_dual_solution at;
    size_t lanes, size, n_outputs;  /* size = n_outputs * lanes */
    float *logits, *grad;           /* (n_outputs, lanes) at the solution */
    float *next_logits, *next_grad; /* after a step that is tried */
    float *step, *product;          /* Q and G Q: the step is -t Q */
    const float *ones;              /* (lanes) */
    double *bias, *sums;            /* (n_outputs); sums of grad over the samples */
    double *next_sums, *bias_step;  /* (n_outputs); of Q */
    s2_pair pairs[S2_PAIRS];        /* a ring */
    double share[S2_PAIRS];         /* of the pairs in Q, the newest first */
    size_t n_pairs, newest;
    double gamma; /* scale of the first guess of the inverse Hessian */
    double value, decrement;
    double norm, slope, curvature; /* A . G A, A . G Q, Q . G Q */
    uint32_t iterations;
    int ended;
} s2_dual_fit;

/* Logits, gradient and objective at the solution, whose products are those of its coefficients. */
void s2_dual_fit_look(s2_dual_fit *of);
/* Q = an estimate of the inverse Hessian times R, by the pairs: the part before the product. */
void s2_dual_fit_begin(s2_dual_fit *of);
/* With G Q in `product`: the rest of the direction, and a step along it or the end. */
void s2_dual_fit_advance(s2_dual_fit *of, double tolerance);

#endif
