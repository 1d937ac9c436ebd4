/* model_file.c - reads a frozen network from one block of bytes. */
#include "model_derived.h"
#include "model_layers.h"

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

/* Vectors of n_out numbers behind the weights: scale, bias, gamma, beta, mean, var. */
static uint32_t n_vectors(const s2_model_layer *layer) {
    return 1u + (layer->flags & S2_HAS_INT8 ? 1u : 0u) + (layer->flags & S2_HAS_NORM ? 4u : 0u);
}

static int layer_is_sound(const header *head, const uint8_t *layers, uint32_t k) {
    const s2_model_layer layer = s2_model_layer_of(layers, k);
    const uint32_t before = k == 0 ? head->n_features : s2_model_layer_of(layers, k - 1).n_out;
    const uint32_t known = S2_HAS_NORM | S2_HAS_RELU | S2_HAS_INT8;
    return layer.kind == S2_DENSE && (layer.flags & ~known) == 0 && layer.n_in == before &&
           layer.n_out > 0 && layer.n_out <= S2_MAX_WIDTH &&
           (k + 1 < head->n_layers || layer.n_out == head->n_outputs);
}

static int numbers_are_sound(const header *head) {
    const int tapped = head->n_taps > head->n_derived && head->n_taps <= S2_MODEL_MAX_TAPS;
    const uint32_t n_tapped = head->n_taps - head->n_derived;
    const int layers =
        head->n_layers == 0
            ? head->n_derived == 0
            : head->n_layers >= n_tapped && head->n_layers <= S2_MAX_LAYERS && head->n_features > 0;
    const int derived = head->n_derived == 0 || s2_derive_if_any != NULL;
    const int rest = (head->unused[0] | head->unused[1] | head->unused[2]) == 0;
    return tapped && layers && derived && rest && head->n_outputs > 0 &&
           head->n_outputs <= S2_MAX_WIDTH && head->n_features <= S2_MAX_WIDTH &&
           head->projection <= S2_MAX_WIDTH && head->rank <= S2_MAX_WIDTH && head->has_bias <= 1 &&
           head->bn_eps >= 0.0f && isfinite(head->bn_eps);
}

/* Width of tap k by what it is of, 0 where that is not known. */
static uint32_t width_of_tap(const s2_model *model, uint32_t k) {
    if (k < model->n_derived) {
        return s2_derive_if_any(&model->derived[k], 0, NULL, NULL) ? model->n_features : 0;
    }
    const uint32_t width = model->tap_width[k];
    const uint32_t layer = model->n_layers - model->n_taps + k;
    return model->n_layers == 0 || s2_model_layer_of(model->layers, layer).n_in == width ? width
                                                                                         : 0;
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
    for (uint32_t k = 0; k < head->n_layers; k++) {
        if (!layer_is_sound(head, model->layers, k)) {
            return SIZE_MAX;
        }
        const s2_model_layer layer = s2_model_layer_of(model->layers, k);
        const size_t vectors = s2_times(s2_times(n_vectors(&layer), layer.n_out), sizeof(float));
        at = s2_plus(at, s2_plus(s2_weight_bytes(&layer), vectors));
    }
    size_t projected = 0, adapters = 0;
    for (uint32_t k = 0; k < head->n_taps; k++) {
        const uint32_t width = model->tap_width[k];
        if (width == 0 || width > S2_MAX_WIDTH || width_of_tap(model, k) != width) {
            return SIZE_MAX;
        }
        const uint32_t kept = s2_model_tap_width(model, k);
        if (kept < width) {
            projected = s2_plus(projected, s2_times(width, s2_plus(1, kept)));
        }
        adapters = s2_plus(adapters, s2_times(head->rank, s2_plus(kept, head->n_outputs)));
    }
    adapters = s2_plus(adapters, head->rank > 0 && head->has_bias ? head->n_outputs : 0);
    if (at > head->n_bytes) {
        return SIZE_MAX;
    }
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
    if (head.version != S2_MODEL_VERSION) {
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
