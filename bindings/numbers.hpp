// numbers.hpp - lists of Python's numbers as floats, checked and converted in one pass.
#pragma once

#include "arrays.hpp"

// Whether `data` are as many floats and whole numbers as `out` has; flags are none of either.
// What is beyond the range of float is infinite there, as in NumPy.
inline bool floats(const nb::list &data, const OutVector &out) {
    const size_t size = data.size();
    if (size != out.shape(0)) {
        return false;
    }
    float *to = out.data();
    for (size_t i = 0; i < size; i++) {
        PyObject *number = PyList_GetItem(data.ptr(), static_cast<Py_ssize_t>(i)); // borrowed
        double value = 0;
        if (PyFloat_CheckExact(number)) {
            value = PyFloat_AsDouble(number);
        } else if (PyLong_CheckExact(number)) {
            value = PyLong_AsDouble(number);
            if (value == -1.0 && PyErr_Occurred() != nullptr) { // beyond the range of double
                PyErr_Clear();
                return false;
            }
        } else {
            return false;
        }
        to[i] = static_cast<float>(value);
    }
    return true;
}

inline void bind_numbers(nb::module_ &module) {
    module.def("floats", floats, "data"_a, "out"_a.noconvert());
}
