/* test_device.c - learning on the device against the same done with the parts. */
#include "blob.h"

enum { N_SAMPLES = 23, CAPACITY = 30, STEPS = 4 };

typedef struct {
    network of;
    blob made;
    s2_model model;
    s2_device device;
    s2_device_options options;
    float *arena;
    size_t arena_bytes;
    float *x; /* (N_SAMPLES, n_features) */
} desk;

static int32_t label_of(uint32_t sample) {
    return (int32_t)(sample % widths[DEPTH]);
}

static void begin(desk *d, unsigned kind, s2_row_type rows) {
    s2_rng rng;
    s2_rng_seed(&rng, 11, 1);
    new_blob(&d->made, &d->of, kind, &rng);
    CHECK_EQUAL(s2_model_read(&d->model, d->made.word, d->made.n_words * 4), S2_OK);
    d->x = random_floats(&rng, N_SAMPLES * widths[0]);
    d->options = (s2_device_options){.capacity = CAPACITY,
                                     .rows = rows,
                                     .rank = kind & ADAPTED ? 0 : 3,
                                     .batch_size = 5,
                                     .learning_rate = 0.05,
                                     .seed = 9,
                                     .kernels = "scalar"};
    d->arena_bytes = s2_device_bytes(&d->model, &d->options);
    d->arena = aligned_floats(d->arena_bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&d->device, &d->model, &d->options, d->arena, d->arena_bytes),
                S2_OK);
}

static void end(desk *d) {
    free(d->arena);
    free(d->made.word);
    release_guarded();
}

static void add_all(desk *d) {
    for (uint32_t s = 0; s < N_SAMPLES; s++) {
        CHECK_EQUAL(s2_device_add_sample(&d->device, d->x + s * widths[0], label_of(s)), S2_OK);
    }
    CHECK_EQUAL(d->device.n_samples, N_SAMPLES);
}

static float train(desk *d, uint32_t n_epochs) {
    s2_epoch_stats stats = {0};
    for (uint32_t e = 0; e < n_epochs; e++) {
        CHECK_EQUAL(s2_device_train_epoch(&d->device, &stats), S2_OK);
    }
    return (float)stats.loss;
}

typedef struct {
    s2_adapter adapter;
    void *room;
    size_t bytes;
} plain_step;

static s2_status step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    plain_step *of = context;
    s2_optimizer sgd = {.rule = S2_SGD, .eps = 1e-8};
    const s2_update update = s2_optimizer_step(&sgd, 0.05);
    return s2_adapter_step(&of->adapter, batch, &update, stats, of->room, of->bytes);
}

static s2_status no_forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    (void)context, (void)sample, (void)count, (void)rows;
    return S2_FORWARD_FAILED;
}

/* The bits of the device are those of the parts of skip2.h. */
static void test_same_bits(void) {
    desk d;
    begin(&d, 0, S2_ROWS_FLOAT32);
    add_all(&d);
    (void)train(&d, STEPS);
    uint32_t offsets[DEPTH];
    s2_row_layout layout;
    CHECK_EQUAL(s2_row_layout_init(&layout, DEPTH, widths, widths[DEPTH], 1, offsets), S2_OK);
    float *const rows = aligned_floats((size_t)N_SAMPLES * layout.row_stride);
    memset(rows, 0, (size_t)N_SAMPLES * layout.row_stride * sizeof *rows);
    const float *x[N_SAMPLES];
    int32_t label[N_SAMPLES];
    uint8_t filled[N_SAMPLES];
    for (uint32_t s = 0; s < N_SAMPLES; s++) {
        x[s] = d.x + s * widths[0];
        label[s] = label_of(s);
        filled[s] = 1;
    }
    const size_t bytes = s2_net_forward_workspace_bytes(&d.of.net, N_SAMPLES);
    float *const forward_room = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_net_forward(&d.of.net, N_SAMPLES, x, &layout, 0, rows, forward_room, bytes),
                S2_OK);
    plain_step of = {.adapter = {.kernels = d.of.net.kernels, .layout = &layout, .rank = 3}};
    const size_t floats = s2_adapter_floats(&layout, 3, 0);
    of.adapter.packed = aligned_floats(floats);
    s2_adapter_init(&of.adapter, 9);
    of.bytes = s2_adapter_workspace_bytes(&of.adapter, 5);
    of.room = aligned_floats(of.bytes / sizeof(float));
    s2_cache cache = {
        .rows = rows, .filled = filled, .capacity = N_SAMPLES, .row_stride = layout.row_stride};
    const s2_job job = {.n_samples = N_SAMPLES,
                        .n_features = widths[0],
                        .x = d.x,
                        .label = label,
                        .n_outputs = widths[DEPTH],
                        .batch_size = 5,
                        .smallest_batch = 1,
                        .forward = no_forward,
                        .cache = &cache,
                        .step = step,
                        .step_context = &of};
    const size_t epoch_bytes = s2_train_workspace_bytes(&job);
    float *const epoch_room = aligned_floats(epoch_bytes / sizeof(float));
    s2_rng order;
    s2_rng_seed(&order, 9, S2_STREAM_ORDER);
    for (uint32_t e = 0; e < STEPS; e++) {
        s2_epoch_stats stats;
        CHECK_EQUAL(s2_train_epoch(&job, &order, &stats, epoch_room, epoch_bytes), S2_OK);
    }
    CHECK_SAME(d.device.adapter.packed, of.adapter.packed, floats * sizeof(float));
    free(rows);
    free(forward_room);
    free(of.adapter.packed);
    free(of.room);
    free(epoch_room);
    end(&d);
}

