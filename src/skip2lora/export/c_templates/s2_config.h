/* s2_config.h - how the device of this folder was exported; numbers may be changed here. */
#ifndef S2_CONFIG_H
#define S2_CONFIG_H

#include "skip2_device.h"

#include <string.h>

#define S2_N_FEATURES    @N_FEATURES@u /* numbers of a sample */
#define S2_N_OUTPUTS     @N_OUTPUTS@u /* classes */
#define S2_MODEL_BYTES   @MODEL_BYTES@u
#define S2_RECORD_BYTES  @RECORD_BYTES@u /* adapters, as they go to flash */
#define S2_ARENA_BYTES   @ARENA_BYTES@u /* RAM: all that a device needs, with so many samples: */
#define S2_CAPACITY      @CAPACITY@u
#define S2_ROWS          @ROWS@ /* how their rows are kept */
#define S2_WHEN_FULL     @WHEN_FULL@ /* a sample more: refused, or the oldest goes */
#define S2_RANK          @RANK@u /* of the adapters */
#define S2_HAS_BIAS      @HAS_BIAS@
#define S2_BATCH_SIZE    @BATCH_SIZE@u
#define S2_LEARNING_RATE @LEARNING_RATE@
#define S2_EPOCHS        @EPOCHS@u /* of the examples */
#define S2_SEED          UINT64_C(@SEED@)

/* What the labels are called, in their order. */
#define S2_CLASS_NAMES   {@CLASS_NAMES@}
@THRESHOLDS@
static inline s2_device_options s2_config(void) {
    s2_device_options options;
    memset(&options, 0, sizeof options);
    options.capacity = S2_CAPACITY;
    options.rows = S2_ROWS;
    options.when_full = S2_WHEN_FULL;
    options.rank = S2_RANK;
    options.has_bias = S2_HAS_BIAS;
    options.batch_size = S2_BATCH_SIZE;
    options.learning_rate = S2_LEARNING_RATE;
    options.rule = S2_SGD;
    options.seed = S2_SEED;
    return options;
}

#endif
