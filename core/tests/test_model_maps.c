/* test_model_maps.c - convolutions, pooling, transpositions and activations of a block against sums
 * in double, by each kernel table; their bits by the scalar table; what is refused. */
#include "layered.h"

static const char *const tables[] = {"scalar", "x86-64-v3", "x86-64-v4", "neon", "simd128"};

/* Places along an axis, with `behind` of padding at its end. */
static uint32_t places(uint32_t size, uint32_t kernel, uint32_t stride, uint32_t pad,
                       uint32_t behind, uint32_t dilation) {
    return (size + pad + behind - (kernel - 1) * dilation - 1) / stride + 1;
}

static uint32_t between(s2_rng *rng, uint32_t least, uint32_t most) {
    return least + s2_rng_below(rng, most - least + 1);
}

/* A window that moves over a random map. */
static spec window_spec(uint32_t kind, uint32_t channels, uint32_t out_channels, s2_rng *rng) {
    uint32_t w[MOST_WORDS] = {0};
    w[C] = channels;
    w[OUT_C] = out_channels;
    w[OPTION] = kind == S2_CONVOLUTION; /* one group */
    for (uint32_t axis = 0; axis < 2; axis++) {
        const int is_flat = axis == 0 && s2_rng_below(rng, 4) == 0; /* one dimension */
        w[KH + axis] = is_flat ? 1 : between(rng, 1, 4);
        w[DH + axis] = is_flat ? 1 : between(rng, 1, 2);
        w[SH + axis] = is_flat ? 1 : between(rng, 1, 3);
        const uint32_t extent = (w[KH + axis] - 1) * w[DH + axis] + 1;
        w[H + axis] = is_flat ? 1 : extent + s2_rng_below(rng, 6);
        w[PT + axis] = s2_rng_below(rng, extent);
        w[OUT_H + axis] = places(w[H + axis], w[KH + axis], w[SH + axis], w[PT + axis],
                                 s2_rng_below(rng, extent), w[DH + axis]);
    }
    return map_spec(kind, 0, w);
}

static spec convolution_spec(uint32_t flags, uint32_t groups, uint32_t channels, uint32_t outs,
                             s2_rng *rng) {
    spec of = window_spec(S2_CONVOLUTION, channels, outs, rng);
    uint32_t *w = of.word;
    w[OPTION] = groups;
    w[GRID_H] = between(rng, 1, w[H]);
    w[GRID_W] = between(rng, 1, w[W]);
    return map_spec(S2_CONVOLUTION, flags | S2_IS_TAPPED, w);
}

/* ---- the same in double ---------------------------------------------------------------------- */

static double pixel(const spec *of, const float *x, int64_t row, int64_t column, uint32_t c) {
    const uint32_t *w = of->word;
    return (double)x[((size_t)row * w[W] + (size_t)column) * w[C] + c];
}

static int is_inside(const spec *of, int64_t row, int64_t column) {
    return row >= 0 && row < of->word[H] && column >= 0 && column < of->word[W];
}

static double output(const blob *made, const spec *of, const float *x, uint32_t place, uint32_t o) {
    const uint32_t *w = of->word, groups = of->kind == S2_CONVOLUTION ? w[OPTION] : w[C];
    const uint32_t width = w[C] / groups, group = o / (w[OUT_C] / groups);
    double sum = of->kind == S2_CONVOLUTION ? vector_at(made, of, 0, o) : 0, largest = -1e30;
    unsigned count = 0;
    for (uint32_t i = 0; i < w[KH] * w[KW]; i++) {
        const int64_t row =
            (int64_t)(place / w[OUT_W]) * w[SH] + (int64_t)(i / w[KW]) * w[DH] - (int64_t)w[PT];
        const int64_t column =
            (int64_t)(place % w[OUT_W]) * w[SW] + (int64_t)(i % w[KW]) * w[DW] - (int64_t)w[PL];
        count += is_inside(of, row, column) || (of->kind == S2_AVERAGE_POOL && w[OPTION]);
        for (uint32_t c = 0; is_inside(of, row, column) && c < width; c++) {
            const double value = pixel(of, x, row, column, group * width + c);
            largest = fmax(largest, value);
            sum += of->kind == S2_CONVOLUTION ? value * weight_at(made, of, 0, i * width + c, o)
                                              : value;
        }
    }
    if (of->kind == S2_MAX_POOL) {
        return largest > -1e30 ? largest : 0;
    }
    const double average = count ? sum / count : 0;
    const double value = of->kind == S2_AVERAGE_POOL ? average : sum;
    return of->flags & S2_HAS_RELU ? fmax(0, value) : value;
}

