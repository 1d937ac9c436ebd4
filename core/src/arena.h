/*
 * arena.h - hands out parts of the caller's buffer. With a NULL buffer it only counts, so one
 * function both measures a workspace and lays it out.
 */
#ifndef S2_ARENA_H
#define S2_ARENA_H

#include "kernels.h"

typedef struct {
    unsigned char *base; /* NULL: count only */
    size_t size;         /* bytes at base */
    size_t used;         /* bytes asked for so far; SIZE_MAX: more than a size can say */
} s2_arena;

/* Whether the caller's buffer holds what was taken from it. */
static inline int s2_fits(const s2_arena *arena) {
    return arena->base != NULL && arena->used <= arena->size && arena->used < SIZE_MAX;
}

/* Inlined on a microcontroller, -O2 would spend 4 KB of its flash on it. */
#if defined(__GNUC__) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define S2_TAKE static __attribute__((noinline, unused))
#else
#define S2_TAKE static inline
#endif

/* (rows, cols) elements of `size` bytes; NULL where the buffer ends before. */
S2_TAKE void *s2_take(s2_arena *arena, size_t rows, size_t cols, size_t size) {
    const size_t at = arena->used;
    arena->used = s2_plus(at, s2_round_up(s2_times(s2_times(rows, cols), size), S2_ALIGN));
    return s2_fits(arena) ? arena->base + at : NULL;
}

static inline float *s2_take_floats(s2_arena *arena, size_t rows, size_t cols) {
    return s2_take(arena, rows, cols, sizeof(float));
}

#endif
