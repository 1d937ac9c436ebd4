// pooling.hpp - rows of taps that are feature maps.
#pragma once

#include "arrays.hpp"
#include "skip2_pool.h"

using Map = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

inline s2_element element_of(const nb::dlpack::dtype &type) {
    if (type == nb::dtype<float>()) {
        return S2_FLOAT32;
    }
    if (type == nb::dtype<int8_t>()) {
        return S2_INT8;
    }
    if (type == nb::dtype<uint8_t>()) {
        return S2_UINT8;
    }
    require(type == nb::dtype<int16_t>(), "a map holds float32, int8, uint8 or int16");
    return S2_INT16;
}

// One map (height, width, channels) to `row`, (channels * grid height * grid width). No interpreter
// lock is released: a map takes less time than that would.
inline void pool(const Map &map, const std::pair<uint32_t, uint32_t> &grid, float scale,
                 int32_t zero_point, const OutVector &row) {
    const s2_map described = {count_of(map.shape(0)),
                              count_of(map.shape(1)),
                              count_of(map.shape(2)),
                              grid.first,
                              grid.second,
                              element_of(map.dtype()),
                              scale,
                              zero_point};
    require(row.shape(0) == map.shape(2) * grid.first * grid.second,
            "the row does not have a place for each cell of each channel");
    std::vector<float> workspace(s2_pool_bytes(&described) / sizeof(float));
    require_ok(s2_pool(&described, map.data(), workspace.data(), workspace.size() * sizeof(float),
                       row.data()));
}
