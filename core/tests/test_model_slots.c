/* test_model_slots.c - branches that meet again, of a block, against sums in double, by each kernel
 * table; their bits by the scalar table; what is refused. */
#include "layered.h"

enum { WIDTH = 6, OTHER = 9, OUTPUTS = 3 };

static const char *const tables[] = {"scalar", "x86-64-v3", "x86-64-v4", "neon", "simd128"};

/* Numbers in a layer's place, in double. */
typedef struct {
    double at[OTHER];
} numbers;

static numbers product(const blob *made, const spec *of, const numbers *x) {
    numbers y = {{0}};
    for (uint32_t o = 0; o < of->n_out; o++) {
        y.at[o] = vector_at(made, of, 0, o);
        for (uint32_t i = 0; i < of->n_in; i++) {
            y.at[o] += x->at[i] * weight_at(made, of, 0, i, o);
        }
        y.at[o] = of->flags & S2_HAS_RELU ? fmax(0, y.at[o]) : y.at[o];
    }
    return y;
}

static numbers sum(const numbers *one, const numbers *other, int has_relu) {
    numbers y;
    for (uint32_t i = 0; i < OTHER; i++) {
        y.at[i] = one->at[i] + other->at[i];
        y.at[i] = has_relu ? fmax(0, y.at[i]) : y.at[i];
    }
    return y;
}

/* One block of which the shortcut is what it reads, around one whose shortcut is a layer: two slots
 * at once, of which the second holds OTHER numbers while WIDTH go on. */
static uint32_t nested(spec *layers, unsigned flags, unsigned after) {
    layers[0] = dense_spec(S2_HAS_RELU, WIDTH, WIDTH);
    layers[1] = slot_spec(S2_SAVE, 1, WIDTH, WIDTH);
    layers[2] = dense_spec(0, WIDTH, WIDTH);
    layers[3] = slot_spec(S2_SAVE, 7, WIDTH, WIDTH);
    layers[4] = dense_spec(S2_HAS_RELU, WIDTH, OTHER);
    layers[5] = slot_spec(S2_EXCHANGE, 7, OTHER, WIDTH);
    layers[6] = dense_spec(0, WIDTH, OTHER);
    layers[7] = slot_spec(S2_ADD, 7, OTHER, OTHER);
    layers[8] = dense_spec(0, OTHER, WIDTH);
    layers[9] = slot_spec(S2_ADD, 1, WIDTH, WIDTH);
    layers[10] = dense_spec(0, WIDTH, OUTPUTS);
    for (uint32_t k = 0; k < 11; k++) {
        layers[k].flags |= layers[k].n_matrices ? flags | S2_IS_TAPPED : 0u;
        layers[k].flags |= layers[k].kind == S2_ADD ? after : 0u;
    }
    return 11;
}

enum { N_TAPS = 6, ROW = 5 * WIDTH + OTHER + OUTPUTS };

/* All taps and the logits, one after the other. */
static void expected_row(const blob *made, const spec *of, unsigned after, const float *x,
                         double *row) {
    numbers first = {{0}};
    for (uint32_t i = 0; i < WIDTH; i++) {
        first.at[i] = (double)x[i];
    }
    const numbers outer = product(made, &of[0], &first), inner = product(made, &of[2], &outer);
    const numbers one = product(made, &of[4], &inner), other = product(made, &of[6], &inner);
    const numbers both = sum(&one, &other, after != 0), back = product(made, &of[8], &both);
    const numbers end = sum(&back, &outer, after != 0), logits = product(made, &of[10], &end);
    const numbers *const parts[] = {&first, &outer, &inner, &inner, &both, &end, &logits};
    static const uint32_t wide[] = {WIDTH, WIDTH, WIDTH, WIDTH, OTHER, WIDTH, OUTPUTS};
    for (uint32_t k = 0; k <= N_TAPS; k++) {
        memcpy(row, parts[k]->at, wide[k] * sizeof *row);
        row += wide[k];
    }
}

static void test_nested(unsigned flags, unsigned after) {
    s2_rng rng;
    s2_rng_seed(&rng, 41, 1);
    spec layers[MOST_LAYERS];
    blob made;
    new_layered(&made, layers, nested(layers, flags, after), &rng);
    float *const x = random_floats(&rng, WIDTH);
    double expected[ROW];
    expected_row(&made, layers, after, x, expected);
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (s2_kernels_choose(tables[t]) == NULL) {
            continue;
        }
        float *const row = row_of_block(&made, tables[t], x);
        for (uint32_t i = 0; i < ROW; i++) {
            check_where("%s, flags %u, number %u", tables[t], flags | after, i);
            CHECK_NEAR(row[i], expected[i], 1e-5);
        }
        free(row);
    }
    check_where("");
    free(made.word);
    release_guarded();
}

/* The scalar table gives these bits on all machines; every bit of a block counts. */
static void test_bits(unsigned flags, uint32_t expected) {
    s2_rng rng;
    s2_rng_seed(&rng, 42, 1);
    spec layers[MOST_LAYERS];
    blob made;
    new_layered(&made, layers, nested(layers, flags, S2_HAS_RELU), &rng);
    float *const x = random_floats(&rng, WIDTH), *const row = row_of_block(&made, "scalar", x);
    CHECK_EQUAL(s2_crc32(0, row, ROW * sizeof *row), expected);
    check_every_bit(&made);
    free(row);
    free(made.word);
    release_guarded();
}

