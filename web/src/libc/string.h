/* string.h - what the core uses of it, where there is no C library. */
#ifndef S2_STRING_H
#define S2_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
void *memchr(const void *in, int byte, size_t bytes);
int strcmp(const char *a, const char *b);

#endif
