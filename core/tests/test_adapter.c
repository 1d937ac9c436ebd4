/* test_adapter.c - skip adapters: packing, Eq. 17, and the fused step of Algorithm 1. */
#include "guard.h"

enum { MOST_TAPS = 3, MOST_SAMPLES = 70, MOST_OUTPUTS = 40 };

static uint32_t n_outputs = 6; /* few: samples in lanes; many: classes in lanes */

typedef struct {
    s2_row_layout layout;
    uint32_t tap_width[MOST_TAPS], tap_offset[MOST_TAPS];
    const float *x[MOST_SAMPLES]; /* each in a buffer of its own: nothing follows the last float */
    const float *row[MOST_SAMPLES];
    int32_t *label;
} problem;

static const uint32_t tap_widths[MOST_TAPS] = {33, 17, 8};

/* Tap 0 is the sample itself. The padding of the rows stays NaN. */
static void new_problem(problem *made, const uint32_t *widths, uint32_t count, s2_rng *rng) {
    memcpy(made->tap_width, widths, sizeof made->tap_width);
    CHECK_EQUAL(s2_row_layout_init(&made->layout, MOST_TAPS, made->tap_width, n_outputs, 1,
                                   made->tap_offset),
                S2_OK);
    for (uint32_t s = 0; s < count; s++) {
        float *row = guarded_floats(made->layout.row_stride);
        for (uint32_t k = 1; k < MOST_TAPS; k++) {
            fill_random(rng, row + made->tap_offset[k], widths[k]);
        }
        fill_random(rng, row + made->layout.logits_offset, n_outputs);
        made->row[s] = row;
        made->x[s] = random_floats(rng, widths[0]);
    }
    made->label = random_labels(rng, count, n_outputs);
}

static s2_batch batch_of(const problem *from, uint32_t first, uint32_t count) {
    return (s2_batch){.count = count,
                      .x = from->x + first,
                      .row = from->row + first,
                      .label = from->label + first};
}

/* lora_b random, or its gradient and that of lora_a would prove nothing. */
static s2_adapter new_adapter(const s2_kernels *kernels, const problem *of, uint32_t rank,
                              s2_rng *rng) {
    s2_adapter adapter = {.kernels = kernels, .layout = &of->layout, .rank = rank};
    adapter.packed = aligned_floats(s2_adapter_floats(&of->layout, rank, 0));
    for (uint32_t k = 0; k < of->layout.n_taps; k++) {
        const float *lora_a = random_floats(rng, of->tap_width[k] * rank);
        const float *lora_b = random_floats(rng, rank * of->layout.n_outputs);
        s2_adapter_pack(&adapter, k, lora_a, lora_b);
    }
    return adapter;
}

static void *new_workspace(const s2_adapter *adapter, uint32_t count, size_t *bytes) {
    *bytes = s2_adapter_workspace_bytes(adapter, count);
    CHECK_EQUAL(*bytes % S2_ALIGN, 0);
    return guarded(*bytes);
}

static void test_rank(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 1, 3);
    problem small;
    new_problem(&small, tap_widths, 1, &rng);
    CHECK_EQUAL(s2_adapter_check(&small.layout, 0), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_adapter_check(&small.layout, 1), S2_OK);
    CHECK_EQUAL(s2_adapter_check(&small.layout, 33), S2_OK); /* the widest tap */
    CHECK_EQUAL(s2_adapter_check(&small.layout, 34), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_adapter_check(&small.layout, UINT32_MAX), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_adapter_floats(&small.layout, 4, 0), 4 * (48 + 32 + 16) + 3 * 4 * n_outputs);
    release_guarded();
}

