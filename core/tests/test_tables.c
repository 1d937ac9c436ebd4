/*
 * test_tables.c - every kernel table of this processor trains as the scalar one does: steps in
 * sequence, as in an epoch with a short last batch, over widths, ranks, outputs and batch sizes
 * beside the tiles; and twice the same training gives the same bits.
 */
#include "network.h"

enum { N_TAPS = 3, MOST_FLOATS = 8192, MOST_SAMPLES = 256, STEPS = 24 };

typedef struct {
    uint32_t width[N_TAPS], rank, n_outputs, batch_size;
} shape;

static const shape shapes[] = {
    {{1, 1, 1}, 1, 1, 1},       {{3, 2, 5}, 2, 2, 3},      {{7, 4, 9}, 3, 3, 4},
    {{17, 16, 4}, 4, 3, 20},    {{31, 33, 6}, 5, 5, 7},    {{13, 47, 24}, 6, 6, 9},
    {{63, 11, 8}, 7, 7, 16},    {{64, 32, 15}, 8, 8, 17},  {{65, 19, 12}, 9, 9, 31},
    {{100, 13, 11}, 10, 15, 8}, {{97, 21, 23}, 4, 16, 33}, {{129, 18, 14}, 13, 17, 5},
    {{29, 35, 37}, 4, 40, 20},  {{33, 20, 6}, 5, 3, 70},
};

static const char *const rule_names[] = {"sgd", "momentum", "adam"};

typedef struct {
    s2_row_layout layout;
    uint32_t tap_offset[N_TAPS], n_samples;
    const float *x[MOST_SAMPLES], *row[MOST_SAMPLES];
    const int32_t *label;
} problem;

/* Three batches and one of a single sample. */
static void new_problem(problem *made, const shape *of, s2_rng *rng) {
    made->n_samples = 3 * of->batch_size + 1;
    CHECK_EQUAL(
        s2_row_layout_init(&made->layout, N_TAPS, of->width, of->n_outputs, 1, made->tap_offset),
        S2_OK);
    for (uint32_t s = 0; s < made->n_samples; s++) {
        float *row = guarded_floats(made->layout.row_stride);
        for (uint32_t k = 1; k < N_TAPS; k++) {
            fill_random(rng, row + made->tap_offset[k], of->width[k]);
        }
        fill_random(rng, row + made->layout.logits_offset, of->n_outputs);
        made->row[s] = row;
        made->x[s] = random_floats(rng, of->width[0]);
    }
    made->label = random_labels(rng, made->n_samples, of->n_outputs);
}

typedef struct {
    float value[MOST_FLOATS], logits[MOST_FLOATS], loss[STEPS];
    size_t n_values, n_logits;
} outcome;

/* A large eps: Adam divides by the root of v, and would blow rounding up where v is near zero. */
static s2_optimizer optimizer_of(s2_rule rule) {
    return (s2_optimizer){.rule = rule,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 0.1,
                          .weight_decay = 0.01,
                          .decoupled = rule == S2_ADAM,
                          .beta1_power = 1.0,
                          .beta2_power = 1.0};
}

/* Epochs over the samples in order, until STEPS are done; then Eq. 17 of all samples. Both start from
 * random lora_b: at zero, lora_a would not move. */
static void train(const s2_kernels *kernels, const problem *on, const shape *of, s2_rule rule,
                  outcome *got) {
    s2_adapter adapter = {.kernels = kernels, .layout = &on->layout, .rank = of->rank};
    got->n_values = s2_adapter_floats(&on->layout, of->rank, 0);
    got->n_logits = on->n_samples * of->n_outputs;
    CHECK(got->n_values <= MOST_FLOATS && got->n_logits <= MOST_FLOATS);
    adapter.packed = aligned_floats(got->n_values);
    s2_adapter_init(&adapter, 7);
    float *lora_b = adapter.packed + got->n_values - N_TAPS * of->rank * of->n_outputs;
    s2_rng rng;
    s2_rng_seed(&rng, 8, 3);
    fill_random(&rng, lora_b, N_TAPS * of->rank * of->n_outputs);
    for (int i = 0; i < (int)rule; i++) {
        adapter.moments[i] = aligned_floats(got->n_values);
        memset(adapter.moments[i], 0, got->n_values * sizeof(float));
    }
    const size_t room = s2_adapter_workspace_bytes(&adapter, on->n_samples); /* the largest count */
    void *workspace = guarded(room);
    s2_optimizer optimizer = optimizer_of(rule);
    for (uint32_t step = 0, first = 0; step < STEPS; step++) {
        const uint32_t left = on->n_samples - first;
        const uint32_t count = left < of->batch_size ? left : of->batch_size;
        const s2_batch batch = {
            .count = count, .x = on->x + first, .row = on->row + first, .label = on->label + first};
        const s2_update update = s2_optimizer_step(&optimizer, 0.05);
        s2_batch_stats stats;
        CHECK_EQUAL(s2_adapter_step(&adapter, &batch, &update, &stats, workspace, room), S2_OK);
        got->loss[step] = stats.loss;
        first = count == left ? 0 : first + count;
    }
    const s2_batch all = {.count = on->n_samples, .x = on->x, .row = on->row};
    CHECK_EQUAL(s2_adapter_forward(&adapter, &all, got->logits, workspace, room), S2_OK);
    memcpy(got->value, adapter.packed, got->n_values * sizeof(float));
    free(adapter.packed);
    free(adapter.moments[0]);
    free(adapter.moments[1]);
}