/* It learns, however rows are kept, and predicts nearly the same. */
static void test_rows(unsigned kind) {
    float losses[3], first = 0;
    for (int rows = S2_ROWS_FLOAT32; rows <= S2_ROWS_INT8; rows++) {
        desk d;
        check_where("network %u, rows %d", kind, rows);
        begin(&d, kind, (s2_row_type)rows);
        add_all(&d);
        first = train(&d, 1);
        losses[rows] = train(&d, 30);
        CHECK(losses[rows] < 0.9f * first);
        end(&d);
    }
    CHECK_NEAR(losses[1], losses[0], 0.01 * (double)losses[0]);
    CHECK_NEAR(losses[2], losses[0], 0.05 * (double)losses[0]);
    check_where("%s", "");
}

static void test_arena(void) {
    desk d;
    begin(&d, 0, S2_ROWS_FLOAT32);
    s2_device small;
    CHECK_EQUAL(s2_device_init(&small, &d.model, &d.options, d.arena, d.arena_bytes - 1),
                S2_NO_ROOM);
    CHECK_EQUAL(small.arena_bytes, d.arena_bytes);
    s2_device_options odd = d.options;
    odd.kernels = "none such";
    CHECK_EQUAL(s2_device_init(&small, &d.model, &odd, d.arena, d.arena_bytes), S2_BAD_VALUE);
    odd = d.options;
    odd.capacity = 0;
    CHECK_EQUAL(s2_device_init(&small, &d.model, &odd, d.arena, d.arena_bytes), S2_BAD_VALUE);
    CHECK(s2_device_bytes(&d.model, &odd) == SIZE_MAX);
    CHECK_EQUAL(s2_device_init(&small, &d.model, &d.options, d.arena + 1, d.arena_bytes),
                S2_BAD_VALUE);
    odd = d.options;
    odd.rank = 1u << 20;
    CHECK_EQUAL(s2_device_init(&small, &d.model, &odd, d.arena, d.arena_bytes), S2_BAD_SHAPE);
    s2_epoch_stats stats;
    CHECK_EQUAL(s2_device_train_epoch(&d.device, &stats), S2_BAD_SHAPE);
    end(&d);
}

static void test_bad_samples(void) {
    desk d;
    begin(&d, 0, S2_ROWS_FLOAT32);
    add_all(&d);
    float bad[11], logits[5];
    for (int i = 0; i < 3; i++) {
        memcpy(bad, d.x, sizeof bad);
        bad[i] = i == 0 ? NAN : INFINITY;
        for (int j = 0; i == 2 && j < 11; j++) {
            bad[j] = 3e38f; /* which is finite, but not what comes of it */
        }
        CHECK_EQUAL(s2_device_add_sample(&d.device, bad, 0), S2_NOT_FINITE);
        CHECK_EQUAL(s2_device_predict(&d.device, bad, logits), S2_NOT_FINITE);
    }
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, -1), S2_BAD_VALUE);
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, (int32_t)widths[DEPTH]), S2_BAD_VALUE);
    CHECK_EQUAL(d.device.n_samples, N_SAMPLES);
    CHECK_EQUAL(d.device.n_rejected, 3);
    end(&d);
}