/* Each tap keeps its own values when the others are packed after it. */
static void test_pack_round_trip(void) {
    static const uint32_t widths[] = {1, 2, 3, 5, 7, 9, 15, 17, 33};
    s2_rng rng;
    s2_rng_seed(&rng, 2, 3);
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        for (uint32_t rank = 1; rank <= 9 && rank <= widths[i]; rank++) {
            const uint32_t tap_width[] = {widths[i], widths[i] + 1, widths[i]};
            const uint32_t outputs = 1 + rank % 3;
            uint32_t offset[3];
            s2_row_layout layout;
            CHECK_EQUAL(s2_row_layout_init(&layout, 3, tap_width, outputs, 1, offset), S2_OK);
            s2_adapter adapter = {.layout = &layout, .rank = rank};
            adapter.packed = aligned_floats(s2_adapter_floats(&layout, rank, 0));
            const float *lora_a[3], *lora_b[3];
            for (uint32_t k = 0; k < 3; k++) {
                lora_a[k] = random_floats(&rng, tap_width[k] * rank);
                lora_b[k] = random_floats(&rng, rank * outputs);
                s2_adapter_pack(&adapter, k, lora_a[k], lora_b[k]);
            }
            for (uint32_t k = 0; k < 3; k++) {
                float *a = guarded_floats(tap_width[k] * rank), *b = guarded_floats(rank * outputs);
                s2_adapter_unpack(&adapter, k, a, b);
                CHECK_SAME(a, lora_a[k], tap_width[k] * rank * sizeof *a);
                CHECK_SAME(b, lora_b[k], rank * outputs * sizeof *b);
            }
            free(adapter.packed);
            release_guarded();
        }
    }
}

static void test_init(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 3, 3);
    problem small;
    new_problem(&small, tap_widths, 9, &rng);
    s2_adapter one = new_adapter(kernels, &small, 5, &rng);
    s2_adapter other = new_adapter(kernels, &small, 5, &rng);
    const size_t bytes = s2_adapter_floats(&small.layout, 5, 0) * sizeof(float);
    s2_adapter_init(&one, 11);
    s2_adapter_init(&other, 12);
    CHECK(memcmp(one.packed, other.packed, bytes) != 0);
    s2_adapter_init(&other, 11);
    CHECK_SAME(other.packed, one.packed, bytes);
    for (uint32_t k = 0; k < MOST_TAPS; k++) {
        const uint32_t size = small.tap_width[k] * 5;
        float *lora_a = guarded_floats(size), *lora_b = guarded_floats(5 * n_outputs);
        s2_adapter_unpack(&one, k, lora_a, lora_b);
        const float bound = 1.0f / sqrtf((float)small.tap_width[k]);
        float most = 0.0f, least = 0.0f;
        for (uint32_t i = 0; i < size; i++) {
            most = fmaxf(most, lora_a[i]);
            least = fminf(least, lora_a[i]);
        }
        CHECK(most <= bound && most > 0.8f * bound);
        CHECK(least >= -bound && least < -0.8f * bound);
        for (uint32_t i = 0; i < 5 * n_outputs; i++) {
            CHECK(lora_b[i] == 0.0f);
        }
    }
    /* W_B is zero: the first output is the backbone's, bit for bit. */
    size_t room;
    void *workspace = new_workspace(&one, 9, &room);
    float *logits = guarded_floats(9 * n_outputs);
    const s2_batch batch = batch_of(&small, 0, 9);
    CHECK_EQUAL(s2_adapter_forward(&one, &batch, logits, workspace, room), S2_OK);
    for (size_t s = 0; s < 9; s++) {
        CHECK_SAME(logits + s * n_outputs, small.row[s] + small.layout.logits_offset,
                   n_outputs * sizeof(float));
    }
    free(one.packed);
    free(other.packed);
}

