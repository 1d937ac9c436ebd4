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
/* The weighted sum of the samples' losses, each summed over its outputs: cross entropy, binary
 * cross entropy, half the squared error. */
double s2_objective_loss(const s2_objective *objective,
                         const float *logits, /* (n_outputs, lanes) */
                         float *grad);        /* (n_outputs, lanes): weight * (prediction - target);
                                                 may be logits */

#ifdef __cplusplus
}
#endif

#endif
