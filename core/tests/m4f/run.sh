#!/bin/sh
# Runs a program built for the Cortex-M4F under QEMU: run.sh PROGRAM [WORD ...]. It reads and writes
# this machine's files, and its exit status is that of the program: 0, or 1 for any failure.
program=$1
shift
exec qemu-system-arm -M mps2-an386 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$program" -append "$*" </dev/null
