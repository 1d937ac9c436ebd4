/* test_model_recurrent.c - GRU and LSTM of a block against their equations in double, by each kernel
 * table; their bits by the scalar table; what is refused. */
#include "layered.h"

enum { STEPS, WIDTH, HIDDEN, WHOLE, RESET_BEFORE, N_RECURRENT };
enum { MOST_HIDDEN = 24 };

static const char *const tables[] = {"scalar", "x86-64-v3", "x86-64-v4", "neon", "simd128"};

static spec recurrent_spec(uint32_t kind, unsigned flags, const uint32_t *word) {
    const uint32_t gates = (kind == S2_LSTM ? 4u : 3u) * word[HIDDEN];
    spec of = {.kind = kind,
               .flags = flags | S2_IS_TAPPED,
               .n_in = word[STEPS] * word[WIDTH],
               .n_out = (word[WHOLE] ? word[STEPS] : 1u) * word[HIDDEN],
               .tap_width = 2 * word[WIDTH],
               .n_words = N_RECURRENT,
               .n_matrices = 2,
               .depth = {word[WIDTH], word[HIDDEN]},
               .cols = gates,
               .n_vectors = 2};
    memcpy(of.word, word, N_RECURRENT * sizeof *word);
    return of;
}

static double logistic(double x) {
    return 1 / (1 + exp(-x));
}

/* Of gate column o: what the input gives, and what the state gives. */
static double gate(const blob *made, const spec *of, uint32_t m, uint32_t o, const double *from) {
    double sum = vector_at(made, of, m, o);
    for (uint32_t i = 0; i < of->depth[m]; i++) {
        sum += from[i] * weight_at(made, of, m, i, o);
    }
    return sum;
}

static void gru(const blob *made, const spec *of, const double *x, double *h) {
    const uint32_t hidden = of->word[HIDDEN];
    double reset[MOST_HIDDEN], r[MOST_HIDDEN], next[MOST_HIDDEN];
    for (uint32_t i = 0; i < hidden; i++) {
        const uint32_t o = hidden + i;
        r[i] = logistic(gate(made, of, 0, o, x) + gate(made, of, 1, o, h));
        reset[i] = r[i] * h[i];
    }
    for (uint32_t i = 0; i < hidden; i++) {
        const uint32_t o = 2 * hidden + i;
        const double z = logistic(gate(made, of, 0, i, x) + gate(made, of, 1, i, h));
        const double inner =
            of->word[RESET_BEFORE] ? gate(made, of, 1, o, reset) : r[i] * gate(made, of, 1, o, h);
        next[i] = (1 - z) * tanh(gate(made, of, 0, o, x) + inner) + z * h[i];
    }
    memcpy(h, next, hidden * sizeof *h);
}

static void lstm(const blob *made, const spec *of, const double *x, double *h, double *cell) {
    const uint32_t hidden = of->word[HIDDEN];
    double sum[4 * MOST_HIDDEN];
    for (uint32_t o = 0; o < 4 * hidden; o++) {
        sum[o] = gate(made, of, 0, o, x) + gate(made, of, 1, o, h);
    }
    for (uint32_t i = 0; i < hidden; i++) {
        const double in = logistic(sum[i]), out = logistic(sum[hidden + i]);
        cell[i] = logistic(sum[2 * hidden + i]) * cell[i] + in * tanh(sum[3 * hidden + i]);
        h[i] = out * tanh(cell[i]);
    }
}

