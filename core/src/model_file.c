/* model_file.c - reads a frozen network from one block of bytes. */
#include "model_derived.h"
#include "model_layers.h"
#include "model_slots.h"

#include <math.h>

/* The format: docs/c-blob.md. Numbers are little-endian, as all these machines have them. */
enum { MAGIC = 0x324d5053 /* "SPM2" */, HEADER_BYTES = 64 };

typedef struct {
    uint32_t magic, version, n_bytes, checksum;
    uint32_t n_features, n_outputs, n_taps, n_layers;
    uint32_t projection, rank, has_bias;
    float bn_eps;
    uint32_t n_derived;
    uint32_t unused[3];
} header;

uint32_t s2_crc32(uint32_t before, const void *bytes, size_t n_bytes) {
    static const uint32_t of_nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                           0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                           0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                           0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *byte = bytes;
    uint32_t crc = ~before;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= byte[i];
        crc = crc >> 4 ^ of_nibble[crc & 15u];
        crc = crc >> 4 ^ of_nibble[crc & 15u];
    }
    return ~crc;
}

int s2_layer_is_tapped(const s2_model *model, uint32_t k) {
    return model->version == 1 ? k + (model->n_taps - model->n_derived) >= model->n_layers
                               : (s2_model_layer_at(model, k)->flags & S2_IS_TAPPED) != 0;
}

/* Bytes of layer k's arrays at `arrays`, SIZE_MAX where it does not follow the one before. */
static size_t bytes_of_layer(const s2_model *model, uint32_t k, const uint8_t *arrays,
                             size_t left) {
    const s2_model_layer *layer = s2_model_layer_at(model, k);
    const uint32_t before = k == 0 ? model->n_features : layer[-1].n_out;
    const s2_layer_code *code = s2_layer_code_of(layer->kind);
    const int is_first_version = layer->kind == S2_DENSE && (layer->flags & S2_IS_TAPPED) == 0;
    const int sound = code != NULL && layer->n_in == before && layer->n_out > 0 &&
                      layer->n_out <= S2_MAX_WIDTH &&
                      (k + 1 < model->n_layers || layer->n_out == model->n_outputs) &&
                      (model->version > 1 || is_first_version);
    return sound ? code->array_bytes(layer, arrays, left) : SIZE_MAX;
}

static int numbers_are_sound(const header *head) {
    const int tapped = head->n_taps > head->n_derived && head->n_taps <= S2_MODEL_MAX_TAPS;
    const int layers = head->n_layers == 0
                           ? head->n_derived == 0
                           : head->n_layers <= S2_MAX_LAYERS && head->n_features > 0;
    const int derived = head->n_derived == 0 || s2_derive_if_any != NULL;
    const int rest = (head->unused[0] | head->unused[1] | head->unused[2]) == 0;
    return tapped && layers && derived && rest && head->n_outputs > 0 &&
           head->n_outputs <= S2_MAX_WIDTH && head->n_features <= S2_MAX_WIDTH &&
           head->projection <= S2_MAX_WIDTH && head->rank <= S2_MAX_WIDTH && head->has_bias <= 1 &&
           head->bn_eps >= 0.0f && isfinite(head->bn_eps);
}

/* Whether layer k's tap, if it has one, is tap `at` of the block. */
static int tap_is_sound(const s2_model *model, uint32_t k, const uint8_t *arrays, uint32_t at) {
    const s2_model_layer *layer = s2_model_layer_at(model, k);
    const s2_layer_code *code = s2_layer_code_of(layer->kind);
    const uint32_t width = code->tap_width == NULL ? layer->n_in : code->tap_width(layer, arrays);
    return at < model->n_taps && width == model->tap_width[at];
}

/* Bytes of all layers' arrays, which may take `left`; SIZE_MAX where they or their taps are other
 * than the block says. */
static size_t bytes_of_layers(const s2_model *model, size_t left) {
    size_t at = 0;
    uint32_t tap = model->n_derived;
    for (uint32_t k = 0; k < model->n_layers; k++) {
        const uint8_t *const arrays = model->arrays + at;
        const size_t bytes = bytes_of_layer(model, k, arrays, left - at);
        if (bytes > left - at) {
            return SIZE_MAX;
        }
        if (s2_layer_is_tapped(model, k)) {
            if (!tap_is_sound(model, k, arrays, tap)) {
                return SIZE_MAX;
            }
            tap++;
        }
        at += bytes;
    }
    return model->n_layers == 0 || tap == model->n_taps ? at : SIZE_MAX;
}

