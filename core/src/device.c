/* device.c - samples come one by one, their rows are kept, adapters are trained on these. */
#include "device.h"

#include <math.h>
#include <string.h>

/* ---- memory ---------------------------------------------------------------------------------- */

/* Whether rows lie as floats, padded; else in fewer bytes. */
static int lies_plain(const s2_device *device) {
    return device->options.rows == S2_ROWS_FLOAT32 && device->model->projection == 0;
}

/* Whether the first tap is the sample, which is kept beside its row then. */
static int keeps_x(const s2_device *device) {
    return lies_plain(device) && device->options.taps == NULL && s2_model_taps_x(device->model);
}

static int options_are_sound(const s2_model *model, const s2_device_options *options) {
    const int own_rank = model->rank == 0 || options->rank == 0 || options->rank == model->rank;
    return options->capacity > 0 && options->capacity <= INT32_MAX && options->batch_size > 0 &&
           options->batch_size <= S2_MAX_BATCH && options->rows <= S2_ROWS_INT8 &&
           options->when_full <= S2_OVERWRITE_OLDEST && options->rule <= S2_ADAM && own_rank &&
           isfinite(options->learning_rate) && options->learning_rate > 0.0 &&
           (model->n_layers > 0 || options->taps != NULL) &&
           (model->n_derived == 0 || options->taps == NULL);
}

/* A job over `n_samples` of those that are kept. */
static s2_job job_of(s2_device *device, s2_cache *cache, uint32_t n_samples) {
    const int plain = lies_plain(device);
    float *const codes = (float *)(void *)device->codes; /* as s2_device_read reads them */
    *cache = (s2_cache){.rows = plain ? device->rows : codes,
                        .filled = device->filled,
                        .capacity = n_samples,
                        .row_stride = plain ? device->layout.row_stride
                                            : (uint32_t)(device->code_bytes / sizeof(float))};
    const uint32_t most = device->options.batch_size;
    return (s2_job){.n_samples = n_samples,
                    .n_features = keeps_x(device) ? device->model->n_features : 0,
                    .x = keeps_x(device) ? device->x : device->row,
                    .label = device->label,
                    .n_outputs = device->layout.n_outputs,
                    .batch_size = most < n_samples ? most : n_samples,
                    .smallest_batch = 1,
                    .cache = cache};
}

/* What an epoch over all that can be kept takes, without the step. */
static size_t epoch_bytes(s2_device *device) {
    static const int32_t any = 0; /* the size asks only whether there are labels */
    s2_cache cache;
    s2_job job = job_of(device, &cache, device->options.capacity);
    job.label = &any;
    return s2_train_workspace_bytes(&job);
}

/* The adapters, which read rows as they are kept. */
static s2_adapter learning(const s2_device *device) {
    s2_adapter adapter = device->adapter;
    adapter.reader = lies_plain(device) ? NULL : &device->reader;
    return adapter;
}

static size_t room_bytes(s2_device *device) {
    const uint32_t most = device->options.batch_size, capacity = device->options.capacity;
    const s2_adapter adapter = learning(device);
    const size_t of_step = s2_adapter_workspace_bytes(&adapter, most < capacity ? most : capacity);
    const size_t of_epoch = s2_plus(s2_round_up(epoch_bytes(device), S2_ALIGN), of_step);
    const size_t of_forward = s2_model_workspace_bytes(device->model);
    const size_t of_one = s2_adapter_workspace_bytes(&device->adapter, 1);
    const size_t of_record = s2_device_adapters_bytes(device);
    size_t most_bytes = of_epoch > of_forward ? of_epoch : of_forward;
    most_bytes = most_bytes > of_one ? most_bytes : of_one;
    return most_bytes > of_record ? most_bytes : of_record;
}

/* Of firmware's taps that become projected ones. */
static void take_taps(s2_device *device, s2_arena *arena) {
    for (uint32_t k = 0; device->options.taps != NULL && k < device->model->n_taps; k++) {
        const uint32_t width = device->model->tap_width[k];
        const int whole = width == device->tap_width[k];
        device->tap[k] = whole && device->row != NULL ? device->row + device->tap_offset[k] : NULL;
        if (!whole) {
            device->tap[k] = s2_take_floats(arena, 1, width);
        }
    }
}

