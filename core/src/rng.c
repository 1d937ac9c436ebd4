/* rng.c - PCG32 (O'Neill 2014, XSH-RR variant): small, seeded, the same on every machine. */
#include "skip2.h"

static inline uint32_t next(s2_rng *rng) {
    const uint64_t old = rng->state;
    rng->state = old * 6364136223846793005u + rng->increment;
    const uint32_t shifted = (uint32_t)(((old >> 18) ^ old) >> 27);
    const uint32_t turn = (uint32_t)(old >> 59);
    return (shifted >> turn) | (shifted << ((32u - turn) & 31u));
}

uint32_t s2_rng_next(s2_rng *rng) {
    return next(rng);
}

void s2_rng_seed(s2_rng *rng, uint64_t seed, uint64_t stream) {
    rng->state = 0;
    rng->increment = (stream << 1) | 1u;
    (void)s2_rng_next(rng);
    rng->state += seed;
    (void)s2_rng_next(rng);
}

static inline uint32_t below(s2_rng *rng, uint32_t bound) {
    /* Lemire 2019: the high word of a product, redrawn where it would favour small values. */
    uint64_t product = (uint64_t)next(rng) * bound;
    if ((uint32_t)product < bound) {
        const uint32_t threshold = (0u - bound) % bound;
        while ((uint32_t)product < threshold) {
            product = (uint64_t)next(rng) * bound;
        }
    }
    return (uint32_t)(product >> 32);
}

uint32_t s2_rng_below(s2_rng *rng, uint32_t bound) {
    return below(rng, bound);
}

float s2_rng_unit(s2_rng *rng) {
    return (float)(next(rng) >> 8) * (1.0f / 16777216.0f);
}

void s2_rng_shuffle(s2_rng *rng, uint32_t *order, uint32_t count) {
    s2_rng local = *rng; /* in registers: no store to `order` can change it */
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = below(&local, i);
        const uint32_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
    *rng = local;
}