/* Two taps of widths 2 and 1, base logits and adapters that make all logits zero: p is 1/2. */
static void test_step_by_hand(const s2_kernels *kernels) {
    const uint32_t tap_width[] = {2, 1};
    const float x[] = {1, 2}, a0[] = {0.5f, 0.25f}, b0[] = {1, -1}, a1[] = {2}, b1[] = {0.5f, 0};
    uint32_t offset[2];
    s2_row_layout layout;
    CHECK_EQUAL(s2_row_layout_init(&layout, 2, tap_width, 2, 1, offset), S2_OK);
    float *row = guarded_floats(layout.row_stride); /* hidden: 1 and 2 * 3 */
    row[offset[1]] = 3;
    row[layout.logits_offset] = -4; /* -4 + 1 * 1 + 6 * 0.5 */
    row[layout.logits_offset + 1] = 1;
    s2_adapter adapter = {.kernels = kernels, .layout = &layout, .rank = 1};
    for (uint32_t count = 1; count <= 3; count++) { /* more of the sample: the mean is the same */
        adapter.packed = aligned_floats(s2_adapter_floats(&layout, 1, 0));
        s2_adapter_pack(&adapter, 0, a0, b0);
        s2_adapter_pack(&adapter, 1, a1, b1);
        size_t room;
        void *workspace = new_workspace(&adapter, count, &room);
        const s2_batch batch = {.count = count,
                                .x = (const float *[]){x, x, (float[]){7, 8}},
                                .row = (const float *[]){row, row, row},
                                .label = (int32_t[]){0, 0, 1},
                                .weight = count == 3 ? (const float[]){1.25f, 1.75f, 0} : NULL};
        s2_batch_stats stats;
        CHECK_EQUAL(s2_adapter_step(&adapter, &batch, &(s2_update){.rate = 0.5f, .keep = 1}, &stats,
                                    workspace, room),
                    S2_OK);
        CHECK_NEAR(stats.loss, 0.69314718, 1e-7);
        CHECK_EQUAL(stats.correct, count < 2 ? count : 2);
        float a[2], b[2]; /* gy is -1/2, 1/2; gh by the old lora_b is -1 and -1/4 */
        s2_adapter_unpack(&adapter, 0, a, b);
        CHECK_SAME(a, ((const float[]){1.0f, 1.25f}), sizeof a);
        CHECK_SAME(b, ((const float[]){1.25f, -1.25f}), sizeof b);
        s2_adapter_unpack(&adapter, 1, a, b);
        CHECK_SAME(a, ((const float[]){2.375f}), sizeof(float));
        CHECK_SAME(b, ((const float[]){2.0f, -1.5f}), sizeof b);
        free(adapter.packed);
    }
}

/* Eq. 17 in double, from the plain shapes. */
static void check_logits(const s2_adapter *adapter, const s2_batch *batch, const float *logits) {
    const s2_row_layout *layout = adapter->layout;
    const uint32_t rank = adapter->rank;
    float lora_a[64 * 8], lora_b[8 * MOST_OUTPUTS];
    double sum[17 * MOST_OUTPUTS];
    for (uint32_t i = 0; i < batch->count * n_outputs; i++) {
        const float *row = batch->row[i / n_outputs];
        sum[i] = (double)row[layout->logits_offset + i % n_outputs];
    }
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        s2_adapter_unpack(adapter, k, lora_a, lora_b);
        for (uint32_t i = 0; i < batch->count * rank; i++) {
            const uint32_t s = i / rank, r = i % rank, at = layout->tap_offset[k];
            const float *tap = at == S2_TAP_IS_X ? batch->x[s] : batch->row[s] + at;
            double hidden = 0.0;
            for (uint32_t j = 0; j < layout->tap_width[k]; j++) {
                hidden += (double)tap[j] * (double)lora_a[j * rank + r];
            }
            for (uint32_t o = 0; o < n_outputs; o++) {
                sum[s * n_outputs + o] += hidden * (double)lora_b[r * n_outputs + o];
            }
        }
    }
    for (uint32_t i = 0; i < batch->count * n_outputs; i++) {
        CHECK_NEAR(logits[i], sum[i], 1e-4);
    }
}

/* The step of the scalar table from the same start gives the same within rounding. */
static void check_step(const s2_adapter *adapter, const float *before, const s2_batch *batch) {
    const size_t count = s2_adapter_floats(adapter->layout, adapter->rank, 0);
    s2_adapter scalar = *adapter;
    scalar.kernels = s2_kernels_choose("scalar");
    scalar.packed = aligned_floats(count);
    memcpy(scalar.packed, before, count * sizeof *before);
    size_t room;
    void *workspace = new_workspace(&scalar, batch->count, &room);
    s2_batch_stats stats;
    CHECK_EQUAL(s2_adapter_step(&scalar, batch, &(s2_update){.rate = 1, .keep = 1}, &stats,
                                workspace, room),
                S2_OK);
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += !(fabsf(adapter->packed[i] - scalar.packed[i]) <= 1e-5f);
    }
    CHECK_EQUAL(wrong, 0);
    free(scalar.packed);
}

