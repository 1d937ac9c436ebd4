/* test_adapter_parts.c - rows that are read part by part train the same bits as rows of floats. */
#include "guard.h"

#include "skip2_codes.h"

enum { N_TAPS = 3, MOST = 43 };

static const uint32_t tap_widths[N_TAPS] = {300, 17, 70};

typedef struct {
    s2_row_layout layout;
    uint32_t tap_offset[N_TAPS];
    const float *row[MOST], *backwards[MOST]; /* the same numbers, the last one first */
} problem;

/* Of s2_row_reader, of rows that lie backwards. */
static void read_backwards(const void *context, const float *row, uint32_t tap, uint32_t first,
                           uint32_t count, float *numbers) {
    const s2_row_layout *layout = context;
    const uint32_t is_tap = tap < layout->n_taps;
    const uint32_t width = is_tap ? layout->tap_width[tap] : layout->n_outputs;
    const uint32_t at = is_tap ? layout->tap_offset[tap] : layout->logits_offset;
    CHECK(first + count <= width && count > 0);
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = row[layout->row_stride - 1 - (at + first + i)];
    }
}

static void new_problem(problem *made, uint32_t n_outputs, s2_rng *rng) {
    CHECK_EQUAL(
        s2_row_layout_init(&made->layout, N_TAPS, tap_widths, n_outputs, 0, made->tap_offset),
        S2_OK);
    const uint32_t stride = made->layout.row_stride;
    for (uint32_t s = 0; s < MOST; s++) {
        float *row = random_floats(rng, stride), *backwards = guarded_floats(stride);
        for (uint32_t i = 0; i < stride; i++) {
            backwards[i] = row[stride - 1 - i];
        }
        made->row[s] = row;
        made->backwards[s] = backwards;
    }
}

static s2_adapter new_adapter(const s2_kernels *kernels, const problem *of, uint32_t rank,
                              s2_rule rule) {
    s2_adapter adapter = {
        .kernels = kernels, .layout = &of->layout, .rank = rank, .has_bias = rank % 2 != 0};
    const size_t floats = s2_adapter_floats(&of->layout, rank, adapter.has_bias);
    adapter.packed = aligned_floats(floats);
    for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
        adapter.moments[m] = aligned_floats(floats);
        memset(adapter.moments[m], 0, floats * sizeof(float));
    }
    s2_adapter_init(&adapter, 5);
    return adapter;
}

static void train(s2_adapter *adapter, s2_rule rule, const float *const *row, uint32_t count,
                  const int32_t *label) {
    s2_optimizer optimizer = {.rule = rule,
                              .beta1 = rule == S2_SGD ? 0.0 : 0.9,
                              .beta2 = rule == S2_ADAM ? 0.999 : 0.0,
                              .eps = 1e-8,
                              .beta1_power = 1.0,
                              .beta2_power = 1.0};
    const size_t bytes = s2_adapter_workspace_bytes(adapter, count);
    void *const room = guarded(bytes);
    const s2_batch batch = {.count = count, .row = row, .label = label};
    for (int step = 0; step < 3; step++) {
        s2_batch_stats stats;
        const s2_update update = s2_optimizer_step(&optimizer, 0.05);
        CHECK_EQUAL(s2_adapter_step(adapter, &batch, &update, &stats, room, bytes), S2_OK);
    }
}

static void release(const s2_adapter *adapter) {
    free(adapter->packed);
    free(adapter->moments[0]);
    free(adapter->moments[1]);
}

static void check_problem(const s2_kernels *kernels, uint32_t n_outputs) {
    static const uint32_t counts[] = {1, 4, 7, 20, MOST}, ranks[] = {1, 4, 6};
    for (size_t i = 0; i < 3 * 5 * 3; i++) {
        const s2_rule rule = (s2_rule)(i % 3);
        const uint32_t count = counts[i / 3 % 5], rank = ranks[i / 15];
        check_where("%s, %u outputs, rule %d, %u samples, rank %u", s2_kernels_name(kernels),
                    n_outputs, (int)rule, count, rank);
        s2_rng rng;
        s2_rng_seed(&rng, 3, 1);
        problem of;
        new_problem(&of, n_outputs, &rng);
        const int32_t *label = random_labels(&rng, count, n_outputs);
        s2_adapter plain = new_adapter(kernels, &of, rank, rule);
        s2_adapter parts = new_adapter(kernels, &of, rank, rule);
        const s2_row_reader reader = {read_backwards, &of.layout};
        parts.reader = &reader;
        train(&plain, rule, of.row, count, label);
        train(&parts, rule, of.backwards, count, label);
        CHECK_SAME(parts.packed, plain.packed,
                   s2_adapter_floats(&of.layout, rank, plain.has_bias) * sizeof(float));
        release(&plain);
        release(&parts);
        release_guarded();
    }
    check_where("%s", "");
}

static void test_few_outputs(const s2_kernels *kernels) {
    check_problem(kernels, 3);
}

static void test_many_outputs(const s2_kernels *kernels) {
    check_problem(kernels, 40);
}

/* A batch of 20 by 256 columns is never there as a whole. */
static void test_room(void) {
    problem of;
    s2_rng rng;
    s2_rng_seed(&rng, 3, 1);
    new_problem(&of, 3, &rng);
    s2_adapter adapter = new_adapter(s2_kernels_choose("scalar"), &of, 4, S2_SGD);
    const size_t plain = s2_adapter_workspace_bytes(&adapter, 20);
    adapter.reader = &(s2_row_reader){read_backwards, &of.layout};
    const size_t bytes = s2_adapter_workspace_bytes(&adapter, 20);
    CHECK(bytes > plain && bytes - plain < 4 * 320 * sizeof(float) + 512);
    release(&adapter);
    release_guarded();
}

int main(void) {
    with_each_table(test_few_outputs);
    with_each_table(test_many_outputs);
    test_room();
    return check_report("test_adapter_parts");
}
