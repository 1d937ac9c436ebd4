/* math.h - what the core uses of it, where there is no C library: each is an instruction. */
#ifndef S2_MATH_H
#define S2_MATH_H

#define INFINITY    __builtin_inff()
#define NAN         __builtin_nanf("")
#define isfinite(x) __builtin_isfinite(x)
#define isnan(x)    __builtin_isnan(x)

static inline float fabsf(float x) {
    return __builtin_fabsf(x);
}
static inline double fabs(double x) {
    return __builtin_fabs(x);
}
static inline float sqrtf(float x) {
    return __builtin_sqrtf(x);
}
static inline double sqrt(double x) {
    return __builtin_sqrt(x);
}
static inline float floorf(float x) {
    return __builtin_floorf(x);
}

#endif