/* Differences against the largest value of the array: single values come near zero by cancelling. */
static void check_close(const float *got, const float *expected, size_t count, double relative,
                        const char *what) {
    double largest = 0.0, off = 0.0;
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
    }
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)got[i] - (double)expected[i]);
        wrong += !(difference <= relative * largest); /* a NaN is wrong, too */
        off = fmax(off, difference);
    }
    check_that(wrong == 0, __FILE__, __LINE__,
               "%s: %zu of %zu differ from the scalar table's by up to %.2g of %.2g", what, wrong,
               count, off, largest);
}

static void test_training(const s2_kernels *kernels) {
    static outcome expected, got, again;
    s2_rng rng;
    s2_rng_seed(&rng, 6, 3);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape *of = &shapes[i];
        problem small;
        new_problem(&small, of, &rng);
        for (s2_rule rule = S2_SGD; rule <= S2_ADAM; rule++) {
            check_where("%s, %s, widths %u %u %u, rank %u, %u outputs, batch %u",
                        s2_kernels_name(kernels), rule_names[rule], of->width[0], of->width[1],
                        of->width[2], of->rank, of->n_outputs, of->batch_size);
            train(s2_kernels_choose("scalar"), &small, of, rule, &expected);
            train(kernels, &small, of, rule, &got);
            train(kernels, &small, of, rule, &again);
            check_close(got.value, expected.value, got.n_values, 1e-5, "adapters");
            check_close(got.logits, expected.logits, got.n_logits, 1e-5, "logits");
            check_close(got.loss, expected.loss, STEPS, 1e-5, "losses");
            CHECK_SAME(again.value, got.value, got.n_values * sizeof(float));
            CHECK_SAME(again.logits, got.logits, got.n_logits * sizeof(float));
            CHECK_SAME(again.loss, got.loss, sizeof got.loss);
        }
        release_guarded();
    }
}

/* Every tensor of the network trained: FC, LoRA, gamma and beta, with the statistics of the batch. */
static void train_network(const s2_kernels *kernels, uint32_t count, outcome *got) {
    enum { ALL = S2_Y | S2_W | S2_B | S2_X, FIRST = ALL & ~S2_X };
    static const s2_compute_types types[DEPTH] = {{FIRST, S2_Y | S2_W, S2_Y | S2_W | S2_STATS},
                                                  {ALL, ALL & ~S2_B, S2_Y | S2_W | S2_STATS},
                                                  {ALL, ALL & ~S2_B, 0}};
    s2_rng rng;
    s2_rng_seed(&rng, 9, 3);
    network net;
    new_network(&net, kernels, 1, 7, &rng);
    const float *x[MOST_SAMPLES];
    new_samples(x, count, &rng);
    const s2_batch batch = {
        .count = count, .x = x, .label = random_labels(&rng, count, widths[DEPTH])};
    const size_t room = s2_net_step_workspace_bytes(&net.net, types, count);
    void *workspace = guarded(room);
    for (uint32_t step = 0; step < STEPS; step++) {
        s2_batch_stats stats;
        CHECK_EQUAL(s2_net_step(&net.net, types, &batch, &(s2_update){.rate = 0.01f, .keep = 1},
                                NULL, &stats, workspace, room),
                    S2_OK);
        got->loss[step] = stats.loss;
    }
    rows_of rows;
    new_layout(&rows, 0, 0);
    got->n_logits = (size_t)count * rows.layout.row_stride;
    CHECK(got->n_logits <= MOST_FLOATS);
    const float *row = forward(&net, count, x, &rows.layout, 0);
    memset(got->logits, 0, sizeof got->logits);
    for (uint32_t s = 0; s < count; s++) { /* the padding of a row is not written */
        const size_t at = s * rows.layout.row_stride;
        for (uint32_t k = 0; k < DEPTH; k++) {
            memcpy(got->logits + at + rows.offset[k], row + at + rows.offset[k],
                   widths[k] * sizeof *row);
        }
        memcpy(got->logits + at + rows.layout.logits_offset, row + at + rows.layout.logits_offset,
               widths[DEPTH] * sizeof *row);
    }
}

static void test_network(const s2_kernels *kernels) {
    static outcome expected, got, again;
    for (uint32_t count = 2; count <= 37; count += 5) {
        check_where("%s, network, batch %u", s2_kernels_name(kernels), count);
        train_network(s2_kernels_choose("scalar"), count, &expected);
        train_network(kernels, count, &got);
        train_network(kernels, count, &again);
        check_close(got.logits, expected.logits, got.n_logits, 1e-5, "taps and logits");
        check_close(got.loss, expected.loss, STEPS, 1e-5, "losses");
        CHECK_SAME(again.logits, got.logits, got.n_logits * sizeof(float));
        CHECK_SAME(again.loss, got.loss, sizeof got.loss);
        release_guarded();
    }
}

int main(void) {
    with_each_table(test_training);
    with_each_table(test_network);
    return check_report("test_tables");
}