static void test_a_full_store(s2_row_type rows) {
    desk d;
    begin(&d, 0, rows);
    for (uint32_t s = 0; s < CAPACITY; s++) {
        CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, 0), S2_OK);
    }
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, 1), S2_FULL);
    CHECK_EQUAL(d.device.n_rejected, 0);
    float bad[11];
    memcpy(bad, d.x, sizeof bad);
    bad[10] = NAN;
    CHECK_EQUAL(s2_device_add_sample(&d.device, bad, 1), S2_NOT_FINITE);
    CHECK_EQUAL(d.device.n_rejected, 1);
    CHECK_EQUAL(d.device.n_samples, CAPACITY);
    d.device.options.when_full = S2_OVERWRITE_OLDEST;
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, 1), S2_OK);
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, 2), S2_OK);
    CHECK_EQUAL(d.device.n_samples, CAPACITY);
    CHECK_EQUAL(d.device.label[0], 1);
    CHECK_EQUAL(d.device.label[1], 2);
    CHECK_EQUAL(d.device.label[2], 0);
    s2_device_forget(&d.device);
    CHECK_EQUAL(d.device.n_samples, 0);
    CHECK_EQUAL(s2_device_add_sample(&d.device, d.x, 1), S2_OK);
    end(&d);
}

static void test_record(unsigned kind) {
    desk d;
    begin(&d, kind, S2_ROWS_FLOAT32);
    add_all(&d);
    float logits[3][5];
    const size_t n_bytes = s2_device_adapters_bytes(&d.device);
    uint8_t *const before = (uint8_t *)aligned_floats(n_bytes / 4);
    uint8_t *const record = (uint8_t *)aligned_floats(n_bytes / 4);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, record, n_bytes - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, before, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_predict(&d.device, d.x, logits[0]), S2_OK);
    (void)train(&d, 3);
    CHECK_EQUAL(s2_device_predict(&d.device, d.x, logits[1]), S2_OK);
    CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) != 0);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, record, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_adapters_read(&d.device, before, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_predict(&d.device, d.x, logits[2]), S2_OK);
    CHECK_SAME(logits[2], logits[0], sizeof logits[0]);
    unsigned accepted = 0;
    for (size_t bit = 0; bit < 8 * n_bytes; bit++) {
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        accepted += s2_device_adapters_read(&d.device, record, n_bytes) == S2_OK;
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t end_at = 0; end_at < n_bytes; end_at++) {
        accepted += s2_device_adapters_read(&d.device, record, end_at) == S2_OK;
    }
    CHECK_EQUAL(accepted, 0);
    CHECK_EQUAL(s2_device_predict(&d.device, d.x, logits[2]), S2_OK);
    CHECK_SAME(logits[2], logits[0], sizeof logits[0]);
    CHECK_EQUAL(s2_device_adapters_read(&d.device, record, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_predict(&d.device, d.x, logits[2]), S2_OK);
    CHECK_SAME(logits[2], logits[1], sizeof logits[0]);
    free(before);
    free(record);
    end(&d);
}

static void begin_again(desk *d, s2_rule rule) {
    d->options.rule = rule;
    d->arena_bytes = s2_device_bytes(&d->model, &d->options);
    free(d->arena);
    d->arena = aligned_floats(d->arena_bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&d->device, &d->model, &d->options, d->arena, d->arena_bytes),
                S2_OK);
}

/* Learning that ran away is not kept, and is gone once good adapters are read: what is learned then
 * has the bits of a device that never saw it, whatever moments the optimizer has. */
