/* blob.h - a small network with random tensors as a block of bytes, and the same as an s2_net. */
#ifndef S2_BLOB_H
#define S2_BLOB_H

#include "network.h"

#include "skip2_device.h"

enum {
    INT8 = 1,
    PROJECTED = 2,
    ADAPTED = 4,
    TAPS_ALONE = 8,
    DERIVED = 16,
    KEPT = 4,
    BLOB_RANK = 2
};
enum { N_DERIVED = 5 }; /* one of each kind */
static const uint32_t blob_words = 4000;

typedef struct {
    uint32_t *word;
    uint32_t n_words;
} blob;

static inline void put(blob *made, uint32_t word) {
    made->word[made->n_words++] = word;
}

static inline void put_floats(blob *made, const float *floats, size_t count) {
    memcpy(made->word + made->n_words, floats, count * sizeof *floats);
    made->n_words += (uint32_t)count;
}

static inline void put_random(blob *made, size_t count, s2_rng *rng) {
    for (size_t i = 0; i < count; i++) {
        const float value = random_unit(rng);
        put_floats(made, &value, 1);
    }
}

/* Weights of int8 and their scales; the layer of the s2_net becomes what they stand for. */
static inline void put_int8(blob *made, const s2_layer *layer, s2_rng *rng) {
    const uint32_t count = layer->n_in * layer->n_out;
    int8_t *const code = (int8_t *)(made->word + made->n_words);
    float *const scale = (float *)(made->word + made->n_words + (count + 3) / 4);
    made->n_words += (count + 3) / 4 + layer->n_out;
    for (uint32_t o = 0; o < layer->n_out; o++) {
        scale[o] = 0.01f + 0.01f * s2_rng_unit(rng);
    }
    for (uint32_t i = 0; i < count; i++) {
        code[i] = (int8_t)(int32_t)(s2_rng_below(rng, 255) - 127u);
        layer->weight[i] = scale[i % layer->n_out] * (float)code[i];
    }
}

static inline void seal(blob *made, size_t crc_from) {
    uint8_t *const bytes = (uint8_t *)made->word;
    made->word[2] = made->n_words * 4;
    const uint32_t crc = s2_crc32(0, bytes, 12);
    made->word[3] = s2_crc32(crc, bytes + crc_from, made->word[2] - crc_from);
}

/* free(made->word) */
static inline void new_blob(blob *made, network *of, unsigned kind, s2_rng *rng) {
    *made = (blob){calloc(blob_words, sizeof(uint32_t)), 0};
    new_network(of, s2_kernels_choose("scalar"), 1, 0, rng);
    const uint32_t n_layers = kind & TAPS_ALONE ? 0 : DEPTH, kept = kind & PROJECTED ? KEPT : 0;
    const uint32_t n_derived = kind & DERIVED ? N_DERIVED : 0;
    const uint32_t head[] = {0x324d5053,
                             1,
                             0,
                             0,
                             widths[0],
                             widths[DEPTH],
                             DEPTH + n_derived,
                             n_layers,
                             kept,
                             kind & ADAPTED ? BLOB_RANK : 0,
                             kind & ADAPTED ? 1 : 0};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        put(made, head[i]);
    }
    put_floats(made, &of->net.bn_eps, 1);
    put(made, n_derived);
    made->n_words = 16;
    for (uint32_t k = 0; k < n_derived + DEPTH; k++) {
        put(made, k < n_derived ? widths[0] : widths[k - n_derived]);
    }
    for (uint32_t k = 0; k < n_derived; k++) {
        const float number = 0.25f + (float)k;
        put(made, S2_LOG + k);
        put_floats(made, &number, 1);
    }
    for (uint32_t k = 0; k < n_layers; k++) {
        const s2_layer *layer = &of->layers[k];
        put(made, S2_DENSE);
        put(made, (layer->gamma ? S2_HAS_NORM : 0u) | (layer->relu ? S2_HAS_RELU : 0u) |
                      (kind & INT8 ? S2_HAS_INT8 : 0u));
        put(made, layer->n_in);
        put(made, layer->n_out);
    }
    for (uint32_t k = 0; k < n_layers; k++) {
        const s2_layer *layer = &of->layers[k];
        if (kind & INT8) {
            put_int8(made, layer, rng);
        } else {
            put_floats(made, layer->weight, (size_t)layer->n_in * layer->n_out);
        }
        put_floats(made, layer->bias, layer->n_out);
        const float *const norm[] = {layer->gamma, layer->beta, layer->mean, layer->var};
        for (size_t i = 0; layer->gamma != NULL && i < 4; i++) {
            put_floats(made, norm[i], layer->n_out);
        }
    }
    for (uint32_t k = 0; kept > 0 && k < n_derived; k++) {
        put_random(made, (size_t)widths[0] * (1 + kept), rng);
    }
    for (uint32_t k = 0; kept > 0 && k < DEPTH; k++) {
        put_random(made, (size_t)widths[k] * (1 + kept), rng);
    }
    for (uint32_t k = 0; kind & ADAPTED && k < n_derived; k++) {
        put_random(made, (size_t)BLOB_RANK * ((kept ? kept : widths[0]) + widths[DEPTH]), rng);
    }
    for (uint32_t k = 0; kind & ADAPTED && k < DEPTH; k++) {
        put_random(made, (size_t)BLOB_RANK * ((kept ? kept : widths[k]) + widths[DEPTH]), rng);
    }
    if (kind & ADAPTED) {
        put_random(made, widths[DEPTH], rng);
    }
    seal(made, 16);
}

#endif
