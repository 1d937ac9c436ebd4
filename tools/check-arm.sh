#!/bin/sh
# Names the Debian package of each tool for other processors that is missing. Usage:
# check-arm.sh [linux-arm] [riscv] [m4f] [llvm]; without a word all that `make test-arm` needs.
missing=
need() {
    missing="$missing $1"
}
compiles() { # the C library's headers are a package of their own
    echo '#include <stdio.h>' | "$1" -E - >/dev/null 2>&1
}
has() {
    command -v "$1" >/dev/null 2>&1
}
for part in ${*:-linux-arm riscv m4f}; do
    case $part in
    linux-arm)
        compiles aarch64-linux-gnu-gcc || need "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
        compiles arm-linux-gnueabihf-gcc || need "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
        { has qemu-aarch64 && has qemu-arm; } || need qemu-user
        ;;
    riscv)
        compiles riscv64-linux-gnu-gcc || need "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"
        has qemu-riscv64 || need qemu-user
        ;;
    m4f)
        has arm-none-eabi-gcc || need gcc-arm-none-eabi
        compiles arm-none-eabi-gcc || need libnewlib-arm-none-eabi
        has qemu-system-arm || need qemu-system-arm
        ;;
    llvm) { has llvm-mca-14 && has llvm-objdump-14; } || need llvm-14 ;;
    *)
        echo "check-arm.sh: got $part, expected linux-arm, riscv, m4f or llvm" >&2
        exit 2
        ;;
    esac
done
if [ -n "$missing" ]; then
    echo "missing on this system:$missing; install with: sudo apt install$missing" >&2
    exit 2
fi
