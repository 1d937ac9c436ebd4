/* test_dispatch.c - the choice of a kernel table; `test_dispatch neon` expects that one by default. */
#include "check.h"

#include "kernels.h"

static void test_names(void) {
    const char *const *names = s2_kernels_names();
    const char *last = NULL, *best = NULL;
    for (; *names != NULL; names++) {
        const s2_kernels *chosen = s2_kernels_choose(*names);
        if (chosen != NULL) { /* else this processor lacks it */
            CHECK(strcmp(s2_kernels_name(chosen), *names) == 0);
            best = best != NULL ? best : *names;
        }
        last = *names;
    }
    CHECK(last != NULL && strcmp(last, "scalar") == 0);
    CHECK(s2_kernels_choose("scalar") == &s2_kernels_scalar);
    CHECK(s2_kernels_choose(NULL) != NULL);
    CHECK(strcmp(s2_kernels_name(s2_kernels_choose(NULL)), best) == 0);
}

static void test_unknown(void) {
    CHECK(s2_kernels_choose("") == NULL);
    CHECK(s2_kernels_choose("scala") == NULL);
    CHECK(s2_kernels_choose("scalar ") == NULL);
}

/* A table that lacks a function would be called all the same. */
static void test_tables_are_complete(void) {
    for (const char *const *name = s2_kernels_names(); *name != NULL; name++) {
        const s2_kernels *k = s2_kernels_choose(*name);
        if (k != NULL) {
            CHECK(k->gemm && k->tap_forward && k->tap_update && k->head_forward);
            CHECK(k->head_backward && k->loss_lanes && k->loss_rows && k->column_sums);
            CHECK(k->moments && k->normalize && k->norm_sums && k->norm_backward);
            CHECK(k->scale_columns && k->relu_forward && k->relu_backward && k->descend);
            CHECK(k->multiply_adds && k->lanes > 0);
        }
    }
}

int main(int argc, char **argv) {
    test_names();
    test_unknown();
    test_tables_are_complete();
    if (argc > 1) {
        CHECK(strcmp(s2_kernels_name(s2_kernels_choose(NULL)), argv[1]) == 0);
    }
    return check_report("test_dispatch");
}
