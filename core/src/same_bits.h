/*
 * same_bits.h - no a * b + c in one rounding, whatever the flags: gcc contracts under -std=gnu11, as
 * Arduino compiles, and ignores the standard's pragma, which clang follows. First include of each
 * source whose sums must have the same bits on every machine.
 */
#ifndef S2_SAME_BITS_H
#define S2_SAME_BITS_H

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#endif