/* Cell (i, j) of channel c of the tap. */
static double cell(const spec *of, const float *x, uint32_t c, uint32_t i, uint32_t j) {
    const uint32_t *w = of->word;
    double sum = 0;
    unsigned count = 0;
    for (uint32_t row = i * w[H] / w[GRID_H]; row * w[GRID_H] < (i + 1) * w[H]; row++) {
        for (uint32_t column = j * w[W] / w[GRID_W]; column * w[GRID_W] < (j + 1) * w[W];
             column++) {
            sum += pixel(of, x, row, column, c);
            count++;
        }
    }
    return sum / count;
}

/* The layer alone before a fully connected one, whose tap is what it gives. */
static void check_window(spec of, s2_rng *rng) {
    spec layers[] = {of, dense_spec(S2_IS_TAPPED, of.n_out, 2)};
    blob made;
    new_layered(&made, layers, 2, rng);
    float *const x = random_floats(rng, of.n_in);
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (s2_kernels_choose(tables[t]) == NULL) {
            continue;
        }
        float *const row = row_of_block(&made, tables[t], x), *at = row;
        for (uint32_t i = 0; i < of.tap_width; i++) {
            const uint32_t cells = of.word[GRID_H] * of.word[GRID_W], j = i % cells;
            CHECK_NEAR(*at++, cell(&of, x, i / cells, j / of.word[GRID_W], j % of.word[GRID_W]),
                       1e-5);
        }
        for (uint32_t i = 0; i < of.n_out; i++) {
            CHECK_NEAR(*at++, output(&made, &layers[0], x, i / of.word[OUT_C], i % of.word[OUT_C]),
                       2e-5);
        }
        free(row);
    }
    free(made.word);
    release_guarded();
}

static void test_windows(void) {
    static const uint32_t grouped[][3] = {/* groups, channels, channels that come out */
                                          {1, 1, 1}, {1, 3, 5}, {1, 8, 16}, {2, 6, 4},
                                          {6, 6, 6}, {4, 4, 8}, {3, 9, 3},  {19, 19, 19}};
    s2_rng rng;
    s2_rng_seed(&rng, 21, 1);
    for (uint32_t round = 0; round < 64; round++) {
        const uint32_t *g = grouped[round % 8];
        const uint32_t flags =
            (round / 8 % 2 ? S2_HAS_INT8 : 0u) | (round / 16 % 2 ? S2_HAS_RELU : 0u);
        check_where("convolution %u", round);
        check_window(convolution_spec(flags, g[0], g[1], g[2], &rng), &rng);
        check_where("pooling %u", round);
        spec pool = window_spec(round % 2 ? S2_MAX_POOL : S2_AVERAGE_POOL, g[1], g[1], &rng);
        pool.word[OPTION] = round % 4 == 2;
        check_window(pool, &rng);
    }
    check_where("");
}

