/*
 * net_step.c - one training step of a network whose layers each execute one row of compute types
 * (Table 1), so that a fine-tuning method is data.
 */
#include "net.h"
#include "profile.h"

#include <math.h>
#include <string.h>

typedef struct {
    s2_layer_room room;
    float *gw, *gb, *ggamma, *gbeta, *gwa, *gwb;
} layer_step;

typedef struct {
    float *x;        /* (count, n_features): the batch, gathered */
    float *g, *next; /* (count, widest): gradient at hand and of the layer below */
    float *gh;       /* (count, largest rank) */
    float *scratch;
    layer_step *layer; /* (n_layers) */
} step_room;

static layer_step lay_out_layer(const s2_layer *layer, const s2_compute_types *types,
                                uint32_t count, s2_arena *arena) {
    const size_t n_in = layer->n_in, n_out = layer->n_out, rank = layer->rank;
    layer_step step = {0};
    step.room.z = s2_take_floats(arena, count, n_out);
    step.room.out = step.room.z;
    if (layer->gamma != NULL) {
        step.room.out = s2_take_floats(arena, count, n_out);
        step.room.mean = s2_take_floats(arena, 1, n_out);
        step.room.inv_std = s2_take_floats(arena, 1, n_out);
        step.ggamma = s2_take_floats(arena, 1, n_out);
        step.gbeta = s2_take_floats(arena, 1, n_out);
    }
    step.gw = types->fc & S2_W ? s2_take_floats(arena, n_in, n_out) : NULL;
    step.gb = types->fc & S2_B ? s2_take_floats(arena, 1, n_out) : NULL;
    step.room.hidden = s2_take_floats(arena, count, rank);
    step.gwa = types->lora & S2_W ? s2_take_floats(arena, n_in, rank) : NULL;
    step.gwb = types->lora & S2_W ? s2_take_floats(arena, rank, n_out) : NULL;
    return step;
}

static void lay_out_step(const s2_net *net, const s2_compute_types *types, uint32_t count,
                         s2_arena *arena, step_room *room) {
    room->x = s2_take_floats(arena, count, net->layers[0].n_in);
    room->g = s2_take_floats(arena, count, s2_widest(net));
    room->next = s2_take_floats(arena, count, s2_widest(net));
    room->gh = s2_take_floats(arena, count, s2_largest_rank(net));
    room->scratch = s2_take_floats(
        arena, 1,
        s2_loss_scratch_floats(net->kernels, count, net->layers[net->n_layers - 1].n_out));
    room->layer = s2_take(arena, 1, net->n_layers, sizeof *room->layer);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const layer_step step = lay_out_layer(&net->layers[k], &types[k], count, arena);
        if (room->layer != NULL) { /* NULL: only counting, or no room */
            room->layer[k] = step;
        }
    }
}

size_t s2_net_step_workspace_bytes(const s2_net *net, const s2_compute_types *types,
                                   uint32_t count) {
    s2_arena arena = {0};
    step_room room;
    lay_out_step(net, types, count, &arena, &room);
    return arena.used;
}

/* A gradient reaches a layer only through S2_X of all layers above it. */
static s2_status check_types(const s2_net *net, const s2_compute_types *types, uint32_t count) {
    int reached = 1;
    for (uint32_t k = net->n_layers; k-- > 0;) {
        const int trains = ((types[k].fc | types[k].bn | types[k].lora) & (S2_W | S2_B)) != 0;
        const int needs_lora = (types[k].lora & (S2_W | S2_X)) != 0;
        const int lora_x = (types[k].lora & S2_X) != 0, fc_x = (types[k].fc & S2_X) != 0;
        const int has_lora = net->layers[k].rank > 0;
        const int needs_norm = (types[k].bn & (S2_W | S2_STATS)) != 0;
        /* With an adapter in the layer, gx is the sum of both terms (Eq. 14) or nothing. */
        if ((trains && !reached) || (has_lora ? lora_x != fc_x : needs_lora) ||
            (needs_norm && net->layers[k].gamma == NULL)) {
            return S2_BAD_VALUE;
        }
        if ((types[k].bn & S2_STATS) && count < 2) {
            return S2_BAD_SHAPE;
        }
        reached = reached && fc_x;
    }
    return S2_OK;
}

