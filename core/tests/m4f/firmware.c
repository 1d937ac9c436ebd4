/*
 * firmware.c - what bench/arm/size.py measures: the smallest firmware for a Cortex-M4F that adapts
 * 256-96-96-3 at rank 4 on 470 samples, and predicts. The cache is chosen by CACHE: FLOAT32 (samples
 * beside it), FLOAT16, INT8 (both with the samples as their first tap) or PROJECTED (4 numbers of
 * each tap). Weights are zeros and samples random: sizes and depths do not depend on them.
 *
 * It prints bytes: of the cache, of all other RAM that it uses, and of the stack that was written.
 */
#include "skip2_codes.h"

#include <string.h>

#define FLOAT32   1
#define FLOAT16   2
#define INT8      3
#define PROJECTED 4
#ifndef CACHE
#define CACHE FLOAT32
#endif

enum { N_LAYERS = 3, RANK = 4, BATCH = 20, N_SAMPLES = 470, N_FEATURES = 256, N_OUTPUTS = 3 };
enum { FULL_STRIDE = 464, CODED_COLUMNS = 448, PAINT = 0x5a, PAINTED = 16384, WRITE = 0x04 };

#define IN_FLASH __attribute__((section(".weights")))
static const uint32_t full_width[N_LAYERS + 1] = {N_FEATURES, 96, 96, N_OUTPUTS};
IN_FLASH static const float weights[256 * 96 + 96 * 96 + 96 * 3] = {0};
IN_FLASH static const float vectors_of_96[96] = {0};
#if CACHE == PROJECTED
IN_FLASH static const float projection[CODED_COLUMNS][RANK] = {{0}};
static const uint32_t tap_width[N_LAYERS] = {RANK, RANK, RANK};
#else
static const uint32_t *const tap_width = full_width;
#endif
#if CACHE == FLOAT16 || CACHE == INT8
IN_FLASH static const float scale[CODED_COLUMNS] = {[0 ... CODED_COLUMNS - 1] = 1.0f};
IN_FLASH static const float offset[CODED_COLUMNS] = {0};
#endif

static unsigned char arena[1u << 17] __attribute__((aligned(S2_ALIGN)));
static unsigned char cache_arena[1u << 20] __attribute__((aligned(S2_ALIGN)));
static size_t arena_used, cache_used;

static struct {
    s2_layer layer[N_LAYERS];
    s2_net net;
    uint32_t full_offset[N_LAYERS], tap_offset[N_LAYERS];
    s2_row_layout full, layout;
    s2_adapter adapter;
    s2_update update;
    s2_coded coded;
    s2_cache cache;
    s2_job job;
    s2_rng order, sensor;
    float *net_room, *step_room, *train_room, *full_row, *x;
    size_t net_bytes, step_bytes, train_bytes;
    int32_t label[N_SAMPLES];
} device;

static void *take(size_t bytes) {
    void *data = arena + arena_used;
    arena_used += (bytes + S2_ALIGN - 1u) / S2_ALIGN * S2_ALIGN;
    return data;
}

static void *take_cache(size_t bytes) {
    void *data = cache_arena + cache_used;
    cache_used += (bytes + S2_ALIGN - 1u) / S2_ALIGN * S2_ALIGN;
    return data;
}

static void build_net(void) {
    const float *at = weights;
    for (uint32_t k = 0; k < N_LAYERS; k++) {
        float *vector = (float *)(uintptr_t)vectors_of_96;
        device.layer[k] = (s2_layer){.n_in = full_width[k],
                                     .n_out = full_width[k + 1],
                                     .weight = (float *)(uintptr_t)at,
                                     .bias = vector,
                                     .relu = k + 1 < N_LAYERS};
        if (k + 1 < N_LAYERS) {
            device.layer[k].gamma = device.layer[k].beta = vector;
            device.layer[k].mean = device.layer[k].var = vector;
        }
        at += full_width[k] * full_width[k + 1];
    }
    const s2_kernels *kernels = s2_kernels_choose(NULL);
    device.net = (s2_net){kernels, N_LAYERS, device.layer, 1e-5f, 0.1f, NULL, S2_SOFTMAX};
    device.net_bytes = s2_net_forward_workspace_bytes(&device.net, 1);
    device.net_room = take(device.net_bytes);
}

/* The row of one sample, as the cache has it before it is coded. */
static s2_status compute_row(const float *x, float *row) {
#if CACHE == PROJECTED
    float *full_row = device.full_row;
#else
    float *full_row = row;
#endif
    const s2_status status = s2_net_forward(&device.net, 1, &x, &device.full, 0, full_row,
                                            device.net_room, device.net_bytes);
#if CACHE == PROJECTED
    for (uint32_t k = 0; k < N_LAYERS; k++) {
        const float *tap = full_row + device.full_offset[k];
        for (uint32_t r = 0; r < RANK; r++) {
            float sum = 0.0f;
            for (uint32_t i = 0; i < full_width[k]; i++) {
                sum += tap[i] * projection[device.full_offset[k] + i][r];
            }
            row[device.tap_offset[k] + r] = sum;
        }
    }
    memcpy(row + device.layout.logits_offset, full_row + device.full.logits_offset,
           N_OUTPUTS * sizeof *row);
#endif
    return status;
}

