/*
 * firmware.c - what bench/arm/size.py measures: the smallest firmware for a Cortex-M4F that learns on
 * N_SAMPLES samples with the network in `blob`, and predicts. CACHE says how rows are kept. Weights
 * are zeros and samples random: sizes and depths do not depend on them.
 *
 * It prints bytes: of the cache (rows, and the samples where they stay beside them), of all other RAM
 * that it uses, and of the stack that was written.
 */
#include "skip2_device.h"

#include <string.h>

#ifndef CACHE
#define CACHE S2_ROWS_FLOAT32
#endif

enum { N_SAMPLES = 470, N_FEATURES = 256, N_OUTPUTS = 3, RECORD_BYTES = 8192 };
enum { PAINT = 0x5a, PAINTED = 16384, WRITE = 0x04 };

extern const unsigned char blob[], blob_end[]; /* in .weights, size.py makes it */

static unsigned char arena[1u << 20] __attribute__((aligned(S2_ALIGN)));
static uint32_t record[RECORD_BYTES / 4]; /* stands for a page of flash: not counted */
static struct {
    s2_model model;
    s2_device device;
    float x[N_FEATURES], logits[N_OUTPUTS];
} state;

static void read_sensor(s2_rng *rng) {
    for (uint32_t i = 0; i < N_FEATURES; i++) {
        state.x[i] = s2_rng_unit(rng);
    }
}

static s2_status learn(void) {
    const s2_device_options options = {.capacity = N_SAMPLES,
                                       .rows = CACHE,
                                       .rank = 4,
                                       .batch_size = 20,
                                       .learning_rate = 0.01,
                                       .seed = 1};
    s2_device *device = &state.device;
    s2_status status = s2_model_read(&state.model, blob, (size_t)(blob_end - blob));
    if (status == S2_OK) {
        status = s2_device_init(device, &state.model, &options, arena, sizeof arena);
    }
    s2_rng rng;
    s2_rng_seed(&rng, 1, S2_STREAM_ORDER);
    for (uint32_t s = 0; s < N_SAMPLES && status == S2_OK; s++) {
        read_sensor(&rng);
        status = s2_device_add_sample(device, state.x, (int32_t)(s % N_OUTPUTS));
    }
    s2_epoch_stats stats;
    for (int epoch = 0; epoch < 2 && status == S2_OK; epoch++) {
        status = s2_device_train_epoch(device, &stats);
    }
    if (status == S2_OK) {
        status = s2_device_adapters_write(device, record, sizeof record);
    }
    if (status == S2_OK) {
        status = s2_device_adapters_read(device, record, s2_device_adapters_bytes(device));
    }
    return status == S2_OK ? s2_device_predict(device, state.x, state.logits) : status;
}

/* ---- what is measured ------------------------------------------------------------------------ */

static void say(const char *name, size_t value) {
    char text[64], *at = text + sizeof text;
    *--at = 0;
    *--at = '\n';
    do {
        *--at = (char)('0' + value % 10);
    } while ((value /= 10) > 0);
    const size_t length = strlen(name);
    at -= length;
    memcpy(at, name, length);
    register uintptr_t r0 __asm__("r0") = WRITE;
    register const char *r1 __asm__("r1") = at;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static volatile unsigned char *stack_pointer(void) {
    volatile unsigned char *at;
    __asm__ volatile("mov %0, sp" : "=r"(at));
    return at;
}

int main(void) {
    volatile unsigned char *top = stack_pointer();
    for (size_t i = 1; i <= PAINTED; i++) {
        top[-(ptrdiff_t)i] = PAINT;
    }
    const s2_status status = learn();
    size_t depth = PAINTED;
    while (depth > 0 && top[-(ptrdiff_t)depth] == PAINT) {
        depth--;
    }
    const s2_device *device = &state.device;
    const size_t row = device->codes != NULL ? device->code_bytes
                                             : device->layout.row_stride * sizeof *device->rows;
    const size_t x = device->x != NULL ? sizeof state.x : 0;
    const size_t cache = N_SAMPLES * (row + x);
    say("cache ", cache);
    say("ram ", device->arena_bytes - cache + sizeof state);
    say("stack ", depth);
    say("status ", (size_t)status);
    return status == S2_OK ? 0 : 1;
}
