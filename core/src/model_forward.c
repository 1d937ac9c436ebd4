/* model_forward.c - runs a frozen network, layer after layer. */
#include "same_bits.h"

#include "model_derived.h"
#include "model_layers.h"

typedef struct {
    float *x, *y;          /* (widest) */
    float *mean, *inv_std; /* (widest), of batch norm */
} forward_room;

static forward_room lay_out_forward(const s2_model *model, s2_arena *arena) {
    size_t widest = model->n_features;
    for (uint32_t k = 0; k < model->n_layers; k++) {
        const uint32_t width = s2_model_layer_of(model->layers, k).n_out;
        widest = width > widest ? width : widest;
    }
    for (uint32_t k = 0; k < model->n_taps; k++) {
        widest = model->tap_width[k] > widest ? model->tap_width[k] : widest;
    }
    forward_room room;
    room.x = s2_take_floats(arena, 1, widest);
    room.y = s2_take_floats(arena, 1, widest);
    room.mean = s2_take_floats(arena, 1, widest);
    room.inv_std = s2_take_floats(arena, 1, widest);
    return room;
}

size_t s2_model_workspace_bytes(const s2_model *model) {
    s2_arena arena = {0};
    (void)lay_out_forward(model, &arena);
    return arena.used;
}

/* y = (x . weight) * scale + bias: a scale an output. */
static void int8_forward(const s2_model_layer *layer, const int8_t *weight, const float *scale,
                         const float *bias, const float *x, float *y) {
    const size_t n_out = layer->n_out;
    memset(y, 0, n_out * sizeof *y);
    for (size_t i = 0; i < layer->n_in; i++) {
        const int8_t *of = weight + i * n_out;
        for (size_t o = 0; o < n_out; o++) {
            y[o] += x[i] * (float)of[o];
        }
    }
    for (size_t o = 0; o < n_out; o++) {
        y[o] = y[o] * scale[o] + bias[o];
    }
}

/* One layer; returns where the next one's arrays begin. */
static const uint8_t *layer_forward(const s2_model *model, const s2_kernels *kernels, uint32_t k,
                                    const uint8_t *arrays, forward_room *room) {
    const s2_model_layer layer = s2_model_layer_of(model->layers, k);
    const float *vector = (const float *)(const void *)(arrays + s2_weight_bytes(&layer));
    if (layer.flags & S2_HAS_INT8) {
        const float *scale = vector;
        vector += layer.n_out;
        int8_forward(&layer, (const int8_t *)arrays, scale, vector, room->x, room->y);
    } else {
        s2_fc_forward(kernels, &(s2_fc_pass){.count = 1,
                                             .n_in = layer.n_in,
                                             .n_out = layer.n_out,
                                             .x = room->x,
                                             .weight = (const float *)(const void *)arrays,
                                             .bias = vector,
                                             .y = room->y});
    }
    vector += layer.n_out;
    if (layer.flags & S2_HAS_NORM) {
        const size_t width = layer.n_out;
        memcpy(room->mean, vector + 2 * width, width * sizeof(float));
        memcpy(room->x, vector + 3 * width, width * sizeof(float));
        s2_bn_forward_frozen(kernels, &(s2_bn_pass){.count = 1,
                                                    .width = layer.n_out,
                                                    .eps = model->bn_eps,
                                                    .running_mean = room->mean,
                                                    .running_var = room->x,
                                                    .z = room->y,
                                                    .gamma = vector,
                                                    .beta = vector + width,
                                                    .mean = room->mean,
                                                    .inv_std = room->inv_std,
                                                    .y = room->y});
        vector += 4 * width;
    }
    if (layer.flags & S2_HAS_RELU) {
        s2_relu_forward(kernels, layer.n_out, room->y);
    }
    float *const input = room->x; /* the output is the next layer's input */
    room->x = room->y;
    room->y = input;
    return (const uint8_t *)vector;
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
    s2_fc_forward(kernels, &(s2_fc_pass){.count = 1,
                                         .n_in = width,
                                         .n_out = s2_model_tap_width(model, k),
                                         .x = scratch,
                                         .weight = mean + width,
                                         .y = projected});
}

/* A tap into the row. */
static void put_tap(const s2_model *model, const s2_kernels *kernels, const s2_row_layout *layout,
                    uint32_t k, const float *tap, float *row, float *scratch) {
    const uint32_t width = model->tap_width[k];
    if (layout->tap_offset[k] == S2_TAP_IS_X) {
        return;
    }
    float *place = row + layout->tap_offset[k];
    if (s2_model_tap_width(model, k) < width) {
        s2_model_project(model, kernels, k, tap, place, scratch);
    } else {
        memcpy(place, tap, width * sizeof *place);
    }
}

s2_status s2_model_forward(const s2_model *model, const s2_kernels *kernels, const float *x,
                           const s2_row_layout *layout, float *row, void *workspace,
                           size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    forward_room room = lay_out_forward(model, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (model->n_layers == 0 || layout->n_taps != model->n_taps ||
        layout->n_outputs != model->n_outputs) {
        return S2_BAD_SHAPE;
    }
    const uint8_t *arrays = model->arrays;
    memcpy(room.x, x, model->n_features * sizeof *x);
    for (uint32_t k = 0; k < model->n_derived; k++) {
        (void)s2_derive_if_any(&model->derived[k], model->n_features, x, room.y);
        put_tap(model, kernels, layout, k, room.y, row, room.mean);
    }
    const uint32_t first = model->n_layers - (model->n_taps - model->n_derived);
    for (uint32_t k = 0; k < model->n_layers; k++) {
        if (k >= first) {
            put_tap(model, kernels, layout, model->n_derived + k - first, room.x, row, room.y);
        }
        arrays = layer_forward(model, kernels, k, arrays, &room);
    }
    memcpy(row + layout->logits_offset, room.x, model->n_outputs * sizeof *row);
    return S2_OK;
}