/* One byte too few is refused, and nothing has moved; the exact size suffices. */
static void test_workspace(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 4, 3);
    for (uint32_t count = 1; count <= 17; count++) {
        check_where("%s, count %u", s2_kernels_name(kernels), count);
        const uint32_t widths[MOST_TAPS] = {16 + count, 7 + count, 17}; /* every tail of a vector */
        problem small;
        new_problem(&small, widths, count, &rng);
        s2_adapter adapter = new_adapter(kernels, &small, 1 + count % 8, &rng);
        const size_t bytes = s2_adapter_floats(&small.layout, adapter.rank, 0) * sizeof(float);
        float *before = memcpy(guarded(bytes), adapter.packed, bytes);
        float *logits = guarded_floats(count * n_outputs);
        size_t room;
        void *workspace = new_workspace(&adapter, count, &room);
        s2_batch batch = batch_of(&small, 0, count);
        s2_batch_stats stats;
        CHECK_EQUAL(s2_adapter_forward(&adapter, &batch, logits, workspace, room - 1), S2_NO_ROOM);
        CHECK_EQUAL(s2_adapter_step(&adapter, &batch, &(s2_update){.rate = 1, .keep = 1}, &stats,
                                    workspace, room - 1),
                    S2_NO_ROOM);
        CHECK(isnan(logits[0]));
        CHECK_SAME(adapter.packed, before, bytes);
        batch.label = NULL; /* forward needs none */
        CHECK_EQUAL(s2_adapter_forward(&adapter, &batch, logits, workspace, room), S2_OK);
        check_logits(&adapter, &batch, logits);
        CHECK_SAME(adapter.packed, before, bytes);
        batch.label = small.label;
        batch.weight = count % 2 ? NULL : random_weights(&rng, count);
        CHECK_EQUAL(s2_adapter_step(&adapter, &batch, &(s2_update){.rate = 1, .keep = 1}, &stats,
                                    workspace, room),
                    S2_OK);
        CHECK(memcmp(adapter.packed, before, bytes) != 0);
        check_step(&adapter, before, &batch);
        free(adapter.packed);
        release_guarded();
    }
}

/* A sample's logits have the same bits alone and in any place of a batch of any size. */
/* Everything the loss, the layout and the rule read is there, or the step says so. */
static void test_refuses_null(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 7, 3);
    problem of;
    new_problem(&of, tap_widths, 4, &rng);
    s2_adapter adapter = new_adapter(kernels, &of, 2, &rng);
    size_t bytes;
    void *workspace = new_workspace(&adapter, 4, &bytes);
    float *const logits = guarded_floats(4 * n_outputs);
    const float *const answer = random_floats(&rng, n_outputs);
    const float *const target[] = {answer, answer, answer, answer};
    const s2_batch whole = batch_of(&of, 0, 4);
    s2_batch_stats stats;