static void read_sensor(float *x) {
    for (uint32_t i = 0; i < N_FEATURES; i++) {
        x[i] = s2_rng_unit(&device.sensor);
    }
}

static s2_status forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    s2_status status = S2_OK;
    (void)context;
    for (uint32_t s = 0; s < count && status == S2_OK; s++) {
#if CACHE == FLOAT32
        const float *x = device.x + (size_t)sample[s] * N_FEATURES;
#else
        (void)sample; /* each came once, and went into the cache */
        read_sensor(device.x);
        const float *x = device.x;
#endif
        status = compute_row(x, rows + (size_t)s * device.layout.row_stride);
    }
    return status;
}

static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    (void)context;
    return s2_adapter_step(&device.adapter, batch, &device.update, stats, device.step_room,
                           device.step_bytes);
}

static s2_status lay_out(void) {
    const int x_beside = CACHE == FLOAT32;
    s2_status status = s2_row_layout_init(&device.full, N_LAYERS, full_width, N_OUTPUTS, x_beside,
                                          device.full_offset);
    if (status == S2_OK) {
        status = s2_row_layout_init(&device.layout, N_LAYERS, tap_width, N_OUTPUTS, x_beside,
                                    device.tap_offset);
    }
    const size_t stride = device.layout.row_stride;
    device.cache = (s2_cache){.capacity = N_SAMPLES, .row_stride = (uint32_t)stride};
    device.cache.filled = take_cache(N_SAMPLES);
#if CACHE == FLOAT16 || CACHE == INT8
    device.coded = (s2_coded){.kernels = device.net.kernels,
                              .dtype = CACHE == INT8 ? S2_CODE_INT8 : S2_CODE_FLOAT16,
                              .n_columns = CODED_COLUMNS,
                              .n_floats = N_OUTPUTS,
                              .scale = scale,
                              .offset = offset};
    device.coded.rows = take_cache(N_SAMPLES * s2_coded_bytes(&device.coded));
    device.cache.coded = &device.coded;
#else
    device.cache.rows = take_cache(N_SAMPLES * stride * sizeof(float));
#endif
    device.x = x_beside ? take_cache(N_SAMPLES * N_FEATURES * sizeof(float))
                        : take(N_FEATURES * sizeof(float));
    device.full_row = CACHE == PROJECTED ? take(FULL_STRIDE * sizeof(float)) : NULL;
    device.adapter =
        (s2_adapter){.kernels = device.net.kernels, .layout = &device.layout, .rank = RANK};
    device.adapter.packed = take(s2_adapter_floats(&device.layout, RANK, 0) * sizeof(float));
    device.step_bytes = s2_adapter_workspace_bytes(&device.adapter, BATCH);
    device.step_room = take(device.step_bytes);
    return status;
}

static s2_status adapt(void) {
    s2_optimizer optimizer = {.rule = S2_SGD, .beta1_power = 1.0, .beta2_power = 1.0};
    device.update = s2_optimizer_step(&optimizer, 0.01);
    s2_adapter_init(&device.adapter, 1);
    s2_rng_seed(&device.order, 1, S2_STREAM_ORDER);
    device.job = (s2_job){.n_samples = N_SAMPLES,
                          .n_features = CACHE == FLOAT32 ? N_FEATURES : 0,
                          .x = device.x,
                          .label = device.label,
                          .batch_size = BATCH,
                          .smallest_batch = 1,
                          .forward = forward,
                          .cache = &device.cache,
                          .step = step};
    device.train_bytes = s2_train_workspace_bytes(&device.job);
    device.train_room = take(device.train_bytes);
    s2_epoch_stats stats;
    s2_status status = S2_OK;
    for (int epoch = 0; epoch < 2 && status == S2_OK; epoch++) {
        status = s2_train_epoch(&device.job, &device.order, &stats, device.train_room,
                                device.train_bytes);
    }
    return status;
}

static s2_status predict(float *logits) {
    float *row = device.train_room, *x = row + device.layout.row_stride;
    read_sensor(x);
    const float *of_x = x, *of_row = row;
    const s2_batch one = {.count = 1, .x = &of_x, .row = &of_row};
    const s2_status status = compute_row(x, row);
    return status == S2_OK ? s2_adapter_forward(&device.adapter, &one, logits, device.step_room,
                                                device.step_bytes)
                           : status;
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
    float logits[N_OUTPUTS];
    build_net();
    s2_status status = lay_out();
    status = status == S2_OK ? adapt() : status;
    status = status == S2_OK ? predict(logits) : status;
    size_t depth = PAINTED;
    while (depth > 0 && top[-(ptrdiff_t)depth] == PAINT) {
        depth--;
    }
    say("cache ", cache_used);
    say("ram ", arena_used + sizeof device);
    say("stack ", depth);
    return status == S2_OK && arena_used <= sizeof arena && cache_used <= sizeof cache_arena ? 0
                                                                                             : 1;
}
