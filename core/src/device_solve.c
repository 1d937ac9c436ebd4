/* device_solve.c - the exact solver on the samples that a device keeps. */
#include "same_bits.h"

#include "device_solve.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* As solver="exact" of the Python package has them. */
#define FLOOR     1e-3          /* of a column's variance, as a share of the tap's mean one */
#define ROUNDING  (1.0 / 65536) /* a tap that moves by less of its size holds rounding alone */
#define TOLERANCE 1e-5

static size_t greatest(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Whether there are floats to be read as they are. */
static int reads_codes(const s2_device *device) {
    return device->codes != NULL && device->options.rows == S2_ROWS_FLOAT32;
}

static void take_solver(s2_solving *of, s2_arena *arena) {
    const uint32_t n = of->n_samples, n_learned = of->n_learned;
    const s2_columns all = {.n_samples = n, .width = of->width};
    const s2_primal primal = {.objective = {.n_outputs = n_learned}, .n_taps = 1, .columns = &all};
    if (of->solver == S2_SOLVE_DUAL) {
        of->gram = s2_take(arena, 1, s2_gram_floats(n), sizeof *of->gram);
        of->room_bytes = greatest(greatest(s2_gram_bytes(n), s2_dual_bytes(n, n_learned, 1)),
                                  s2_column_weights_bytes(n_learned));
    } else {
        of->gram = s2_take(arena, 1, s2_metric_floats(of->width), sizeof *of->gram);
        of->factor = s2_take(arena, 1, s2_metric_factor_bytes(of->width, 0), 1);
        of->room_bytes = s2_primal_bytes(&primal, 0);
    }
    of->room = s2_take(arena, 1, of->room_bytes, 1);
}

static void take_all(s2_solving *of, s2_arena *arena) {
    const s2_row_layout *layout = &of->device->layout;
    const uint32_t n = of->n_samples, n_learned = of->n_learned;
    const size_t rank = of->device->adapter.rank;
    size_t widest = 0;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        widest = greatest(widest, layout->tap_width[k]);
    }
    if (of->device->codes != NULL && !reads_codes(of->device)) {
        of->decoded = s2_take_floats(arena, n, of->rows_are.row_stride);
    }
    of->learned = s2_take(arena, 1, layout->n_outputs, sizeof *of->learned);
    of->columns = s2_take(arena, 1, layout->n_taps, sizeof *of->columns);
    float **const of_columns[] = {&of->mean, &of->scale};
    double **const doubles[] = {&of->sums, &of->squares, &of->of_mean, &of->of_var};
    float **const of_samples[] = {&of->target, &of->offset, &of->logits};
    for (size_t i = 0; i < 2; i++) {
        *of_columns[i] = s2_take_floats(arena, 1, of->width);
    }
    for (size_t i = 0; i < 4; i++) {
        *doubles[i] = s2_take(arena, 1, widest, sizeof(double));
    }
    for (size_t i = 0; i < 3; i++) {
        *of_samples[i] = s2_take_floats(arena, n_learned, of->lanes);
    }
    of->weight = s2_take_floats(arena, 1, of->lanes);
    of->coefficients =
        s2_take_floats(arena, n_learned, of->solver == S2_SOLVE_DUAL ? of->lanes : of->width);
    of->bias = s2_take_floats(arena, 1, n_learned);
    of->total = s2_take(arena, 1, layout->n_outputs, sizeof *of->total);
    of->margin = s2_take_floats(arena, 1, n);
    of->weights = s2_take_floats(arena, widest, n_learned);
    of->lora_a = s2_take_floats(arena, widest, rank);
    of->lora_b = s2_take_floats(arena, rank, layout->n_outputs);
    take_solver(of, arena);
}

/* All but the memory: which solver, and where taps lie. */
static s2_solving configure(const s2_device *device, uint32_t n_samples, uint32_t *offsets) {
    s2_solving of = {.device = device,
                     .n_samples = n_samples,
                     .n_learned = device->layout.n_outputs,
                     .lanes = s2_sample_lanes(n_samples),
                     .rows_are = device->layout};
    for (uint32_t k = 0; k < device->layout.n_taps; k++) {
        offsets[k] = of.width;
        of.width += device->layout.tap_width[k];
    }
    if (device->codes != NULL) { /* side by side, as float32 lies */
        of.rows_are.tap_offset = offsets;
        of.rows_are.logits_offset = of.width;
        of.rows_are.row_stride = of.width + device->layout.n_outputs;
    }
    const size_t dual = s2_solver_bytes(S2_SOLVE_DUAL, n_samples, of.width, of.n_learned);
    const size_t primal = s2_solver_bytes(S2_SOLVE_PRIMAL, n_samples, of.width, of.n_learned);
    of.solver = dual <= primal ? S2_SOLVE_DUAL : S2_SOLVE_PRIMAL;
    return of;
}

