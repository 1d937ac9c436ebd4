/* test_device_solve.c - the exact solver on a device: at its solution the gradient is zero. */
#include "blob.h"

#include "skip2_device_solve.h"

enum { MANY = 230, OUTPUTS = 5, COLUMNS = 37 };

typedef struct {
    network of;
    blob made;
    s2_model model;
    s2_device device;
    float *arena, *x, *room;
    size_t room_bytes;
    uint32_t n, n_columns;
} desk;

/* Classes 0, 2 and 4 have samples where `lacks`. */
static int32_t label_of(uint32_t sample, int lacks) {
    return (int32_t)(lacks ? sample % 3 * 2 : sample * 7 % OUTPUTS);
}

static void begin(desk *d, unsigned kind, s2_row_type rows, uint32_t n, uint32_t rank, int lacks) {
    s2_rng rng;
    s2_rng_seed(&rng, 21, 1);
    new_blob(&d->made, &d->of, kind, &rng);
    CHECK_EQUAL(s2_model_read(&d->model, d->made.word, d->made.n_words * 4), S2_OK);
    d->n = n;
    d->x = random_floats(&rng, (size_t)n * widths[0]);
    const s2_device_options options = {.capacity = n + 3,
                                       .rows = rows,
                                       .rank = rank,
                                       .has_bias = 1,
                                       .batch_size = 4,
                                       .learning_rate = 0.05,
                                       .rule = S2_ADAM};
    const size_t bytes = s2_device_bytes(&d->model, &options);
    d->arena = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&d->device, &d->model, &options, d->arena, bytes), S2_OK);
    for (uint32_t s = 0; s < n; s++) {
        const float *x = d->x + s * widths[0];
        CHECK_EQUAL(s2_device_add_sample(&d->device, x, label_of(s, lacks)), S2_OK);
    }
    d->room_bytes = s2_device_solve_bytes(&d->device, n);
    d->room = aligned_floats(d->room_bytes / sizeof(float));
}

static void end(desk *d) {
    free(d->arena);
    free(d->room);
    free(d->made.word);
    release_guarded();
}

/* Columns of a sample, as they are kept or nearly so: (n_columns). */
static void columns_of(desk *d, uint32_t sample, double *columns) {
    uint32_t offsets[S2_MODEL_MAX_TAPS];
    s2_row_layout layout;
    float row[160];
    const size_t bytes = s2_model_workspace_bytes(&d->model);
    float *const room = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_row_layout_init(&layout, DEPTH, d->device.tap_width, OUTPUTS, 0, offsets),
                S2_OK);
    CHECK_EQUAL(s2_model_forward(&d->model, d->device.adapter.kernels, d->x + sample * widths[0],
                                 &layout, row, room, bytes),
                S2_OK);
    d->n_columns = 0;
    for (uint32_t k = 0; k < DEPTH; k++) {
        for (uint32_t i = 0; i < layout.tap_width[k]; i++) {
            columns[d->n_columns++] = (double)row[offsets[k] + i];
        }
    }
    free(room);
}

static double z[MANY][COLUMNS], off[MANY][OUTPUTS];
static double mean[COLUMNS], var[COLUMNS], scale[COLUMNS], weight[COLUMNS][OUTPUTS];

/* Afresh, in double: a floor of a thousandth of the tap's mean variance, or a
 * 256th of the mean; then a mean square of 1 in all. */
static void standardise(desk *d) {
    double size = 0;
    for (uint32_t s = 0; s < d->n; s++) {
        columns_of(d, s, z[s]);
    }
    for (uint32_t k = 0, at = 0; k < DEPTH; at += d->device.tap_width[k++]) {
        const uint32_t width = d->device.tap_width[k];
        double moves = 0;
        for (uint32_t c = at; c < at + width; c++) {
            mean[c] = var[c] = 0;
            for (uint32_t s = 0; s < d->n; s++) {
                mean[c] += z[s][c] / d->n;
            }
            for (uint32_t s = 0; s < d->n; s++) {
                var[c] += (z[s][c] - mean[c]) * (z[s][c] - mean[c]) / d->n;
            }
            moves += var[c] / width;
        }
        for (uint32_t c = at; c < at + width; c++) {
            scale[c] = 1 / sqrt(var[c] + 1e-3 * moves + mean[c] * mean[c] / 65536);
            size += scale[c] * scale[c] * var[c];
        }
    }
    for (uint32_t c = 0; c < d->n_columns; c++) {
        scale[c] /= sqrt(size);
        for (uint32_t s = 0; s < d->n; s++) {
            z[s][c] = (z[s][c] - mean[c]) * scale[c];
        }
    }
}

/* What the adapters multiply standardised columns by. */
static void read_weights(desk *d) {
    const s2_adapter *adapter = &d->device.adapter;
    float lora_a[17 * 17], lora_b[17 * OUTPUTS];
    for (uint32_t k = 0, at = 0; k < DEPTH; k++) {
        s2_adapter_unpack(adapter, k, lora_a, lora_b);
        for (uint32_t c = 0; c < d->device.tap_width[k]; c++, at++) {
            for (uint32_t o = 0; o < OUTPUTS; o++) {
                weight[at][o] = 0;
                for (uint32_t r = 0; r < adapter->rank; r++) {
                    weight[at][o] += (double)lora_a[c * adapter->rank + r] *
                                     (double)lora_b[r * OUTPUTS + o] / scale[at];
                }
            }
        }
    }
}

