/*
 * guard.h - memory that shows misuse, and random numbers to fill it with.
 *
 * A guarded buffer ends where an inaccessible page starts, so that one element too many ends the
 * program even where the sanitizers do not look (masked vector instructions). Its bytes are 0xff
 * until written: floats read NaN, and so show that they were never computed.
 */
#ifndef S2_GUARD_H
#define S2_GUARD_H

#include "check.h"

#include "skip2.h"

#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#define GUARD_PAGES 1
#include <sys/mman.h>
#include <unistd.h>
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#else
#define GUARD_PAGES 0 /* no operating system: bytes behind a buffer are watched instead */
#endif
#ifdef __NEWLIB__
#include <malloc.h>
#endif

enum { GUARDED_AT_ONCE = 1024, BYTES_BEFORE = 64, BYTES_BEHIND = GUARD_PAGES ? 0 : 64 };

static struct {
    unsigned char *map, *data;
    size_t map_bytes;
} guarded_list[GUARDED_AT_ONCE];
static size_t n_guarded;

static inline void *guarded(size_t bytes) {
    if (n_guarded == GUARDED_AT_ONCE) {
        fprintf(stderr, "guard.h: more than %d guarded buffers\n", (int)GUARDED_AT_ONCE);
        abort();
    }
#if GUARD_PAGES
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t front = (bytes + BYTES_BEFORE + page - 1) / page * page, whole = front + page;
    unsigned char *map =
        mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int there = map != MAP_FAILED && mprotect(map + front, page, PROT_NONE) == 0;
#else
    const size_t front = (bytes + BYTES_BEFORE + 15) / 16 * 16, whole = front + BYTES_BEHIND;
    unsigned char *map = malloc(whole);
    const int there = map != NULL;
#endif
    if (!there) {
        fprintf(stderr, "guard.h: no guarded buffer of %zu bytes\n", bytes);
        abort();
    }
    memset(map, 0xff, GUARD_PAGES ? front : whole);
    guarded_list[n_guarded].map = map;
    guarded_list[n_guarded].data = map + front - bytes;
    guarded_list[n_guarded].map_bytes = whole;
    return guarded_list[n_guarded++].data;
}

static inline float *guarded_floats(size_t count) {
    return guarded(count * sizeof(float));
}

/* Returns all guarded buffers, after a look at the bytes around them. */
static inline void release_guarded(void) {
    while (n_guarded > 0) {
        n_guarded--;
        unsigned char *map = guarded_list[n_guarded].map;
        const unsigned char *data = guarded_list[n_guarded].data;
        const size_t whole = guarded_list[n_guarded].map_bytes;
        unsigned around = 0xff;
        for (size_t i = 1; i <= BYTES_BEFORE; i++) {
            around &= data[-(ptrdiff_t)i];
        }
        for (size_t i = 1; i <= BYTES_BEHIND; i++) {
            around &= map[whole - i];
        }
        CHECK_EQUAL(around, 0xff);
#if GUARD_PAGES
        (void)munmap(map, whole);
#else
        free(map);
#endif
    }
}

/* Aligned as the core asks, and watched by the address sanitizer to the byte; free() it. */
static inline float *aligned_floats(size_t count) {
    void *data = NULL;
#ifdef __NEWLIB__ /* declares posix_memalign and lacks it */
    data = memalign(S2_ALIGN, count * sizeof(float));
    const int there = data != NULL;
#else
    const int there = posix_memalign(&data, S2_ALIGN, count * sizeof(float)) == 0;
#endif
    if (!there) {
        abort();
    }
    memset(data, 0xff, count * sizeof(float));
    return data;
}

static inline float random_unit(s2_rng *rng) { /* -1..1 */
    return 2.0f * s2_rng_unit(rng) - 1.0f;
}

static inline void fill_random(s2_rng *rng, float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        values[i] = random_unit(rng);
    }
}

static inline float *random_floats(s2_rng *rng, size_t count) {
    float *values = guarded_floats(count);
    fill_random(rng, values, count);
    return values;
}

static inline int32_t *random_labels(s2_rng *rng, uint32_t count, uint32_t n_outputs) {
    int32_t *label = guarded(count * sizeof *label);
    for (uint32_t s = 0; s < count; s++) {
        label[s] = (int32_t)s2_rng_below(rng, n_outputs);
    }
    return label;
}

/* From 0 to 2, the first one 0. */
static inline float *random_weights(s2_rng *rng, uint32_t count) {
    float *weight = guarded_floats(count);
    for (uint32_t s = 0; s < count; s++) {
        weight[s] = s == 0 ? 0.0f : 2.0f * s2_rng_unit(rng);
    }
    return weight;
}

/* Calls `test` once for every kernel table this processor runs. */
static inline void with_each_table(void (*test)(const s2_kernels *kernels)) {
    for (const char *const *name = s2_kernels_names(); *name != NULL; name++) {
        const s2_kernels *kernels = s2_kernels_choose(*name);
        if (kernels != NULL) {
            check_where("%s", *name);
            test(kernels);
            release_guarded();
        }
    }
    check_where("%s", "");
}

/* The floats given, ending at a guard page. */
#define FLOATS(...) guarded_copy((const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}))

static inline float *guarded_copy(const float *values, size_t bytes) {
    return memcpy(guarded(bytes), values, bytes);
}

#endif
