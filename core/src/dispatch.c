/* dispatch.c - which kernel table this processor runs. */
#include "kernels.h"

#include <string.h>

static int runs_here(const s2_kernels *kernels) {
#ifdef S2_HAVE_X86_64_V4
    if (kernels == &s2_kernels_x86_64_v4) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    }
#endif
#ifdef S2_HAVE_X86_64_V3
    if (kernels == &s2_kernels_x86_64_v3) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
#endif
    return kernels == &s2_kernels_scalar;
}

static const s2_kernels *const tables[] = {
#ifdef S2_HAVE_X86_64_V4
    &s2_kernels_x86_64_v4,
#endif
#ifdef S2_HAVE_X86_64_V3
    &s2_kernels_x86_64_v3,
#endif
    &s2_kernels_scalar,
};

const char *const *s2_kernels_names(void) {
    static const char *const names[] = {
#ifdef S2_HAVE_X86_64_V4
        "x86-64-v4",
#endif
#ifdef S2_HAVE_X86_64_V3
        "x86-64-v3",
#endif
        "scalar", NULL};
    return names;
}

const s2_kernels *s2_kernels_choose(const char *name) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (runs_here(tables[i]) && (name == NULL || strcmp(name, tables[i]->name) == 0)) {
            return tables[i];
        }
    }
    return NULL;
}

const char *s2_kernels_name(const s2_kernels *kernels) {
    return kernels->name;
}

double s2_kernels_multiply_adds(const s2_kernels *kernels, size_t rounds, float *result) {
    return kernels->multiply_adds(rounds, result);
}
