#!/bin/sh
# Names the Debian package of each tool for ARM that is missing. Usage: check-arm.sh [llvm]
missing=
need() {
    missing="$missing $1"
}
compiles() { # the C library's headers are a package of their own
    echo '#include <stdio.h>' | "$1" -E - >/dev/null 2>&1
}
compiles aarch64-linux-gnu-gcc || need "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
compiles arm-linux-gnueabihf-gcc || need "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
{ command -v qemu-aarch64 && command -v qemu-arm; } >/dev/null 2>&1 || need qemu-user
if [ "$1" = llvm ]; then
    { command -v llvm-mca-14 && command -v llvm-objdump-14; } >/dev/null 2>&1 || need llvm-14
fi
if [ -n "$missing" ]; then
    echo "missing on this system:$missing; install with: sudo apt install$missing" >&2
    exit 2
fi
