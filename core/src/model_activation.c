/* model_activation.c - activations beside ReLU of a frozen network: number by number, in place. */
#include "same_bits.h"

#include "model_functions.h"
#include "model_layers.h"

#include <math.h>

/* Before the numbers: which one, and its two constants. */
typedef struct {
    uint32_t function;
    float a, b;
} activation;

static activation activation_of(const uint8_t *arrays) {
    activation of;
    memcpy(&of, arrays, sizeof of);
    return of;
}

static size_t array_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    if (left < sizeof(activation) || layer->flags != 0 || layer->n_in != layer->n_out) {
        return SIZE_MAX;
    }
    const activation of = activation_of(arrays);
    const int known = of.function >= S2_CLIP && of.function <= S2_HARD_SWISH;
    return known && isfinite(of.a) && isfinite(of.b) ? sizeof of : SIZE_MAX;
}

static float clipped(float x, float least, float most) {
    const float above = x < least ? least : x;
    return above > most ? most : above;
}

static float of_number(const activation *of, float x) {
    switch (of->function) {
    case S2_CLIP:
        return clipped(x, of->a, of->b);
    case S2_LEAKY_RELU:
        return x < 0.0f ? of->a * x : x;
    case S2_LOGISTIC:
        return sigmoid(x);
    case S2_TANH:
        return hyperbolic_tangent(x);
    case S2_HARD_SIGMOID:
        return clipped(of->a * x + of->b, 0.0f, 1.0f);
    default: /* S2_HARD_SWISH */
        return x * clipped(of->a * x + of->b, 0.0f, 1.0f);
    }
}

static void forward(const s2_layer_pass *pass) {
    const activation of = activation_of(pass->arrays);
    for (size_t i = 0; i < pass->layer->n_out; i++) {
        pass->y[i] = of_number(&of, pass->x[i]);
    }
}

const s2_layer_code s2_activation_code = {
    .in_place = 1, .array_bytes = array_bytes, .tap_width = s2_no_tap, .forward = forward};
