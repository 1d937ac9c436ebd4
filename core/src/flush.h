/* flush.h - numbers below FLT_MIN are zero while a step runs. Once a model is sure of its samples,
 * gradients, and moments of them, are that small, and x86-64 takes about ten times as long for
 * each such batch. What the caller computes keeps its own mode. */
#ifndef S2_FLUSH_H
#define S2_FLUSH_H

#include <stdint.h>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>

/* Returns the mode that s2_flush_end sets again. */
static inline uint64_t s2_flush_begin(void) {
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040u); /* results, and what is read: as AArch64 does */
    return mode;
}

/* Flags that were raised meanwhile stay. */
static inline void s2_flush_end(uint64_t mode) {
    _mm_setcsr((unsigned)mode | (_mm_getcsr() & 0x3fu));
}
#elif defined(__aarch64__)
static inline uint64_t s2_flush_begin(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)) : "memory");
    return mode;
}

static inline void s2_flush_end(uint64_t mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}
#else /* NEON of ARMv7 always does; others compute with them as they do */
static inline uint64_t s2_flush_begin(void) {
    return 0;
}

static inline void s2_flush_end(uint64_t mode) {
    (void)mode;
}
#endif

#endif
