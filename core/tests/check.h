/*
 * check.h - checks that count themselves. Include it first; end main with
 * `return check_report("test_name");`.
 */
#ifndef S2_CHECK_H
#define S2_CHECK_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* before any system header: guard.h wants mmap and posix_memalign */
#endif

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static unsigned check_count, check_failures;
static char check_context[160];

/* What the checks that follow are about; printed with a failure. */
static inline void check_where(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(check_context, sizeof check_context, format, arguments);
    va_end(arguments);
}

static inline void check_that(int holds, const char *file, int line, const char *format, ...) {
    enum { SHOWN = 20 };
    check_count++;
    if (holds || ++check_failures > SHOWN) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    printf("%s:%d: ", file, line);
    (void)vprintf(format, arguments);
    printf("%s%s%s\n", check_context[0] ? " [" : "", check_context, check_context[0] ? "]" : "");
    va_end(arguments);
}

static inline void check_equal(long long got, long long expected, const char *what,
                               const char *file, int line) {
    check_that(got == expected, file, line, "%s is %lld, expected %lld", what, got, expected);
}

/* A NaN is near nothing. */
static inline void check_near(double got, double expected, double tolerance, const char *what,
                              const char *file, int line) {
    check_that(fabs(got - expected) <= tolerance, file, line, "%s is %.9g, expected %.9g +- %.1g",
               what, got, expected, tolerance);
}

static inline void check_same(const void *got, const void *expected, size_t bytes, const char *what,
                              const char *file, int line) {
    const unsigned char *one = got, *other = expected;
    size_t at = 0;
    while (at < bytes && one[at] == other[at]) {
        at++;
    }
    check_that(at == bytes, file, line, "%s: byte %zu of %zu differs", what, at, bytes);
}

#define CHECK(holds) check_that((holds) != 0, __FILE__, __LINE__, "not so: %s", #holds)
#define CHECK_EQUAL(got, wanted)                                                                   \
    check_equal((long long)(got), (long long)(wanted), #got, __FILE__, __LINE__)
#define CHECK_NEAR(got, wanted, tolerance)                                                         \
    check_near((double)(got), (double)(wanted), (tolerance), #got, __FILE__, __LINE__)
#define CHECK_SAME(got, wanted, bytes)                                                             \
    check_same((got), (wanted), (bytes), #got, __FILE__, __LINE__)

static inline int check_report(const char *program) {
    printf("%s: %u checks", program, check_count);
    printf(check_failures ? ", %u FAILED\n" : "\n", check_failures);
    return check_failures != 0;
}

#endif
