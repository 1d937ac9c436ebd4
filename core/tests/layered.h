/* layered.h - blocks of bytes of networks with maps, sequences, activations and slots, random weights. */
#ifndef S2_LAYERED_H
#define S2_LAYERED_H

#include "blob.h"

enum { MOST_WORDS = 17, MOST_LAYERS = 12, LAYERED_WORDS = 20000 };

/* What a layer of the block is to be; `at` is the word where its arrays begin. */
typedef struct {
    uint32_t kind, flags, n_in, n_out, tap_width;
    uint32_t n_words, word[MOST_WORDS];
    uint32_t n_matrices, depth[2], cols, n_vectors;
    uint32_t at;
} spec;

static inline spec dense_spec(uint32_t flags, uint32_t n_in, uint32_t n_out) {
    return (spec){.kind = S2_DENSE,
                  .flags = flags,
                  .n_in = n_in,
                  .n_out = n_out,
                  .tap_width = n_in,
                  .n_matrices = 1,
                  .depth = {n_in},
                  .cols = n_out,
                  .n_vectors = flags & S2_HAS_NORM ? 5 : 1};
}

/* The words of a layer over maps; without a grid it is not tapped. */
enum { GRID_H, GRID_W, C, H, W, OUT_C, OUT_H, OUT_W, KH, KW, SH, SW, PT, PL, DH, DW, OPTION };

/* A convolution, whose OPTION is its groups, or pooling: what its words do not say follows. */
static inline spec map_spec(uint32_t kind, uint32_t flags, const uint32_t *word) {
    const int is_conv = kind == S2_CONVOLUTION;
    spec of = {.kind = kind, .flags = flags, .n_words = MOST_WORDS};
    memcpy(of.word, word, sizeof of.word);
    of.n_in = word[C] * word[H] * word[W];
    of.n_out = word[OUT_C] * word[OUT_H] * word[OUT_W];
    of.tap_width = word[C] * word[GRID_H] * word[GRID_W];
    of.n_matrices = of.n_vectors = is_conv ? 1 : 0;
    of.depth[0] = is_conv ? word[KH] * word[KW] * word[C] / word[OPTION] : 0;
    of.cols = is_conv ? word[OUT_C] : 0;
    return of;
}

/* A layer that saves, exchanges or adds what is in a slot. */
static inline spec slot_spec(uint32_t kind, uint32_t number, uint32_t n_in, uint32_t n_out) {
    return (spec){.kind = kind, .n_in = n_in, .n_out = n_out, .n_words = 1, .word = {number}};
}

static inline float uniform(s2_rng *rng, float least, float most) {
    return least + (most - least) * s2_rng_unit(rng);
}

/* A matrix as it lies in the block: positive scales, so that batch norm's variances are too. */
static inline void put_matrix(blob *made, uint32_t depth, uint32_t cols, unsigned flags,
                              s2_rng *rng) {
    if (flags & S2_HAS_INT8) {
        int8_t *const code = (int8_t *)(made->word + made->n_words);
        for (uint32_t i = 0; i < depth * cols; i++) {
            code[i] = (int8_t)(int32_t)(s2_rng_below(rng, 255) - 127u);
        }
        made->n_words += (depth * cols + 3) / 4;
        for (uint32_t o = 0; o < cols; o++) {
            const float scale = uniform(rng, 0.002f, 0.006f);
            put_floats(made, &scale, 1);
        }
        return;
    }
    for (uint32_t i = 0; i < depth * cols; i++) {
        const float weight = uniform(rng, -0.6f, 0.6f);
        put_floats(made, &weight, 1);
    }
}

/* free(made->word) */
static inline void new_layered(blob *made, spec *specs, uint32_t n_layers, s2_rng *rng) {
    *made = (blob){calloc(LAYERED_WORDS, sizeof(uint32_t)), 0};
    uint32_t n_taps = 0, version = 2;
    for (uint32_t k = 0; k < n_layers; k++) {
        version = specs[k].kind >= S2_SAVE ? 3 : version;
        n_taps += (specs[k].flags & S2_IS_TAPPED) != 0;
    }
    const uint32_t head[] = {0x324d5053, version, 0, 0, specs[0].n_in, specs[n_layers - 1].n_out,
                             n_taps,     n_layers};
    const float eps = 0.01f;
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        put(made, head[i]);
    }
    memcpy(made->word + 11, &eps, sizeof eps);
    made->n_words = 16;
    for (uint32_t k = 0; k < n_layers; k++) {
        if (specs[k].flags & S2_IS_TAPPED) {
            put(made, specs[k].tap_width);
        }
    }
    for (uint32_t k = 0; k < n_layers; k++) {
        const uint32_t record[] = {specs[k].kind, specs[k].flags, specs[k].n_in, specs[k].n_out};
        memcpy(made->word + made->n_words, record, sizeof record);
        made->n_words += 4;
    }
    for (uint32_t k = 0; k < n_layers; k++) {
        spec *const of = &specs[k];
        of->at = made->n_words;
        memcpy(made->word + made->n_words, of->word, of->n_words * sizeof(uint32_t));
        made->n_words += of->n_words;
        for (uint32_t m = 0; m < of->n_matrices; m++) {
            put_matrix(made, of->depth[m], of->cols, of->flags, rng);
        }
        for (uint32_t i = 0; i < of->n_vectors * of->cols; i++) {
            const float value = uniform(rng, 0.1f, 0.4f);
            put_floats(made, &value, 1);
        }
    }
    seal(made, 16);
}

