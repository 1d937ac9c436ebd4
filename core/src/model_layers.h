/*
 * model_layers.h - what reading a network and running it share: the records of its layers, and what
 * each kind of layer does (model_dense.c, model_maps.c, model_activation.c, model_recurrent.c,
 * model_slots.c). A build without some kinds has S2_WITHOUT_..., and refuses blocks that have them.
 */
#ifndef S2_MODEL_LAYERS_H
#define S2_MODEL_LAYERS_H

#include "skip2_model.h"

#include "arena.h"

#include <string.h>

enum { S2_LAYER_BYTES = 16 };

typedef struct {
    uint32_t kind, flags, n_in, n_out;
} s2_model_layer;

static inline const s2_model_layer *s2_model_layer_at(const s2_model *model, uint32_t k) {
    return (const s2_model_layer *)(const void *)model->layers + k;
}

/* Whether the input of layer k is a tap: in version 1 of so many last layers. */
int s2_layer_is_tapped(const s2_model *model, uint32_t k);

typedef struct s2_layer_pass s2_layer_pass;

/* A kind of layer. */
typedef struct {
    int in_place;
    /* Bytes of its arrays, which may be read up to `left` bytes; SIZE_MAX: they do not fit the
     * record, or are not sound. */
    size_t (*array_bytes)(const s2_model_layer *layer, const uint8_t *arrays, size_t left);
    /* Numbers of its tap, 0: it cannot be tapped. NULL: the input itself. */
    uint32_t (*tap_width)(const s2_model_layer *layer, const uint8_t *arrays);
    void (*tap)(const s2_model_layer *layer, const uint8_t *arrays, const float *x, float *tap);
    size_t (*scratch_floats)(const s2_model_layer *layer, const uint8_t *arrays); /* NULL: none */
    void (*forward)(const s2_layer_pass *pass);
} s2_layer_code;

/* One layer on one sample. */
struct s2_layer_pass {
    const s2_kernels *kernels;
    const s2_layer_code *code;
    const s2_model_layer *layer;
    const uint8_t *arrays; /* where its own begin in the block */
    float bn_eps;
    const float *x;     /* (n_in) */
    float *y;           /* (n_out), where it is written; x itself of a kind that works in place */
    float *scratch;     /* (scratch_floats) */
    float *const *slot; /* of a build with slots (S2_MODEL_MAX_SLOTS) */
};

/* Sources that were compiled with slots do not link with those that were compiled without: one would
 * run what the other did not check. */
#ifdef S2_WITHOUT_SLOTS
#define s2_layer_code_of s2_layer_code_of_without_slots
#endif

/* NULL where a build has no such kind. */
const s2_layer_code *s2_layer_code_of(uint32_t kind);

extern const s2_layer_code s2_dense_code;
extern const s2_layer_code s2_convolution_code, s2_pool_code, s2_transposition_code;
extern const s2_layer_code s2_activation_code;
extern const s2_layer_code s2_recurrent_code;
extern const s2_layer_code s2_save_code, s2_exchange_code, s2_add_code;

/* Of a kind that cannot be tapped. */
static inline uint32_t s2_no_tap(const s2_model_layer *layer, const uint8_t *arrays) {
    (void)layer;
    (void)arrays;
    return 0;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A matrix (depth, cols) as it lies in the block: floats, or int8 codes and the scale of each
 * column behind them. */
static inline size_t s2_matrix_bytes(unsigned flags, size_t depth, size_t cols) {
    const size_t count = s2_times(depth, cols);
    return flags & S2_HAS_INT8 ? s2_plus(s2_round_up(count, 4), s2_times(cols, sizeof(float)))
                               : s2_times(count, sizeof(float));
}

/* gemm.c = gemm.a . weight + gemm.start, of columns of `weight` from `first` on: the caller says all
 * of `gemm` but b, b_col and a_depth; b_depth are all columns, `start` goes by those of c. */
typedef struct {
    const s2_kernels *kernels;
    unsigned flags;        /* of the layer */
    const uint8_t *weight; /* (depth, b_depth) as s2_matrix_bytes says */
    uint32_t first;
    s2_gemm gemm;
} s2_layer_product;

void s2_layer_multiply(s2_layer_product *of);

static inline const float *s2_floats_at(const uint8_t *bytes) {
    return (const float *)(const void *)bytes;
}

#endif
