/*
 * adapt_main.c - one full adaptation as a device does it, from a file to a file, so that processors
 * can be compared (tests/boards.py):
 *
 *   adapt_main KERNELS IN OUT
 *
 * IN: the numbers of `header`, the network as a block (docs/c-blob.md), x (n_train, n_features) as
 * float32, labels (n_train) as int32, x (n_test, n_features). OUT, float32: of each tap lora_a
 * (tap_width, rank) and lora_b (rank, n_outputs); logits of the test samples (n_test, n_outputs).
 */
#include "skip2_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x50325332 };

typedef struct {
    uint32_t magic, rank, epochs, batch_size, seed, n_train, n_test, blob_bytes;
    float learning_rate;
} header;

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "adapt_main: %s\n", what);
        exit(1);
    }
}

static void *room_of(size_t bytes) {
    char *data = malloc(bytes + S2_ALIGN);
    check(data != NULL, "no memory");
    return data + (S2_ALIGN - (uintptr_t)data % S2_ALIGN);
}

/* The whole file. */
static unsigned char *read_all(const char *path) {
    FILE *in = fopen(path, "rb");
    check(in != NULL && fseek(in, 0, SEEK_END) == 0, "IN cannot be read");
    const long bytes = ftell(in);
    check(bytes > (long)sizeof(header) && fseek(in, 0, SEEK_SET) == 0, "IN is too short");
    unsigned char *data = room_of((size_t)bytes);
    check(fread(data, 1, (size_t)bytes, in) == (size_t)bytes, "IN cannot be read");
    (void)fclose(in);
    return data;
}

/* Algorithm 1: each sample passes the network once. */
static double adapt(s2_device *device, const header *head, const float *x, const int32_t *label) {
    for (uint32_t s = 0; s < head->n_train; s++) {
        const float *own = x + (size_t)s * device->model->n_features;
        check(s2_device_add_sample(device, own, label[s]) == S2_OK, "a sample was refused");
    }
    s2_epoch_stats stats = {0};
    for (uint32_t epoch = 0; epoch < head->epochs; epoch++) {
        check(s2_device_train_epoch(device, &stats) == S2_OK, "training failed");
    }
    return stats.loss;
}

static void write_floats(FILE *out, const float *values, size_t count) {
    check(fwrite(values, sizeof *values, count, out) == count, "OUT cannot be written");
}

static void write_all(s2_device *device, const float *x, uint32_t n_test, const char *path) {
    const s2_model *model = device->model;
    FILE *out = fopen(path, "wb");
    check(out != NULL, "OUT cannot be written");
    for (uint32_t k = 0; k < model->n_taps; k++) {
        const size_t n_a = (size_t)model->tap_width[k] * device->adapter.rank;
        const size_t n_b = (size_t)device->adapter.rank * model->n_outputs;
        float *a = room_of(n_a * sizeof *a), *b = room_of(n_b * sizeof *b);
        s2_adapter_unpack(&device->adapter, k, a, b);
        write_floats(out, a, n_a);
        write_floats(out, b, n_b);
    }
    float *logits = room_of(model->n_outputs * sizeof *logits);
    for (uint32_t s = 0; s < n_test; s++) {
        check(s2_device_predict(device, x + (size_t)s * model->n_features, logits) == S2_OK,
              "prediction failed");
        write_floats(out, logits, model->n_outputs);
    }
    check(fclose(out) == 0, "OUT cannot be written");
}

int main(int argc, char **argv) {
    static s2_device device;
    s2_model model;
    header head;
    check(argc == 4, "expected KERNELS IN OUT");
    const unsigned char *in = read_all(argv[2]), *blob = in + sizeof head;
    memcpy(&head, in, sizeof head);
    check(head.magic == MAGIC, "IN has another format");
    check(s2_model_read(&model, blob, head.blob_bytes) == S2_OK, "IN has a damaged network");
    const s2_device_options options = {.capacity = head.n_train,
                                       .rank = head.rank,
                                       .batch_size = head.batch_size,
                                       .learning_rate = (double)head.learning_rate,
                                       .seed = head.seed,
                                       .kernels = argv[1]};
    const size_t arena_bytes = s2_device_bytes(&model, &options);
    check(arena_bytes < SIZE_MAX,
          "this processor has no such KERNELS, or options are out of range");
    check(s2_device_init(&device, &model, &options, room_of(arena_bytes), arena_bytes) == S2_OK,
          "the device did not begin");
    const float *x = (const float *)(const void *)(blob + head.blob_bytes);
    const float *label = x + (size_t)head.n_train * model.n_features;
    const double loss = adapt(&device, &head, x, (const int32_t *)(const void *)label);
    write_all(&device, label + head.n_train, head.n_test, argv[3]);
    printf("adapt_main: %s, %u epochs, loss %.6f\n", argv[1], (unsigned)head.epochs, loss);
    return 0;
}
