/* test_device_flash.c - adapters of a device in flash: there and back, of another network, too large. */
#include "blob.h"

enum { SLOT = 16384 };

static uint8_t slots[2][SLOT];

static s2_status clear(void *context, uint32_t slot) {
    (void)context;
    memset(slots[slot], 0xff, SLOT);
    return S2_OK;
}

static s2_status put_bytes(void *context, uint32_t slot, uint32_t at, const void *bytes,
                           uint32_t n_bytes) {
    (void)context;
    memcpy(slots[slot] + at, bytes, n_bytes);
    return S2_OK;
}

static s2_status get_bytes(void *context, uint32_t slot, uint32_t at, void *bytes,
                           uint32_t n_bytes) {
    (void)context;
    memcpy(bytes, slots[slot] + at, n_bytes);
    return S2_OK;
}

static const s2_flash flash = {NULL, SLOT, 8, clear, put_bytes, get_bytes};

typedef struct {
    network of;
    blob made;
    s2_model model;
    s2_device device;
    float *arena;
} desk;

static void begin(desk *d, uint64_t seed) {
    s2_rng rng;
    s2_rng_seed(&rng, seed, 1);
    new_blob(&d->made, &d->of, 0, &rng);
    CHECK_EQUAL(s2_model_read(&d->model, d->made.word, d->made.n_words * 4), S2_OK);
    const s2_device_options options = {.capacity = 3,
                                       .rows = S2_ROWS_INT8,
                                       .rank = 7,
                                       .has_bias = 1,
                                       .batch_size = 1,
                                       .learning_rate = 0.05};
    const size_t bytes = s2_device_bytes(&d->model, &options);
    d->arena = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&d->device, &d->model, &options, d->arena, bytes), S2_OK);
}

static void end(desk *d) {
    free(d->arena);
    free(d->made.word);
}

static void train(desk *d, const float *x) {
    s2_epoch_stats stats;
    CHECK_EQUAL(s2_device_add_sample(&d->device, x, 1), S2_OK);
    CHECK_EQUAL(s2_device_train_epoch(&d->device, &stats), S2_OK);
}

static void test_there_and_back(void) {
    desk one, two, other;
    int is_there = 1;
    float x[11] = {0.5f, -1, 2}, logits[3][5];
    begin(&one, 5);
    begin(&two, 5);
    begin(&other, 6);
    memset(slots, 0, sizeof slots);
    CHECK_EQUAL(s2_device_restore(&one.device, &flash, &is_there), S2_OK);
    CHECK_EQUAL(is_there, 0);
    train(&one, x);
    CHECK_EQUAL(s2_device_predict(&one.device, x, logits[0]), S2_OK);
    CHECK_EQUAL(s2_device_save(&one.device, &flash), S2_OK);
    CHECK_EQUAL(s2_device_restore(&two.device, &flash, &is_there), S2_OK);
    CHECK_EQUAL(is_there, 1);
    CHECK_EQUAL(s2_device_predict(&two.device, x, logits[1]), S2_OK);
    CHECK_SAME(logits[1], logits[0], sizeof logits[0]);
    CHECK_EQUAL(s2_device_predict(&other.device, x, logits[1]), S2_OK);
    CHECK_EQUAL(s2_device_restore(&other.device, &flash, &is_there), S2_BAD_MODEL);
    CHECK_EQUAL(s2_device_predict(&other.device, x, logits[2]), S2_OK);
    CHECK_SAME(logits[2], logits[1], sizeof logits[0]);
    static const uint8_t large[SLOT - 16];
    CHECK_EQUAL(s2_flash_save(&flash, large, sizeof large), S2_OK);
    CHECK_EQUAL(s2_device_restore(&two.device, &flash, &is_there), S2_BAD_MODEL);
    s2_flash small = flash;
    small.slot_bytes =
        (uint32_t)s2_flash_slot_bytes(s2_device_adapters_bytes(&one.device), flash.unit) - 1;
    CHECK_EQUAL(s2_device_save(&one.device, &small), S2_NO_ROOM);
    end(&one);
    end(&two);
    end(&other);
    release_guarded();
}

static s2_status no_taps(void *context, const float *x, float *const *taps, float *base_logits) {
    (void)context, (void)x, (void)taps, (void)base_logits;
    return S2_FORWARD_FAILED;
}

/* A wide tap and one sample at a time: the record takes more room than anything else. */
static void test_room(void) {
    blob made = {calloc(blob_words, sizeof(uint32_t)), 0};
    const uint32_t head[] = {0x324d5053, 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 300};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        put(&made, head[i]);
    }
    seal(&made, 16);
    s2_model model;
    s2_device device;
    CHECK_EQUAL(s2_model_read(&model, made.word, made.n_words * 4), S2_OK);
    const s2_device_options options = {.capacity = 1,
                                       .rows = S2_ROWS_INT8,
                                       .rank = 9,
                                       .batch_size = 1,
                                       .learning_rate = 0.05,
                                       .taps = no_taps};
    const size_t bytes = s2_device_bytes(&model, &options);
    float *const arena = aligned_floats(bytes / sizeof(float));
    CHECK_EQUAL(s2_device_init(&device, &model, &options, arena, bytes), S2_OK);
    CHECK_EQUAL(s2_device_save(&device, &flash), S2_OK);
    free(arena);
    free(made.word);
}

int main(void) {
    test_there_and_back();
    test_room();
    return check_report("test_device_flash");
}
