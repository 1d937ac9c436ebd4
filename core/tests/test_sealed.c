/* test_sealed.c - blocks with a right checksum and random nonsense inside: refused, or run to the end
 * within their bytes (the sanitizers watch). */
#include "layered.h"

#include "skip2_device_solve.h"

enum { TRIALS = 4000, SAMPLES = 6, MOST_BYTES = 1 << 22 };

static const unsigned kinds[] = {0, INT8, PROJECTED | ADAPTED, INT8 | ADAPTED,
                                 TAPS_ALONE | PROJECTED};

/* A network with maps, one with sequences, one with branches. */
static void new_maps(blob *made, s2_rng *rng) {
    static const uint32_t first[] = {3, 2, 2, 5, 6, 4, 5, 3, 3, 3, 1, 2, 1, 1, 1, 1, 1};
    static const uint32_t depthwise[] = {1, 1, 4, 5, 3, 4, 5, 3, 3, 3, 1, 1, 1, 1, 1, 1, 4};
    static const uint32_t average[] = {0, 0, 4, 5, 3, 4, 2, 1, 2, 2, 2, 2, 0, 0, 1, 1, 1};
    spec layers[] = {
        map_spec(S2_CONVOLUTION, S2_IS_TAPPED | S2_HAS_RELU, first),
        map_spec(S2_CONVOLUTION, S2_IS_TAPPED | S2_HAS_INT8, depthwise),
        {.kind = S2_ACTIVATION, .n_in = 60, .n_out = 60, .n_words = 3, .word = {3}},
        map_spec(S2_AVERAGE_POOL, 0, average),
        {.kind = S2_TRANSPOSITION, .n_in = 8, .n_out = 8, .n_words = 2, .word = {2, 4}},
        dense_spec(S2_IS_TAPPED | S2_HAS_NORM, 8, 3)};
    new_layered(made, layers, 6, rng);
}

static void new_sequence(blob *made, s2_rng *rng) {
    spec layers[] = {{.kind = S2_GRU,
                      .flags = S2_IS_TAPPED,
                      .n_in = 6 * 3,
                      .n_out = 6 * 4,
                      .tap_width = 6,
                      .n_words = 5,
                      .word = {6, 3, 4, 1, 1},
                      .n_matrices = 2,
                      .depth = {3, 4},
                      .cols = 12,
                      .n_vectors = 2},
                     {.kind = S2_LSTM,
                      .flags = S2_IS_TAPPED | S2_HAS_INT8,
                      .n_in = 6 * 4,
                      .n_out = 5,
                      .tap_width = 8,
                      .n_words = 5,
                      .word = {6, 4, 5, 0, 0},
                      .n_matrices = 2,
                      .depth = {4, 5},
                      .cols = 20,
                      .n_vectors = 2},
                     dense_spec(S2_IS_TAPPED, 5, 3)};
    new_layered(made, layers, 3, rng);
}

static void new_branches(blob *made, s2_rng *rng) {
    spec layers[] = {slot_spec(S2_SAVE, 2, 7, 7),     dense_spec(S2_IS_TAPPED | S2_HAS_RELU, 7, 9),
                     slot_spec(S2_EXCHANGE, 2, 9, 7), dense_spec(S2_IS_TAPPED | S2_HAS_INT8, 7, 9),
                     slot_spec(S2_ADD, 2, 9, 9),      dense_spec(S2_IS_TAPPED, 9, 3)};
    layers[4].flags = S2_HAS_RELU;
    new_layered(made, layers, 6, rng);
}

static s2_status own_taps(void *context, const float *x, float *const *taps, float *base_logits) {
    const s2_model *model = context;
    for (uint32_t k = 0; k < model->n_taps; k++) {
        for (uint32_t i = 0; i < model->tap_width[k]; i++) {
            taps[k][i] = x[0] + (float)(i % 7);
        }
    }
    memset(base_logits, 0, model->n_outputs * sizeof *base_logits);
    return S2_OK;
}

static void train(s2_device *device, s2_rng *rng) {
    const uint32_t width = device->model->n_features;
    float *const x = malloc(((size_t)width + 1) * sizeof(float));
    float *const logits = malloc(device->model->n_outputs * sizeof(float));
    for (uint32_t s = 0; s < SAMPLES; s++) {
        for (uint32_t i = 0; i <= width; i++) {
            x[i] = random_unit(rng);
        }
        (void)s2_device_add_sample(device, x, (int32_t)(s & 1u));
    }
    s2_epoch_stats stats;
    (void)s2_device_train_epoch(device, &stats);
    (void)s2_device_predict(device, x, logits);
    const size_t bytes = s2_device_solve_bytes(device, device->n_samples);
    if (device->n_samples > 0 && bytes < MOST_BYTES) {
        s2_dual_report report;
        float *const room = aligned_floats(bytes / sizeof(float));
        (void)s2_device_solve(device, 0.001, &report, room, bytes);
        free(room);
    }
    free(x);
    free(logits);
}

