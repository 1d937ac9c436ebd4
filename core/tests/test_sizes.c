/* test_sizes.c - sizes that a size_t cannot say: SIZE_MAX, and no buffer is large enough. Built for
 * 32 bits by `make test-32` and `make test-arm`, where a network that a file may hold is too large. */
#include "network.h"

#include "arena.h"
#include "skip2_pool.h"

enum { SLACK = 1 << 16 }; /* bytes of padding and of bookkeeping, beyond the floats */

/* `bytes` is room for this many floats and little more, or SIZE_MAX where no size can say it. */
#define CHECK_ROOM(bytes, floats) check_room((bytes), (floats), #bytes, __LINE__)
static void check_room(size_t bytes, uint64_t floats, const char *what, int line) {
    const uint64_t least = floats * sizeof(float);
    const int fits = least <= SIZE_MAX && (size_t)least <= SIZE_MAX - SLACK;
    check_that(fits ? bytes >= least && bytes - least < SLACK : bytes == SIZE_MAX, __FILE__, line,
               "%s is %zu for %llu floats", what, bytes, (unsigned long long)floats);
}

static void test_arithmetic(void) {
    const size_t half = (size_t)1 << (4 * sizeof(size_t)), top = SIZE_MAX;
    CHECK(s2_times(0, top) == 0 && s2_times(top, 0) == 0 && s2_times(0, 0) == 0);
    CHECK(s2_times(1, top) == top && s2_times(top, 1) == top);
    CHECK(s2_times(top, 2) == top && s2_times(2, top) == top && s2_times(top, top) == top);
    CHECK(s2_times(half, half) == top);
    CHECK(s2_times(half, half - 1) == half * (half - 1));
    CHECK(s2_times(half - 1, half - 1) == (half - 1) * (half - 1));
    CHECK(s2_times(half - 1, half + 1) == top); /* half^2 - 1 is SIZE_MAX itself */
    CHECK(s2_times(top / 3, 3) == top / 3 * 3 && s2_times(top / 3 + 1, 3) == top);
    CHECK(s2_times(3, top / 3) == top / 3 * 3 && s2_times(3, top / 3 + 1) == top);
    CHECK(s2_plus(top, 0) == top && s2_plus(top - 1, 1) == top && s2_plus(top, top) == top);
    CHECK(s2_plus(top - 2, 1) == top - 1 && s2_plus(0, 0) == 0);
    CHECK(s2_round_up(0, 16) == 0 && s2_round_up(1, 16) == 16 && s2_round_up(16, 16) == 16);
    CHECK(s2_round_up(17, 1) == 17 && s2_round_up(top - 63, 64) == top - 63);
    CHECK(s2_round_up(top - 62, 64) == top && s2_round_up(top, 64) == top);
}

static void test_arena(void) {
    unsigned char bytes[256];
    s2_arena arena = {.base = bytes, .size = sizeof bytes};
    CHECK(s2_take(&arena, 3, 5, 7) == bytes && arena.used == 128);
    CHECK(s2_take_floats(&arena, 1, 33) == NULL && arena.used == 128 + 192 && !s2_fits(&arena));
    CHECK(s2_take(&arena, 1, 1, 1) == NULL); /* nothing fits behind what did not */
    arena = (s2_arena){.base = bytes, .size = SIZE_MAX};
    CHECK(s2_take(&arena, SIZE_MAX / 2, 1, 3) == NULL && arena.used == SIZE_MAX);
    CHECK(s2_take(&arena, 1, 1, 1) == NULL && arena.used == SIZE_MAX && !s2_fits(&arena));
    arena = (s2_arena){0};
    CHECK(s2_take(&arena, 1, 1, 1) == NULL && arena.used == S2_ALIGN && !s2_fits(&arena));
}

/* A network of two layers, whose weights nobody reads. */
static void new_wide(network *made, const s2_kernels *kernels, const uint32_t width[3]) {
    static float nothing;
    for (uint32_t k = 0; k < 2; k++) {
        made->layers[k] = (s2_layer){
            .n_in = width[k], .n_out = width[k + 1], .weight = &nothing, .bias = &nothing};
    }
    made->net = (s2_net){kernels, 2, made->layers, 1e-5f, 0.1f, NULL, S2_SOFTMAX};
}

