/*
 * model_maps.c - convolutions and pooling of a frozen network. Maps lie (height, width, channels):
 * a window is a row of a product then, by the kernels that fully connected layers have.
 */
#include "same_bits.h"

#include "model_layers.h"

#include <float.h>

enum { WINDOWS = 4 }; /* that are gathered for one product */

/* Before the arrays of a convolution or a pooling layer. */
typedef struct {
    uint32_t grid_height, grid_width; /* of the tap, 0: it is none */
    uint32_t channels, height, width;
    uint32_t out_channels, out_height, out_width;
    uint32_t kernel_height, kernel_width, stride_height, stride_width;
    uint32_t pad_top, pad_left, dilation_height, dilation_width;
    uint32_t option; /* groups of a convolution; of an average 1 where padding counts */
} window;

static const window *window_of(const uint8_t *arrays) {
    return (const window *)(const void *)arrays;
}

/* Positions of a kernel along an axis that lie on the map, from `first` up to `stop`. */
typedef struct {
    int32_t at; /* of position 0; may be before the map */
    uint32_t first, stop;
} reach;

static reach reach_of(uint32_t out, uint32_t size, uint32_t kernel, uint32_t stride, uint32_t pad,
                      uint32_t dilation) {
    reach of = {(int32_t)(out * stride) - (int32_t)pad, 0, 0};
    const uint32_t before = of.at < 0 ? (uint32_t)-of.at : 0u;
    const uint32_t left = of.at < (int32_t)size ? (uint32_t)((int32_t)size - of.at) : 0u;
    of.first = (before + dilation - 1u) / dilation;
    of.stop = (left + dilation - 1u) / dilation;
    of.stop = of.stop < kernel ? of.stop : kernel;
    return of;
}

static reach rows_of(const window *w, uint32_t y) {
    return reach_of(y, w->height, w->kernel_height, w->stride_height, w->pad_top,
                    w->dilation_height);
}

static reach columns_of(const window *w, uint32_t x) {
    return reach_of(x, w->width, w->kernel_width, w->stride_width, w->pad_left, w->dilation_width);
}

/* The channels that position (i, j) of a window reads. */
static const float *place(const window *w, const float *x, const reach *rows, const reach *columns,
                          uint32_t i, uint32_t j) {
    const int32_t row = (int32_t)(i * w->dilation_height) + rows->at;
    const int32_t column = (int32_t)(j * w->dilation_width) + columns->at;
    return x + ((size_t)row * w->width + (size_t)column) * w->channels;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* No position is beyond what int32_t can say. */
static int axis_is_sound(uint32_t size, uint32_t out, uint32_t kernel, uint32_t stride,
                         uint32_t pad, uint32_t dilation) {
    const size_t most = 1u << 29;
    return size > 0 && out > 0 && kernel > 0 && stride > 0 && dilation > 0 && size <= most &&
           pad <= most && s2_times(out, stride) <= most && s2_times(kernel, dilation) <= most;
}

static int window_is_sound(const s2_model_layer *layer, const window *w) {
    const size_t n_in = s2_times(s2_times(w->height, w->width), w->channels);
    const size_t n_out = s2_times(s2_times(w->out_height, w->out_width), w->out_channels);
    const int tapped = (layer->flags & S2_IS_TAPPED) != 0;
    const int grid = tapped ? w->grid_height > 0 && w->grid_width > 0 &&
                                  w->grid_height <= w->height && w->grid_width <= w->width
                            : w->grid_height == 0 && w->grid_width == 0;
    return grid && n_in == layer->n_in && n_out == layer->n_out && w->channels > 0 &&
           w->out_channels > 0 &&
           axis_is_sound(w->height, w->out_height, w->kernel_height, w->stride_height, w->pad_top,
                         w->dilation_height) &&
           axis_is_sound(w->width, w->out_width, w->kernel_width, w->stride_width, w->pad_left,
                         w->dilation_width);
}

static int has_window(const s2_model_layer *layer, uint32_t known, const uint8_t *arrays,
                      size_t left) {
    return (layer->flags & ~known) == 0 && left >= sizeof(window) &&
           window_is_sound(layer, window_of(arrays));
}

/* Numbers that one output reads. */
static size_t depth_of(const window *w) {
    return s2_times(s2_times(w->kernel_height, w->kernel_width), w->channels / w->option);
}

static size_t convolution_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    const window *w = window_of(arrays);
    if (!has_window(layer, S2_HAS_RELU | S2_HAS_INT8 | S2_IS_TAPPED, arrays, left) ||
        w->option == 0 || w->channels % w->option != 0 || w->out_channels % w->option != 0 ||
        depth_of(w) > S2_MAX_WIDTH) {
        return SIZE_MAX;
    }
    const size_t weights = s2_matrix_bytes(layer->flags, depth_of(w), w->out_channels);
    return s2_plus(sizeof *w, s2_plus(weights, s2_times(w->out_channels, sizeof(float))));
}

