/* model_forward.c - runs a frozen network, layer after layer. */
#include "same_bits.h"

#include "model_derived.h"
#include "model_layers.h"
#include "model_slots.h"

/* Inputs of even layers lie at the start of `numbers`, those of odd ones at its end. */
typedef struct {
    float *numbers; /* (peak): the input and the output of any one layer */
    size_t peak;
    float *scratch; /* of a layer, or of a tap before it is projected */
} forward_room;

/* Floats from one buffer to the next, each aligned to S2_ALIGN. */
static size_t spaced(size_t count) {
    return s2_round_up(count, S2_ALIGN / sizeof(float));
}

/* What a tap takes that is not copied as it is. */
static size_t tap_scratch(const s2_model *model) {
    size_t most = model->n_derived > 0 ? model->n_features : 0;
    for (uint32_t k = 0; k < model->n_taps; k++) {
        const size_t width = model->tap_width[k];
        most = s2_model_tap_width(model, k) < width && width > most ? width : most;
    }
    return most;
}

static forward_room lay_out_forward(const s2_model *model, s2_arena *arena) {
    forward_room room = {.peak = spaced(model->n_features)};
    size_t scratch = tap_scratch(model);
    const uint8_t *arrays = model->arrays;
    for (uint32_t k = 0; k < model->n_layers; k++) {
        const s2_model_layer *layer = s2_model_layer_at(model, k);
        const s2_layer_code *code = s2_layer_code_of(layer->kind);
        const size_t own = code->in_place ? 0 : spaced(layer->n_out);
        const size_t both = spaced(layer->n_in) + own;
        room.peak = both > room.peak ? both : room.peak;
        const size_t floats = code->scratch_floats ? code->scratch_floats(layer, arrays) : 0;
        scratch = floats > scratch ? floats : scratch;
        arrays += code->array_bytes(layer, arrays, SIZE_MAX);
    }
    room.numbers = s2_take_floats(arena, 1, room.peak);
    room.scratch = s2_take_floats(arena, 1, scratch);
    return room;
}

size_t s2_model_workspace_bytes(const s2_model *model) {
    s2_arena arena = {0};
    float *slot[S2_SLOTS_OF_BUILD];
    (void)lay_out_forward(model, &arena);
    s2_slots_lay_out(model, &arena, slot);
    return arena.used;
}

/* Where the mean of tap k lies, which A follows. */
static const float *projection_of(const s2_model *model, uint32_t k) {
    const float *at = model->projections;
    for (uint32_t j = 0; j < k; j++) {
        const size_t width = model->tap_width[j], kept = s2_model_tap_width(model, j);
        at += kept < width ? width * (1 + kept) : 0;
    }
    return at;
}

void s2_model_project(const s2_model *model, const s2_kernels *kernels, uint32_t k,
                      const float *tap, float *projected, float *scratch) {
    const uint32_t width = model->tap_width[k];
    const float *mean = projection_of(model, k);
    for (uint32_t i = 0; i < width; i++) {
        scratch[i] = tap[i] - mean[i];
    }
    s2_multiply_from(kernels, 1, s2_model_tap_width(model, k), width, scratch, mean + width, NULL,
                     projected);
}

/* Tap k of the sample or of what a layer reads, x, into the row. */
static void put_tap(const s2_model *model, const s2_kernels *kernels, const s2_row_layout *layout,
                    uint32_t k, const s2_layer_pass *pass, float *row) {
    if (layout->tap_offset[k] == S2_TAP_IS_X) {
        return;
    }
    const int is_derived = k < model->n_derived;
    const int is_whole = s2_model_tap_width(model, k) == model->tap_width[k];
    float *const place = row + layout->tap_offset[k], *tap = is_whole ? place : pass->scratch;
    if (is_derived) {
        (void)s2_derive_if_any(&model->derived[k], model->n_features, pass->x, tap);
    } else if (pass->code->tap != NULL) {
        pass->code->tap(pass->layer, pass->arrays, pass->x, tap);
    } else {
        memcpy(tap, pass->x, model->tap_width[k] * sizeof *tap);
    }
    if (!is_whole) {
        s2_model_project(model, kernels, k, tap, place, pass->scratch);
    }
}

s2_status s2_model_forward(const s2_model *model, const s2_kernels *kernels, const float *x,
                           const s2_row_layout *layout, float *row, void *workspace,
                           size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    float *slot[S2_SLOTS_OF_BUILD];
    const forward_room room = lay_out_forward(model, &arena);
    s2_slots_lay_out(model, &arena, slot);
    if (!s2_fits(&arena) || room.numbers == NULL) { /* it is there where all fits */
        return S2_NO_ROOM;
    }
    if (model->n_layers == 0 || layout->n_taps != model->n_taps ||
        layout->n_outputs != model->n_outputs) {
        return S2_BAD_SHAPE;
    }
    s2_layer_pass pass = {.kernels = kernels,
                          .arrays = model->arrays,
                          .bn_eps = model->bn_eps,
                          .x = room.numbers,
                          .scratch = room.scratch};
    s2_slots_pass(&pass, slot);
    memcpy(room.numbers, x, model->n_features * sizeof *x);
    uint32_t tap = 0;
    for (; tap < model->n_derived; tap++) {
        put_tap(model, kernels, layout, tap, &pass, row);
    }
    int at_end = 0; /* whether x is there */
    for (uint32_t k = 0; k < model->n_layers; k++) {
        const s2_model_layer *layer = s2_model_layer_at(model, k);
        const s2_layer_code *code = s2_layer_code_of(layer->kind);
        pass.layer = layer;
        pass.code = code;
        if (s2_layer_is_tapped(model, k)) {
            put_tap(model, kernels, layout, tap++, &pass, row);
        }
        at_end = code->in_place ? at_end : !at_end;
        pass.y = room.numbers + (at_end ? room.peak - spaced(layer->n_out) : 0);
        code->forward(&pass);
        if (layer->flags & S2_HAS_RELU) {
            kernels->relu_forward(layer->n_out, pass.y);
        }
        pass.x = pass.y;
        pass.arrays += code->array_bytes(layer, pass.arrays, SIZE_MAX);
    }
    memcpy(row + layout->logits_offset, pass.x, model->n_outputs * sizeof *row);
    return S2_OK;
}
