/* model_recurrent.c - GRU and LSTM of a frozen network, in one direction, as ONNX defines them. */
#include "same_bits.h"

#include "model_functions.h"
#include "model_layers.h"

/* Before the arrays: weights of the input (width, gates), of the state (hidden, gates), and a bias
 * of each (gates). Gates are z, r, h of a GRU, and i, o, f, c of an LSTM, `hidden` numbers each. */
typedef struct {
    uint32_t steps, width, hidden;
    uint32_t whole;        /* 1: y is every step's state, (steps, hidden); 0: that of the last */
    uint32_t reset_before; /* 1: a GRU's r times the state, 0: times what weights make of it */
} recurrence;

static recurrence recurrence_of(const uint8_t *arrays) {
    recurrence of;
    memcpy(&of, arrays, sizeof of);
    return of;
}

static uint32_t n_gates(const s2_model_layer *layer) {
    return layer->kind == S2_LSTM ? 4u : 3u;
}

static size_t array_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    const uint32_t known = S2_HAS_RELU | S2_HAS_INT8 | S2_IS_TAPPED;
    if ((layer->flags & ~known) != 0 || left < sizeof(recurrence)) {
        return SIZE_MAX;
    }
    const recurrence of = recurrence_of(arrays);
    const int words = of.whole <= 1 && of.reset_before <= (layer->kind == S2_GRU ? 1u : 0u) &&
                      of.hidden > 0 && of.hidden <= S2_MAX_WIDTH / 4 && of.width > 0 &&
                      of.width <= S2_MAX_WIDTH / 2;
    if (!words || s2_times(of.steps, of.width) != layer->n_in ||
        s2_times(of.whole ? of.steps : 1u, of.hidden) != layer->n_out) {
        return SIZE_MAX;
    }
    const size_t gates = (size_t)n_gates(layer) * of.hidden;
    const size_t weights = s2_plus(s2_matrix_bytes(layer->flags, of.width, gates),
                                   s2_matrix_bytes(layer->flags, of.hidden, gates));
    return s2_plus(sizeof of, s2_plus(weights, 2 * gates * sizeof(float)));
}

/* The mean of all steps and the first one. */
static uint32_t tap_width(const s2_model_layer *layer, const uint8_t *arrays) {
    (void)layer;
    return 2u * recurrence_of(arrays).width;
}

static void tap_of_steps(const s2_model_layer *layer, const uint8_t *arrays, const float *x,
                         float *tap) {
    const recurrence of = recurrence_of(arrays);
    (void)layer;
    for (size_t i = 0; i < of.width; i++) {
        float sum = 0.0f;
        for (size_t step = 0; step < of.steps; step++) {
            sum += x[step * of.width + i];
        }
        tap[i] = sum / (float)of.steps;
        tap[of.width + i] = x[i];
    }
}

/* Gates from the input and from the state, the state, and the cell of an LSTM or a GRU's r times
 * the state. */
static size_t scratch_floats(const s2_model_layer *layer, const uint8_t *arrays) {
    return (size_t)(2u * n_gates(layer) + 2u) * recurrence_of(arrays).hidden;
}

/* From z, r, h of the input (hidden each) and of the state: the next state. */
static void gru_step(s2_layer_product *product, const recurrence *of, const float *bias,
                     const float *input, float *state, float *h, float *reset) {
    const size_t hidden = of->hidden;
    product->first = 0;
    product->gemm.cols = of->reset_before ? 2u * of->hidden : 3u * of->hidden;
    product->gemm.a = h;
    product->gemm.start = bias;
    product->gemm.c = state;
    s2_layer_multiply(product);
    for (size_t i = 0; i < 2 * hidden; i++) {
        state[i] = sigmoid(input[i] + state[i]);
    }
    for (size_t i = 0; i < hidden; i++) {
        reset[i] = state[hidden + i] * h[i];
    }
    if (of->reset_before) {
        product->first = 2u * of->hidden;
        product->gemm.cols = of->hidden;
        product->gemm.a = reset;
        product->gemm.start = bias + 2 * hidden;
        product->gemm.c = state + 2 * hidden;
        s2_layer_multiply(product);
    }
    for (size_t i = 0; i < hidden; i++) {
        const float r = of->reset_before ? 1.0f : state[hidden + i], z = state[i];
        const float next = hyperbolic_tangent(input[2 * hidden + i] + r * state[2 * hidden + i]);
        h[i] = (1.0f - z) * next + z * h[i];
    }
}

/* From i, o, f, c of the input (hidden each) and of the state: the next state and cell. */
static void lstm_step(s2_layer_product *product, const recurrence *of, const float *bias,
                      const float *input, float *state, float *h, float *cell) {
    const size_t hidden = of->hidden;
    product->first = 0;
    product->gemm.cols = 4u * of->hidden;
    product->gemm.a = h;
    product->gemm.start = bias;
    product->gemm.c = state;
    s2_layer_multiply(product);
    for (size_t i = 0; i < hidden; i++) {
        const float in = sigmoid(input[i] + state[i]);
        const float out = sigmoid(input[hidden + i] + state[hidden + i]);
        const float keep = sigmoid(input[2 * hidden + i] + state[2 * hidden + i]);
        const float next = hyperbolic_tangent(input[3 * hidden + i] + state[3 * hidden + i]);
        cell[i] = keep * cell[i] + in * next;
        h[i] = out * hyperbolic_tangent(cell[i]);
    }
}

static void forward(const s2_layer_pass *pass) {
    const s2_model_layer *layer = pass->layer;
    const recurrence of = recurrence_of(pass->arrays);
    const size_t hidden = of.hidden, gates = n_gates(layer) * hidden;
    const uint8_t *const weight = pass->arrays + sizeof of;
    const uint8_t *const inner = weight + s2_matrix_bytes(layer->flags, of.width, gates);
    const float *const bias = s2_floats_at(inner + s2_matrix_bytes(layer->flags, hidden, gates));
    float *const input = pass->scratch, *const state = input + gates, *const h = state + gates;
    float *const beside = h + hidden;
    s2_layer_product product = {
        .kernels = pass->kernels, .flags = layer->flags, .gemm = {.rows = 1, .b_depth = gates}};
    memset(h, 0, 2 * hidden * sizeof *h);
    for (size_t step = 0; step < of.steps; step++) {
        product.weight = weight;
        product.gemm.depth = of.width;
        product.first = 0;
        product.gemm.cols = (uint32_t)gates;
        product.gemm.a = pass->x + step * of.width;
        product.gemm.start = bias;
        product.gemm.c = input;
        s2_layer_multiply(&product);
        product.weight = inner;
        product.gemm.depth = of.hidden;
        if (layer->kind == S2_LSTM) {
            lstm_step(&product, &of, bias + gates, input, state, h, beside);
        } else {
            gru_step(&product, &of, bias + gates, input, state, h, beside);
        }
        if (of.whole || step + 1 == of.steps) {
            memcpy(pass->y + (of.whole ? step * hidden : 0), h, hidden * sizeof *h);
        }
    }
}

const s2_layer_code s2_recurrent_code = {.array_bytes = array_bytes,
                                         .tap_width = tap_width,
                                         .tap = tap_of_steps,
                                         .scratch_floats = scratch_floats,
                                         .forward = forward};
