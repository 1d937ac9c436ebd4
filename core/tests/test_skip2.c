/* test_skip2.c - Skip2-LoRA is Skip-LoRA: the whole of Algorithm 1 on a small network gives the
 * same adapters, bit for bit, whatever the cache holds. */
#include "network.h"

enum { N_SAMPLES = 37, BATCH = 8, EPOCHS = 8, ADAPTER_RANK = 4 };

typedef struct {
    network net;
    rows_of rows;
    float *x; /* (N_SAMPLES, widths[0]) */
    int32_t *label;
    s2_adapter adapter;
    void *forward_room, *step_room;
    size_t forward_bytes, step_bytes;
} problem;

static void new_problem(problem *made, const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 9, 3);
    new_network(&made->net, kernels, 1, 0, &rng);
    new_layout(&made->rows, 0, 1);
    made->x = random_floats(&rng, N_SAMPLES * widths[0]);
    made->label = random_labels(&rng, N_SAMPLES, widths[DEPTH]);
    const s2_row_layout *layout = &made->rows.layout;
    made->adapter = (s2_adapter){.kernels = kernels, .layout = layout, .rank = ADAPTER_RANK};
    made->adapter.packed = aligned_floats(s2_adapter_floats(layout, ADAPTER_RANK, 0));
    made->forward_bytes = s2_net_forward_workspace_bytes(&made->net.net, BATCH);
    made->step_bytes = s2_adapter_workspace_bytes(&made->adapter, BATCH);
    made->forward_room = guarded(made->forward_bytes);
    made->step_room = guarded(made->step_bytes);
}

static s2_status run_forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    const problem *of = context;
    const float *x[BATCH];
    for (uint32_t i = 0; i < count; i++) {
        x[i] = of->x + sample[i] * widths[0];
    }
    return s2_net_forward(&of->net.net, count, x, &of->rows.layout, 0, rows, of->forward_room,
                          of->forward_bytes);
}

static s2_status run_step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    problem *of = context;
    return s2_adapter_step(&of->adapter, batch, &(s2_update){.rate = 0.1f, .keep = 1}, stats,
                           of->step_room, of->step_bytes);
}

/* From the same start; returns the trained adapter, and the loss of each epoch. */
static const float *train(problem *of, uint32_t capacity, double loss[EPOCHS]) {
    const size_t stride = of->rows.layout.row_stride;
    s2_cache cache = {.rows = guarded_floats(capacity * stride),
                      .filled = guarded(capacity),
                      .capacity = capacity,
                      .row_stride = (uint32_t)stride};
    memset(cache.filled, 0, capacity);
    const s2_job job = {.n_samples = N_SAMPLES,
                        .n_features = widths[0],
                        .x = of->x,
                        .label = of->label,
                        .batch_size = BATCH,
                        .smallest_batch = 1,
                        .forward = run_forward,
                        .forward_context = of,
                        .cache = &cache,
                        .step = run_step,
                        .step_context = of};
    const size_t room = s2_train_workspace_bytes(&job);
    void *workspace = guarded(room);
    s2_rng rng;
    s2_rng_seed(&rng, 3, S2_STREAM_ORDER);
    s2_adapter_init(&of->adapter, 3);
    for (int e = 0; e < EPOCHS; e++) {
        s2_epoch_stats stats;
        CHECK_EQUAL(s2_train_epoch(&job, &rng, &stats, workspace, room), S2_OK);
        CHECK_EQUAL(stats.n_forward, e == 0 ? N_SAMPLES : N_SAMPLES - capacity);
        loss[e] = stats.loss;
    }
    const size_t bytes = s2_adapter_floats(&of->rows.layout, ADAPTER_RANK, 0) * sizeof(float);
    return memcpy(guarded(bytes), of->adapter.packed, bytes);
}

static void test_any_cache_gives_the_same_adapter(const s2_kernels *kernels) {
    problem of;
    new_problem(&of, kernels);
    double loss[EPOCHS], same_loss[EPOCHS];
    const size_t bytes = s2_adapter_floats(&of.rows.layout, ADAPTER_RANK, 0) * sizeof(float);
    const float *skip_lora = train(&of, 0, loss);
    CHECK(loss[EPOCHS - 1] < 0.9 * loss[0]);
    for (uint32_t capacity = 0; capacity <= N_SAMPLES; capacity++) {
        check_where("%s, capacity %u", s2_kernels_name(kernels), capacity);
        const float *skip2_lora = train(&of, capacity, same_loss);
        CHECK_SAME(skip2_lora, skip_lora, bytes);
        CHECK_SAME(same_loss, loss, sizeof loss);
    }
    free(of.adapter.packed);
}

int main(void) {
    with_each_table(test_any_cache_gives_the_same_adapter);
    return check_report("test_skip2");
}
