/* model_slots.c - branches of a frozen network that meet again: one waits in a slot, and is added. */
#include "same_bits.h"

#include "model_slots.h"

#ifndef S2_WITHOUT_SLOTS

/* All that lies in the arrays. */
static uint32_t number_of(const uint8_t *arrays) {
    uint32_t number;
    memcpy(&number, arrays, sizeof number);
    return number;
}

static size_t array_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    const uint32_t known = layer->kind == S2_ADD ? S2_HAS_RELU : 0u;
    const int sound = (layer->flags & ~known) == 0 && left >= sizeof(uint32_t) &&
                      number_of(arrays) < S2_MODEL_MAX_SLOTS &&
                      (layer->kind == S2_EXCHANGE || layer->n_in == layer->n_out);
    return sound ? sizeof(uint32_t) : SIZE_MAX;
}

static void save(const s2_layer_pass *pass) {
    memcpy(pass->slot[number_of(pass->arrays)], pass->x, pass->layer->n_in * sizeof(float));
}

static void exchange(const s2_layer_pass *pass) {
    float *const slot = pass->slot[number_of(pass->arrays)];
    memcpy(pass->y, slot, pass->layer->n_out * sizeof(float));
    memcpy(slot, pass->x, pass->layer->n_in * sizeof(float));
}

static void add(const s2_layer_pass *pass) {
    const float *const slot = pass->slot[number_of(pass->arrays)];
    for (size_t i = 0; i < pass->layer->n_out; i++) {
        pass->y[i] = pass->x[i] + slot[i];
    }
}

/* What is in each slot after the layer, 0: nothing. Returns whether it found there what it needs. */
static int step(const s2_model_layer *layer, uint32_t number, uint32_t *width) {
    const uint32_t was = width[number];
    switch (layer->kind) {
    case S2_SAVE:
        width[number] = layer->n_in;
        return was == 0;
    case S2_EXCHANGE:
        width[number] = layer->n_in;
        return was == layer->n_out; /* never 0 */
    default:                        /* S2_ADD */
        width[number] = 0;
        return was == layer->n_in;
    }
}

/* The most that each slot ever has; returns whether all layers find what they need. */
static int follow(const s2_model *model, uint32_t *most) {
    uint32_t width[S2_MODEL_MAX_SLOTS] = {0};
    const uint8_t *arrays = model->arrays;
    int sound = 1;
    memset(most, 0, sizeof width);
    for (uint32_t k = 0; k < model->n_layers; k++) {
        const s2_model_layer *layer = s2_model_layer_at(model, k);
        const s2_layer_code *code = s2_layer_code_of(layer->kind);
        if (layer->kind >= S2_SAVE && layer->kind <= S2_ADD) {
            const uint32_t number = number_of(arrays);
            sound = sound && model->version > 2 && step(layer, number, width);
            most[number] = width[number] > most[number] ? width[number] : most[number];
        }
        arrays += code->array_bytes(layer, arrays, SIZE_MAX);
    }
    for (uint32_t number = 0; number < S2_MODEL_MAX_SLOTS; number++) {
        sound = sound && width[number] == 0;
    }
    return sound;
}

int s2_slots_are_sound(const s2_model *model) {
    uint32_t most[S2_MODEL_MAX_SLOTS];
    return follow(model, most);
}

void s2_slots_lay_out(const s2_model *model, s2_arena *arena, float **slot) {
    uint32_t most[S2_MODEL_MAX_SLOTS];
    (void)follow(model, most);
    for (uint32_t number = 0; number < S2_MODEL_MAX_SLOTS; number++) {
        slot[number] = s2_take_floats(arena, 1, most[number]);
    }
}

const s2_layer_code s2_save_code = {
    .in_place = 1, .array_bytes = array_bytes, .tap_width = s2_no_tap, .forward = save};
const s2_layer_code s2_exchange_code = {
    .array_bytes = array_bytes, .tap_width = s2_no_tap, .forward = exchange};
const s2_layer_code s2_add_code = {
    .in_place = 1, .array_bytes = array_bytes, .tap_width = s2_no_tap, .forward = add};

#endif