/* Whether a device could begin with it. */
static int try_it(const s2_model *model, s2_rng *rng) {
    const s2_device_options options = {.capacity = 1 + s2_rng_below(rng, 7),
                                       .rows = (s2_row_type)s2_rng_below(rng, 3),
                                       .when_full = S2_OVERWRITE_OLDEST,
                                       .has_bias = 1,
                                       .rank = model->rank == 0 ? 1 + s2_rng_below(rng, 5) : 0,
                                       .batch_size = 1 + s2_rng_below(rng, 5),
                                       .learning_rate = 0.01,
                                       .taps = model->n_layers == 0 ? own_taps : NULL,
                                       .taps_context = (void *)model};
    const size_t bytes = s2_device_bytes(model, &options);
    if (bytes >= MOST_BYTES || model->n_outputs < 2 || model->n_features > MOST_BYTES / 64) {
        return 0;
    }
    s2_device device;
    float *const arena = aligned_floats(bytes / sizeof(float));
    const s2_status status = s2_device_init(&device, model, &options, arena, bytes);
    if (status == S2_OK) {
        train(&device, rng);
    }
    free(arena);
    return status == S2_OK;
}

static uint32_t odd_word(s2_rng *rng, uint32_t was) {
    static const uint32_t odd[] = {0,        1,        2,           3,           7,
                                   33,       255,      0x7fc00000u, 0xff800000u, 0x7f7fffffu,
                                   1u << 24, 1u << 30, 1u << 31,    ~0u};
    const uint32_t n_odd = (uint32_t)(sizeof odd / sizeof odd[0]),
                   which = s2_rng_below(rng, n_odd + 2);
    return which < n_odd    ? odd[which]
           : which == n_odd ? was + 1u
                            : was ^ 1u << s2_rng_below(rng, 32);
}

/* Some words of the head or the tables are others, or of all; the block may end elsewhere. */
static void spoil(blob *of, s2_rng *rng) {
    const uint32_t n_words = of->n_words, changes = 1 + s2_rng_below(rng, 3);
    for (uint32_t c = 0; c < changes; c++) {
        const uint32_t most = s2_rng_below(rng, 4) == 0 ? n_words : 16 + 14 * DEPTH;
        const uint32_t at = 4 + s2_rng_below(rng, (most < n_words ? most : n_words) - 4);
        of->word[at] = odd_word(rng, of->word[at]);
    }
    if (s2_rng_below(rng, 8) == 0) {
        of->n_words = 16 + s2_rng_below(rng, n_words - 15);
    }
}

static void try_spoilt(const blob *made, s2_rng *rng, unsigned *refused, unsigned *ran) {
    for (unsigned trial = 0; trial < TRIALS; trial++) {
        blob spoilt = {malloc(made->n_words * sizeof(uint32_t)), made->n_words};
        memcpy(spoilt.word, made->word, made->n_words * sizeof(uint32_t));
        spoil(&spoilt, rng);
        seal(&spoilt, 16);
        blob exact = {malloc(spoilt.n_words * sizeof(uint32_t)), spoilt.n_words};
        memcpy(exact.word, spoilt.word, exact.n_words * sizeof(uint32_t));
        s2_model model;
        if (s2_model_read(&model, exact.word, exact.n_words * sizeof(uint32_t)) == S2_OK) {
            *ran += (unsigned)try_it(&model, rng);
        } else {
            (*refused)++;
        }
        free(spoilt.word);
        free(exact.word);
    }
}

int main(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 5, 1);
    enum { PLAIN = sizeof kinds / sizeof kinds[0] };
    for (size_t i = 0; i < PLAIN + 3; i++) {
        unsigned refused = 0, ran = 0;
        network of;
        blob made;
        if (i < PLAIN) {
            new_blob(&made, &of, kinds[i], &rng);
        } else if (i == PLAIN) {
            new_maps(&made, &rng);
        } else if (i == PLAIN + 1) {
            new_sequence(&made, &rng);
        } else {
            new_branches(&made, &rng);
        }
        try_spoilt(&made, &rng, &refused, &ran);
        check_where("kind %u", (unsigned)i);
        CHECK(refused > TRIALS / 5);
        CHECK(ran > TRIALS / 20);
        free(made.word);
        release_guarded();
    }
    return check_report("test_sealed");
}