/* ---- refused --------------------------------------------------------------------------------- */

/* With a right checksum: whether these layers are read, as a block of that version. */
static int is_read(spec *layers, uint32_t n_layers, uint32_t version) {
    s2_rng rng;
    s2_rng_seed(&rng, 43, 1);
    blob made;
    new_layered(&made, layers, n_layers, &rng);
    made.word[1] = version;
    seal(&made, 16);
    s2_model model, before;
    memset(&model, 0x5a, sizeof model);
    before = model;
    const s2_status status = s2_model_read(&model, made.word, made.n_words * 4);
    CHECK(status == S2_OK || status == S2_BAD_MODEL);
    if (status != S2_OK) {
        CHECK_SAME(&model, &before, sizeof model);
    }
    free(made.word);
    release_guarded();
    return status == S2_OK;
}

/* Slots that are used in another order, hold another width, or that there are not. */
static void test_forged(void) {
    spec good[MOST_LAYERS], bad[MOST_LAYERS];
    const uint32_t n_layers = nested(good, 0, 0);
    CHECK(is_read(good, n_layers, 3));
    CHECK(!is_read(good, n_layers, 2) && !is_read(good, n_layers, 1));
    for (uint32_t k = 0; k < n_layers; k++) {
        if (good[k].n_words == 0) {
            continue;
        }
        for (uint32_t number = 0; number < S2_MODEL_MAX_SLOTS + 3; number++) {
            memcpy(bad, good, sizeof bad);
            bad[k].word[0] = number == S2_MODEL_MAX_SLOTS + 2 ? ~0u : number;
            check_where("layer %u, slot %u", k, number);
            CHECK_EQUAL(is_read(bad, n_layers, 3), number == good[k].word[0]);
        }
        for (uint32_t kind = 0; kind < S2_ADD + 3u; kind++) {
            memcpy(bad, good, sizeof bad);
            bad[k].kind = kind;
            check_where("layer %u, kind %u", k, kind);
            CHECK_EQUAL(is_read(bad, n_layers, 3), kind == good[k].kind);
        }
        for (uint32_t flag = 1; flag <= 16; flag *= 2) {
            memcpy(bad, good, sizeof bad);
            bad[k].flags |= flag;
            bad[k].tap_width = bad[k].n_in;
            check_where("layer %u, flag %u", k, flag);
            CHECK_EQUAL(is_read(bad, n_layers, 3), good[k].kind == S2_ADD && flag == S2_HAS_RELU);
        }
    }
    check_where("");
}

/* Widths that do not fit what is in the slot. */
static void test_widths(void) {
    spec wide[] = {slot_spec(S2_SAVE, 0, WIDTH, WIDTH), dense_spec(S2_IS_TAPPED, WIDTH, OTHER),
                   slot_spec(S2_ADD, 0, OTHER, OTHER), dense_spec(S2_IS_TAPPED, OTHER, OUTPUTS)};
    CHECK(!is_read(wide, 4, 3));
    spec copied[] = {slot_spec(S2_SAVE, 0, WIDTH, OTHER), dense_spec(S2_IS_TAPPED, OTHER, OUTPUTS)};
    CHECK(!is_read(copied, 2, 3));
    spec other[] = {
        slot_spec(S2_SAVE, 0, WIDTH, WIDTH),     dense_spec(S2_IS_TAPPED, WIDTH, WIDTH),
        slot_spec(S2_EXCHANGE, 0, WIDTH, OTHER), dense_spec(S2_IS_TAPPED, OTHER, WIDTH),
        slot_spec(S2_ADD, 0, WIDTH, WIDTH),      dense_spec(S2_IS_TAPPED, WIDTH, OUTPUTS)};
    CHECK(!is_read(other, 6, 3));
    other[2].n_out = WIDTH;
    other[3] = dense_spec(S2_IS_TAPPED, WIDTH, WIDTH);
    CHECK(is_read(other, 6, 3));
    spec left[] = {slot_spec(S2_SAVE, 0, WIDTH, WIDTH), dense_spec(S2_IS_TAPPED, WIDTH, OUTPUTS)};
    CHECK(!is_read(left, 2, 3));
}

/* What is in a slot is not lost under another. */
static void test_full(void) {
    spec twice[] = {slot_spec(S2_SAVE, 0, WIDTH, WIDTH), slot_spec(S2_SAVE, 0, WIDTH, WIDTH),
                    dense_spec(S2_IS_TAPPED, WIDTH, WIDTH), slot_spec(S2_ADD, 0, WIDTH, WIDTH),
                    dense_spec(S2_IS_TAPPED, WIDTH, OUTPUTS)};
    CHECK(!is_read(twice, 5, 3));
    spec two[] = {twice[0], slot_spec(S2_SAVE, 1, WIDTH, WIDTH), twice[2],
                  twice[3], slot_spec(S2_ADD, 1, WIDTH, WIDTH),  twice[4]};
    CHECK(is_read(two, 6, 3));
}

int main(void) {
    for (unsigned flags = 0; flags <= S2_HAS_INT8; flags += S2_HAS_INT8) {
        test_nested(flags, 0);
        test_nested(flags, S2_HAS_RELU);
    }
    test_bits(0, 2824119066u);
    test_bits(S2_HAS_INT8, 2619306136u);
    test_forged();
    test_widths();
    test_full();
    return check_report("test_model_slots");
}