size_t s2_device_solve_bytes(const s2_device *device, uint32_t n_samples) {
    uint32_t offsets[S2_MODEL_MAX_TAPS];
    s2_arena arena = {0};
    s2_solving of = configure(device, n_samples, offsets);
    take_all(&of, &arena);
    return arena.used;
}

/* ---- the problem ----------------------------------------------------------------------------- */

static void find_rows(s2_solving *of) {
    const s2_device *device = of->device;
    of->rows = device->codes != NULL ? (const float *)(const void *)device->codes : device->rows;
    if (of->decoded == NULL) {
        return;
    }
    for (size_t s = 0; s < of->n_samples; s++) {
        const void *codes = device->codes + s * device->code_bytes;
        float *row = of->decoded + s * of->rows_are.row_stride;
        for (uint32_t k = 0; k < of->rows_are.n_taps; k++) {
            s2_device_read(device, codes, k, 0, of->rows_are.tap_width[k],
                           row + of->rows_are.tap_offset[k]);
        }
        s2_device_read(device, codes, of->rows_are.n_taps, 0, of->rows_are.n_outputs,
                       row + of->rows_are.logits_offset);
    }
    of->rows = of->decoded;
}

/* Which classes have samples; their number. */
static uint32_t find_learned(s2_solving *of) {
    uint32_t count = 0;
    for (uint32_t o = 0; o < of->device->layout.n_outputs; o++) {
        int has_some = 0;
        for (uint32_t s = 0; s < of->n_samples && !has_some; s++) {
            has_some = (uint32_t)of->device->label[s] == o;
        }
        if (has_some) {
            of->learned[count++] = o;
        }
    }
    return count;
}

static void set_objective(const s2_solving *of) {
    memset(of->weight, 0, of->lanes * sizeof *of->weight);
    for (size_t o = 0; o < of->n_learned; o++) {
        float *target = of->target + o * of->lanes, *offset = of->offset + o * of->lanes;
        memset(target, 0, of->lanes * sizeof *target);
        memset(offset, 0, of->lanes * sizeof *offset);
        for (size_t s = 0; s < of->n_samples; s++) {
            target[s] = (uint32_t)of->device->label[s] == of->learned[o] ? 1.0f : 0.0f;
            offset[s] = s2_base_logits(of, s)[of->learned[o]];
            of->weight[s] = 1.0f / (float)of->n_samples;
        }
    }
}

/* A deviation of 1 at most for `width` columns of this mean and variance: it counts as a share of the
 * mean at least, so that what is folded into weights leaves bits of a float to the sum. */
static void set_scale(size_t width, const double *mean, const double *var, float *scale) {
    double size = 0.0, moves = 0.0, away, share = 1.0 / 256;
    for (size_t c = 0; c < width; c++) {
        size += mean[c] * mean[c] / (double)width;
        moves += var[c] / (double)width;
    }
    const double floor = moves > ROUNDING * ROUNDING * size ? FLOOR * moves : size;
    do {
        away = 0.0;
        for (size_t c = 0; c < width; c++) {
            const double floored = var[c] + floor + share * share * mean[c] * mean[c];
            const double by = 1.0 / sqrt(floored > (double)FLT_MIN ? floored : 1.0);
            away += mean[c] * by * mean[c] * by;
            scale[c] = (float)by;
        }
        share *= 2.0;
    } while (away > 1048576.0 && share < 1.0); /* 2^20 */
}

/* Columns whose squares add up to 1 in the mean over the samples. */
static void set_columns(const s2_solving *of) {
    const s2_row_layout *layout = &of->rows_are;
    const s2_device *device = of->device;
    double size = 0.0;
    for (uint32_t k = 0, at = 0; k < layout->n_taps; k++) {
        const int is_x = layout->tap_offset[k] == S2_TAP_IS_X;
        const uint32_t width = layout->tap_width[k];
        of->columns[k] = (s2_columns){
            .kernels = device->adapter.kernels,
            .n_samples = of->n_samples,
            .width = width,
            .rows = is_x ? device->x : of->rows + layout->tap_offset[k],
            .row_stride = is_x ? device->model->n_features : layout->row_stride,
            .mean = of->mean + at,
            .scale = of->scale + at,
        };
        s2_moments moments = {
            .width = width, .first = of->lora_a, .sum = of->sums, .squares = of->squares};
        s2_moments_add(device->adapter.kernels, &moments, of->n_samples, of->columns[k].rows,
                       of->columns[k].row_stride, NULL);
        s2_moments_finish(&moments, of->of_mean, of->of_var);
        set_scale(width, of->of_mean, of->of_var, of->scale + at);
        for (size_t c = 0; c < width; c++) {
            const double by = (double)of->scale[at + c];
            of->mean[at + c] = (float)of->of_mean[c];
            size += by * by * of->of_var[c];
        }
        at += width;
    }
    const double factor = size > 0.0 ? 1.0 / sqrt(size) : 1.0;
    for (size_t c = 0; c < of->width; c++) {
        of->scale[c] = (float)((double)of->scale[c] * factor);
    }
}

