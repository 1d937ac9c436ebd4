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
    made.word[1] = 2;
    CHECK_EQUAL(s2_model_read(&model, bytes, n_bytes), S2_OTHER_VERSION);
    free(made.word);
    release_guarded();
}

/* With a right checksum too: numbers that do not fit together are refused, none is read beyond. */
static void test_sealed_nonsense(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 4, 1);
    network of;
    blob made;
    new_blob(&made, &of, INT8 | PROJECTED | ADAPTED, &rng);
    const uint32_t n_bytes = made.n_words * 4, n_numbers = 16 + DEPTH + 4 * DEPTH;
    static const uint32_t odd[] = {0, 1, 2, 3, 31, 33, 65, 255, 1u << 24, 1u << 30, 1u << 31, ~0u};
    unsigned accepted = 0;
    for (uint32_t at = 4; at < n_numbers; at++) {
        const uint32_t was = made.word[at];
        for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
            made.word[at] = odd[i];
            seal(&made, 16);
            s2_model model;
            const s2_status status = s2_model_read(&model, made.word, n_bytes);
            const int is_free = (at >= 11 && at < 16); /* eps, and what has no meaning yet */
            const int is_flag = at >= 16 + DEPTH && (at - 16 - DEPTH) % 4 == 1;
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
    test_sealed_nonsense();
    return check_report("test_model_file");
}
