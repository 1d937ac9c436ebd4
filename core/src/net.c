/* net.c - a network and its frozen forward pass. Layer k: FC, own LoRA adapter, batch norm, ReLU. */
#include "net.h"

#include "profile.h"

#include <string.h>

static int layer_is_sound(const s2_layer *layer, const s2_layer *next) {
    const int all_norm = layer->gamma && layer->beta && layer->mean && layer->var;
    const int no_norm = !layer->gamma && !layer->beta && !layer->mean && !layer->var;
    const int sizes = layer->n_in > 0 && layer->n_out > 0 && layer->n_in <= S2_MAX_WIDTH &&
                      layer->n_out <= S2_MAX_WIDTH &&
                      s2_times(s2_times(layer->n_in, layer->n_out), sizeof(float)) < SIZE_MAX;
    const int lora = layer->rank == 0 ||
                     (layer->rank <= layer->n_in && layer->lora_a != NULL && layer->lora_b != NULL);
    return sizes && lora && (all_norm || no_norm) && layer->weight != NULL && layer->bias != NULL &&
           (next == NULL || next->n_in == layer->n_out);
}

s2_status s2_net_check(const s2_net *net) {
    if (net->n_layers == 0 || net->n_layers > S2_MAX_LAYERS) {
        return S2_BAD_SHAPE;
    }
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const s2_layer *next = k + 1 < net->n_layers ? &net->layers[k + 1] : NULL;
        if (!layer_is_sound(&net->layers[k], next)) {
            return S2_BAD_SHAPE;
        }
    }
    return S2_OK;
}

void s2_layer_forward(const s2_net *net, uint32_t k, unsigned bn, uint32_t count, const float *x,
                      const s2_layer_room *room) {
    const s2_kernels *kernels = net->kernels;
    const s2_layer *layer = &net->layers[k];
    const uint32_t n_in = layer->n_in, n_out = layer->n_out;
    s2_fc_forward(kernels, &(s2_fc_pass){.count = count,
                                         .n_in = n_in,
                                         .n_out = n_out,
                                         .x = x,
                                         .weight = layer->weight,
                                         .bias = layer->bias,
                                         .y = room->z});
    s2_mark_part(net->profile, S2_PHASE_FORWARD, k, S2_PART_FC);
    if (layer->rank > 0) {
        s2_lora_forward(kernels, &(s2_lora_pass){.count = count,
                                                 .n_in = n_in,
                                                 .n_out = n_out,
                                                 .rank = layer->rank,
                                                 .x = x,
                                                 .lora_a = layer->lora_a,
                                                 .lora_b = layer->lora_b,
                                                 .hidden = room->hidden,
                                                 .y = room->z});
        s2_mark_part(net->profile, S2_PHASE_FORWARD, k, S2_PART_LORA);
    }
    if (layer->gamma != NULL) {
        const s2_bn_pass norm = {.count = count,
                                 .width = n_out,
                                 .eps = net->bn_eps,
                                 .momentum = net->bn_momentum,
                                 .running_mean = layer->mean,
                                 .running_var = layer->var,
                                 .z = room->z,
                                 .gamma = layer->gamma,
                                 .beta = layer->beta,
                                 .mean = room->mean,
                                 .inv_std = room->inv_std,
                                 .y = room->out};
        (bn & S2_STATS ? s2_bn_forward_batch : s2_bn_forward_frozen)(kernels, &norm);
        s2_mark_part(net->profile, S2_PHASE_FORWARD, k, S2_PART_BN);
    }
    if (layer->relu) {
        s2_relu_forward(kernels, (size_t)count * n_out, room->out);
        s2_mark_part(net->profile, S2_PHASE_FORWARD, k, S2_PART_ACT);
    }
}

void s2_gather(uint32_t count, uint32_t width, const float *const *x, float *out) {
    for (size_t s = 0; s < count; s++) {
        memcpy(out + s * width, x[s], width * sizeof *out);
    }
}