/* A convolution of single places, which is one product. */
static void test_pointwise(unsigned flags) {
    s2_rng rng;
    s2_rng_seed(&rng, 22, 1);
    static const uint32_t word[] = {2, 2, 6, 5, 7, 10, 5, 7, 1, 1, 1, 1, 0, 0, 1, 1, 1};
    const spec of = map_spec(S2_CONVOLUTION, flags | S2_IS_TAPPED, word);
    check_window(of, &rng);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static double function_of(uint32_t function, double a, double b, double x) {
    const double line = fmax(0, fmin(1, a * x + b));
    switch (function) {
    case S2_CLIP:
        return fmin(fmax(x, a), b);
    case S2_LEAKY_RELU:
        return x < 0 ? a * x : x;
    case S2_LOGISTIC:
        return 1 / (1 + exp(-x));
    case S2_TANH:
        return tanh(x);
    case S2_HARD_SIGMOID:
        return line;
    default:
        return x * line;
    }
}

static spec activation_spec(uint32_t width, uint32_t function, float a, float b) {
    spec of = {.kind = S2_ACTIVATION, .n_in = width, .n_out = width, .n_words = 3};
    of.word[0] = function;
    memcpy(&of.word[1], &a, sizeof a);
    memcpy(&of.word[2], &b, sizeof b);
    return of;
}

static spec turned_spec(uint32_t rows, uint32_t columns) {
    return (spec){.kind = S2_TRANSPOSITION,
                  .n_in = rows * columns,
                  .n_out = rows * columns,
                  .n_words = 2,
                  .word = {rows, columns}};
}

static void test_activations(void) {
    enum { WIDTH = 41 };
    s2_rng rng;
    s2_rng_seed(&rng, 23, 1);
    float *const x = random_floats(&rng, WIDTH);
    for (uint32_t i = 0; i < WIDTH; i++) {
        x[i] = i == 0 ? 0.0f : i == 1 ? 200.0f : i == 2 ? -200.0f : 7.0f * x[i];
    }
    for (uint32_t function = S2_CLIP; function <= S2_HARD_SWISH; function++) {
        const float a = function == S2_CLIP ? -0.5f : 0.2f, b = function == S2_CLIP ? 6.0f : 0.5f;
        spec layers[] = {activation_spec(WIDTH, function, a, b),
                         dense_spec(S2_IS_TAPPED, WIDTH, 2)};
        blob made;
        new_layered(&made, layers, 2, &rng);
        float *const row = row_of_block(&made, "scalar", x);
        for (uint32_t i = 0; i < WIDTH; i++) {
            const double right = function_of(function, (double)a, (double)b, (double)x[i]);
            check_where("function %u of %g", function, (double)x[i]);
            CHECK_NEAR(row[i], right, 2e-7 * (1 + fabs(right)));
        }
        check_where("");
        free(row);
        free(made.word);
    }
    release_guarded();
}

static void test_transposition(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 24, 1);
    spec layers[] = {turned_spec(3, 5), dense_spec(S2_IS_TAPPED, 15, 2)};
    blob made;
    new_layered(&made, layers, 2, &rng);
    float *const x = random_floats(&rng, 15), *const row = row_of_block(&made, "scalar", x);
    for (uint32_t i = 0; i < 15; i++) {
        CHECK_EQUAL(row[i] == x[i % 3 * 5 + i / 3], 1);
    }
    free(row);
    free(made.word);
    release_guarded();
}

/* One of each kind, one after the other, in a network of nine layers; `flags` of those with weights. */
static uint32_t whole_network(spec *layers, unsigned flags) {
    static const uint32_t first[] = {3, 2, 2, 6, 8, 4, 6, 4, 3, 3, 1, 2, 1, 1, 1, 1, 1};
    static const uint32_t depthwise[] = {2, 2, 4, 6, 4, 4, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1, 4};
    static const uint32_t largest[] = {0, 0, 4, 6, 4, 4, 3, 2, 2, 2, 2, 2, 0, 0, 1, 1, 0};
    static const uint32_t average[] = {0, 0, 4, 3, 2, 4, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1};
    layers[0] = turned_spec(2, 48);
    layers[1] = map_spec(S2_CONVOLUTION, 0, first);
    layers[2] = map_spec(S2_CONVOLUTION, 0, depthwise);
    layers[3] = activation_spec(96, S2_HARD_SWISH, 1.0f / 6.0f, 0.5f);
    layers[4] = map_spec(S2_MAX_POOL, 0, largest);
    layers[5] = map_spec(S2_AVERAGE_POOL, 0, average);
    layers[6] = turned_spec(4, 4);
    layers[7] = dense_spec(S2_HAS_NORM | S2_HAS_RELU, 16, 7);
    layers[8] = dense_spec(0, 7, 3);
    for (uint32_t k = 0; k < 9; k++) {
        layers[k].flags |= layers[k].n_matrices ? flags | S2_IS_TAPPED : 0u;
    }
    return 9;
}

/* The scalar table gives these bits on all machines. */
static void test_bits(unsigned flags, uint32_t expected) {
    s2_rng rng;
    s2_rng_seed(&rng, 25, 1);
    spec layers[MOST_LAYERS];
    blob made;
    const uint32_t n_layers = whole_network(layers, flags);
    new_layered(&made, layers, n_layers, &rng);
    float *const x = random_floats(&rng, 96), *const row = row_of_block(&made, "scalar", x);
    CHECK_EQUAL(s2_crc32(0, row, (12 + 16 + 16 + 7 + 3) * sizeof *row), expected);
    if (flags == 0) {
        check_every_bit(&made);
    }
    free(row);
    free(made.word);
    release_guarded();
}