/* 16-16384-3 with batch 65,536 needs 12.8 GB. */
static void test_network(const s2_kernels *kernels) {
    static const uint32_t shapes[][3] = {
        {16, 8, 3}, {16, 16384, 3}, {1u << 20, 1u << 20, 40}, {S2_MAX_WIDTH, S2_MAX_WIDTH, 1}};
    static const uint32_t counts[] = {1, 64, 65536, S2_MAX_BATCH, UINT32_MAX};
    const s2_compute_types types[] = {{S2_Y | S2_W | S2_B, 0, 0}, {S2_Y | S2_W | S2_X, 0, 0}};
    s2_batch_stats stats;
    float *small = guarded_floats(16);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        network wide;
        new_wide(&wide, kernels, shapes[i]);
        const uint64_t a = shapes[i][0], b = shapes[i][1], c = shapes[i][2];
        const uint64_t largest = a > b ? a : b, weights = a * b + b * c;
        const int sound = a * b * sizeof(float) < SIZE_MAX;
        CHECK_EQUAL(s2_net_check(&wide.net), sound ? S2_OK : S2_BAD_SHAPE);
        CHECK_ROOM(s2_net_state_bytes(&wide.net, types, S2_SGD), 0);
        CHECK_ROOM(s2_net_state_bytes(&wide.net, types, S2_MOMENTUM), weights + b);
        CHECK_ROOM(s2_net_state_bytes(&wide.net, types, S2_ADAM), 2 * (weights + b));
        for (size_t j = 0; j < sizeof counts / sizeof counts[0]; j++) {
            const uint64_t n = counts[j];
            check_where("%s, width %u, count %u", s2_kernels_name(kernels), shapes[i][1],
                        counts[j]);
            const size_t forward = s2_net_forward_workspace_bytes(&wide.net, counts[j]);
            const size_t step = s2_net_step_workspace_bytes(&wide.net, types, counts[j]);
            const size_t loss = s2_loss_scratch_floats(kernels, counts[j], shapes[i][2]);
            CHECK_ROOM(forward, 2 * n * largest + 2 * largest);
            CHECK_ROOM(step, n * (a + 2 * largest + b + c) + (c > 32 ? 0 : n * c) + weights + b);
            CHECK(loss == SIZE_MAX || loss == 0 || loss / shapes[i][2] >= n);
            s2_row_layout layout;
            uint32_t offset[2];
            const float *const *nobody = NULL;
            CHECK_EQUAL(s2_row_layout_init(&layout, 2, shapes[i], shapes[i][2], 1, offset), S2_OK);
            const size_t given = forward == SIZE_MAX ? SIZE_MAX : 64; /* a false claim is refused */
            CHECK_EQUAL(
                s2_net_forward(&wide.net, counts[j], nobody, &layout, 0, small, small, given),
                S2_NO_ROOM);
            CHECK(isnan(small[0]) && isnan(small[15]));
        }
    }
    /* A step that is told of 64 bytes, or of more than there can be, writes nothing. */
    network wide;
    new_wide(&wide, kernels, shapes[1]);
    enum { COUNT = 65536 };
    const float **x = guarded(COUNT * sizeof *x);
    int32_t *label = guarded(COUNT * sizeof *label);
    memset(label, 0, COUNT * sizeof *label);
    const s2_batch batch = {.count = COUNT, .x = x, .label = label};
    const s2_update update = {.rate = 0.5f, .keep = 1};
    const size_t step = s2_net_step_workspace_bytes(&wide.net, types, COUNT);
    const size_t given = step == SIZE_MAX ? SIZE_MAX : 64;
    CHECK_EQUAL(s2_net_step(&wide.net, types, &batch, &update, NULL, &stats, small, given),
                S2_NO_ROOM);
    CHECK_EQUAL(s2_net_step(&wide.net, types, &batch, &update, NULL, &stats, small, 64),
                S2_NO_ROOM);
    CHECK(isnan(small[0]) && isnan(small[15]));
}