static void take_all(s2_device *device, s2_arena *arena) {
    const uint32_t capacity = device->options.capacity;
    const size_t packed =
        s2_adapter_floats(&device->layout, device->adapter.rank, device->adapter.has_bias);
    device->adapter.packed = s2_take_floats(arena, 1, packed);
    for (uint32_t m = 0; m < s2_optimizer_moments(device->options.rule); m++) {
        device->adapter.moments[m] = s2_take_floats(arena, 1, packed);
    }
    device->row = s2_take_floats(arena, 1, device->layout.row_stride);
    take_taps(device, arena);
    device->label = s2_take(arena, 1, capacity, sizeof *device->label);
    if (lies_plain(device)) {
        device->rows = s2_take_floats(arena, capacity, device->layout.row_stride);
    } else {
        device->codes = s2_take(arena, capacity, device->code_bytes, 1);
    }
    device->filled = s2_take(arena, 1, capacity, 1);
    if (keeps_x(device)) {
        device->x = s2_take_floats(arena, capacity, device->model->n_features);
    }
    device->room_bytes = room_bytes(device);
    device->room = s2_take(arena, 1, device->room_bytes, 1);
}

/* All but the memory. */
static s2_status configure(s2_device *device, const s2_model *model,
                           const s2_device_options *options) {
    *device = (s2_device){.model = model, .options = *options};
    if (!options_are_sound(model, options)) {
        return S2_BAD_VALUE;
    }
    const s2_kernels *kernels = s2_kernels_choose(options->kernels);
    if (kernels == NULL) {
        return S2_BAD_VALUE;
    }
    for (uint32_t k = 0; k < model->n_taps; k++) {
        device->tap_width[k] = s2_model_tap_width(model, k);
    }
    const s2_status status =
        s2_row_layout_init(&device->layout, model->n_taps, device->tap_width, model->n_outputs,
                           keeps_x(device), device->tap_offset);
    if (status != S2_OK) {
        return status;
    }
    const uint32_t rank = options->rank != 0 ? options->rank : 4u;
    const int inside = model->rank != 0;
    device->code_bytes = s2_device_code_bytes(&device->layout, options->rows);
    device->reader = (s2_row_reader){s2_device_read, device};
    device->adapter =
        (s2_adapter){.kernels = kernels,
                     .layout = &device->layout,
                     .rank = inside ? model->rank : rank,
                     .has_bias = inside ? model->has_bias != 0 : options->has_bias != 0,
                     .loss = S2_SOFTMAX};
    return s2_adapter_check(&device->layout, device->adapter.rank);
}

size_t s2_device_bytes(const s2_model *model, const s2_device_options *options) {
    s2_device device;
    s2_arena arena = {0};
    if (configure(&device, model, options) != S2_OK) {
        return SIZE_MAX;
    }
    take_all(&device, &arena);
    return arena.used;
}

static void begin_adapters(s2_device *device) {
    s2_adapter *adapter = &device->adapter;
    s2_adapter_init(adapter, device->options.seed);
    if (device->model->rank == 0) {
        return;
    }
    const float *at = device->model->adapters;
    for (uint32_t k = 0; k < device->layout.n_taps; k++) {
        const float *lora_b = at + (size_t)device->tap_width[k] * adapter->rank;
        s2_adapter_pack(adapter, k, at, lora_b);
        at = lora_b + (size_t)adapter->rank * device->layout.n_outputs;
    }
    if (adapter->has_bias) {
        memcpy(s2_adapter_bias(adapter), at, device->layout.n_outputs * sizeof *at);
    }
}

void s2_device_rest(s2_device *device) {
    const s2_adapter *adapter = &device->adapter;
    const s2_rule rule = device->options.rule;
    const size_t packed = s2_adapter_floats(&device->layout, adapter->rank, adapter->has_bias);
    for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
        memset(adapter->moments[m], 0, packed * sizeof(float));
    }
    device->optimizer = (s2_optimizer){.rule = rule,
                                       .beta1 = rule == S2_SGD ? 0.0 : 0.9,
                                       .beta2 = rule == S2_ADAM ? 0.999 : 0.0,
                                       .eps = 1e-8,
                                       .beta1_power = 1.0,
                                       .beta2_power = 1.0};
}

s2_status s2_device_init(s2_device *device, const s2_model *model, const s2_device_options *options,
                         void *arena, size_t arena_bytes) {
    s2_arena of = {.base = arena, .size = arena_bytes};
    const s2_status status = configure(device, model, options);
    if (status != S2_OK) {
        return status;
    }
    if ((uintptr_t)arena % S2_ALIGN != 0) {
        return S2_BAD_VALUE;
    }
    take_all(device, &of);
    device->arena_bytes = of.used;
    if (!s2_fits(&of)) {
        return S2_NO_ROOM;
    }
    memset(arena, 0, of.used); /* the padding of rows */
    begin_adapters(device);
    s2_device_rest(device);
    s2_rng_seed(&device->order, options->seed, S2_STREAM_ORDER);
    return S2_OK;
}

int s2_all_finite(const float *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i])) {
            return 0;
        }
    }
    return 1;
}

/* ---- samples --------------------------------------------------------------------------------- */