/* The layer before a fully connected one, whose tap is what it gives. */
static void check_recurrent(uint32_t kind, unsigned flags, const uint32_t *word) {
    s2_rng rng;
    s2_rng_seed(&rng, 31, 1);
    const spec of = recurrent_spec(kind, flags, word);
    spec layers[] = {of, dense_spec(S2_IS_TAPPED, of.n_out, 2)};
    blob made;
    new_layered(&made, layers, 2, &rng);
    float *const x = random_floats(&rng, of.n_in);
    const uint32_t width = word[WIDTH], hidden = word[HIDDEN];
    double h[MOST_HIDDEN] = {0}, cell[MOST_HIDDEN] = {0}, step[MOST_HIDDEN],
           mean[MOST_HIDDEN] = {0};
    double *const right = malloc(of.n_out * sizeof *right);
    for (uint32_t s = 0; s < word[STEPS]; s++) {
        for (uint32_t i = 0; i < width; i++) {
            step[i] = (double)x[s * width + i];
            mean[i] += step[i] / word[STEPS];
        }
        if (kind == S2_GRU) {
            gru(&made, &layers[0], step, h);
        } else {
            lstm(&made, &layers[0], step, h, cell);
        }
        memcpy(right + (word[WHOLE] ? s * hidden : 0), h, hidden * sizeof *h);
    }
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (s2_kernels_choose(tables[t]) == NULL) {
            continue;
        }
        float *const row = row_of_block(&made, tables[t], x);
        for (uint32_t i = 0; i < width; i++) {
            CHECK_NEAR(row[i], mean[i], 1e-6);
            CHECK(row[width + i] == x[i]);
        }
        for (uint32_t i = 0; i < of.n_out; i++) {
            CHECK_NEAR(row[2 * width + i], right[i], 2e-6);
        }
        free(row);
    }
    free(right);
    free(made.word);
    release_guarded();
}

static void test_recurrent(void) {
    static const uint32_t shapes[][3] = {{1, 1, 1}, {7, 3, 5}, {12, 16, 16}, {5, 10, 24}};
    for (uint32_t round = 0; round < 4 * 2 * 2 * 3; round++) {
        const uint32_t *shape = shapes[round % 4], kind = round / 16 < 2 ? S2_GRU : S2_LSTM;
        const uint32_t word[] = {shape[0], shape[1], shape[2], round / 4 % 2, round / 16 == 1};
        check_where("kind %u, round %u", kind, round);
        check_recurrent(kind, round / 8 % 2 ? S2_HAS_INT8 : 0, word);
    }
    check_where("");
}

/* The scalar table gives these bits on all machines; every bit of a block counts. */
static void test_bits(void) {
    static const uint32_t first[] = {6, 3, 4, 1, 1}, second[] = {6, 4, 5, 0, 0};
    s2_rng rng;
    s2_rng_seed(&rng, 32, 1);
    spec layers[] = {recurrent_spec(S2_GRU, 0, first), recurrent_spec(S2_LSTM, S2_HAS_INT8, second),
                     dense_spec(S2_IS_TAPPED, 5, 2)};
    blob made;
    new_layered(&made, layers, 3, &rng);
    float *const x = random_floats(&rng, 18), *const row = row_of_block(&made, "scalar", x);
    CHECK_EQUAL(s2_crc32(0, row, (6 + 8 + 5 + 2) * sizeof *row), 768065516u);
    check_every_bit(&made);
    free(row);
    free(made.word);
    release_guarded();
}

/* With a right checksum: numbers that do not fit together. */
static void test_words(void) {
    static const uint32_t words[] = {6, 3, 4, 1, 1}, odd[] = {0, 2, 3, 7, 1u << 24, 1u << 31, ~0u};
    for (uint32_t kind = S2_GRU; kind <= S2_LSTM; kind++) {
        for (uint32_t word = 0; word < N_RECURRENT; word++) {
            for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
                s2_rng rng;
                s2_rng_seed(&rng, 33, 1);
                spec layers[] = {recurrent_spec(kind, 0, words), dense_spec(S2_IS_TAPPED, 24, 2)};
                layers[0].word[RESET_BEFORE] = kind == S2_GRU;
                blob made;
                new_layered(&made, layers, 2, &rng);
                uint32_t *const at = made.word + layers[0].at + word;
                const int is_free = kind == S2_GRU && word == RESET_BEFORE && odd[i] == 0;
                const int is_same = *at == odd[i];
                *at = odd[i];
                seal(&made, 16);
                s2_model model;
                const s2_status status = s2_model_read(&model, made.word, made.n_words * 4);
                check_where("kind %u, word %u: %u", kind, word, odd[i]);
                CHECK_EQUAL(status, is_free || is_same ? S2_OK : S2_BAD_MODEL);
                free(made.word);
                release_guarded();
            }
        }
    }
    check_where("");
}

int main(void) {
    test_recurrent();
    test_bits();
    test_words();
    return check_report("test_model_recurrent");
}