uint32_t s2_widest(const s2_net *net) {
    uint32_t width = net->layers[0].n_in;
    for (uint32_t k = 0; k < net->n_layers; k++) {
        width = net->layers[k].n_out > width ? net->layers[k].n_out : width;
    }
    return width;
}

uint32_t s2_largest_rank(const s2_net *net) {
    uint32_t rank = 0;
    for (uint32_t k = 0; k < net->n_layers; k++) {
        rank = net->layers[k].rank > rank ? net->layers[k].rank : rank;
    }
    return rank;
}

/* ---- inference ------------------------------------------------------------------------------- */

typedef struct {
    float *x;           /* (count, widest): input of the layer at hand */
    s2_layer_room room; /* shared by all layers */
} forward_room;

static forward_room lay_out_forward(const s2_net *net, uint32_t count, s2_arena *arena) {
    const size_t width = s2_widest(net);
    forward_room room;
    room.x = s2_take_floats(arena, count, width);
    room.room.z = s2_take_floats(arena, count, width);
    room.room.out = room.room.z; /* normalised in place: no backward pass will ask for z */
    room.room.hidden = s2_take_floats(arena, count, s2_largest_rank(net));
    room.room.mean = s2_take_floats(arena, 1, width);
    room.room.inv_std = s2_take_floats(arena, 1, width);
    return room;
}

size_t s2_net_forward_workspace_bytes(const s2_net *net, uint32_t count) {
    s2_arena arena = {0};
    (void)lay_out_forward(net, count, &arena);
    return arena.used;
}

/* Copies one feature map into its place in each row. */
static void scatter(uint32_t count, uint32_t width, const float *x, uint32_t offset,
                    uint32_t row_stride, float *rows) {
    for (size_t s = 0; s < count; s++) {
        memcpy(rows + s * row_stride + offset, x + s * width, width * sizeof *x);
    }
}

static int layout_fits(const s2_net *net, const s2_row_layout *layout, uint32_t first_tap) {
    if (first_tap >= net->n_layers || layout->n_taps != net->n_layers - first_tap ||
        layout->n_outputs < net->layers[net->n_layers - 1].n_out) {
        return 0;
    }
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        const int is_x = layout->tap_offset[k] == S2_TAP_IS_X;
        if (layout->tap_width[k] != net->layers[first_tap + k].n_in ||
            (is_x && first_tap + k > 0)) {
            return 0;
        }
    }
    return 1;
}

s2_status s2_net_forward(const s2_net *net, uint32_t count, const float *const *x,
                         const s2_row_layout *layout, uint32_t first_tap, float *rows,
                         void *workspace, size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    forward_room room = lay_out_forward(net, count, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!layout_fits(net, layout, first_tap)) {
        return S2_BAD_SHAPE;
    }
    s2_net unmarked = *net; /* the profile is of a step */
    unmarked.profile = NULL;
    s2_gather(count, net->layers[0].n_in, x, room.x);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const s2_layer *layer = &net->layers[k];
        if (k >= first_tap && layout->tap_offset[k - first_tap] != S2_TAP_IS_X) {
            scatter(count, layer->n_in, room.x, layout->tap_offset[k - first_tap],
                    layout->row_stride, rows);
        }
        s2_layer_forward(&unmarked, k, S2_Y, count, room.x, &room.room);
        float *const input = room.x; /* the output is the next layer's input */
        room.x = room.room.z;
        room.room.z = room.room.out = input;
    }
    const uint32_t n_out = net->layers[net->n_layers - 1].n_out;
    scatter(count, n_out, room.x, layout->logits_offset, layout->row_stride, rows);
    for (size_t s = 0; s < count; s++) { /* outputs the network does not have start at zero */
        memset(rows + s * layout->row_stride + layout->logits_offset + n_out, 0,
               (layout->n_outputs - n_out) * sizeof *rows);
    }
    return S2_OK;
}
