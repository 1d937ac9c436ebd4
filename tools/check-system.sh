#!/bin/sh
# Names the Debian package of each tool of the system that is missing. Usage: check-system.sh PYTHON
python=$1
missing=
need() {
    missing="$missing $1"
}
command -v "$python" >/dev/null 2>&1 || need python3
command -v gcc >/dev/null 2>&1 || need gcc
command -v g++ >/dev/null 2>&1 || need g++
if command -v "$python" >/dev/null 2>&1; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$python is $("$python" --version 2>&1), expected Python 3.11 or newer:" \
            "install it, or name another with make PYTHON=..." >&2
        exit 2
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        need python3-dev
fi
if [ -n "$missing" ]; then
    echo "missing on this system:$missing; install with: sudo apt install$missing" >&2
    exit 2
fi
