/* device_record.c - adapters as bytes for flash. */
#include "device.h"

#include <string.h>

enum { MAGIC = 0x32415053, VERSION = 1 }; /* "SPA2" */

typedef struct {
    uint32_t magic, version, n_bytes, checksum;
    uint32_t of_model; /* its checksum */
    uint32_t rank, has_bias, n_samples;
} header;

size_t s2_device_adapters_bytes(const s2_device *device) {
    const s2_row_layout *layout = &device->layout;
    size_t floats = device->adapter.has_bias ? layout->n_outputs : 0;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        floats += (size_t)device->adapter.rank * ((size_t)layout->tap_width[k] + layout->n_outputs);
    }
    return sizeof(header) + floats * sizeof(float);
}

static uint32_t checksum_of(const uint8_t *record, size_t n_bytes) {
    const uint32_t crc = s2_crc32(0, record, offsetof(header, checksum));
    return s2_crc32(crc, record + offsetof(header, of_model), n_bytes - offsetof(header, of_model));
}

s2_status s2_device_adapters_write(const s2_device *device, void *record, size_t record_bytes) {
    const s2_adapter *adapter = &device->adapter;
    const size_t n_bytes = s2_device_adapters_bytes(device), n_outputs = device->layout.n_outputs;
    if (record == NULL || (uintptr_t)record % 4 != 0) {
        return S2_BAD_VALUE;
    }
    if (record_bytes < n_bytes || n_bytes > UINT32_MAX) {
        return S2_NO_ROOM;
    }
    uint8_t *const bytes = record;
    float *at = (float *)(void *)(bytes + sizeof(header));
    for (uint32_t k = 0; k < device->layout.n_taps; k++) {
        float *lora_b = at + (size_t)device->tap_width[k] * adapter->rank;
        s2_adapter_unpack(adapter, k, at, lora_b);
        at = lora_b + adapter->rank * n_outputs;
    }
    if (adapter->has_bias) {
        memcpy(at, s2_adapter_bias(adapter), n_outputs * sizeof *at);
    }
    if (!s2_all_finite((const float *)(const void *)(bytes + sizeof(header)),
                       (n_bytes - sizeof(header)) / sizeof(float))) {
        return S2_NOT_FINITE;
    }
    header head = {.magic = MAGIC,
                   .version = VERSION,
                   .n_bytes = (uint32_t)n_bytes,
                   .of_model = device->model->checksum,
                   .rank = adapter->rank,
                   .has_bias = adapter->has_bias != 0,
                   .n_samples = device->n_samples};
    memcpy(bytes, &head, sizeof head);
    head.checksum = checksum_of(bytes, n_bytes);
    memcpy(bytes, &head, sizeof head);
    return S2_OK;
}

s2_status s2_device_adapters_read(s2_device *device, const void *record, size_t record_bytes) {
    s2_adapter *adapter = &device->adapter;
    const size_t n_bytes = s2_device_adapters_bytes(device), n_outputs = device->layout.n_outputs;
    const uint8_t *const bytes = record;
    header head;
    if (record == NULL || (uintptr_t)record % 4 != 0) {
        return S2_BAD_VALUE;
    }
    if (record_bytes < sizeof head) {
        return S2_BAD_MODEL;
    }
    memcpy(&head, record, sizeof head);
    if (head.magic == MAGIC && head.version != VERSION) {
        return S2_OTHER_VERSION;
    }
    if (head.magic != MAGIC || head.n_bytes != n_bytes || record_bytes < n_bytes ||
        head.of_model != device->model->checksum || head.rank != adapter->rank ||
        head.has_bias != (uint32_t)(adapter->has_bias != 0) ||
        head.checksum != checksum_of(bytes, n_bytes)) {
        return S2_BAD_MODEL;
    }
    const float *at = (const float *)(const void *)(bytes + sizeof head);
    for (uint32_t k = 0; k < device->layout.n_taps; k++) {
        const float *lora_b = at + (size_t)device->tap_width[k] * adapter->rank;
        s2_adapter_pack(adapter, k, at, lora_b);
        at = lora_b + adapter->rank * n_outputs;
    }
    if (adapter->has_bias) {
        memcpy(s2_adapter_bias(adapter), at, n_outputs * sizeof *at);
    }
    s2_device_rest(device);
    return S2_OK;
}
