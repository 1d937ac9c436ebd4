/*
 * net.c - a network whose layers each execute one row of compute types (Table 1), so that a
 * fine-tuning method is data. Layer k: FC, own LoRA adapter, batch norm, ReLU.
 */
#include "arena.h"
#include "profile.h"

#include <math.h>
#include <string.h>

static int layer_is_sound(const s2_layer *layer, const s2_layer *next) {
    const int all_norm = layer->gamma && layer->beta && layer->mean && layer->var;
    const int no_norm = !layer->gamma && !layer->beta && !layer->mean && !layer->var;
    const int sizes = layer->n_in > 0 && layer->n_out > 0 && layer->n_in <= S2_MAX_WIDTH &&
                      layer->n_out <= S2_MAX_WIDTH;
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

/* What one layer computed, for its backward pass. Inference reuses one for all layers. */
typedef struct {
    float *z;              /* (count, n_out): FC and LoRA */
    float *out;            /* (count, n_out): after batch norm and ReLU; z itself without a norm */
    float *hidden;         /* (count, rank) */
    float *mean, *inv_std; /* (n_out) */
} layer_room;

/* x -> z -> out of one layer. */
static void layer_forward(const s2_net *net, uint32_t k, unsigned bn, uint32_t count,
                          const float *x, const layer_room *room, s2_profile *profile) {
    const s2_kernels *kernels = net->kernels;
    const s2_layer *layer = &net->layers[k];
    const uint32_t n_in = layer->n_in, n_out = layer->n_out;
    s2_fc_forward(kernels, count, n_in, n_out, x, layer->weight, layer->bias, room->z);
    s2_mark_part(profile, S2_PHASE_FORWARD, k, S2_PART_FC);
    if (layer->rank > 0) {
        s2_lora_forward(kernels, count, n_in, n_out, layer->rank, x, layer->lora_a, layer->lora_b,
                        room->hidden, room->z);
        s2_mark_part(profile, S2_PHASE_FORWARD, k, S2_PART_LORA);
    }
    if (layer->gamma != NULL && (bn & S2_STATS)) {
        s2_bn_forward_batch(kernels, count, n_out, net->bn_eps, net->bn_momentum, room->z,
                            layer->gamma, layer->beta, layer->mean, layer->var, room->mean,
                            room->inv_std, room->out);
    } else if (layer->gamma != NULL) {
        s2_bn_forward_frozen(kernels, count, n_out, net->bn_eps, room->z, layer->gamma, layer->beta,
                             layer->mean, layer->var, room->mean, room->inv_std, room->out);
    }
    if (layer->gamma != NULL) {
        s2_mark_part(profile, S2_PHASE_FORWARD, k, S2_PART_BN);
    }
    if (layer->relu) {
        s2_relu_forward(kernels, (size_t)count * n_out, room->out);
        s2_mark_part(profile, S2_PHASE_FORWARD, k, S2_PART_ACT);
    }
}

static void gather(uint32_t count, uint32_t width, const float *const *x, float *out) {
    for (size_t s = 0; s < count; s++) {
        memcpy(out + s * width, x[s], width * sizeof *out);
    }
}

static uint32_t widest(const s2_net *net) {
    uint32_t width = net->layers[0].n_in;
    for (uint32_t k = 0; k < net->n_layers; k++) {
        width = net->layers[k].n_out > width ? net->layers[k].n_out : width;
    }
    return width;
}

static uint32_t largest_rank(const s2_net *net) {
    uint32_t rank = 0;
    for (uint32_t k = 0; k < net->n_layers; k++) {
        rank = net->layers[k].rank > rank ? net->layers[k].rank : rank;
    }
    return rank;
}

/* ---- inference ---------------------------------------------------------------------------------- */

typedef struct {
    float *x;        /* (count, widest): input of the layer at hand */
    layer_room room; /* shared by all layers */
} forward_room;

static forward_room lay_out_forward(const s2_net *net, uint32_t count, s2_arena *arena) {
    const size_t width = widest(net);
    forward_room room;
    room.x = s2_take_floats(arena, count * width);
    room.room.z = s2_take_floats(arena, count * width);
    room.room.out = room.room.z; /* normalised in place: no backward pass will ask for z */
    room.room.hidden = s2_take_floats(arena, (size_t)count * largest_rank(net));
    room.room.mean = s2_take_floats(arena, width);
    room.room.inv_std = s2_take_floats(arena, width);
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
    s2_arena arena = {.base = workspace};
    forward_room room = lay_out_forward(net, count, &arena);
    if (!s2_fits(&arena, workspace_bytes)) {
        return S2_NO_ROOM;
    }
    if (!layout_fits(net, layout, first_tap)) {
        return S2_BAD_SHAPE;
    }
    gather(count, net->layers[0].n_in, x, room.x);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const s2_layer *layer = &net->layers[k];
        if (k >= first_tap && layout->tap_offset[k - first_tap] != S2_TAP_IS_X) {
            scatter(count, layer->n_in, room.x, layout->tap_offset[k - first_tap],
                    layout->row_stride, rows);
        }
        layer_forward(net, k, S2_Y, count, room.x, &room.room, NULL);
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

/* ---- training ------------------------------------------------------------------------------------ */

typedef struct {
    layer_room room;
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
    step.room.z = s2_take_floats(arena, count * n_out);
    step.room.out = step.room.z;
    if (layer->gamma != NULL) {
        step.room.out = s2_take_floats(arena, count * n_out);
        step.room.mean = s2_take_floats(arena, n_out);
        step.room.inv_std = s2_take_floats(arena, n_out);
        step.ggamma = s2_take_floats(arena, n_out);
        step.gbeta = s2_take_floats(arena, n_out);
    }
    step.gw = types->fc & S2_W ? s2_take_floats(arena, n_in * n_out) : NULL;
    step.gb = types->fc & S2_B ? s2_take_floats(arena, n_out) : NULL;
    step.room.hidden = s2_take_floats(arena, count * rank);
    step.gwa = types->lora & S2_W ? s2_take_floats(arena, n_in * rank) : NULL;
    step.gwb = types->lora & S2_W ? s2_take_floats(arena, rank * n_out) : NULL;
    return step;
}

static void lay_out_step(const s2_net *net, const s2_compute_types *types, uint32_t count,
                         s2_arena *arena, step_room *room) {
    room->x = s2_take_floats(arena, (size_t)count * net->layers[0].n_in);
    room->g = s2_take_floats(arena, (size_t)count * widest(net));
    room->next = s2_take_floats(arena, (size_t)count * widest(net));
    room->gh = s2_take_floats(arena, (size_t)count * largest_rank(net));
    room->scratch = s2_take_floats(
        arena, s2_loss_scratch_floats(net->kernels, count, net->layers[net->n_layers - 1].n_out));
    room->layer = s2_take(arena, net->n_layers, sizeof *room->layer);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const layer_step step = lay_out_layer(&net->layers[k], &types[k], count, arena);
        if (room->layer != NULL) { /* NULL: only counting */
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
    gather(batch->count, net->layers[0].n_in, batch->x, room->x);
    s2_mark_parts_start(net->profile, S2_PHASE_FORWARD);
    for (uint32_t k = 0; k < net->n_layers; k++) {
        layer_forward(net, k, types[k].bn, batch->count, input_of(room, k), &room->layer[k].room,
                      net->profile);
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
        s2_bn_backward(net->kernels, types->bn, count, layer->n_out, step->room.z, room->g,
                       layer->gamma, step->room.mean, step->room.inv_std, step->ggamma, step->gbeta,
                       room->g);
        s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_BN);
    }
    s2_fc_backward(net->kernels, types->fc, count, layer->n_in, layer->n_out, x, room->g,
                   layer->weight, step->gw, step->gb, room->next);
    s2_mark_part(net->profile, S2_PHASE_BACKWARD, k, S2_PART_FC);
    if (types->lora & (S2_W | S2_X)) {
        s2_lora_backward(net->kernels, types->lora, count, layer->n_in, layer->n_out, layer->rank,
                         x, step->room.hidden, room->g, layer->lora_a, layer->lora_b, room->gh,
                         step->gwa, step->gwb, room->next);
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
        list[n++] = (trained){n_in * n_out, layer->weight, step->gw};
    }
    if (types->fc & S2_B) {
        list[n++] = (trained){n_out, layer->bias, step->gb};
    }
    if (layer->gamma != NULL && (types->bn & S2_W)) {
        list[n++] = (trained){n_out, layer->gamma, step->ggamma};
        list[n++] = (trained){n_out, layer->beta, step->gbeta};
    }
    if (types->lora & S2_W) {
        list[n++] = (trained){n_in * rank, layer->lora_a, step->gwa};
        list[n++] = (trained){rank * n_out, layer->lora_b, step->gwb};
    }
    return n;
}

size_t s2_net_state_bytes(const s2_net *net, const s2_compute_types *types, s2_rule rule) {
    s2_arena arena = {0};
    const s2_optimizer optimizer = {.rule = rule};
    const layer_step no_step = {0};
    trained list[MOST_TRAINED];
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const size_t n = list_trained(&net->layers[k], &types[k], &no_step, list);
        for (size_t i = 0; i < n; i++) {
            for (uint32_t m = 0; m < s2_optimizer_moments(&optimizer); m++) {
                (void)s2_take_floats(&arena, list[i].size);
            }
        }
    }
    return arena.used;
}

/* Eqs. 5, 6, 15, 16, or another rule with its state. */
static void update_all(const s2_net *net, const s2_compute_types *types, const step_room *room,
                       const s2_update *update, void *state) {
    s2_arena arena = {.base = state};
    trained list[MOST_TRAINED];
    for (uint32_t k = 0; k < net->n_layers; k++) {
        const size_t n = list_trained(&net->layers[k], &types[k], &room->layer[k], list);
        for (size_t i = 0; i < n; i++) {
            float *m = update->rule != S2_SGD ? s2_take_floats(&arena, list[i].size) : NULL;
            float *v = update->rule == S2_ADAM ? s2_take_floats(&arena, list[i].size) : NULL;
            net->kernels->descend(list[i].size, update, list[i].g, m, v, list[i].w);
        }
    }
}

s2_status s2_net_step(const s2_net *net, const s2_compute_types *types, const s2_batch *batch,
                      const s2_update *update, void *state, s2_batch_stats *stats, void *workspace,
                      size_t workspace_bytes) {
    s2_arena arena = {.base = workspace};
    step_room room;
    const uint32_t last = net->n_layers - 1;
    s2_status status = s2_batch_check(batch, net->layers[last].n_out, update);
    status = status == S2_OK ? check_types(net, types, batch->count) : status;
    if (status != S2_OK) {
        return status;
    }
    lay_out_step(net, types, batch->count, &arena, &room);
    if (!s2_fits(&arena, workspace_bytes)) {
        return S2_NO_ROOM;
    }
    forward(net, types, batch, &room);
    s2_loss_cross_entropy(net->kernels, batch->count, net->layers[last].n_out,
                          room.layer[last].room.out, batch->label, room.g, stats, room.scratch);
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