/* 128 taps of rank 2^24 overflow 64 bits as well: 2^31 hidden values of 2^32 samples. */
static void test_adapter(const s2_kernels *kernels) {
    enum { MOST = 256 };
    uint32_t width[MOST], offset[MOST];
    for (size_t k = 0; k < MOST; k++) {
        width[k] = S2_MAX_WIDTH;
        offset[k] = k == 0 ? S2_TAP_IS_X : 0;
    }
    s2_row_layout layout = {
        .n_taps = 128, .n_outputs = 3, .tap_width = width, .tap_offset = offset};
    s2_adapter adapter = {.kernels = kernels, .layout = &layout, .rank = S2_MAX_WIDTH};
    float *small = guarded_floats(16);
    const int wide = sizeof(size_t) > 4;
    CHECK_EQUAL(s2_adapter_check(&layout, S2_MAX_WIDTH), wide ? S2_OK : S2_BAD_SHAPE);
    CHECK_EQUAL(s2_adapter_check(&layout, 4), wide ? S2_OK : S2_BAD_SHAPE); /* 2^33 floats */
    const uint64_t floats = ((uint64_t)1 << 55) + ((uint64_t)3 << 31);
    CHECK(s2_adapter_floats(&layout, S2_MAX_WIDTH, 0) == (wide ? (size_t)floats : SIZE_MAX));
    CHECK(s2_adapter_workspace_bytes(&adapter, UINT32_MAX) == SIZE_MAX);
    const s2_batch batch = {.count = UINT32_MAX};
    CHECK_EQUAL(s2_adapter_forward(&adapter, &batch, small, small, SIZE_MAX), S2_NO_ROOM);
    layout.n_taps = MOST; /* 2^32 hidden values have no number of their own */
    CHECK_EQUAL(s2_adapter_check(&layout, S2_MAX_WIDTH), S2_BAD_SHAPE);
    CHECK(s2_adapter_workspace_bytes(&adapter, 1) == SIZE_MAX);
    CHECK(s2_adapter_floats(&layout, UINT32_MAX, 0) == SIZE_MAX);
    layout.n_taps = 2;
    adapter.rank = 4;
    CHECK_ROOM(s2_adapter_workspace_bytes(&adapter, S2_MAX_BATCH),
               (uint64_t)S2_MAX_BATCH * (3 + 2 * 8) + 8 * 3);
    CHECK(isnan(small[0]) && isnan(small[15]));
}

static s2_status no_forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    (void)context, (void)sample, (void)count, (void)rows;
    return S2_FORWARD_FAILED;
}

static void test_epoch_and_maps(void) {
    s2_cache cache = {.row_stride = 1u << 31};
    s2_job job = {.n_samples = 1u << 30, .batch_size = 1, .forward = no_forward, .cache = &cache};
    CHECK_ROOM(s2_train_workspace_bytes(&job), ((uint64_t)1 << 30) + ((uint64_t)1 << 31));
    job.batch_size = UINT32_MAX;
    cache.row_stride = UINT32_MAX;
    CHECK(s2_train_workspace_bytes(&job) == SIZE_MAX);
    job.batch_size = S2_MAX_BATCH;
    float *small = guarded_floats(16);
    s2_rng rng;
    s2_epoch_stats stats;
    s2_rng_seed(&rng, 1, S2_STREAM_ORDER);
    const size_t given = s2_train_workspace_bytes(&job) == SIZE_MAX ? SIZE_MAX : 64;
    CHECK_EQUAL(s2_train_epoch(&job, &rng, &stats, small, given), S2_NO_ROOM);
    const uint32_t most = UINT32_MAX;
    const s2_maps maps[] = {
        {.height = most, .width = most, .channels = 1, .grid_height = most, .grid_width = most},
        {.height = 1, .width = most, .channels = most, .grid_height = 1, .grid_width = 1}};
    for (size_t i = 0; i < 2; i++) {
        CHECK(s2_pool_bytes(&maps[i]) == SIZE_MAX);
        CHECK_EQUAL(s2_pool(&maps[i], small, small, SIZE_MAX, small), S2_NO_ROOM);
    }
    CHECK(isnan(small[0]) && isnan(small[15]));
    release_guarded();
}

int main(void) {
    test_arithmetic();
    test_arena();
    with_each_table(test_network);
    with_each_table(test_adapter);
    test_epoch_and_maps();
    return check_report("test_sizes");
}
