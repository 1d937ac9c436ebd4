/*
 * adapt_main.c - one full adaptation by Algorithm 1, from a file to a file, so that processors can be
 * compared (tests/boards.py):
 *
 *   adapt_main KERNELS IN OUT
 *
 * IN: the numbers of `header`, widths (n_layers + 1), then float32: of each layer weight (n_in, n_out)
 * and bias, of each but the last gamma, beta, mean and var; x (n_train, n_features), labels (n_train)
 * as int32, x (n_test, n_features). OUT, float32: of each tap lora_a (tap_width, rank) and lora_b
 * (rank, n_outputs); logits of the test samples (n_test, n_outputs).
 */
#include "skip2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 8, MAGIC = 0x50325332 };

typedef struct {
    uint32_t magic, n_layers, rank, epochs, batch_size, seed, n_train, n_test;
    float learning_rate;
} header;

typedef struct {
    header head;
    uint32_t width[MOST_LAYERS + 1];
    s2_layer layers[MOST_LAYERS];
    s2_net net;
    const float *x, *test_x;
    const int32_t *label;
    uint32_t tap_offset[MOST_LAYERS];
    s2_row_layout layout;
    s2_adapter adapter;
    s2_update update;
    void *net_room, *step_room;
    size_t net_room_bytes, step_room_bytes;
} adaptation;

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "adapt_main: %s\n", what);
        exit(1);
    }
}

/* Zeros, aligned. */
static void *room_of(size_t bytes) {
    char *data = calloc(1, bytes + S2_ALIGN);
    check(data != NULL, "no memory");
    return data + (S2_ALIGN - (uintptr_t)data % S2_ALIGN);
}

/* The whole file, in units of four bytes. */
static float *read_all(const char *path) {
    FILE *in = fopen(path, "rb");
    check(in != NULL && fseek(in, 0, SEEK_END) == 0, "IN cannot be read");
    const long bytes = ftell(in);
    check(bytes > (long)sizeof(header) && fseek(in, 0, SEEK_SET) == 0, "IN is too short");
    float *data = room_of((size_t)bytes);
    check(fread(data, 1, (size_t)bytes, in) == (size_t)bytes, "IN cannot be read");
    (void)fclose(in);
    return data;
}

static float *take(float **at, size_t count) {
    float *part = *at;
    *at += count;
    return part;
}

static void parse(float *data, const s2_kernels *kernels, adaptation *of) {
    memcpy(&of->head, data, sizeof of->head);
    const header *head = &of->head;
    check(head->magic == MAGIC && head->n_layers <= MOST_LAYERS, "IN has another format");
    float *at = data + sizeof *head / sizeof *data;
    memcpy(of->width, take(&at, head->n_layers + 1), (head->n_layers + 1) * sizeof *of->width);
    for (uint32_t k = 0; k < head->n_layers; k++) {
        const uint32_t n_in = of->width[k], n_out = of->width[k + 1];
        s2_layer *layer = &of->layers[k];
        *layer = (s2_layer){.n_in = n_in, .n_out = n_out, .relu = k + 1 < head->n_layers};
        layer->weight = take(&at, (size_t)n_in * n_out);
        layer->bias = take(&at, n_out);
        if (layer->relu) {
            layer->gamma = take(&at, n_out);
            layer->beta = take(&at, n_out);
            layer->mean = take(&at, n_out);
            layer->var = take(&at, n_out);
        }
    }
    of->x = take(&at, (size_t)head->n_train * of->width[0]);
    of->label = (const int32_t *)(const void *)take(&at, head->n_train);
    of->test_x = take(&at, (size_t)head->n_test * of->width[0]);
    of->net = (s2_net){kernels, head->n_layers, of->layers, 1e-5f, 0.1f, NULL, S2_SOFTMAX};
    check(s2_net_check(&of->net) == S2_OK, "IN has a network that is not sound");
}

static s2_status forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    const adaptation *of = context;
    for (uint32_t s = 0; s < count; s++) {
        const float *x = of->x + (size_t)sample[s] * of->width[0];
        const s2_status status = s2_net_forward(&of->net, 1, &x, &of->layout, 0,
                                                rows + (size_t)s * of->layout.row_stride,
                                                of->net_room, of->net_room_bytes);
        if (status != S2_OK) {
            return status;
        }
    }
    return S2_OK;
}

static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    adaptation *of = context;
    return s2_adapter_step(&of->adapter, batch, &of->update, stats, of->step_room,
                           of->step_room_bytes);
}

