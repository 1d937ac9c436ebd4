/* network.h - a small network with random tensors, and its rows, for the programs that need one. */
#ifndef S2_NETWORK_H
#define S2_NETWORK_H

#include "guard.h"

enum { DEPTH = 3, RANK = 3 };

typedef struct {
    s2_net net;
    s2_layer layers[DEPTH];
} network;

static const uint32_t widths[DEPTH + 1] = {11, 9, 17, 5};

/* with_lora: a bit a layer. Every tensor is random; variances are positive. */
static inline void new_network(network *made, const s2_kernels *kernels, int with_norm,
                               unsigned with_lora, s2_rng *rng) {
    for (uint32_t k = 0; k < DEPTH; k++) {
        const uint32_t n_in = widths[k], n_out = widths[k + 1], last = k + 1 == DEPTH;
        s2_layer *layer = &made->layers[k];
        *layer = (s2_layer){.n_in = n_in, .n_out = n_out, .relu = !last};
        layer->weight = random_floats(rng, n_in * n_out);
        layer->bias = random_floats(rng, n_out);
        if (with_norm && !last) {
            layer->gamma = random_floats(rng, n_out);
            layer->beta = random_floats(rng, n_out);
            layer->mean = random_floats(rng, n_out);
            layer->var = random_floats(rng, n_out);
            for (uint32_t c = 0; c < n_out; c++) {
                layer->var[c] += 1.5f;
            }
        }
        if (with_lora >> k & 1u) {
            layer->rank = RANK;
            layer->lora_a = random_floats(rng, n_in * RANK);
            layer->lora_b = random_floats(rng, RANK * n_out);
        }
    }
    made->net = (s2_net){kernels, DEPTH, made->layers, 1e-5f, 0.1f, NULL, S2_SOFTMAX};
    CHECK_EQUAL(s2_net_check(&made->net), S2_OK);
}

/* Samples in a buffer each: nothing follows the last float. */
static inline void new_samples(const float **x, uint32_t count, s2_rng *rng) {
    for (uint32_t s = 0; s < count; s++) {
        x[s] = random_floats(rng, widths[0]);
    }
}

typedef struct {
    s2_row_layout layout;
    uint32_t offset[DEPTH];
} rows_of;

static inline void new_layout(rows_of *made, uint32_t first_tap, int first_is_x) {
    CHECK_EQUAL(s2_row_layout_init(&made->layout, DEPTH - first_tap, widths + first_tap,
                                   widths[DEPTH], first_is_x, made->offset),
                S2_OK);
}

static inline float *forward(const network *of, uint32_t count, const float *const *x,
                             const s2_row_layout *layout, uint32_t first_tap) {
    const size_t room = s2_net_forward_workspace_bytes(&of->net, count);
    float *rows = guarded_floats((size_t)count * layout->row_stride);
    CHECK_EQUAL(room % S2_ALIGN, 0);
    CHECK_EQUAL(s2_net_forward(&of->net, count, x, layout, first_tap, rows, guarded(room), room),
                S2_OK);
    return rows;
}

#endif