static const float *input_of(const step_room *room, uint32_t k) {
    return k == 0 ? room->x : room->layer[k - 1].room.out;
}

static void forward(const s2_net *net, const s2_compute_types *types, const s2_batch *batch,
                    const step_room *room) {
    s2_gather(batch->count, net->layers[0].n_in, batch->x, room->x);
    s2_mark_parts_start(net->profile, S2_PHASE_FORWARD);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        s2_layer_forward(net, k, types[k].bn, batch->count, input_of(room, k),
                         &room->layer[k].room);
    }
}

/* Gradient of the layer's output in room->g; of its input, if asked for, in room->next. */
static void layer_backward(const s2_net *net, const s2_compute_types *types, uint32_t k,
                           uint32_t count, const step_room *room) {
    const s2_layer *layer = &net->layers[k];
    const layer_step *step = &room->layer[k];
    const float *x = input_of(room, k);
    if (layer->relu) {
        s2_relu_backward(net->kernels, (size_t)count * layer->n_out, step->room.out, room->g);
        s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_ACT);
    }
    if (layer->gamma != NULL) {
        s2_bn_backward(net->kernels, types->bn,
                       &(s2_bn_pass){.count = count,
                                     .width = layer->n_out,
                                     .z = step->room.z,
                                     .gamma = layer->gamma,
                                     .mean = step->room.mean,
                                     .inv_std = step->room.inv_std,
                                     .gy = room->g,
                                     .ggamma = step->ggamma,
                                     .gbeta = step->gbeta,
                                     .gz = room->g});
        s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_BN);
    }
    s2_fc_backward(net->kernels, types->fc,
                   &(s2_fc_pass){.count = count,
                                 .n_in = layer->n_in,
                                 .n_out = layer->n_out,
                                 .x = x,
                                 .weight = layer->weight,
                                 .gy = room->g,
                                 .gw = step->gw,
                                 .gb = step->gb,
                                 .gx = room->next});
    s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_FC);
    if (types->lora & (S2_W | S2_X)) {
        s2_lora_backward(net->kernels, types->lora,
                         &(s2_lora_pass){.count = count,
                                         .n_in = layer->n_in,
                                         .n_out = layer->n_out,
                                         .rank = layer->rank,
                                         .x = x,
                                         .lora_a = layer->lora_a,
                                         .lora_b = layer->lora_b,
                                         .hidden = step->room.hidden,
                                         .gy = room->g,
                                         .gh = room->gh,
                                         .gwa = step->gwa,
                                         .gwb = step->gwb,
                                         .gx = room->next});
        s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_LORA);
    }
}

static void backward(const s2_net *net, const s2_compute_types *types, uint32_t count,
                     step_room *room) {
    for (uint32_t k = net->n_layers; k-- > 0;) {
        layer_backward(net, &types[k], k, count, room);
        if (!(types[k].fc & S2_X)) {
            break;
        }
        float *const done = room->g;
        room->g = room->next;
        room->next = done;
    }
}

/* The trained tensors of one layer, in the order of their state. */
typedef struct {
    size_t size;
    float *w;
    const float *g;
} trained;

enum { MOST_TRAINED = 6 };