/* With a right checksum: a word of one layer is another. */
static int is_read(spec *layers, uint32_t n_layers, uint32_t k, uint32_t word, uint32_t value) {
    s2_rng rng;
    s2_rng_seed(&rng, 26, 1);
    blob made;
    new_layered(&made, layers, n_layers, &rng);
    made.word[layers[k].at + word] = value;
    seal(&made, 16);
    s2_model model;
    const s2_status status = s2_model_read(&model, made.word, made.n_words * 4);
    CHECK(status == S2_OK || status == S2_BAD_MODEL);
    free(made.word);
    release_guarded();
    return status == S2_OK;
}

/* Geometry that does not fit the record, the tap or the arrays; what may change is listed. */
static void test_geometry(void) {
    spec layers[MOST_LAYERS];
    const uint32_t n_layers = whole_network(layers, 0);
    static const uint32_t odd[] = {0, 1, 2, 3, 5, 1u << 16, (1u << 29) + 1u, 1u << 31, ~0u};
    for (uint32_t k = 0; k < 7; k++) {
        CHECK(is_read(layers, n_layers, k, 0, layers[k].word[0]));
        for (uint32_t word = 0; word < layers[k].n_words; word++) {
            for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
                const uint32_t was = layers[k].word[word];
                /* where windows begin, how far their places are apart, what an average counts */
                const int is_conv = layers[k].kind == S2_CONVOLUTION;
                const int is_pool = layers[k].n_words == MOST_WORDS && !is_conv;
                const int moves = word >= SH && word <= DW && odd[i] <= 1u << 16;
                const int sizes_kernel = is_pool && (word == KH || word == KW);
                const int counts = layers[k].kind == S2_AVERAGE_POOL && word == OPTION;
                const int is_zero = odd[i] == 0 && word != PT && word != PL;
                const int is_free = ((is_conv || is_pool) && moves && !is_zero) ||
                                    (sizes_kernel && odd[i] > 0 && odd[i] <= 1u << 16) ||
                                    (counts && odd[i] <= 1) || layers[k].kind == S2_ACTIVATION;
                check_where("layer %u, word %u: %u", k, word, odd[i]);
                CHECK(odd[i] == was || is_free || !is_read(layers, n_layers, k, word, odd[i]));
            }
        }
    }
    check_where("");
    const uint32_t infinity = 0x7f800000u;
    CHECK(!is_read(layers, n_layers, 3, 0, 0) && !is_read(layers, n_layers, 3, 0, 7));
    CHECK(!is_read(layers, n_layers, 3, 1, infinity) && !is_read(layers, n_layers, 3, 2, infinity));
}

/* Version 1 has fully connected layers alone, without the flag of a tap. */
static void test_first_version(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 27, 1);
    for (int has_flag = 0; has_flag < 2; has_flag++) {
        spec layers[] = {dense_spec(S2_IS_TAPPED, 5, 4), dense_spec(S2_IS_TAPPED, 4, 2)};
        blob made;
        new_layered(&made, layers, 2, &rng);
        float *const x = random_floats(&rng, 5), *const row = row_of_block(&made, "scalar", x);
        made.word[1] = 1;
        for (uint32_t k = 0; k < 2; k++) {
            made.word[18 + 4 * k + 1] &= has_flag ? ~0u : ~(uint32_t)S2_IS_TAPPED;
        }
        seal(&made, 16);
        s2_model model;
        const s2_status status = s2_model_read(&model, made.word, made.n_words * 4);
        CHECK_EQUAL(status, has_flag ? S2_BAD_MODEL : S2_OK);
        if (!has_flag) {
            float *const same = row_of_block(&made, "scalar", x);
            CHECK_SAME(same, row, (5 + 4 + 2) * sizeof *row);
            CHECK(s2_model_taps_x(&model));
            free(same);
        }
        free(row);
        free(made.word);
    }
    release_guarded();
}

int main(void) {
    test_windows();
    test_pointwise(0);
    test_pointwise(S2_HAS_INT8);
    test_activations();
    test_transposition();
    test_bits(0, 797309564u);
    test_bits(S2_HAS_INT8, 407094037u);
    test_geometry();
    test_first_version();
    return check_report("test_model_maps");
}
