#!/bin/sh
# Names the Debian package of each tool of static analysis that is missing. Usage: check-lint.sh CC
missing=
need() {
    missing="$missing $1"
}
command -v cppcheck >/dev/null 2>&1 || need cppcheck
{ command -v clang-tidy || command -v clang-tidy-14; } >/dev/null 2>&1 || need clang-tidy
echo 'int one;' | ${1:-gcc} -fanalyzer -x c -c - -o /dev/null 2>/dev/null || need gcc
if [ -n "$missing" ]; then
    echo "missing on this system:$missing; install with: sudo apt install$missing" >&2
    exit 2
fi