static size_t list_trained(const s2_layer *layer, const s2_compute_types *types,
                           const layer_step *step, trained *list) {
    const size_t n_in = layer->n_in, n_out = layer->n_out, rank = layer->rank;
    size_t n = 0;
    if (types->fc & S2_W) {
        list[n++] = (trained){s2_times(n_in, n_out), layer->weight, step->gw};
    }
    if (types->fc & S2_B) {
        list[n++] = (trained){n_out, layer->bias, step->gb};
    }
    if (layer->gamma != NULL && (types->bn & S2_W)) {
        list[n++] = (trained){n_out, layer->gamma, step->ggamma};
        list[n++] = (trained){n_out, layer->beta, step->gbeta};
    }
    if (types->lora & S2_W) {
        list[n++] = (trained){s2_times(n_in, rank), layer->lora_a, step->gwa};
        list[n++] = (trained){s2_times(rank, n_out), layer->lora_b, step->gwb};
    }
    return n;
}

size_t s2_net_state_bytes(const s2_net *net, const s2_compute_types *types, s2_rule rule) {
    s2_arena arena = {0};
    const layer_step no_step = {0};
    trained list[MOST_TRAINED];
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const size_t n = list_trained(&net->layers[k], &types[k], &no_step, list);
        for (size_t i = 0; i < n; i++) {
            for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
                (void)s2_take_floats(&arena, 1, list[i].size);
            }
        }
    }
    return arena.used;
}

/* Eqs. 5, 6, 15, 16, or another rule with its state. */
static void update_all(const s2_net *net, const s2_compute_types *types, const step_room *room,
                       const s2_update *update, void *state) {
    s2_arena arena = {.base = state, .size = SIZE_MAX}; /* s2_net_state_bytes, the caller says */
    trained list[MOST_TRAINED];
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const size_t n = list_trained(&net->layers[k], &types[k], &room->layer[k], list);
        for (size_t i = 0; i < n; i++) {
            float *moment[2] = {NULL, NULL};
            for (uint32_t m = 0; m < s2_optimizer_moments(update->rule); m++) {
                moment[m] = s2_take_floats(&arena, 1, list[i].size);
            }
            net->kernels->descend(list[i].size, update, list[i].g, moment[0], moment[1], list[i].w);
        }
    }
}

/* The loss; g becomes its gradient. */
static void loss(const s2_net *net, const s2_batch *batch, const step_room *room,
                 s2_batch_stats *stats) {
    const uint32_t n_outputs = net->layers[net->n_layers - 1].n_out;
    const float *logits = room->layer[net->n_layers - 1].room.out;
    memcpy(room->g, logits, (size_t)batch->count * n_outputs * sizeof *logits);
    if (net->loss == S2_SOFTMAX) {
        s2_loss_cross_entropy(net->kernels, batch->count, n_outputs, batch->label, batch->weight,
                              room->g, stats, room->scratch);
    } else {
        s2_loss_targets(net->kernels, net->loss, batch->count, n_outputs, batch->target,
                        batch->weight, room->g, stats);
    }
}

s2_status s2_net_step(const s2_net *net, const s2_compute_types *types, const s2_batch *batch,
                      const s2_update *update, void *state, s2_batch_stats *stats, void *workspace,
                      size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    step_room room;
    const uint32_t last = net->n_layers - 1;
    s2_status status = s2_batch_check(batch, net->layers[last].n_out, update);
    status = status == S2_OK ? check_types(net, types, batch->count) : status;
    if (status != S2_OK) {
        return status;
    }
    const void *answers = net->loss == S2_SOFTMAX ? (const void *)batch->label : batch->target;
    if (batch->x == NULL || answers == NULL ||
        (state == NULL && s2_net_state_bytes(net, types, update->rule) > 0)) {
        return S2_BAD_VALUE;
    }
    lay_out_step(net, types, batch->count, &arena, &room);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    forward(net, types, batch, &room);
    loss(net, batch, &room, stats);
    s2_mark(net->profile, S2_PHASE_FORWARD);
    if (!isfinite(stats->loss)) {
        return S2_NOT_FINITE;
    }
    backward(net, types, batch->count, &room);
    s2_mark(net->profile, S2_PHASE_BACKWARD);
    update_all(net, types, &room, update, state);
    s2_mark(net->profile, S2_PHASE_UPDATE);
    return S2_OK;
}
