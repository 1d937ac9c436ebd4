/* net.h - what inference (net.c) and training (net_step.c) of a network share. */
#ifndef S2_NET_H
#define S2_NET_H

#include "arena.h"

/* What one layer computed, for its backward pass. Inference reuses one for all layers. */
typedef struct {
    float *z;              /* (count, n_out): FC and LoRA */
    float *out;            /* (count, n_out): after batch norm and ReLU; z itself without a norm */
    float *hidden;         /* (count, rank) */
    float *mean, *inv_std; /* (n_out) */
} s2_layer_room;

/* x (count, n_in) -> z -> out of layer k; bn: its compute types of batch norm. */
void s2_layer_forward(const s2_net *net, uint32_t k, unsigned bn, uint32_t count, const float *x,
                      const s2_layer_room *room);

/* The samples, which lie anywhere, as out (count, width). */
void s2_gather(uint32_t count, uint32_t width, const float *const *x, float *out);

/* Of all inputs and outputs of layers. */
uint32_t s2_widest(const s2_net *net);
uint32_t s2_largest_rank(const s2_net *net);

#endif
