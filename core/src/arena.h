/*
 * arena.h - hands out parts of the caller's buffer. With a NULL buffer it only counts, so one
 * function both measures a workspace and lays it out.
 */
#ifndef S2_ARENA_H
#define S2_ARENA_H

#include "kernels.h"

typedef struct {
    unsigned char *base; /* NULL: count only */
    size_t used;
} s2_arena;

/* Whether the caller's buffer holds what was taken from it. */
static inline int s2_fits(const s2_arena *arena, size_t bytes) {
    return arena->base != NULL && arena->used <= bytes;
}

static inline void *s2_take(s2_arena *arena, size_t count, size_t size) {
    const size_t at = arena->used;
    arena->used += (count * size + (S2_ALIGN - 1u)) / S2_ALIGN * S2_ALIGN;
    return arena->base ? arena->base + at : NULL;
}

static inline float *s2_take_floats(s2_arena *arena, size_t count) {
    return s2_take(arena, count, sizeof(float));
}

#endif
