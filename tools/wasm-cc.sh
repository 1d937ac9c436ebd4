#!/bin/sh
# Prints a compiler for WebAssembly, or says what is missing. Usage: wasm-cc.sh module|tests
# A module needs clang and lld alone; tests are programs, and need a C library and Node as well.
# $WASM_CC goes first, then ziglang of PyPI, which has all, then clang of the system.
target=$1 missing=
if [ "$target" = tests ]; then
    command -v node >/dev/null 2>&1 || missing=" nodejs"
    triple=wasm32-wasi options=
    program='#include <stdio.h>
int main(void) { return puts("") < 0; }'
else
    triple=wasm32-freestanding options="-nostdlib -Wl,--no-entry"
    program='int one(void) { return 1; }'
fi
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
works() {
    echo "$program" >"$room/program.c"
    # shellcheck disable=SC2086
    $1 $options "$room/program.c" -o "$room/program.wasm" >/dev/null 2>&1
}
for compiler in ${WASM_CC:+"$WASM_CC"} "${PYTHON:-python3} -m ziglang cc -target $triple" \
    "zig cc -target $triple" "clang --target=${triple%-freestanding}" \
    "clang-14 --target=${triple%-freestanding}"; do
    if works "$compiler"; then
        if [ -z "$missing" ]; then
            echo "$compiler"
            exit 0
        fi
        break
    fi
    [ "$compiler" = "clang-14 --target=${triple%-freestanding}" ] || continue
    missing="$missing clang lld"
    [ "$target" = tests ] && missing="$missing wasi-libc libclang-rt-14-dev-wasm32"
done
echo "missing on this system:$missing; install with: sudo apt install$missing" \
    "(or, in place of clang and what belongs to it: pip install ziglang, 411 MB)" >&2
exit 2
