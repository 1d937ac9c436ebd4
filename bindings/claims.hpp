// claims.hpp - what a call works on while the interpreter lock is released.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// The bytes one call reads or writes without the interpreter lock, until the call ends. A second call
// that would write them meanwhile, or read what is written, raises. Claims come and go with the lock
// held: that is what guards the list of them, and this module does not run without it.
class Claim {
  public:
    Claim() = default;
    Claim(const Claim &) = delete;
    ~Claim() {
        size_t kept = 0;
        for (const Part &part : parts()) {
            if (part.owner != this) {
                parts()[kept++] = part;
            }
        }
        parts().resize(kept);
    }

    // `what` begins the error, as in "this trainer is at work in another call".
    void reads(const void *start, size_t bytes, const char *what) {
        add({this, address(start), address(start) + bytes, false}, what);
    }
    void writes(const void *start, size_t bytes, const char *what) {
        add({this, address(start), address(start) + bytes, true}, what);
    }

  private:
    struct Part {
        const Claim *owner;
        uintptr_t start, stop;
        bool written;
    };

    static uintptr_t address(const void *pointer) {
        return reinterpret_cast<uintptr_t>(pointer);
    }
    static std::vector<Part> &parts() {
        static std::vector<Part> all;
        return all;
    }
    static void add(const Part &part, const char *what) {
        for (const Part &other : parts()) {
            if (other.owner != part.owner && (other.written || part.written) &&
                other.start < part.stop && part.start < other.stop) {
                throw std::runtime_error(std::string(what) +
                                         " at work in another call, expected one at a time: wait "
                                         "for it or make another");
            }
        }
        parts().push_back(part);
    }
};
