/* polynomials.h - exp and log of one float; vector_head.h has the same in vectors. libm's would differ
 * between C libraries. */
#ifndef S2_POLYNOMIALS_H
#define S2_POLYNOMIALS_H

#include <float.h>
#include <stdint.h>
#include <string.h>

static inline float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer in the low bits */

/* exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 (as in Cephes); relative
 * error about 1e-7 for -87 <= x <= 88, clamped beyond. NaN stays NaN. */
static inline float exp_poly(float x) {
    const float low = x < -87.0f ? -87.0f : x;
    const float bounded = low > 88.0f ? 88.0f : low;
    const float rounded = bounded * 1.44269504f + ROUND_MAGIC;
    const float n = rounded - ROUND_MAGIC;
    const float r = bounded - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * float_of_bits((bits_of_float(rounded) + 127u) << 23);
}

/* log of a positive normal number by x = 2^e m, sqrt(1/2) <= m < sqrt(2); error about 1e-7. */
static inline float log_poly(float x) {
    const uint32_t bits = bits_of_float(x);
    const uint32_t shifted = bits - 0x3f3504f3u; /* bits of sqrt(1/2) */
    const float e = (float)((int32_t)shifted >> 23);
    const float m = float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    const float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const float log = m + (p * m * z + e * -2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
    return x <= FLT_MAX ? log : x; /* NaN and infinity stay themselves */
}

#endif
