/*
 * skip2_device_solve.h - the exact solver on the samples that a device keeps (device_solve.c). The
 * rules of skip2.h hold.
 */
#ifndef SKIP2_DEVICE_SOLVE_H
#define SKIP2_DEVICE_SOLVE_H

#include "skip2_device.h"
#include "skip2_exact.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of the workspace for that many samples, beside the device's own arena: about 4 n^2 or 4 D^2 bytes
 * of n samples and taps of D numbers in all, whichever is less, and 64 KiB or more besides. */
size_t s2_device_solve_bytes(const s2_device *device, uint32_t n_samples);
/* In place of the adapters: those that make the mean cross entropy + penalty / 2 |W|^2 least, over
 * the samples that are kept, for taps that are standardised so that their mean square is 1; as
 * solver="exact" of the Python package with that penalty (0.001 where nothing is known). Classes
 * without a sample keep what the network says of them, and are held down to a mean probability of 1
 * in n + 1.
 *
 * S2_BAD_SHAPE: the adapters have no bias, or a rank below both the number of classes that have
 * samples and the width of a tap; S2_BAD_VALUE: samples of one class alone, or none, a penalty that
 * is negative or not finite; S2_NO_ROOM, S2_NOT_FINITE. The adapters are changed with S2_OK alone;
 * whether they are the least says report->converged. */
s2_status s2_device_solve(s2_device *device, double penalty, s2_dual_report *report,
                          void *workspace, size_t workspace_bytes);

#ifdef __cplusplus
}
#endif

#endif
