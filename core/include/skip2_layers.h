/*
 * skip2_layers.h - the layers one by one: FC, LoRA, batch norm, ReLU, loss (fc.c, lora.c, bn.c,
 * loss.c). The rules of skip2.h hold.
 *
 * A pass is one layer on one batch, forward and backward: what a direction does not name may be
 * NULL. These functions trust their arguments, which s2_net_check checked.
 */
#ifndef SKIP2_LAYERS_H
#define SKIP2_LAYERS_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint32_t count, n_in, n_out;
    const float *x;      /* (count, n_in) */
    const float *weight; /* (n_in, n_out) */
    const float *bias;   /* (n_out), of forward */
    float *y;            /* (count, n_out), written by forward */
    const float *gy;     /* (count, n_out), of backward, as are the gradients it writes: */
    float *gw;           /* (n_in, n_out), for S2_W */
    float *gb;           /* (n_out), for S2_B */
    float *gx;           /* (count, n_in), for S2_X */
} s2_fc_pass;

/* Eq. 1: y = x . weight + bias. */
void s2_fc_forward(const s2_kernels *kernels, const s2_fc_pass *pass);
/* Eqs. 2-4, those that `types` asks for. */
void s2_fc_backward(const s2_kernels *kernels, unsigned types, const s2_fc_pass *pass);

/* lora_a and its gradient lie transposed, so that every pass reads and writes them in order. */
typedef struct {
    uint32_t count, n_in, n_out, rank;
    const float *x;      /* (count, n_in) */
    const float *lora_a; /* (rank, n_in) */
    const float *lora_b; /* (rank, n_out) */
    float *hidden;       /* (count, rank), written by forward, read by backward */
    float *y;            /* (count, n_out), added to by forward */
    const float *gy;     /* (count, n_out), of backward, as are the gradients it writes: */
    float *gh;           /* (count, rank) */
    float *gwa;          /* (rank, n_in), for S2_W */
    float *gwb;          /* (rank, n_out), for S2_W */
    float *gx;           /* (count, n_in), added to for S2_X */
} s2_lora_pass;

/* Eqs. 7-9: hidden = x . lora_a; y += hidden . lora_b. */
void s2_lora_forward(const s2_kernels *kernels, const s2_lora_pass *pass);
/* Eqs. 10-12 with S2_W, Eqs. 13-14 with S2_X. */
void s2_lora_backward(const s2_kernels *kernels, unsigned types, const s2_lora_pass *pass);

typedef struct {
    uint32_t count, width;
    float eps;
    float momentum;                    /* of forward_batch, as are: */
    float *running_mean, *running_var; /* (width), moved by `momentum` */
    const float *z;                    /* (count, width) */
    const float *gamma, *beta;         /* (width) */
    float *mean, *inv_std;             /* (width), written by forward, read by backward */
    float *y;                          /* (count, width), written by forward; may be z */
    const float *gy;                   /* (count, width), of backward, as are: */
    float *ggamma, *gbeta;             /* (width), written for S2_W and for S2_STATS */
    float *gz;                         /* (count, width), written; may be gy */
} s2_bn_pass;

/* Batch norm with the batch's own statistics; count >= 2. Running statistics move by `momentum`
 * (the variance by its unbiased estimate). */
void s2_bn_forward_batch(const s2_kernels *kernels, const s2_bn_pass *pass);
/* Batch norm with the running statistics. */
void s2_bn_forward_frozen(const s2_kernels *kernels, const s2_bn_pass *pass);
/* gz of either, through the statistics with S2_STATS; ggamma and gbeta with either flag. */
void s2_bn_backward(const s2_kernels *kernels, unsigned types, const s2_bn_pass *pass);

void s2_relu_forward(const s2_kernels *kernels, size_t size, float *y);
void s2_relu_backward(const s2_kernels *kernels, size_t size, const float *y, float *gy);

/* SIZE_MAX where no size can say it. */
size_t s2_loss_scratch_floats(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs);
/* Softmax and cross entropy: the mean over the batch, and its gradient. */
void s2_loss_cross_entropy(const s2_kernels *kernels, uint32_t count, uint32_t n_outputs,
                           const int32_t *label, /* (count) */
                           const float *weight,  /* (count), or NULL: all 1 */
                           float *logits,        /* (count, n_outputs); becomes the gradient */
                           s2_batch_stats *stats, float *scratch);
/* The other losses, of numbers against targets; a sample is right if each class is on its side. */
void s2_loss_targets(const s2_kernels *kernels, s2_loss loss, uint32_t count, uint32_t n_outputs,
                     const float *const *target, /* (count) -> (n_outputs) */
                     const float *weight,        /* (count), or NULL: all 1 */
                     float *logits,              /* (count, n_outputs); becomes the gradient */
                     s2_batch_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