/* ---- the solution ---------------------------------------------------------------------------- */

static s2_status solve_dual(const s2_solving *of, const s2_objective *objective, double penalty,
                            s2_dual_report *report) {
    const s2_dual dual = {*objective, of->n_samples, 1, of->gram, of->offset};
    s2_status status = s2_dual_check(&dual);
    memset(of->gram, 0, s2_gram_floats(of->n_samples) * sizeof *of->gram);
    for (uint32_t k = 0; status == S2_OK && k < of->rows_are.n_taps; k++) {
        status = s2_gram_add(&of->columns[k], of->gram, of->room, of->room_bytes);
    }
    s2_gram_finish(objective->kernels, of->n_samples, 1.0f, of->gram);
    const s2_dual_solution solution = {of->coefficients, of->logits, of->bias};
    return status == S2_OK ? s2_dual_solve(&dual, penalty, TOLERANCE, &solution, report, of->room,
                                           of->room_bytes)
                           : status;
}

static s2_status solve_primal(const s2_solving *of, const s2_objective *objective, double penalty,
                              s2_dual_report *report) {
    const s2_primal primal = {*objective, of->rows_are.n_taps, of->columns, of->offset};
    const s2_primal_solution solution = {of->coefficients, of->logits, of->bias};
    s2_metric metric = {.gram = of->gram, .factor = of->factor};
    s2_status status = s2_primal_check(&primal);
    if (status == S2_OK) {
        status = s2_metric_gram(&primal, &metric, of->room, of->room_bytes);
    }
    if (status == S2_OK) {
        status =
            s2_metric_factorize(&primal, &metric, penalty, &solution, of->room, of->room_bytes);
    }
    return status == S2_OK ? s2_primal_solve(&primal, &metric, penalty, TOLERANCE, &solution,
                                             report, of->room, of->room_bytes)
                           : status;
}

static s2_status solve(const s2_solving *of, double penalty, s2_dual_report *report) {
    const s2_objective objective = {.kernels = of->device->adapter.kernels,
                                    .loss = S2_SOFTMAX,
                                    .n_outputs = of->n_learned,
                                    .lanes = of->lanes,
                                    .target = of->target,
                                    .target_stride = of->lanes,
                                    .weight = of->weight};
    const size_t unknowns = of->solver == S2_SOLVE_DUAL ? of->lanes : of->width;
    memset(of->coefficients, 0, of->n_learned * unknowns * sizeof(float));
    memset(of->logits, 0, of->n_learned * of->lanes * sizeof(float));
    memset(of->bias, 0, of->n_learned * sizeof(float));
    return of->solver == S2_SOLVE_DUAL ? solve_dual(of, &objective, penalty, report)
                                       : solve_primal(of, &objective, penalty, report);
}

static int is_finite(const s2_solving *of) {
    const size_t unknowns = of->solver == S2_SOLVE_DUAL ? of->lanes : of->width;
    int finite = 1;
    for (size_t i = 0; i < of->n_learned * unknowns; i++) {
        finite &= isfinite(of->coefficients[i]) != 0;
    }
    for (size_t o = 0; o < of->n_learned; o++) {
        finite &= isfinite(of->bias[o]) != 0;
    }
    return finite;
}

static int rank_is_enough(const s2_solving *of) {
    const s2_adapter *adapter = &of->device->adapter;
    for (uint32_t k = 0; k < adapter->layout->n_taps; k++) {
        if (adapter->rank < of->n_learned && adapter->rank < adapter->layout->tap_width[k]) {
            return 0;
        }
    }
    return adapter->has_bias;
}

s2_status s2_device_solve(s2_device *device, double penalty, s2_dual_report *report,
                          void *workspace, size_t workspace_bytes) {
    uint32_t offsets[S2_MODEL_MAX_TAPS];
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    if (device->n_samples == 0) {
        return S2_BAD_VALUE;
    }
    s2_solving of = configure(device, device->n_samples, offsets);
    take_all(&of, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    find_rows(&of);
    of.n_learned = find_learned(&of);
    if (of.n_learned < 2) {
        return S2_BAD_VALUE;
    }
    if (!rank_is_enough(&of)) {
        return S2_BAD_SHAPE;
    }
    set_objective(&of);
    set_columns(&of);
    s2_status status = solve(&of, penalty, report);
    if (status == S2_OK) {
        status = is_finite(&of) ? s2_device_settle(&of) : S2_NOT_FINITE;
    }
    if (status == S2_OK) {
        s2_device_rest(device);
    }
    return status;
}