static int row_is_finite(const s2_device *device) {
    const s2_row_layout *layout = &device->layout;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        const int is_x = layout->tap_offset[k] == S2_TAP_IS_X;
        if (!is_x && !s2_all_finite(device->row + layout->tap_offset[k], layout->tap_width[k])) {
            return 0;
        }
    }
    return s2_all_finite(device->row + layout->logits_offset, layout->n_outputs);
}

/* The row of x into device->row. */
static s2_status compute_row(s2_device *device, const float *x) {
    const s2_model *model = device->model;
    const s2_row_layout *layout = &device->layout;
    s2_status status;
    if (device->options.taps == NULL) {
        if (!s2_all_finite(x, model->n_features)) {
            return S2_NOT_FINITE;
        }
        status = s2_model_forward(model, device->adapter.kernels, x, layout, device->row,
                                  device->room, device->room_bytes);
    } else {
        status = device->options.taps(device->options.taps_context, x, device->tap,
                                      device->row + layout->logits_offset);
        for (uint32_t k = 0; status == S2_OK && k < layout->n_taps; k++) {
            if (layout->tap_width[k] < model->tap_width[k]) {
                s2_model_project(model, device->adapter.kernels, k, device->tap[k],
                                 device->row + layout->tap_offset[k], device->room);
            }
        }
    }
    if (status != S2_OK) {
        return status;
    }
    return row_is_finite(device) ? S2_OK : S2_NOT_FINITE;
}

static uint32_t next_slot(s2_device *device) {
    if (device->n_samples < device->options.capacity) {
        return device->n_samples++;
    }
    const uint32_t slot = device->next;
    device->next = slot + 1 < device->options.capacity ? slot + 1 : 0;
    return slot;
}

s2_status s2_device_add_sample(s2_device *device, const float *x, int32_t label) {
    const s2_row_layout *layout = &device->layout;
    if (label < 0 || (uint32_t)label >= layout->n_outputs) {
        return S2_BAD_VALUE;
    }
    const s2_status status = compute_row(device, x); /* also with a full store: rejects count */
    if (status != S2_OK) {
        device->n_rejected += status == S2_NOT_FINITE;
        return status;
    }
    const int is_full = device->n_samples == device->options.capacity;
    if (is_full && device->options.when_full == S2_REFUSE) {
        return S2_FULL;
    }
    const size_t slot = next_slot(device);
    device->label[slot] = label;
    if (device->codes != NULL) {
        s2_device_encode(layout, device->options.rows, device->row,
                         device->codes + slot * device->code_bytes);
    } else {
        memcpy(device->rows + slot * layout->row_stride, device->row,
               layout->row_stride * sizeof *device->row);
    }
    device->filled[slot] = 1;
    if (device->x != NULL) {
        const size_t width = device->model->n_features;
        memcpy(device->x + slot * width, x, width * sizeof *x);
    }
    return S2_OK;
}

void s2_device_forget(s2_device *device) {
    device->n_samples = 0;
    device->next = 0;
}

s2_status s2_device_predict(s2_device *device, const float *x, float *logits) {
    const s2_status status = compute_row(device, x);
    if (status != S2_OK) {
        return status;
    }
    const float *const row = device->row;
    const s2_batch batch = {.count = 1, .x = &x, .row = &row};
    const s2_status done =
        s2_adapter_forward(&device->adapter, &batch, logits, device->room, device->room_bytes);
    if (done != S2_OK) {
        return done;
    }
    return s2_all_finite(logits, device->layout.n_outputs) ? S2_OK : S2_NOT_FINITE;
}

/* ---- training -------------------------------------------------------------------------------- */

typedef struct {
    s2_device *device;
    void *room;
    size_t bytes;
} step_context;

static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    const step_context *of = context;
    s2_device *device = of->device;
    const s2_update update = s2_optimizer_step(&device->optimizer, device->options.learning_rate);
    s2_adapter adapter = learning(device);
    return s2_adapter_step(&adapter, batch, &update, stats, of->room, of->bytes);
}

s2_status s2_device_train_epoch(s2_device *device, s2_epoch_stats *stats) {
    if (device->n_samples == 0) {
        return S2_BAD_SHAPE;
    }
    s2_cache cache;
    s2_job job = job_of(device, &cache, device->n_samples);
    const size_t of_epoch = s2_round_up(s2_train_workspace_bytes(&job), S2_ALIGN);
    step_context context = {device, (uint8_t *)device->room + of_epoch,
                            device->room_bytes - of_epoch};
    job.step = step;
    job.step_context = &context;
    /* Machines differ in how they flush, and that table is the same on all. */
    job.flushes = device->adapter.kernels != &s2_kernels_scalar;
    const s2_status status = s2_train_epoch(&job, &device->order, stats, device->room, of_epoch);
    device->n_epochs += status == S2_OK;
    return status;
}
