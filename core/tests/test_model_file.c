/* test_model_file.c - a network as a block of bytes: what it gives, and what is refused. */
#include "blob.h"

static void test_crc(void) {
    CHECK_EQUAL(s2_crc32(0, "123456789", 9), 0xcbf43926u);
    CHECK_EQUAL(s2_crc32(s2_crc32(0, "1234", 4), "56789", 5), 0xcbf43926u);
}

/* The row of a block against that of the network; of int8 weights nearly. */
static void test_forward(unsigned kind, double tolerance) {
    s2_rng rng;
    s2_rng_seed(&rng, 7 + kind, 1);
    network of;
    blob made;
    new_blob(&made, &of, kind, &rng);
    s2_model model;
    CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_OK);
    uint32_t offsets[DEPTH];
    s2_row_layout layout;
    CHECK_EQUAL(s2_row_layout_init(&layout, DEPTH, widths, widths[DEPTH], 0, offsets), S2_OK);
    float *const x = random_floats(&rng, widths[0]);
    float *rows = guarded_floats(layout.row_stride), *row = guarded_floats(layout.row_stride);
    memset(rows, 0, layout.row_stride * sizeof *rows);
    memset(row, 0, layout.row_stride * sizeof *row);
    const size_t bytes = s2_net_forward_workspace_bytes(&of.net, 1);
    float *const room = aligned_floats(bytes / sizeof(float));
    const float *const given = x;
    CHECK_EQUAL(s2_net_forward(&of.net, 1, &given, &layout, 0, rows, room, bytes), S2_OK);
    const size_t own_bytes = s2_model_workspace_bytes(&model);
    float *const own = aligned_floats(own_bytes / sizeof(float));
    CHECK_EQUAL(s2_model_forward(&model, of.net.kernels, x, &layout, row, own, own_bytes - 1),
                S2_NO_ROOM);
    CHECK_EQUAL(s2_model_forward(&model, of.net.kernels, x, &layout, row, own, own_bytes), S2_OK);
    for (uint32_t i = 0; i < layout.row_stride; i++) {
        CHECK_NEAR(row[i], rows[i], tolerance * (1 + (double)fabsf(rows[i])));
    }
    if (tolerance == 0) {
        CHECK_SAME(row, rows, layout.row_stride * sizeof *row);
    }
    free(room);
    free(own);
    free(made.word);
    release_guarded();
}

static double derived_by_libm(uint32_t kind, double number, const float *x, uint32_t i) {
    if (kind <= S2_LOG_CENTRED) {
        double mean = 0;
        for (uint32_t j = 0; j < widths[0]; j++) {
            mean += log(fmax((double)x[j], 0) + number) / widths[0];
        }
        return log(fmax((double)x[i], 0) + number) - (kind == S2_LOG ? 0 : mean);
    }
    return pow(fmax(-1, fmin(1, (double)x[i] / number)), kind - 1.0);
}

/* Taps that are computed from the sample stand before the others, which are as they were. */
static void test_derived(unsigned kind) {
    s2_rng rng;
    s2_rng_seed(&rng, 12, 1);
    network of;
    blob made, without;
    s2_rng same = rng;
    new_blob(&made, &of, kind | DERIVED, &rng);
    new_blob(&without, &of, kind, &same);
    s2_model model, plain;
    CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_OK);
    CHECK_EQUAL(s2_model_read(&plain, without.word, without.n_words * 4), S2_OK);
    enum { N_TAPS = N_DERIVED + DEPTH };
    uint32_t tap_width[N_TAPS], offsets[N_TAPS], own_offsets[DEPTH];
    for (uint32_t k = 0; k < N_TAPS; k++) {
        tap_width[k] = model.tap_width[k];
    }
    s2_row_layout layout, own;
    CHECK_EQUAL(s2_row_layout_init(&layout, N_TAPS, tap_width, widths[DEPTH], 0, offsets), S2_OK);
    CHECK_EQUAL(s2_row_layout_init(&own, DEPTH, widths, widths[DEPTH], 0, own_offsets), S2_OK);
    float *const row = aligned_floats(layout.row_stride), *const rest =
                                                              aligned_floats(own.row_stride);
    const size_t bytes = s2_model_workspace_bytes(&model);
    float *const room = aligned_floats(bytes / sizeof(float));
    float *const x = random_floats(&rng, widths[0]);
    for (uint32_t i = 0; i < widths[0]; i++) {
        x[i] *= 6.0f;
    }
    CHECK_EQUAL(s2_model_forward(&model, of.net.kernels, x, &layout, row, room, bytes), S2_OK);
    CHECK_EQUAL(s2_model_forward(&plain, of.net.kernels, x, &own, rest, room, bytes), S2_OK);
    for (uint32_t k = 0; k < N_DERIVED; k++) {
        for (uint32_t i = 0; i < widths[0]; i++) {
            const double expected =
                derived_by_libm(model.derived[k].kind, (double)model.derived[k].number, x, i);
            CHECK_NEAR(row[offsets[k] + i], expected, 1e-6 * (1 + fabs(expected)));
        }
    }
    for (uint32_t k = 0; k < DEPTH; k++) {
        CHECK_SAME(row + offsets[N_DERIVED + k], rest + own_offsets[k], widths[k] * sizeof *row);
    }
    CHECK_SAME(row + layout.logits_offset, rest + own.logits_offset, widths[DEPTH] * sizeof *row);
    free(row);
    free(rest);
    free(room);
    free(made.word);
    free(without.word);
    release_guarded();
}

