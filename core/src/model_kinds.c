/* model_kinds.c - what a build has of networks beside fully connected layers. */
#include "model_derived.h"
#include "model_layers.h"

#ifdef S2_WITHOUT_DERIVED
int (*const s2_derive_if_any)(const s2_derived *, uint32_t, const float *, float *) = NULL;
#else
int (*const s2_derive_if_any)(const s2_derived *, uint32_t, const float *, float *) = s2_derive;
#endif

const s2_layer_code *s2_layer_code_of(uint32_t kind) {
    switch (kind) {
    case S2_DENSE:
        return &s2_dense_code;
#ifndef S2_WITHOUT_MAPS
    case S2_CONVOLUTION:
        return &s2_convolution_code;
    case S2_MAX_POOL:
    case S2_AVERAGE_POOL:
        return &s2_pool_code;
    case S2_TRANSPOSITION:
        return &s2_transposition_code;
#endif
#ifndef S2_WITHOUT_ACTIVATIONS
    case S2_ACTIVATION:
        return &s2_activation_code;
#endif
#ifndef S2_WITHOUT_RECURRENT
    case S2_GRU:
    case S2_LSTM:
        return &s2_recurrent_code;
#endif
#ifndef S2_WITHOUT_SLOTS
    case S2_SAVE:
        return &s2_save_code;
    case S2_EXCHANGE:
        return &s2_exchange_code;
    case S2_ADD:
        return &s2_add_code;
#endif
    default:
        return NULL;
    }
}
