/* cache.c - Skip-Cache (section 4.2), full, or with few entries where storage is strict (4.3). */
#include "kernels.h"

#include <string.h>

size_t s2_slots_count(uint32_t n_samples, uint32_t capacity) {
    return s2_plus(n_samples, s2_times(3, capacity));
}

s2_status s2_slots_init(s2_slots *slots, s2_policy policy, uint32_t n_samples, uint32_t capacity,
                        uint32_t n_filled, uint32_t *room) {
    if (n_filled > capacity || n_filled > n_samples || policy > S2_LRU) {
        return S2_BAD_SHAPE;
    }
    *slots = (s2_slots){.policy = policy,
                        .n_samples = n_samples,
                        .next = n_filled < capacity ? n_filled : 0,
                        .slot_of = room,
                        .sample_of = room + n_samples,
                        .before = room + n_samples + capacity,
                        .after = room + n_samples + 2 * (size_t)capacity};
    for (uint32_t i = 0; i < n_samples; i++) {
        slots->slot_of[i] = i < n_filled ? i : S2_NO_SLOT;
    }
    for (uint32_t i = 0; i < capacity; i++) {
        slots->sample_of[i] = i < n_filled ? i : S2_NO_SLOT;
        slots->before[i] = i == 0 ? capacity - 1 : i - 1;
        slots->after[i] = i == capacity - 1 ? 0 : i + 1;
    }
    return S2_OK;
}

void s2_cache_touch(s2_cache *cache, uint32_t sample) {
    s2_slots *slots = cache->slots;
    if (slots == NULL || slots->policy != S2_LRU) {
        return;
    }
    /* To the end of the ring, which is before the slot that is taken next. */
    const uint32_t slot = slots->slot_of[sample];
    if (slot == slots->next) {
        slots->next = slots->after[slot];
        return;
    }
    slots->after[slots->before[slot]] = slots->after[slot];
    slots->before[slots->after[slot]] = slots->before[slot];
    slots->after[slot] = slots->next;
    slots->before[slot] = slots->before[slots->next];
    slots->after[slots->before[slot]] = slot;
    slots->before[slots->next] = slot;
}

/* The slot that the sample has, or gets; S2_NO_SLOT for none. */
static uint32_t slot_for(s2_cache *cache, uint32_t sample) {
    s2_slots *slots = cache->slots;
    if (slots == NULL) {
        return sample;
    }
    if (sample >= slots->n_samples || cache->capacity == 0) {
        return S2_NO_SLOT;
    }
    if (slots->slot_of[sample] != S2_NO_SLOT) {
        return slots->slot_of[sample];
    }
    const uint32_t slot = slots->next, who = slots->sample_of[slot];
    if (who != S2_NO_SLOT) {
        if (slots->policy == S2_PIN) {
            return S2_NO_SLOT;
        }
        slots->slot_of[who] = S2_NO_SLOT;
    }
    slots->slot_of[sample] = slot;
    slots->sample_of[slot] = sample;
    slots->next = slots->after[slot]; /* which makes this one the last */
    return slot;
}

void s2_cache_add(s2_cache *cache, uint32_t sample, const float *row) {
    const uint32_t slot = slot_for(cache, sample);
    if (slot < cache->capacity && cache->coded != NULL) {
        s2_coded_encode(cache->coded, slot, 1, row, cache->row_stride);
        cache->filled[slot] = 1;
    } else if (slot < cache->capacity) {
        memcpy(cache->rows + (size_t)slot * cache->row_stride, row,
               cache->row_stride * sizeof *row);
        cache->filled[slot] = 1;
    }
}