/* Element (i, o) of matrix m, whatever it is stored as, of a block. */
static inline double weight_at(const blob *made, const spec *of, uint32_t m, uint32_t i,
                               uint32_t o) {
    const uint32_t *at = made->word + of->at + of->n_words;
    const int is_int8 = (of->flags & S2_HAS_INT8) != 0;
    for (uint32_t before = 0; before < m; before++) {
        const uint32_t count = of->depth[before] * of->cols;
        at += is_int8 ? (count + 3) / 4 + of->cols : count;
    }
    const uint32_t number = i * of->cols + o;
    float value;
    if (is_int8) {
        memcpy(&value, at + (of->depth[m] * of->cols + 3) / 4 + o, sizeof value);
        return (double)value * ((const int8_t *)at)[number];
    }
    memcpy(&value, at + number, sizeof value);
    return (double)value;
}

/* Element o of vector v behind the matrices. */
static inline double vector_at(const blob *made, const spec *of, uint32_t v, uint32_t o) {
    const uint32_t *at = made->word + of->at + of->n_words;
    for (uint32_t m = 0; m < of->n_matrices; m++) {
        const uint32_t count = of->depth[m] * of->cols;
        at += of->flags & S2_HAS_INT8 ? (count + 3) / 4 + of->cols : count;
    }
    float value;
    memcpy(&value, at + v * of->cols + o, sizeof value);
    return (double)value;
}

/* The row of a sample by a kernel table: n_taps taps, then logits, without padding. */
static inline float *row_of_block(const blob *made, const char *table, const float *x) {
    s2_model model;
    CHECK_EQUAL(s2_model_read(&model, made->word, made->n_words * 4), S2_OK);
    uint32_t offsets[S2_MODEL_MAX_TAPS], tap_width[S2_MODEL_MAX_TAPS], width = model.n_outputs;
    for (uint32_t k = 0; k < model.n_taps; k++) {
        tap_width[k] = model.tap_width[k];
        width += tap_width[k];
    }
    s2_row_layout layout;
    CHECK_EQUAL(s2_row_layout_init(&layout, model.n_taps, tap_width, model.n_outputs, 0, offsets),
                S2_OK);
    const size_t bytes = s2_model_workspace_bytes(&model);
    float *const room = aligned_floats(bytes / sizeof(float));
    float *const row = aligned_floats(layout.row_stride);
    float *const dense = malloc(width * sizeof *dense), *at = dense;
    const s2_kernels *const kernels = s2_kernels_choose(table);
    CHECK_EQUAL(s2_model_forward(&model, kernels, x, &layout, row, room, bytes - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_model_forward(&model, kernels, x, &layout, row, room, bytes), S2_OK);
    for (uint32_t k = 0; k < model.n_taps; k++) {
        memcpy(at, row + offsets[k], tap_width[k] * sizeof *at);
        at += tap_width[k];
    }
    memcpy(at, row + layout.logits_offset, model.n_outputs * sizeof *at);
    free(room);
    free(row);
    return dense;
}

/* Whatever bit is turned over, and wherever it ends, a block is refused. */
static inline void check_every_bit(const blob *made) {
    uint8_t *const bytes = (uint8_t *)made->word;
    const size_t n_bytes = made->n_words * 4;
    s2_model model;
    unsigned accepted = 0;
    for (size_t bit = 0; bit < 8 * n_bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        accepted += s2_model_read(&model, bytes, n_bytes) == S2_OK;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t end = 0; end < n_bytes; end++) {
        accepted += s2_model_read(&model, bytes, end) == S2_OK;
    }
    CHECK_EQUAL(accepted, 0);
    CHECK_EQUAL(s2_model_read(&model, bytes, n_bytes), S2_OK);
}

#endif
