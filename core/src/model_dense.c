/* model_dense.c - the fully connected layer of a frozen network, and products with its weights. */
#include "same_bits.h"

#include "model_layers.h"

/* c = (a . weight) * scale + start: a scale a column. */
static void multiply_int8(const s2_layer_product *of) {
    const s2_gemm *pass = &of->gemm;
    const size_t all = pass->b_depth, cols = pass->cols;
    const int8_t *const codes = (const int8_t *)of->weight + of->first;
    const float *const scale =
        s2_floats_at(of->weight + s2_round_up(pass->depth * all, 4)) + of->first;
    for (size_t r = 0; r < pass->rows; r++) {
        const float *a = pass->a + r * pass->a_row;
        float *c = pass->c + r * pass->c_row;
        memset(c, 0, cols * sizeof *c);
        for (size_t i = 0; i < pass->depth; i++) {
            const int8_t *code = codes + i * all;
            for (size_t o = 0; o < cols; o++) {
                c[o] += a[i] * (float)code[o];
            }
        }
        for (size_t o = 0; o < cols; o++) {
            c[o] = c[o] * scale[o] + pass->start[o];
        }
    }
}

void s2_layer_multiply(s2_layer_product *of) {
    if (of->flags & S2_HAS_INT8) {
        multiply_int8(of);
        return;
    }
    of->gemm.a_depth = 1;
    of->gemm.b_col = 1;
    of->gemm.b = s2_floats_at(of->weight) + of->first;
    of->kernels->gemm(&of->gemm);
}

/* The bias, and gamma, beta, mean, var where batch norm follows. */
static size_t array_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    const uint32_t known = S2_HAS_NORM | S2_HAS_RELU | S2_HAS_INT8 | S2_IS_TAPPED;
    const uint32_t n_vectors = (layer->flags & S2_HAS_NORM) != 0 ? 5u : 1u;
    (void)arrays;
    (void)left;
    return (layer->flags & ~known) != 0
               ? SIZE_MAX
               : s2_plus(s2_matrix_bytes(layer->flags, layer->n_in, layer->n_out),
                         s2_times(s2_times(n_vectors, layer->n_out), sizeof(float)));
}

/* Of batch norm: mean, var and what it makes of that. */
static size_t scratch_floats(const s2_model_layer *layer, const uint8_t *arrays) {
    (void)arrays;
    return layer->flags & S2_HAS_NORM ? 3 * (size_t)s2_padded(layer->n_out) : 0;
}

static void forward(const s2_layer_pass *pass) {
    const s2_model_layer *layer = pass->layer;
    const size_t width = layer->n_out;
    const float *vector =
        s2_floats_at(pass->arrays + s2_matrix_bytes(layer->flags, layer->n_in, width));
    s2_layer_product product = {.kernels = pass->kernels,
                                .flags = layer->flags,
                                .weight = pass->arrays,
                                .gemm = {.rows = 1,
                                         .cols = layer->n_out,
                                         .depth = layer->n_in,
                                         .a = pass->x,
                                         .b_depth = width,
                                         .c = pass->y,
                                         .start = vector}};
    s2_layer_multiply(&product);
    if (layer->flags & S2_HAS_NORM) {
        float *const mean = pass->scratch, *const var = mean + s2_padded(layer->n_out);
        memcpy(mean, vector + 3 * width, width * sizeof(float));
        memcpy(var, vector + 4 * width, width * sizeof(float));
        s2_bn_forward_frozen(pass->kernels, &(s2_bn_pass){.count = 1,
                                                          .width = layer->n_out,
                                                          .eps = pass->bn_eps,
                                                          .running_mean = mean,
                                                          .running_var = var,
                                                          .z = pass->y,
                                                          .gamma = vector + width,
                                                          .beta = vector + 2 * width,
                                                          .mean = mean,
                                                          .inv_std = var + s2_padded(layer->n_out),
                                                          .y = pass->y});
    }
}

const s2_layer_code s2_dense_code = {
    .array_bytes = array_bytes, .scratch_floats = scratch_floats, .forward = forward};
