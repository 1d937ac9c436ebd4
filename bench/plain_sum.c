/* The least a pass over rows can do: read every float of each row once. Sixteen running sums, so
 * that the additions do not wait for one another; no prefetch. bench/memory.py compiles it. */
#include <stddef.h>
#include <stdint.h>

float plain_sum(const float *rows,                             /* (rows, row_stride) */
                const uint32_t *order,                         /* (count), indices of rows */
                size_t count, size_t row_stride, size_t width) /* width: a multiple of 16 */
{
    float sums[16] = {0};
    for (size_t i = 0; i < count; i++) {
        const float *row = rows + order[i] * row_stride;
        for (size_t j = 0; j < width; j += 16) {
            for (size_t lane = 0; lane < 16; lane++) {
                sums[lane] += row[j + lane];
            }
        }
    }
    float sum = 0;
    for (size_t lane = 0; lane < 16; lane++) {
        sum += sums[lane];
    }
    return sum;
}
