/*
 * module.c - the core as a module of WebAssembly: index.js writes numbers into its memory and calls
 * what is exported here. An instance has one set of rows and one adapter; its memory grows, and goes
 * with the instance, so nothing is freed. Pointers are offsets in that memory. Statuses are those of
 * skip2.h.
 */
#include "skip2_exact.h"

#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))

enum { MOST_TAPS = 64, PAGE_BYTES = 65536 };

extern unsigned char __heap_base; /* the linker's: the first byte that nothing uses */
static size_t used;               /* bytes of the memory, 0 before the first call */

static uint32_t width[MOST_TAPS], offset[MOST_TAPS];
static s2_row_layout layout;
static s2_adapter adapter;
static void *step_room, *epoch_room, *solve_room;
static size_t step_bytes, epoch_bytes;
static uint8_t *filled;
static s2_cache cache;
static s2_job job;
static s2_rng rng;
static s2_optimizer optimizer;
static double learning_rate;
static s2_epoch_stats stats;
static s2_columns columns;
static float factor;

/* Zeros, aligned; NULL where the engine has no more memory. */
EXPORT(reserve) void *reserve(size_t bytes) {
    const size_t start = ((used ? used : (size_t)&__heap_base) + S2_ALIGN - 1) & ~(S2_ALIGN - 1u);
    const size_t there = __builtin_wasm_memory_size(0) * PAGE_BYTES;
    if (start + bytes < start) {
        return NULL;
    }
    if (start + bytes > there) {
        const size_t pages = (start + bytes - there - 1) / PAGE_BYTES + 1;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) {
            return NULL;
        }
    }
    used = start + bytes;
    return (void *)start;
}

/* Where the widths of taps are to be written before `setup`, MOST_TAPS of them. */
EXPORT(widths) uint32_t *widths(void) {
    return width;
}

/* `most`: samples of a call of `logits`, and of a batch. */
EXPORT(setup)
s2_status setup(uint32_t n_taps, uint32_t n_outputs, uint32_t rank, uint32_t most, int scalar) {
    s2_status status = n_taps > MOST_TAPS ? S2_BAD_SHAPE : S2_OK;
    if (status == S2_OK) {
        status = s2_row_layout_init(&layout, n_taps, width, n_outputs, 0, offset);
    }
    if (status == S2_OK) {
        status = s2_adapter_check(&layout, rank);
    }
    if (status != S2_OK) {
        return status;
    }
    adapter = (s2_adapter){.kernels = s2_kernels_choose(scalar ? "scalar" : NULL),
                           .layout = &layout,
                           .rank = rank,
                           .has_bias = 1,
                           .loss = S2_SOFTMAX};
    adapter.packed = reserve(s2_adapter_floats(&layout, rank, 1) * sizeof(float));
    step_bytes = s2_adapter_workspace_bytes(&adapter, most);
    step_room = reserve(step_bytes);
    return adapter.packed != NULL && step_room != NULL ? S2_OK : S2_NO_ROOM;
}

EXPORT(kernels) const char *kernels(void) {
    return s2_kernels_name(adapter.kernels);
}

/* Of a row, in floats: where a tap starts, the logits after the last. */
EXPORT(place) uint32_t place(uint32_t tap) {
    return tap < layout.n_taps ? offset[tap] : layout.logits_offset;
}
EXPORT(stride) uint32_t stride(void) {
    return layout.row_stride;
}

/* ---- the adapter ----------------------------------------------------------------------------- */

EXPORT(init) void init(uint64_t seed) {
    s2_adapter_init(&adapter, seed);
}
EXPORT(pack) void pack(uint32_t tap, const float *lora_a, const float *lora_b) {
    s2_adapter_pack(&adapter, tap, lora_a, lora_b);
}
EXPORT(unpack) void unpack(uint32_t tap, float *lora_a, float *lora_b) {
    s2_adapter_unpack(&adapter, tap, lora_a, lora_b);
}
EXPORT(bias) float *bias(void) {
    return s2_adapter_bias(&adapter);
}

/* rows (count, stride) to out (count, n_outputs), one by one: a row has the same bits in any batch. */
EXPORT(logits) s2_status logits(uint32_t count, const float *rows, float *out) {
    s2_status status = S2_OK;
    for (uint32_t s = 0; status == S2_OK && s < count; s++) {
        const float *row = rows + (size_t)s * layout.row_stride;
        const s2_batch one = {.count = 1, .x = &row, .row = &row};
        status = s2_adapter_forward(&adapter, &one, out + (size_t)s * layout.n_outputs, step_room,
                                    step_bytes);
    }
    return status;
}

/* ---- steps (Algorithm 1), all rows in the cache ---------------------------------------------- */

static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *of_batch) {
    (void)context;
    const s2_update update = s2_optimizer_step(&optimizer, learning_rate);
    return s2_adapter_step(&adapter, batch, &update, of_batch, step_room, step_bytes);
}

static s2_status forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    (void)context, (void)sample, (void)count, (void)rows;
    return S2_FORWARD_FAILED; /* all rows are there */
}