/* Probabilities less labels, among classes that have samples; the mean probability of the others. */
static double read_offs(desk *d, int lacks) {
    double others = 0;
    for (uint32_t s = 0; s < d->n; s++) {
        float logits[OUTPUTS];
        double sum = 0, all = 0;
        CHECK_EQUAL(s2_device_predict(&d->device, d->x + s * widths[0], logits), S2_OK);
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            off[s][o] = exp((double)logits[o]);
            all += off[s][o];
            sum += lacks && o % 2 ? 0 : off[s][o];
        }
        others += (all - sum) / all / d->n;
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            off[s][o] = lacks && o % 2 ? 0 : off[s][o] / sum - (label_of(s, lacks) == (int32_t)o);
        }
    }
    return others;
}

static void check_optimum(desk *d, double penalty, int lacks, double tolerance) {
    standardise(d);
    read_weights(d);
    const double others = read_offs(d, lacks);
    if (lacks) {
        CHECK_NEAR(others, 1.0 / (d->n + 1), 1e-5);
    }
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        double of_bias = 0;
        for (uint32_t s = 0; s < d->n; s++) {
            of_bias += off[s][o] / d->n;
        }
        CHECK_NEAR(of_bias, 0, tolerance);
        for (uint32_t c = 0; c < d->n_columns; c++) {
            double grad = penalty * weight[c][o];
            for (uint32_t s = 0; s < d->n; s++) {
                grad += off[s][o] * z[s][c] / d->n;
            }
            CHECK_NEAR(grad, 0, tolerance);
        }
    }
}

static void test_optimum(unsigned kind, s2_row_type rows, uint32_t n, uint32_t rank, int lacks) {
    const double penalty = 0.01;
    desk d;
    s2_dual_report report;
    check_where("network %u, rows %d, %u samples, lacks %d", kind, (int)rows, n, lacks);
    begin(&d, kind, rows, n, rank, lacks);
    CHECK_EQUAL(s2_device_solve(&d.device, penalty, &report, d.room, d.room_bytes), S2_OK);
    CHECK(report.converged);
    check_optimum(&d, penalty, lacks, rows == S2_ROWS_FLOAT32 ? 1e-3 : 3e-3);
    s2_epoch_stats stats;
    CHECK_EQUAL(s2_device_train_epoch(&d.device, &stats), S2_OK); /* steps go on from there */
    end(&d);
    check_where("%s", "");
}

static void test_refusals(void) {
    desk d;
    s2_dual_report report;
    begin(&d, 0, S2_ROWS_FLOAT32, 23, 5, 0);
    const size_t n_bytes = s2_device_adapters_bytes(&d.device);
    uint8_t *const before = (uint8_t *)aligned_floats(n_bytes / 4);
    uint8_t *const after = (uint8_t *)aligned_floats(n_bytes / 4);
    CHECK_EQUAL(s2_device_adapters_write(&d.device, before, n_bytes), S2_OK);
    CHECK_EQUAL(s2_device_solve(&d.device, 0.1, &report, d.room, d.room_bytes - 1), S2_NO_ROOM);
    CHECK_EQUAL(s2_device_solve(&d.device, -1, &report, d.room, d.room_bytes), S2_BAD_VALUE);
    CHECK_EQUAL(s2_device_solve(&d.device, NAN, &report, d.room, d.room_bytes), S2_BAD_VALUE);
    d.device.adapter.rank = 4;
    CHECK_EQUAL(s2_device_solve(&d.device, 0.1, &report, d.room, d.room_bytes), S2_BAD_SHAPE);
    d.device.adapter.rank = 5;
    d.device.adapter.has_bias = 0;
    CHECK_EQUAL(s2_device_solve(&d.device, 0.1, &report, d.room, d.room_bytes), S2_BAD_SHAPE);
    d.device.adapter.has_bias = 1;
    d.device.n_samples = 1;
    CHECK_EQUAL(s2_device_solve(&d.device, 0.1, &report, d.room, d.room_bytes), S2_BAD_VALUE);
    s2_device_forget(&d.device);
    CHECK_EQUAL(s2_device_solve(&d.device, 0.1, &report, d.room, d.room_bytes), S2_BAD_VALUE);
    d.device.n_samples = 23;
    CHECK_EQUAL(s2_device_adapters_write(&d.device, after, n_bytes), S2_OK);
    CHECK_SAME(after, before, n_bytes);
    free(before);
    free(after);
    end(&d);
}

int main(void) {
    for (int rows = S2_ROWS_FLOAT32; rows <= S2_ROWS_INT8; rows++) {
        test_optimum(0, (s2_row_type)rows, 23, 5, 0);
        test_optimum(PROJECTED, (s2_row_type)rows, 23, 4, 0); /* taps narrower than outputs */
    }
    test_optimum(0, S2_ROWS_FLOAT32, MANY, 5, 0);
    test_optimum(0, S2_ROWS_FLOAT32, MANY, 3, 1);
    test_optimum(0, S2_ROWS_FLOAT32, 23, 3, 1);
    test_optimum(PROJECTED, S2_ROWS_FLOAT32, MANY, 4, 0);
    test_refusals();
    return check_report("test_device_solve");
}
