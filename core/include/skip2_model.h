/*
 * skip2_model.h - a frozen network as one block of bytes, read in place and run (model_file.c,
 * model_forward.c). The rules of skip2.h hold. docs/c-blob.md has the format, skip2_device.h what
 * learns with it.
 */
#ifndef SKIP2_MODEL_H
#define SKIP2_MODEL_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

#define S2_MODEL_VERSION   3u /* the newest; 1 and 2 are read too */
#define S2_MODEL_MAX_TAPS  32u
#define S2_MODEL_MAX_SLOTS 8u

/* What a layer is; the others than the first from version 2 on. Maps lie (height, width, channels),
 * sequences (steps, width). From version 3 on a vector may wait in a slot while another branch is
 * run. */
typedef enum {
    S2_DENSE = 1,
    S2_CONVOLUTION = 2,
    S2_MAX_POOL = 3,
    S2_AVERAGE_POOL = 4,
    S2_TRANSPOSITION = 5,
    S2_ACTIVATION = 6,
    S2_GRU = 7,
    S2_LSTM = 8,
    S2_SAVE = 9,      /* goes on, and a copy into an empty slot */
    S2_EXCHANGE = 10, /* what is in the slot goes on, and waits there itself */
    S2_ADD = 11       /* what is in the slot is added, and the slot empty */
} s2_layer_kind;

/* Flags of a layer. In version 1 none is S2_IS_TAPPED, and inputs of the last layers are taps. */
enum { S2_HAS_NORM = 1, S2_HAS_RELU = 2, S2_HAS_INT8 = 4, S2_IS_TAPPED = 8 };

/* Activations beside ReLU, with the numbers a and b. */
typedef enum {
    S2_CLIP = 1,       /* to a .. b */
    S2_LEAKY_RELU = 2, /* a * x below 0 */
    S2_LOGISTIC = 3,   /* 1 / (1 + exp(-x)) */
    S2_TANH = 4,
    S2_HARD_SIGMOID = 5, /* a * x + b, to 0 .. 1 */
    S2_HARD_SWISH = 6    /* x times that */
} s2_activation;

/* What the first taps may be: computed from the sample itself. */
typedef enum {
    S2_LOG = 1,         /* log(max(x, 0) + number) */
    S2_LOG_CENTRED = 2, /* the same less its mean over the sample */
    S2_SQUARE = 3,      /* of x / number, where what is beyond -1 or 1 counts as that */
    S2_CUBE = 4,
    S2_FOURTH_POWER = 5
} s2_derived_kind;

typedef struct {
    uint32_t kind;
    float number;
} s2_derived;

/* Where the parts of a block lie; every pointer goes into it. */
typedef struct {
    const uint8_t *blob;
    uint32_t n_bytes;
    uint32_t version;
    uint32_t checksum; /* which network: an adapter record says it too */
    uint32_t n_features, n_outputs;
    uint32_t n_taps, n_layers; /* taps are n_derived ones, then the inputs of layers */
    uint32_t n_derived;
    const uint32_t *tap_width; /* (n_taps) */
    const s2_derived *derived; /* (n_derived) */
    uint32_t projection;       /* numbers that are kept of each wider tap; 0: all */
    uint32_t rank, has_bias;   /* of the adapters inside; rank 0: there are none */
    float bn_eps;
    const uint8_t *layers;    /* records of 16 bytes */
    const uint8_t *arrays;    /* of the layers, one after the other */
    const float *projections; /* of each wider tap its mean (width), then A (width, projection) */
    const float *adapters;    /* lora_a (width, rank), lora_b (rank, n_outputs) a tap; bias */
} s2_model;

/* CRC-32 (IEEE 802.3) of `n_bytes`, which goes on from `before`; 0 at the start. */
uint32_t s2_crc32(uint32_t before, const void *bytes, size_t n_bytes);

/* Reads a block of `n_bytes` at least that begins at an address divisible by 4, and stays there.
 * Every byte is checked. S2_BAD_MODEL: no such block, damaged, truncated, or of a machine of the
 * other byte order; S2_OTHER_VERSION; S2_BAD_VALUE: an address that is not divisible by 4. Unless
 * it is S2_OK nothing of *model is changed. */
s2_status s2_model_read(s2_model *model, const void *blob, size_t n_bytes);

/* Width of tap k as rows keep it: projected, where the network says so. */
static inline uint32_t s2_model_tap_width(const s2_model *model, uint32_t k) {
    const uint32_t width = model->tap_width[k];
    return model->projection != 0 && width > model->projection ? model->projection : width;
}

/* Whether the first tap is the sample itself. */
int s2_model_taps_x(const s2_model *model);

/* Room for s2_model_forward, and with a projection for the taps that firmware computes itself. */
size_t s2_model_workspace_bytes(const s2_model *model);
/* The row of one sample x (n_features): taps, projected where the network says so, and base logits
 * as `layout` has them. Only of a network with layers. */
s2_status s2_model_forward(const s2_model *model, const s2_kernels *kernels, const float *x,
                           const s2_row_layout *layout, float *row, void *workspace,
                           size_t workspace_bytes);
/* (tap - mean) . A of tap k, which must be wider than the projection; `scratch` (width). */
void s2_model_project(const s2_model *model, const s2_kernels *kernels, uint32_t k,
                      const float *tap, float *projected, float *scratch);

#ifdef __cplusplus
}
#endif
#endif
