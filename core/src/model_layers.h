/* model_layers.h - what reading a network and running it share: the records of its layers. */
#ifndef S2_MODEL_LAYERS_H
#define S2_MODEL_LAYERS_H

#include "skip2_model.h"

#include "arena.h"

#include <string.h>

enum { S2_LAYER_BYTES = 16 };

typedef struct {
    uint32_t kind, flags, n_in, n_out;
} s2_model_layer;

static inline s2_model_layer s2_model_layer_of(const uint8_t *layers, uint32_t k) {
    s2_model_layer layer;
    memcpy(&layer, layers + (size_t)k * S2_LAYER_BYTES, sizeof layer);
    return layer;
}

/* Bytes of the weights as they are stored. */
static inline size_t s2_weight_bytes(const s2_model_layer *layer) {
    const size_t count = s2_times(layer->n_in, layer->n_out);
    return layer->flags & S2_HAS_INT8 ? s2_round_up(count, 4) : s2_times(count, sizeof(float));
}

#endif