#define STEPS(change, status)                                                                      \
    do {                                                                                           \
        s2_batch batch = whole;                                                                    \
        s2_update update = {.rate = 0.5f, .keep = 1, .eps = 1};                                    \
        change;                                                                                    \
        check_where("%s, %s", s2_kernels_name(kernels), #change);                                  \
        CHECK_EQUAL(s2_adapter_step(&adapter, &batch, &update, &stats, workspace, bytes), status); \
    } while (0)
#define FORWARDS(change, status)                                                                   \
    do {                                                                                           \
        s2_batch batch = whole;                                                                    \
        change;                                                                                    \
        CHECK_EQUAL(s2_adapter_forward(&adapter, &batch, logits, workspace, bytes), status);       \
    } while (0)
    STEPS(batch.row = NULL, S2_BAD_VALUE);
    STEPS(batch.x = NULL, S2_BAD_VALUE);
    STEPS(batch.label = NULL, S2_BAD_VALUE);
    STEPS(batch.weight = ((const float[]){1, 1, 1, (float)NAN}), S2_BAD_VALUE);
    STEPS(batch.weight = ((const float[]){1, 1, (float)INFINITY, 1}), S2_BAD_VALUE);
    STEPS(batch.weight = ((const float[]){-1e-30f, 1, 1, 1}), S2_BAD_VALUE);
    STEPS(batch.weight = ((const float[]){0, 0, 0, 0}), S2_OK);
    STEPS(batch.n_next = 1, S2_BAD_VALUE);
    STEPS((batch.n_next = 1, batch.next_row = whole.row), S2_BAD_VALUE);
    STEPS((batch.n_next = 1, batch.next_row = whole.row, batch.next_x = whole.x), S2_OK);
    STEPS((batch.n_next = 1, batch.next_x = whole.x), S2_OK);
    STEPS(update.rule = S2_MOMENTUM, S2_BAD_VALUE);
    STEPS(update.rule = S2_ADAM, S2_BAD_VALUE);
    FORWARDS(batch.row = NULL, S2_BAD_VALUE);
    FORWARDS(batch.x = NULL, S2_BAD_VALUE);
    FORWARDS(batch.n_next = 1, S2_BAD_VALUE);
    FORWARDS(batch.label = NULL, S2_OK);
    adapter.moments[0] = aligned_floats(s2_adapter_floats(&of.layout, 2, 0));
    memset(adapter.moments[0], 0, s2_adapter_floats(&of.layout, 2, 0) * sizeof(float));
    STEPS(update.rule = S2_MOMENTUM, S2_OK);
    STEPS(update.rule = S2_ADAM, S2_BAD_VALUE);
    for (adapter.loss = S2_SIGMOID; adapter.loss <= S2_SQUARED; adapter.loss++) {
        workspace = new_workspace(&adapter, 4, &bytes);
        STEPS((void)batch, S2_BAD_VALUE); /* labels alone */
        STEPS(batch.target = target, S2_OK);
        STEPS((batch.target = target, batch.label = NULL), S2_OK);
    }
    adapter.loss = S2_SOFTMAX;
    workspace = new_workspace(&adapter, 4, &bytes);
    of.layout.tap_offset =
        (const uint32_t[]){0, 0, 0}; /* tap 0 is NaN of the row, not the sample */
    STEPS(batch.x = NULL, S2_NOT_FINITE);
    STEPS((batch.x = NULL, batch.n_next = 1, batch.next_row = whole.row), S2_NOT_FINITE);
    FORWARDS(batch.x = NULL, S2_OK);
#undef STEPS
#undef FORWARDS
    free(adapter.packed);
    free(adapter.moments[0]);
}

static void test_same_bits_anywhere(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 5, 3);
    problem many;
    new_problem(&many, tap_widths, MOST_SAMPLES, &rng);
    for (uint32_t rank = 1; rank <= 8; rank++) {
        const s2_adapter adapter = new_adapter(kernels, &many, rank, &rng);
        float *alone = guarded_floats(MOST_SAMPLES * n_outputs), *logits;
        size_t room;
        void *workspace = new_workspace(&adapter, MOST_SAMPLES, &room);
        for (uint32_t s = 0; s < MOST_SAMPLES; s++) {
            const s2_batch one = batch_of(&many, s, 1);
            CHECK_EQUAL(s2_adapter_forward(&adapter, &one, alone + s * n_outputs, workspace, room),
                        S2_OK);
        }
        for (uint32_t count = 1; count <= MOST_SAMPLES; count++) {
            check_where("%s, rank %u, count %u", s2_kernels_name(kernels), rank, count);
            const uint32_t first = (count * 5 + rank) % (MOST_SAMPLES - count + 1);
            const s2_batch batch = batch_of(&many, first, count);
            logits = guarded_floats(count * n_outputs);
            CHECK_EQUAL(s2_adapter_forward(&adapter, &batch, logits, workspace, room), S2_OK);
            CHECK_SAME(logits, alone + first * n_outputs, count * n_outputs * sizeof *logits);
        }
        free(adapter.packed);
    }
}

int main(void) {
    test_rank();
    test_pack_round_trip();
    with_each_table(test_init);
    with_each_table(test_step_by_hand);
    for (size_t i = 0; i < 2; i++) {
        n_outputs = i == 0 ? 6 : MOST_OUTPUTS;
        with_each_table(test_workspace);
        with_each_table(test_refuses_null);
        with_each_table(test_same_bits_anywhere);
    }
    return check_report("test_adapter");
}
