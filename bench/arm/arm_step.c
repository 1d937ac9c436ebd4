/*
 * arm_step.c - runs training steps or predictions of the C core on random data, for count.py to count
 * and ../compilers.py to time:
 *
 *   arm_step KERNELS fan|har skip2-lora|lora-all|predict STEPS
 *
 * The networks, rank and batch size are the paper's. Prints the status and loss of the last step.
 */
#include "skip2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 3, RANK = 4, BATCH = 20, N_BATCHES = 5, N_SAMPLES = BATCH * N_BATCHES };

static const uint32_t fan[DEPTH + 1] = {256, 96, 96, 3}, har[DEPTH + 1] = {561, 96, 96, 6};

/* Never freed. newlib for a board has no aligned_alloc. */
static void *aligned(size_t bytes) {
    char *data = calloc(1, bytes + S2_ALIGN);
    if (data == NULL) {
        fprintf(stderr, "arm_step: no memory\n");
        exit(1);
    }
    return data + (S2_ALIGN - (uintptr_t)data % S2_ALIGN);
}

static float *random_floats(s2_rng *rng, size_t count, float scale) {
    float *values = aligned(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = (2.0f * s2_rng_unit(rng) - 1.0f) * scale;
    }
    return values;
}

static float *same_floats(size_t count, float value) {
    float *values = aligned(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = value;
    }
    return values;
}

typedef struct {
    const float *x[N_SAMPLES], *row[N_SAMPLES];
    int32_t label[N_SAMPLES];
} data_set;

static s2_batch batch_of(const data_set *from, unsigned long step) {
    const size_t first = step % N_BATCHES * BATCH;
    return (s2_batch){.count = BATCH,
                      .x = from->x + first,
                      .row = from->row + first,
                      .label = from->label + first};
}

static const s2_update update = {.rule = S2_SGD, .rate = 0.01f, .keep = 1.0f};

/* The fused step on cached rows. */
static s2_status run_skip2_lora(const s2_kernels *kernels, const uint32_t *width, data_set *data,
                                s2_rng *rng, unsigned long steps, s2_batch_stats *stats) {
    s2_row_layout layout;
    uint32_t tap_offset[DEPTH];
    s2_status status = s2_row_layout_init(&layout, DEPTH, width, width[DEPTH], 1, tap_offset);
    for (size_t s = 0; s < N_SAMPLES; s++) {
        data->row[s] = random_floats(rng, layout.row_stride, 1.0f);
    }
    s2_adapter adapter = {.kernels = kernels, .layout = &layout, .rank = RANK};
    adapter.packed = aligned(s2_adapter_floats(&layout, RANK, 0) * sizeof(float));
    s2_adapter_init(&adapter, 1);
    const size_t room = s2_adapter_workspace_bytes(&adapter, BATCH);
    void *workspace = aligned(room);
    for (unsigned long step = 0; status == S2_OK && step < steps; step++) {
        const s2_batch batch = batch_of(data, step);
        status = s2_adapter_step(&adapter, &batch, &update, stats, workspace, room);
    }
    return status;
}

/* A network with batch norm after every layer but the last, and an adapter of `rank` beside each. */
static void random_layers(const uint32_t *width, uint32_t rank, s2_rng *rng, s2_layer *layers) {
    for (size_t k = 0; k < DEPTH; k++) {
        const uint32_t n_in = width[k], n_out = width[k + 1];
        const int last = k + 1 == DEPTH;
        layers[k] = (s2_layer){.n_in = n_in,
                               .n_out = n_out,
                               .rank = rank,
                               .weight = random_floats(rng, (size_t)n_in * n_out, 0.1f),
                               .bias = random_floats(rng, n_out, 0.1f),
                               .relu = !last};
        if (rank > 0) {
            layers[k].lora_a = random_floats(rng, (size_t)n_in * rank, 0.1f);
            layers[k].lora_b = same_floats((size_t)rank * n_out, 0.0f);
        }
        if (!last) {
            layers[k].gamma = same_floats(n_out, 1.0f);
            layers[k].beta = same_floats(n_out, 0.0f);
            layers[k].mean = same_floats(n_out, 0.0f);
            layers[k].var = same_floats(n_out, 1.0f);
        }
    }
}

static s2_net net_of(const s2_kernels *kernels, const s2_layer *layers) {
    return (s2_net){.kernels = kernels,
                    .n_layers = DEPTH,
                    .layers = layers,
                    .bn_eps = 1e-5f,
                    .bn_momentum = 0.1f};
}