static size_t pool_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    const window *w = window_of(arrays);
    const int sound = has_window(layer, 0, arrays, left) && w->channels == w->out_channels &&
                      w->option <= (layer->kind == S2_AVERAGE_POOL ? 1u : 0u);
    return sound ? sizeof *w : SIZE_MAX;
}

/* ---- taps ------------------------------------------------------------------------------------ */

static uint32_t grid_width(const s2_model_layer *layer, const uint8_t *arrays) {
    const window *w = window_of(arrays);
    (void)layer;
    return w->channels * w->grid_height * w->grid_width; /* no more than the map has */
}

/* Where cell `cell` of `cells` begins; it ends where the next begins, rounded up. */
static size_t cell_start(uint32_t cell, uint32_t cells, uint32_t size) {
    return (size_t)((uint64_t)cell * size / cells);
}

static size_t cell_stop(uint32_t cell, uint32_t cells, uint32_t size) {
    return (size_t)(((uint64_t)(cell + 1) * size + cells - 1) / cells);
}

/* Averages over the grid as adaptive average pooling has them: (channels, height, width). */
static void tap_of_map(const s2_model_layer *layer, const uint8_t *arrays, const float *x,
                       float *tap) {
    const window *w = window_of(arrays);
    const size_t cells = (size_t)w->grid_height * w->grid_width, channels = w->channels;
    (void)layer;
    for (uint32_t i = 0; i < w->grid_height; i++) {
        const size_t top = cell_start(i, w->grid_height, w->height),
                     bottom = cell_stop(i, w->grid_height, w->height);
        for (uint32_t j = 0; j < w->grid_width; j++) {
            const size_t left = cell_start(j, w->grid_width, w->width),
                         right = cell_stop(j, w->grid_width, w->width);
            float *const cell = tap + (size_t)i * w->grid_width + j;
            for (size_t c = 0; c < channels; c++) {
                float sum = 0.0f;
                for (size_t row = top; row < bottom; row++) {
                    const float *const line = x + row * w->width * channels + c;
                    for (size_t column = left; column < right; column++) {
                        sum += line[column * channels];
                    }
                }
                cell[c * cells] = sum / ((float)(bottom - top) * (float)(right - left));
            }
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Each channel by itself: a window has few numbers of each. */
static int is_depthwise(const window *w) {
    return w->option > 1 && w->option == w->channels && w->channels == w->out_channels;
}

/* A map of which each window is the channels of one place. */
static int is_pointwise(const window *w) {
    return w->option == 1 && w->kernel_height == 1 && w->kernel_width == 1 &&
           w->stride_height == 1 && w->stride_width == 1 && w->pad_top == 0 && w->pad_left == 0 &&
           w->out_height == w->height && w->out_width == w->width;
}

static size_t patch_floats(const s2_model_layer *layer, const uint8_t *arrays) {
    const window *w = window_of(arrays);
    (void)layer;
    return is_depthwise(w) || is_pointwise(w) ? 0 : s2_times(WINDOWS, depth_of(w));
}

/* What a window has of group `group`, with 0 where it is beside the map. */
static void gather(const window *w, const float *x, size_t at, uint32_t group, float *patch) {
    const uint32_t width = w->channels / w->option;
    const reach rows = rows_of(w, (uint32_t)(at / w->out_width));
    const reach columns = columns_of(w, (uint32_t)(at % w->out_width));
    memset(patch, 0, depth_of(w) * sizeof *patch);
    for (uint32_t i = rows.first; i < rows.stop; i++) {
        for (uint32_t j = columns.first; j < columns.stop; j++) {
            memcpy(patch + ((size_t)i * w->kernel_width + j) * width,
                   place(w, x, &rows, &columns, i, j) + (size_t)group * width,
                   width * sizeof *patch);
        }
    }
}

static void convolve(const s2_layer_pass *pass, const window *w, s2_layer_product *product) {
    const size_t n_windows = (size_t)w->out_height * w->out_width, depth = depth_of(w);
    s2_gemm *const gemm = &product->gemm;
    const float *const bias = gemm->start;
    gemm->cols = w->out_channels / w->option;
    for (uint32_t group = 0; group < w->option; group++) {
        product->first = group * gemm->cols;
        gemm->start = bias + product->first;
        for (size_t at = 0; at < n_windows; at += WINDOWS) {
            const size_t left = n_windows - at;
            gemm->rows = left < WINDOWS ? (uint32_t)left : WINDOWS;
            for (uint32_t r = 0; r < gemm->rows; r++) {
                gather(w, pass->x, at + r, group, pass->scratch + r * depth);
            }
            gemm->a = pass->scratch;
            gemm->c = pass->y + at * w->out_channels + product->first;
            s2_layer_multiply(product);
        }
    }
}

/* y += x times weights of one position, for each channel. */
static void add_position(size_t channels, unsigned flags, const float *x, const uint8_t *weight,
                         size_t position, float *y) {
    if (flags & S2_HAS_INT8) {
        const int8_t *code = (const int8_t *)weight + position * channels;
        for (size_t c = 0; c < channels; c++) {
            y[c] += x[c] * (float)code[c];
        }
    } else {
        const float *number = s2_floats_at(weight) + position * channels;
        for (size_t c = 0; c < channels; c++) {
            y[c] += x[c] * number[c];
        }
    }
}

static void convolve_depthwise(const s2_layer_pass *pass, const window *w, const float *bias) {
    const size_t channels = w->channels, n_windows = (size_t)w->out_height * w->out_width;
    const uint8_t *const weight = pass->arrays + sizeof *w;
    const unsigned flags = pass->layer->flags;
    const float *const scale = s2_floats_at(weight + s2_round_up(depth_of(w) * channels, 4));
    for (size_t at = 0; at < n_windows; at++) {
        const reach rows = rows_of(w, (uint32_t)(at / w->out_width));
        const reach columns = columns_of(w, (uint32_t)(at % w->out_width));
        float *const y = pass->y + at * channels;
        for (size_t c = 0; c < channels; c++) {
            y[c] = flags & S2_HAS_INT8 ? 0.0f : bias[c];
        }
        for (uint32_t i = rows.first; i < rows.stop; i++) {
            for (uint32_t j = columns.first; j < columns.stop; j++) {
                add_position(channels, flags, place(w, pass->x, &rows, &columns, i, j), weight,
                             (size_t)i * w->kernel_width + j, y);
            }
        }
        for (size_t c = 0; flags & S2_HAS_INT8 && c < channels; c++) {
            y[c] = y[c] * scale[c] + bias[c];
        }
    }
}

static void convolution_forward(const s2_layer_pass *pass) {
    const window *w = window_of(pass->arrays);
    const uint8_t *const weight = pass->arrays + sizeof *w;
    const float *const bias =
        s2_floats_at(weight + s2_matrix_bytes(pass->layer->flags, depth_of(w), w->out_channels));
    s2_layer_product product = {.kernels = pass->kernels,
                                .flags = pass->layer->flags,
                                .weight = weight,
                                .gemm = {.rows = w->height * w->width,
                                         .cols = w->out_channels,
                                         .depth = (uint32_t)depth_of(w),
                                         .a = pass->x,
                                         .a_row = depth_of(w),
                                         .b_depth = w->out_channels,
                                         .c = pass->y,
                                         .c_row = w->out_channels,
                                         .start = bias}};
    if (is_depthwise(w)) {
        convolve_depthwise(pass, w, bias);
    } else if (is_pointwise(w)) {
        s2_layer_multiply(&product);
    } else {
        convolve(pass, w, &product);
    }
}

/* Without places of the map in it a window gives 0. */
static void pool_window(const window *w, int is_max, const float *x, size_t at, float *y) {
    const reach rows = rows_of(w, (uint32_t)(at / w->out_width));
    const reach columns = columns_of(w, (uint32_t)(at % w->out_width));
    const size_t channels = w->channels;
    const uint32_t height = rows.stop > rows.first ? rows.stop - rows.first : 0u;
    const uint32_t width = columns.stop > columns.first ? columns.stop - columns.first : 0u;
    const float all = (float)w->kernel_height * (float)w->kernel_width;
    const float count = w->option ? all : (float)height * (float)width;
    const int is_empty = height == 0 || width == 0;
    for (size_t c = 0; c < channels; c++) {
        y[c] = is_max && !is_empty ? -FLT_MAX : 0.0f;
    }
    for (uint32_t i = rows.first; i < rows.stop; i++) {
        for (uint32_t j = columns.first; j < columns.stop; j++) {
            const float *const from = place(w, x, &rows, &columns, i, j);
            for (size_t c = 0; c < channels; c++) {
                const float larger = from[c] > y[c] ? from[c] : y[c];
                y[c] = is_max ? larger : y[c] + from[c];
            }
        }
    }
    for (size_t c = 0; !is_max && !is_empty && c < channels; c++) {
        y[c] /= count;
    }
}

static void pool_forward(const s2_layer_pass *pass) {
    const window *w = window_of(pass->arrays);
    const size_t n_windows = (size_t)w->out_height * w->out_width;
    for (size_t at = 0; at < n_windows; at++) {
        pool_window(w, pass->layer->kind == S2_MAX_POOL, pass->x, at, pass->y + at * w->channels);
    }
}

/* ---- transposition --------------------------------------------------------------------------- */

typedef struct {
    uint32_t rows, columns; /* of x; y is (columns, rows) */
} turned;

static size_t turned_bytes(const s2_model_layer *layer, const uint8_t *arrays, size_t left) {
    turned of;
    if (left < sizeof of || layer->flags != 0) {
        return SIZE_MAX;
    }
    memcpy(&of, arrays, sizeof of);
    const size_t count = s2_times(of.rows, of.columns);
    return count == layer->n_in && count == layer->n_out ? sizeof of : SIZE_MAX;
}

static void turned_forward(const s2_layer_pass *pass) {
    turned of;
    memcpy(&of, pass->arrays, sizeof of);
    for (size_t row = 0; row < of.rows; row++) {
        for (size_t column = 0; column < of.columns; column++) {
            pass->y[column * of.rows + row] = pass->x[row * of.columns + column];
        }
    }
}

const s2_layer_code s2_convolution_code = {.array_bytes = convolution_bytes,
                                           .tap_width = grid_width,
                                           .tap = tap_of_map,
                                           .scratch_floats = patch_floats,
                                           .forward = convolution_forward};
const s2_layer_code s2_pool_code = {
    .array_bytes = pool_bytes, .tap_width = s2_no_tap, .forward = pool_forward};
const s2_layer_code s2_transposition_code = {
    .array_bytes = turned_bytes, .tap_width = s2_no_tap, .forward = turned_forward};
