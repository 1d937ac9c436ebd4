// state.hpp - what the epochs of a trainer change: copied, and put back to go on from there.
#pragma once

#include <algorithm>
#include <iterator>
#include <tuple>

#include "arrays.hpp"
#include "claims.hpp"

using Span = std::pair<float *, size_t>; // where floats are, and how many

// Where all of that is. Rows in a cache are not: computed again they have the same bits.
struct State {
    s2_rng &rng; // of the order of the samples; its increment is the seed's
    s2_optimizer &optimizer;
    std::vector<Span> floats;
};
// Beside the floats: the random state, and the powers of the optimiser's betas.
using Numbers = std::tuple<uint64_t, double, double>;

inline std::vector<Span> tensors_of(const s2_net &net) {
    std::vector<Span> spans;
    for (uint32_t number = 0; number < net.n_layers; number++) {
        const s2_layer &of = net.layers[number];
        const size_t n_in = of.n_in, n_out = of.n_out, rank = of.rank;
        const Span tensors[] = {{of.weight, n_in * n_out}, {of.bias, n_out},
                                {of.gamma, n_out},         {of.beta, n_out},
                                {of.mean, n_out},          {of.var, n_out},
                                {of.lora_a, rank * n_in},  {of.lora_b, rank * n_out}};
        std::copy_if(std::begin(tensors), std::end(tensors), std::back_inserter(spans),
                     [](const Span &span) { return span.first; });
    }
    return spans;
}

inline size_t n_floats(const State &state) {
    size_t count = 0;
    for (const Span &span : state.floats) {
        count += span.second;
    }
    return count;
}

// Both are of a trainer that no other call works on, nor on what it trains.
template <typename Trainer>
State state_for(Trainer &trainer, size_t size, Claim &claim) {
    State state = trainer.state();
    require(size == n_floats(state), "the state has another number of floats");
    claim.writes(&trainer, sizeof trainer, "this trainer is");
    trainer.claim_trained(claim);
    return state;
}

template <typename Trainer>
void bind_state(nb::class_<Trainer> &bound) {
    bound.def_prop_ro("state_floats", [](Trainer &trainer) { return n_floats(trainer.state()); });
    bound.def(
        "copy_state",
        [](Trainer &trainer, const OutVector &floats) {
            Claim claim;
            const State state = state_for(trainer, floats.shape(0), claim);
            float *to = floats.data();
            for (const auto &[from, count] : state.floats) {
                to = std::copy_n(from, count, to);
            }
            return Numbers(state.rng.state, state.optimizer.beta1_power,
                           state.optimizer.beta2_power);
        },
        "floats"_a.noconvert());
    bound.def(
        "restore_state",
        [](Trainer &trainer, const Numbers &numbers, const Vector &floats) {
            Claim claim;
            const State state = state_for(trainer, floats.shape(0), claim);
            const float *from = floats.data();
            for (const auto &[to, count] : state.floats) {
                std::copy_n(from, count, to);
                from += count;
            }
            std::tie(state.rng.state, state.optimizer.beta1_power, state.optimizer.beta2_power) =
                numbers;
        },
        "numbers"_a, "floats"_a.noconvert());
}