/* The paper's baseline: an adapter beside every layer, forward and backward through the network. */
static s2_status run_lora_all(const s2_kernels *kernels, const uint32_t *width, data_set *data,
                              s2_rng *rng, unsigned long steps, s2_batch_stats *stats) {
    enum { YX = S2_Y | S2_X, YWX = S2_Y | S2_W | S2_X, BN = S2_Y | S2_STATS };
    static const s2_compute_types types[DEPTH] = {
        {S2_Y, S2_Y | S2_W, BN}, {YX, YWX, BN}, {YX, YWX, 0}};
    s2_layer layers[DEPTH];
    random_layers(width, RANK, rng, layers);
    const s2_net net = net_of(kernels, layers);
    const size_t room = s2_net_step_workspace_bytes(&net, types, BATCH);
    void *workspace = aligned(room);
    s2_status status = s2_net_check(&net);
    for (unsigned long step = 0; status == S2_OK && step < steps; step++) {
        const s2_batch batch = batch_of(data, step);
        status = s2_net_step(&net, types, &batch, &update, NULL, stats, workspace, room);
    }
    return status;
}

/* Samples one by one through the network and the skip adapters; `loss` becomes the last logit. */
static s2_status run_predict(const s2_kernels *kernels, const uint32_t *width, data_set *data,
                             s2_rng *rng, unsigned long steps, s2_batch_stats *stats) {
    s2_layer layers[DEPTH];
    random_layers(width, 0, rng, layers);
    const s2_net net = net_of(kernels, layers);
    s2_row_layout layout;
    uint32_t tap_offset[DEPTH];
    s2_status status = s2_row_layout_init(&layout, DEPTH, width, width[DEPTH], 1, tap_offset);
    s2_adapter adapter = {.kernels = kernels, .layout = &layout, .rank = RANK};
    const size_t floats = s2_adapter_floats(&layout, RANK, 0);
    adapter.packed = random_floats(rng, floats, 0.1f);
    const size_t room = s2_net_forward_workspace_bytes(&net, 1);
    const size_t adapter_room = s2_adapter_workspace_bytes(&adapter, 1);
    void *workspace = aligned(room), *adapter_workspace = aligned(adapter_room);
    float *row = aligned(layout.row_stride * sizeof *row),
          *logits = same_floats(width[DEPTH], 0.0f);
    const float *rows[1] = {row};
    for (unsigned long step = 0; status == S2_OK && step < steps; step++) {
        const float *const *x = data->x + step % N_SAMPLES;
        status = s2_net_forward(&net, 1, x, &layout, 0, row, workspace, room);
        const s2_batch batch = {.count = 1, .x = x, .row = rows};
        if (status == S2_OK) {
            status = s2_adapter_forward(&adapter, &batch, logits, adapter_workspace, adapter_room);
        }
    }
    stats->loss = logits[width[DEPTH] - 1];
    return status;
}

int main(int argc, char **argv) {
    const s2_kernels *kernels = argc == 5 ? s2_kernels_choose(argv[1]) : NULL;
    if (kernels == NULL) {
        fprintf(stderr, "usage: arm_step KERNELS fan|har skip2-lora|lora-all|predict STEPS\n");
        return 2;
    }
    const uint32_t *width = strcmp(argv[2], "har") == 0 ? har : fan;
    static data_set data;
    s2_rng rng;
    s2_rng_seed(&rng, 1, S2_STREAM_ORDER);
    for (size_t s = 0; s < N_SAMPLES; s++) {
        data.x[s] = random_floats(&rng, width[0], 1.0f);
        data.label[s] = (int32_t)s2_rng_below(&rng, width[DEPTH]);
    }
    const unsigned long steps = strtoul(argv[4], NULL, 10);
    s2_batch_stats stats = {0};
    s2_status (*const run)(const s2_kernels *, const uint32_t *, data_set *, s2_rng *,
                           unsigned long, s2_batch_stats *) =
        strcmp(argv[3], "lora-all") == 0  ? run_lora_all
        : strcmp(argv[3], "predict") == 0 ? run_predict
                                          : run_skip2_lora;
    const s2_status status = run(kernels, width, &data, &rng, steps, &stats);
    printf("%s %s %s: status %d, loss %.4f\n", argv[1], argv[2], argv[3], (int)status,
           (double)stats.loss);
    return status == S2_OK ? 0 : 1;
}