/* Numbers of derived taps that give NaN or infinity, or have no meaning. */
static void test_bad_derived(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 5, 1);
    network of;
    blob made;
    new_blob(&made, &of, DERIVED, &rng);
    uint32_t *const first = made.word + 16 + N_DERIVED + DEPTH;
    static const float bad[] = {0.0f, -0.0f, -1.0f, 1e-40f, INFINITY, -INFINITY, NAN};
    s2_model model;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(first + 1, &bad[i], sizeof bad[i]);
        seal(&made, 16);
        CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_BAD_MODEL);
    }
    const float good = 1.0f;
    memcpy(first + 1, &good, sizeof good);
    seal(&made, 16);
    CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_OK);
    const uint32_t kinds[] = {0, 6, ~0u};
    for (size_t i = 0; i < 3; i++) {
        first[0] = kinds[i];
        seal(&made, 16);
        CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_BAD_MODEL);
    }
    free(made.word);
    release_guarded();
}

/* Whatever bit is turned over, and wherever the block ends, it is refused and nothing is changed. */
static void test_every_bit(unsigned kind) {
    s2_rng rng;
    s2_rng_seed(&rng, 3, 1);
    network of;
    blob made;
    new_blob(&made, &of, kind, &rng);
    uint8_t *const bytes = (uint8_t *)made.word;
    const size_t n_bytes = made.n_words * 4;
    s2_model model, before;
    memset(&model, 0x5a, sizeof model);
    before = model;
    unsigned accepted = 0, changed = 0;
    for (size_t bit = 0; bit < 8 * n_bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        accepted += s2_model_read(&model, bytes, n_bytes) == S2_OK;
        changed += memcmp(&model, &before, sizeof model) != 0;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t end = 0; end < n_bytes; end++) {
        accepted += s2_model_read(&model, bytes, end) == S2_OK;
        changed += memcmp(&model, &before, sizeof model) != 0;
    }
    CHECK_EQUAL(accepted, 0);
    CHECK_EQUAL(changed, 0);
    CHECK_EQUAL(s2_model_read(&model, bytes, n_bytes + 1),
                S2_OK); /* what is behind is not its own */
    CHECK_EQUAL(s2_model_read(&model, bytes + 1, n_bytes), S2_BAD_VALUE);
    CHECK_EQUAL(s2_model_read(&model, NULL, n_bytes), S2_BAD_VALUE);
    made.word[1] = S2_MODEL_VERSION + 1u;
    CHECK_EQUAL(s2_model_read(&model, bytes, n_bytes), S2_OTHER_VERSION);
    free(made.word);
    release_guarded();
}

/* With a right checksum too: numbers that do not fit together are refused, none is read beyond. */
static void test_sealed_nonsense(unsigned kind) {
    s2_rng rng;
    s2_rng_seed(&rng, 4, 1);
    network of;
    blob made;
    new_blob(&made, &of, kind | INT8 | PROJECTED | ADAPTED, &rng);
    const uint32_t n_derived = kind & DERIVED ? N_DERIVED : 0;
    const uint32_t of_derived = 16 + DEPTH + n_derived, of_layers = of_derived + 2 * n_derived;
    const uint32_t n_bytes = made.n_words * 4, n_numbers = of_layers + 4 * DEPTH;
    static const uint32_t odd[] = {0, 1, 2, 3, 31, 33, 65, 255, 1u << 24, 1u << 30, 1u << 31, ~0u};
    unsigned accepted = 0;
    for (uint32_t at = 4; at < n_numbers; at++) {
        const uint32_t was = made.word[at];
        for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
            made.word[at] = odd[i];
            seal(&made, 16);
            s2_model model;
            const s2_status status = s2_model_read(&model, made.word, n_bytes);
            /* eps, which derived tap it is, and its number */
            const int is_free = at == 11 || (at >= of_derived && at < of_layers);
            const int is_flag = at >= of_layers && (at - of_layers) % 4 == 1;
            accepted += status == S2_OK && odd[i] != was && !is_free && !is_flag;
        }
        made.word[at] = was;
    }
    CHECK_EQUAL(accepted, 0);
    free(made.word);
    release_guarded();
}

int main(void) {
    test_crc();
    test_forward(0, 0);
    test_forward(INT8, 1e-5);
    test_every_bit(0);
    test_every_bit(INT8 | PROJECTED | ADAPTED);
    test_every_bit(TAPS_ALONE | PROJECTED);
    test_every_bit(DERIVED | ADAPTED);
    test_derived(0);
    test_derived(INT8);
    test_bad_derived();
    test_sealed_nonsense(0);
    test_sealed_nonsense(DERIVED);
    return check_report("test_model_file");
}