static void test_after_divergence(s2_rule rule) {
    desk d, fresh;
    begin(&d, 0, S2_ROWS_FLOAT32);
    begin(&fresh, 0, S2_ROWS_FLOAT32);
    const size_t n_bytes = s2_device_adapters_bytes(&d.device);
    uint8_t *const good = (uint8_t *)aligned_floats(n_bytes / 4);
    uint8_t *const bad = (uint8_t *)aligned_floats(n_bytes / 4);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, good, n_bytes), S2_OK);
    begin_again(&d, rule);
    begin_again(&fresh, rule);
    add_all(&d);
    add_all(&fresh);
    for (uint32_t k = 0; k < DEPTH; k++) { /* it was too fast */
        d.device.adapter.packed[k] = NAN;
        for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
            d.device.adapter.moments[m][k] = NAN;
        }
    }
    s2_epoch_stats stats;
    CHECK_EQUAL(s2_device_train_epoch(&d.device, &stats), S2_NOT_FINITE);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, bad, n_bytes), S2_NOT_FINITE);
    CHECK_EQUAL(s2_device_adapters_read(&d.device, good, n_bytes), S2_OK);
    d.device.order = fresh.device.order;
    CHECK_EQUAL(train(&d, 3), train(&fresh, 3));
    CHECK_EQUAL(s2_device_adapters_write(&d.device, good, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_adapters_write(&fresh.device, bad, n_bytes), S2_OK);
    CHECK_SAME(good, bad, n_bytes);
    free(good);
    free(bad);
    free(fresh.arena);
    free(fresh.made.word);
    end(&d);
}

/* Firmware's own taps: the same network, run by a device without the hook. */
static s2_status own_taps(void *context, const float *x, float *const *taps, float *base_logits) {
    s2_model *model = context;
    uint32_t offsets[DEPTH];
    s2_row_layout layout;
    (void)s2_row_layout_init(&layout, DEPTH, widths, widths[DEPTH], 0, offsets);
    float row[128];
    const size_t bytes = s2_model_workspace_bytes(model);
    float *const room = aligned_floats(bytes / sizeof(float));
    const s2_status status =
        s2_model_forward(model, s2_kernels_choose("scalar"), x, &layout, row, room, bytes);
    for (uint32_t k = 0; k < DEPTH; k++) {
        memcpy(taps[k], row + offsets[k], widths[k] * sizeof(float));
    }
    memcpy(base_logits, row + layout.logits_offset, widths[DEPTH] * sizeof(float));
    free(room);
    return status;
}

static void test_own_taps(unsigned kind) {
    desk d, whole;
    begin(&whole, kind, S2_ROWS_FLOAT32);
    add_all(&whole);
    s2_device device;
    s2_model plain, bare = whole.model;
    s2_rng rng;
    s2_rng_seed(&rng, 11, 1);
    new_blob(&d.made, &d.of, 0, &rng); /* the same tensors without a projection */
    CHECK_EQUAL(s2_model_read(&plain, d.made.word, d.made.n_words * 4), S2_OK);
    bare.n_layers = 0;
    s2_device_options options = whole.options;
    CHECK_EQUAL(s2_device_init(&device, &bare, &options, NULL, 0), S2_BAD_VALUE);
    options.taps = own_taps;
    options.taps_context = &plain;
    const size_t bytes = s2_device_bytes(&bare, &options);
    float *const arena = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&device, &bare, &options, arena, bytes), S2_OK);
    for (uint32_t s = 0; s < N_SAMPLES; s++) {
        CHECK_EQUAL(s2_device_add_sample(&device, whole.x + s * widths[0], label_of(s)), S2_OK);
    }
    (void)train(&whole, STEPS);
    s2_epoch_stats stats;
    for (uint32_t e = 0; e < STEPS; e++) {
        CHECK_EQUAL(s2_device_train_epoch(&device, &stats), S2_OK);
    }
    CHECK_SAME(device.adapter.packed, whole.device.adapter.packed,
               s2_adapter_floats(&device.layout, 3, 0) * sizeof(float));
    free(arena);
    free(d.made.word);
    end(&whole);
}

int main(void) {
    test_same_bits();
    test_rows(0);
    test_rows(INT8);
    test_rows(PROJECTED);
    test_rows(DERIVED);
    test_rows(DERIVED | PROJECTED);
    test_arena();
    test_bad_samples();
    test_a_full_store(S2_ROWS_FLOAT32);
    test_a_full_store(S2_ROWS_INT8);
    test_record(0);
    test_record(ADAPTED);
    test_record(ADAPTED | PROJECTED);
    test_record(ADAPTED | DERIVED);
    test_after_divergence(S2_SGD);
    test_after_divergence(S2_MOMENTUM);
    test_after_divergence(S2_ADAM);
    test_own_taps(0);
    test_own_taps(PROJECTED);
    return check_report("test_device");
}