EXPORT(begin)
s2_status begin(uint32_t n_samples, float *rows, const int32_t *label, uint32_t batch_size,
                uint64_t seed, s2_rule rule, double beta1, double beta2, double decay,
                int decoupled) {
    optimizer = (s2_optimizer){rule, beta1, beta2, 1e-8, decay, decoupled, 1.0, 1.0};
    const s2_status status = s2_optimizer_check(&optimizer);
    if (status != S2_OK) {
        return status;
    }
    const size_t floats = s2_adapter_floats(&layout, adapter.rank, 1);
    for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
        if ((adapter.moments[m] = reserve(floats * sizeof(float))) == NULL) {
            return S2_NO_ROOM;
        }
    }
    if ((filled = reserve(n_samples)) == NULL) {
        return S2_NO_ROOM;
    }
    memset(filled, 1, n_samples);
    cache = (s2_cache){
        .rows = rows, .filled = filled, .capacity = n_samples, .row_stride = layout.row_stride};
    job = (s2_job){.n_samples = n_samples,
                   .n_features = layout.row_stride,
                   .x = rows,
                   .label = label,
                   .batch_size = batch_size,
                   .smallest_batch = 1,
                   .forward = forward,
                   .cache = &cache,
                   .step = step};
    s2_rng_seed(&rng, seed, S2_STREAM_ORDER);
    epoch_bytes = s2_train_workspace_bytes(&job);
    epoch_room = reserve(epoch_bytes);
    return epoch_room != NULL ? S2_OK : S2_NO_ROOM;
}

EXPORT(epoch) s2_status epoch(double rate) {
    learning_rate = rate;
    return s2_train_epoch(&job, &rng, &stats, epoch_room, epoch_bytes);
}
/* Of the last epoch. */
EXPORT(loss) double loss(void) {
    return stats.loss;
}
EXPORT(correct) uint32_t correct(void) {
    return stats.correct;
}

/* ---- scaled columns and the exact solver ----------------------------------------------------- */

/* Mean and variance of the columns of rows: (stride) each. */
EXPORT(moments)
s2_status moments(uint32_t n_samples, const float *rows, double *mean, double *var) {
    s2_moments of = {.width = layout.row_stride};
    of.first = reserve(of.width * sizeof(float));
    of.sum = reserve(of.width * sizeof(double));
    of.squares = reserve(of.width * sizeof(double));
    if (of.first == NULL || of.sum == NULL || of.squares == NULL) {
        return S2_NO_ROOM;
    }
    s2_moments_add(adapter.kernels, &of, n_samples, rows, layout.row_stride, NULL);
    s2_moments_finish(&of, mean, var);
    return S2_OK;
}

EXPORT(scale)
void scale(uint32_t n_samples, float *rows, const float *mean, const float *by) {
    s2_scale_rows(adapter.kernels, n_samples, layout.row_stride, mean, by, rows);
}

EXPORT(lanes) size_t lanes(uint32_t n_samples) {
    return s2_sample_lanes(n_samples);
}

/* The Gram matrix of the columns of all taps, scaled as they are read, with a trace of 1 a sample. */
static s2_status gram_of_taps(float *gram) {
    s2_status status = S2_OK;
    for (uint32_t tap = 0; status == S2_OK && tap < layout.n_taps; tap++) {
        columns.first = offset[tap];
        columns.width = width[tap];
        const size_t bytes = s2_gram_bytes(columns.n_samples);
        if (tap == 0 && (solve_room = reserve(bytes)) == NULL) {
            return S2_NO_ROOM;
        }
        status = s2_gram_add(&columns, gram, solve_room, bytes);
    }
    const double size = s2_gram_trace(columns.n_samples, gram) / columns.n_samples;
    factor = size > 0.0 ? (float)(1.0 / size) : 1.0f;
    s2_gram_finish(columns.kernels, columns.n_samples, factor, gram);
    return status;
}

/* Targets, coefficients and products (n_outputs, lanes), weights (lanes), bias (n_outputs); what is
 * learned may be fewer outputs than a row has. */
EXPORT(solve)
s2_status solve(uint32_t n_samples, const float *rows, const float *mean, const float *by,
                uint32_t n_outputs, const float *target, const float *weight, const float *start,
                double penalty, float *coefficients, float *products, float *of_bias) {
    columns = (s2_columns){.kernels = adapter.kernels,
                           .n_samples = n_samples,
                           .rows = rows,
                           .row_stride = layout.row_stride,
                           .mean = mean,
                           .scale = by};
    float *gram = reserve(s2_gram_floats(n_samples) * sizeof(float));
    if (gram == NULL) {
        return S2_NO_ROOM;
    }
    s2_status status = gram_of_taps(gram);
    const size_t in_lanes = s2_sample_lanes(n_samples);
    const s2_dual dual = {
        .objective = {adapter.kernels, S2_SOFTMAX, n_outputs, in_lanes, target, in_lanes, weight},
        .n_samples = n_samples,
        .n_problems = 1,
        .gram = gram,
        .offset = start};
    if (status == S2_OK) {
        status = s2_dual_check(&dual);
    }
    const size_t bytes = s2_dual_bytes(n_samples, n_outputs, 1);
    void *room = reserve(bytes);
    if (status != S2_OK || room == NULL) {
        return status != S2_OK ? status : S2_NO_ROOM;
    }
    const s2_dual_solution solution = {coefficients, products, of_bias};
    s2_dual_report report;
    return s2_dual_solve(&dual, penalty, 1e-5, &solution, &report, room, bytes);
}

/* After `solve`: the weights of a tap's scaled columns, (tap_width, n_outputs). */
EXPORT(weights)
s2_status weights(uint32_t tap, uint32_t n_outputs, const float *coefficients, float *out) {
    const size_t bytes = s2_column_weights_bytes(n_outputs);
    void *room = reserve(bytes);
    if (room == NULL) {
        return S2_NO_ROOM;
    }
    columns.first = offset[tap];
    columns.width = width[tap];
    const s2_status status = s2_column_weights(&columns, n_outputs, coefficients, out, room, bytes);
    for (size_t i = 0; i < (size_t)columns.width * n_outputs; i++) {
        out[i] *= factor;
    }
    return status;
}
