// pooling.hpp - rows of taps that are feature maps.
#pragma once

#include "arrays.hpp"
#include "skip2_pool.h"

using Maps = nb::ndarray<nb::ro, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

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

// Maps (count, height, width, channels) to rows (count, channels * grid height * grid width). No
// interpreter lock is released: a map takes less time than that would.
inline void pool(const Maps &maps, const std::pair<uint32_t, uint32_t> &grid, float scale,
                 int32_t zero_point, const Rows &rows) {
    const s2_maps described = {count_of(maps.shape(0)),
                               count_of(maps.shape(1)),
                               count_of(maps.shape(2)),
                               count_of(maps.shape(3)),
                               grid.first,
                               grid.second,
                               element_of(maps.dtype()),
                               scale,
                               zero_point};
    require(grid.first >= 1 && grid.first <= maps.shape(1) && grid.second >= 1 &&
                grid.second <= maps.shape(2),
            "the grid has no cells, or more of them than a map has places");
    require(rows.shape(0) == maps.shape(0) &&
                rows.shape(1) == maps.shape(3) * grid.first * grid.second,
            "a row does not have a place for each cell of each channel");
    const size_t bytes = s2_pool_bytes(&described);
    Buffer workspace;
    require_ok(s2_pool(&described, maps.data(), workspace.reserve(bytes), bytes, rows.data()));
}

inline void bind_pooling(nb::module_ &module) {
    module.def("pool", pool, "maps"_a.noconvert(), "grid"_a, "scale"_a, "zero_point"_a,
               "rows"_a.noconvert());
}