static void prepare(adaptation *of) {
    const header *head = &of->head;
    const uint32_t n_outputs = of->width[head->n_layers];
    check(s2_row_layout_init(&of->layout, head->n_layers, of->width, n_outputs, 1,
                             of->tap_offset) == S2_OK,
          "IN has widths out of range");
    of->adapter =
        (s2_adapter){.kernels = of->net.kernels, .layout = &of->layout, .rank = head->rank};
    of->adapter.packed = room_of(s2_adapter_floats(&of->layout, head->rank, 0) * sizeof(float));
    s2_adapter_init(&of->adapter, head->seed);
    s2_optimizer optimizer = {.rule = S2_SGD, .beta1_power = 1.0, .beta2_power = 1.0};
    of->update = s2_optimizer_step(&optimizer, (double)head->learning_rate);
    of->net_room_bytes = s2_net_forward_workspace_bytes(&of->net, 1);
    of->net_room = room_of(of->net_room_bytes);
    of->step_room_bytes = s2_adapter_workspace_bytes(&of->adapter, head->batch_size);
    of->step_room = room_of(of->step_room_bytes);
}

/* Algorithm 1: the first epoch fills the Skip-Cache. */
static double train(adaptation *of) {
    const header *head = &of->head;
    const uint32_t stride = of->layout.row_stride;
    s2_cache cache = {.rows = room_of((size_t)head->n_train * stride * sizeof(float)),
                      .filled = room_of(head->n_train),
                      .capacity = head->n_train,
                      .row_stride = stride};
    const s2_job job = {.n_samples = head->n_train,
                        .n_features = of->width[0],
                        .x = of->x,
                        .label = of->label,
                        .batch_size = head->batch_size,
                        .smallest_batch = 1,
                        .forward = forward,
                        .forward_context = of,
                        .cache = &cache,
                        .step = step,
                        .step_context = of,
                        .flushes = strcmp(s2_kernels_name(of->net.kernels), "scalar") != 0};
    const size_t room_bytes = s2_train_workspace_bytes(&job);
    void *room = room_of(room_bytes);
    s2_rng rng;
    s2_rng_seed(&rng, head->seed, S2_STREAM_ORDER);
    s2_epoch_stats stats = {0};
    for (uint32_t epoch = 0; epoch < head->epochs; epoch++) {
        check(s2_train_epoch(&job, &rng, &stats, room, room_bytes) == S2_OK, "training failed");
        check(stats.n_forward == (epoch == 0 ? head->n_train : 0), "a row was computed twice");
    }
    return stats.loss;
}

static void write_floats(FILE *out, const float *values, size_t count) {
    check(fwrite(values, sizeof *values, count, out) == count, "OUT cannot be written");
}

static void write_all(adaptation *of, const char *path) {
    const header *head = &of->head;
    const uint32_t n_outputs = of->width[head->n_layers];
    FILE *out = fopen(path, "wb");
    check(out != NULL, "OUT cannot be written");
    for (uint32_t k = 0; k < head->n_layers; k++) {
        const size_t n_a = (size_t)of->width[k] * head->rank, n_b = (size_t)head->rank * n_outputs;
        float *a = room_of(n_a * sizeof *a), *b = room_of(n_b * sizeof *b);
        s2_adapter_unpack(&of->adapter, k, a, b);
        write_floats(out, a, n_a);
        write_floats(out, b, n_b);
    }
    float *row = room_of(of->layout.row_stride * sizeof *row);
    float *logits = room_of(n_outputs * sizeof *logits);
    for (uint32_t s = 0; s < head->n_test; s++) {
        const float *x = of->test_x + (size_t)s * of->width[0], *of_row = row;
        const s2_batch one = {.count = 1, .x = &x, .row = &of_row};
        check(s2_net_forward(&of->net, 1, &x, &of->layout, 0, row, of->net_room,
                             of->net_room_bytes) == S2_OK &&
                  s2_adapter_forward(&of->adapter, &one, logits, of->step_room,
                                     of->step_room_bytes) == S2_OK,
              "prediction failed");
        write_floats(out, logits, n_outputs);
    }
    check(fclose(out) == 0, "OUT cannot be written");
}

int main(int argc, char **argv) {
    static adaptation of;
    check(argc == 4, "expected KERNELS IN OUT");
    const s2_kernels *kernels = s2_kernels_choose(argv[1]);
    check(kernels != NULL, "this processor has no such KERNELS");
    parse(read_all(argv[2]), kernels, &of);
    prepare(&of);
    const double loss = train(&of);
    write_all(&of, argv[3]);
    printf("adapt_main: %s, %u epochs, loss %.6f\n", s2_kernels_name(kernels),
           (unsigned)of.head.epochs, loss);
    return 0;
}
