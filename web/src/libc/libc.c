/* libc.c - the functions of string.h. Compiled with -fno-builtin, lest a loop become a call of itself. */
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    return memmove(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes) {
    unsigned char *a = to;
    const unsigned char *b = from;
    if (a <= b) {
        for (size_t i = 0; i < bytes; i++) {
            a[i] = b[i];
        }
    } else {
        for (size_t i = bytes; i > 0; i--) {
            a[i - 1] = b[i - 1];
        }
    }
    return to;
}

void *memset(void *to, int byte, size_t bytes) {
    unsigned char *a = to;
    for (size_t i = 0; i < bytes; i++) {
        a[i] = (unsigned char)byte;
    }
    return to;
}

void *memchr(const void *in, int byte, size_t bytes) {
    const unsigned char *at = in;
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] == (unsigned char)byte) {
            return (void *)(at + i);
        }
    }
    return NULL;
}

int strcmp(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}