/* Whether tap k is one that a build has, of a width it can have. */
static int width_is_sound(const s2_model *model, uint32_t k) {
    const uint32_t width = model->tap_width[k];
    const int derived =
        k >= model->n_derived ||
        (s2_derive_if_any(&model->derived[k], 0, NULL, NULL) && width == model->n_features);
    return derived && width > 0 && width <= S2_MAX_WIDTH;
}

/* The parts one after the other; SIZE_MAX or another size than the block says where they do not fit
 * together. The block holds the header and tables already. */
static size_t lay_out(s2_model *model, const header *head) {
    size_t at = s2_plus(HEADER_BYTES, s2_times(head->n_taps, sizeof(uint32_t)));
    model->tap_width = (const uint32_t *)(const void *)(model->blob + HEADER_BYTES);
    model->derived = (const s2_derived *)(const void *)(model->blob + at);
    at = s2_plus(at, s2_times(head->n_derived, sizeof(s2_derived)));
    model->layers = model->blob + at;
    at = s2_plus(at, s2_times(head->n_layers, S2_LAYER_BYTES));
    if (at > head->n_bytes) {
        return SIZE_MAX;
    }
    model->arrays = model->blob + at;
    const size_t arrays = bytes_of_layers(model, head->n_bytes - at);
    if (arrays == SIZE_MAX || !s2_slots_are_sound(model)) {
        return SIZE_MAX;
    }
    at += arrays;
    size_t projected = 0, adapters = 0;
    for (uint32_t k = 0; k < head->n_taps; k++) {
        const uint32_t width = model->tap_width[k];
        if (!width_is_sound(model, k)) {
            return SIZE_MAX;
        }
        const uint32_t kept = s2_model_tap_width(model, k);
        if (kept < width) {
            projected = s2_plus(projected, s2_times(width, s2_plus(1, kept)));
        }
        adapters = s2_plus(adapters, s2_times(head->rank, s2_plus(kept, head->n_outputs)));
    }
    adapters = s2_plus(adapters, head->rank > 0 && head->has_bias ? head->n_outputs : 0);
    model->projections = (const float *)(const void *)(model->blob + at);
    at = s2_plus(at, s2_times(projected, sizeof(float)));
    if (at > head->n_bytes) {
        return SIZE_MAX;
    }
    model->adapters = (const float *)(const void *)(model->blob + at);
    return s2_plus(at, s2_times(adapters, sizeof(float)));
}

s2_status s2_model_read(s2_model *model, const void *blob, size_t n_bytes) {
    header head;
    if (blob == NULL || (uintptr_t)blob % 4 != 0) {
        return S2_BAD_VALUE;
    }
    if (n_bytes < HEADER_BYTES) {
        return S2_BAD_MODEL;
    }
    memcpy(&head, blob, sizeof head);
    if (head.magic != MAGIC) {
        return S2_BAD_MODEL;
    }
    if (head.version < 1 || head.version > S2_MODEL_VERSION) {
        return S2_OTHER_VERSION;
    }
    const uint8_t *const bytes = blob;
    if (head.n_bytes < HEADER_BYTES || head.n_bytes > n_bytes || head.n_bytes % 4 != 0) {
        return S2_BAD_MODEL;
    }
    uint32_t crc = s2_crc32(0, bytes, offsetof(header, checksum));
    crc = s2_crc32(crc, bytes + offsetof(header, n_features),
                   head.n_bytes - offsetof(header, n_features));
    if (crc != head.checksum || !numbers_are_sound(&head)) {
        return S2_BAD_MODEL;
    }
    s2_model read = {.blob = bytes,
                     .n_bytes = head.n_bytes,
                     .version = head.version,
                     .checksum = head.checksum,
                     .n_features = head.n_features,
                     .n_outputs = head.n_outputs,
                     .n_taps = head.n_taps,
                     .n_layers = head.n_layers,
                     .n_derived = head.n_derived,
                     .projection = head.projection,
                     .rank = head.rank,
                     .has_bias = head.has_bias,
                     .bn_eps = head.bn_eps};
    if (lay_out(&read, &head) != head.n_bytes) {
        return S2_BAD_MODEL;
    }
    *model = read;
    return S2_OK;
}

int s2_model_taps_x(const s2_model *model) {
    return model->n_layers > 0 && model->n_derived == 0 && s2_layer_is_tapped(model, 0) &&
           s2_model_layer_at(model, 0)->kind == S2_DENSE;
}
