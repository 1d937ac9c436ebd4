/* test_pool.c - a map of integers and one of floats, cells that share a place, refusals. */
#include "guard.h"

#include "skip2_pool.h"

enum { HEIGHT = 3, WIDTH = 5, CHANNELS = 2, SIZE = HEIGHT * WIDTH * CHANNELS };

static s2_maps map_of(s2_element element, uint32_t grid_height, uint32_t grid_width) {
    return (s2_maps){1, HEIGHT, WIDTH, CHANNELS, grid_height, grid_width, element, 1.0f, 0};
}

static s2_status run(const s2_maps *map, const void *values, float *out) {
    const size_t size = s2_pool_bytes(map);
    return s2_pool(map, values, guarded(size), size, out);
}

/* Place (y, x) holds 10 y + x in channel 0 and its negative in channel 1. */
static void test_floats(void) {
    float *values = guarded_floats(SIZE), *out = guarded_floats(CHANNELS * 4);
    for (int at = 0; at < SIZE; at++) {
        const int place = at / CHANNELS, value = 10 * (place / WIDTH) + place % WIDTH;
        values[at] = (float)(at % CHANNELS ? -value : value);
    }
    const s2_maps map = map_of(S2_FLOAT32, 2, 2);
    CHECK(run(&map, values, out) == S2_OK);
    /* rows 0..1 and 1..2, columns 0..2 and 2..4: the middle ones are in both */
    const float expected[] = {6, 8, 16, 18, -6, -8, -16, -18};
    for (int i = 0; i < 8; i++) {
        CHECK(out[i] == expected[i]);
    }
    const s2_maps whole = map_of(S2_FLOAT32, HEIGHT, WIDTH);
    float *every = guarded_floats(SIZE);
    CHECK(run(&whole, values, every) == S2_OK);
    CHECK(every[WIDTH * HEIGHT - 1] == 24 && every[SIZE - 1] == -24);
    release_guarded();
}

static void test_integers(void) {
    int8_t *values = guarded(SIZE);
    float *out = guarded_floats(CHANNELS);
    for (int at = 0; at < SIZE; at++) {
        values[at] = (int8_t)(at % CHANNELS ? -100 : at);
    }
    s2_maps map = map_of(S2_INT8, 1, 1);
    map.scale = 0.5f;
    map.zero_point = 4;
    CHECK(run(&map, values, out) == S2_OK);
    CHECK_NEAR(out[0], 5, 1e-5);
    CHECK_NEAR(out[1], -52, 1e-5);
    map.element = S2_UINT8; /* the same bytes */
    CHECK(run(&map, values, out) == S2_OK);
    CHECK_NEAR(out[0], 5, 1e-5);
    CHECK_NEAR(out[1], 76, 1e-5);
    release_guarded();
}

static void test_int16(void) {
    int16_t *values = guarded(SIZE * sizeof *values);
    float *out = guarded_floats(CHANNELS);
    for (int at = 0; at < SIZE; at++) {
        values[at] = (int16_t)(at % CHANNELS ? -30000 : 30000);
    }
    const s2_maps map = map_of(S2_INT16, 1, 1);
    CHECK(run(&map, values, out) == S2_OK);
    CHECK_NEAR(out[0], 30000, 1e-2);
    CHECK_NEAR(out[1], -30000, 1e-2);
    release_guarded();
}

/* Maps (COUNT, HEIGHT, width) of one channel: place (y, x) of map m holds 100 m + 10 y + x. */
static void test_planes(uint32_t width, uint32_t grid_width) {
    enum { COUNT = 700, CELLS = 2 };
    float *values = guarded_floats(COUNT * HEIGHT * width);
    float *out = guarded_floats(COUNT * CELLS * grid_width);
    for (uint32_t at = 0; at < COUNT * HEIGHT * width; at++) {
        const uint32_t map = at / (HEIGHT * width), place = at % (HEIGHT * width);
        values[at] = (float)(100 * map + 10 * (place / width) + place % width);
    }
    const s2_maps maps = {COUNT, HEIGHT, width, 1, CELLS, grid_width, S2_FLOAT32, 1.0f, 0};
    CHECK(run(&maps, values, out) == S2_OK);
    for (uint32_t at = 0; at < COUNT * CELLS * grid_width; at++) {
        const uint32_t map = at / (CELLS * grid_width), y = at / grid_width % CELLS;
        const uint32_t x = at % grid_width, start = x * width / grid_width;
        const uint32_t stop = ((x + 1) * width + grid_width - 1) / grid_width;
        const double column = (start + stop - 1) / 2.0;
        CHECK_NEAR(out[at], 100 * map + 10 * (y + 0.5) + column, 0.02);
    }
    release_guarded();
}

static void test_refusals(void) {
    float *values = guarded_floats(SIZE), *out = guarded_floats(SIZE);
    const s2_maps tall = map_of(S2_FLOAT32, HEIGHT + 1, 1), none = map_of(S2_FLOAT32, 0, 1);
    const s2_maps wide = map_of(S2_FLOAT32, 1, WIDTH + 1), odd = map_of((s2_element)9, 1, 1);
    CHECK(run(&tall, values, out) == S2_BAD_SHAPE);
    CHECK(run(&wide, values, out) == S2_BAD_SHAPE);
    CHECK(run(&none, values, out) == S2_BAD_SHAPE);
    CHECK(run(&odd, values, out) == S2_BAD_VALUE);
    const s2_maps map = map_of(S2_FLOAT32, 1, 1);
    CHECK(s2_pool(&map, values, out, s2_pool_bytes(&map) - 1, out) == S2_NO_ROOM);
    CHECK(s2_pool(&map, values, NULL, s2_pool_bytes(&map), out) == S2_NO_ROOM);
    CHECK(isnan(out[0]));
    release_guarded();
}

int main(void) {
    test_floats();
    test_integers();
    test_int16();
    test_planes(12, 1); /* pairs, then three */
    test_planes(12, 3);
    test_planes(12, 12);
    test_planes(7, 4); /* cells that share a place */
    test_refusals();
    return check_report("test_pool");
}
