# The commands to know. Everything is set up in .venv, without root.
#   make demo    the main job on the embedded default
#   make test    all tests, Python and C, in a process a core, each with the tests of other files;
#                PYTEST="" for one process, or what else pytest takes
#   make check   formatters, linters, types, layers, sizes, C warnings
#   make lint-c  static analysis of the C core: cppcheck, clang-tidy, gcc -fanalyzer
#   make misra   its deviations from MISRA-C:2012 beside those that docs/misra.md lists
#   make bench   timings beside PyTorch and others (large download), docs/performance.md;
#                BENCH="--data DIR" for real data, BENCH="peers fc" for parts, BENCH=--quick to try
#   make mutate  whether tests notice random changes of the package, hours;
#                MUTATE="--sample 20 --seed 1" for some
#   make fuzz    a minute of damaged files of every format; FUZZ="--seconds 600 --seed 3" for more
#   make crash   kills and stops every writing command at each step of its writing, and training at
#                random times, from which it goes on, some minutes;
#                CRASH="--kills 50 --signals 20" for some
#   make docs    the site, in build/site; dead links and missing docstrings fail it
#   make test-arm, make bench-arm
#                C tests on 64- and 32-bit ARM, RISC-V and a Cortex-M4F under QEMU, and whether all
#                learn the same there as in Python; instruction counts
#   make size    flash, RAM and stack on a Cortex-M4F, which may not outgrow bench/arm/budget.json;
#                SIZE=--write for a new budget
#   make test-wasm
#                C tests as WebAssembly, in Node
#   make test-web
#                the npm package in Node and its page in headless Chromium, for which some
#                500 MB are fetched
#   make wheels  wheels for x86-64, 64- and 32-bit ARM, macOS and Windows, in build/wheels: some
#                480 MB are fetched, and it takes minutes; WHEELS="aarch64 armv7" for some
#   make test-wheels
#                those for ARM run the main job under QEMU, that for Windows under Wine: minutes
#   make web     the module of WebAssembly of the npm package in web/

PYTHON ?= python3
VENV ?= .venv
# Tests that need more are skipped: `torch` has PyTorch, `runtimes` ONNX Runtime and LiteRT, and
# `examples` (it holds both) pretrained weights, for everything that examples/ shows.
TEST_GROUPS ?= test
CORES := $(shell getconf _NPROCESSORS_ONLN)
PYTEST ?= -n $(CORES) --maxprocesses 4 --dist loadfile
# A test that hangs ends its process after so many seconds, and fails.
HANGS := --timeout=1200 --timeout-method=thread
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NATIVE := CMakeLists.txt pyproject.toml $(wildcard bindings/* core/src/* core/include/*)
# Without build isolation, so that a change in the core rebuilds only what it touches.
INSTALL := $(PIP) install --no-build-isolation -C build-dir='build/{wheel_tag}' -e

.DEFAULT_GOAL := help
.PHONY: force help demo test check bench mutate fuzz crash docs format core-test lint-c misra test-arm bench-arm size test-wasm test-web web wheels test-wheels clean

help:
	@sed -n '2,/^$$/s/^#   //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/skip2lora demo

# Compiled once for the commands that tests start, also where PYTHONDONTWRITEBYTECODE is set.
test: $(VENV)/.test core-test
	$(BIN)/python -m compileall -q src
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(HANGS) $(PYTEST)

lint-c:
	$(MAKE) --no-print-directory -C core lint

misra:
	@sh tools/check-lint.sh
	$(PYTHON) tools/misra.py

core-test:
	$(MAKE) --no-print-directory -j$(CORES) -C core test

test-arm: $(VENV)/.installed
	$(MAKE) --no-print-directory -C core test-arm
	$(BIN)/python tests/boards.py

test-wasm:
	$(MAKE) --no-print-directory -C core test-wasm

# What is missing of Node, Chromium and a compiler is said by the tests that are skipped.
test-web: $(VENV)/.test $(VENV)/.web
	$(BIN)/python -m pytest -rs tests/web

web:
	$(MAKE) --no-print-directory -C web

wheels: $(VENV)/.wheels
	$(BIN)/python tools/wheels.py $(WHEELS)

test-wheels: $(VENV)/.installed
	$(BIN)/python tools/run_wheels.py $(WHEELS)

bench-arm:
	@sh tools/check-arm.sh linux-arm llvm
	$(PYTHON) bench/arm/count.py

size:
	@sh tools/check-arm.sh m4f
	$(PYTHON) bench/arm/size.py $(SIZE)

check: $(VENV)/.check $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_types.py
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' '*.cpp' ':!*/c_templates/*')
	$(MAKE) --no-print-directory -j$(CORES) -C core warnings

bench: $(VENV)/.bench
	$(BIN)/python bench/run.py $(BENCH)

mutate: $(VENV)/.test $(VENV)/.mutate
	$(BIN)/python tools/mutate.py $(MUTATE)

fuzz: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m hostile.fuzz $(FUZZ)

crash: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/killing.py $(or $(CRASH),--kills 500 --signals 200)
	OMP_NUM_THREADS=1 $(BIN)/python tests/resuming.py --kills 200
	OMP_NUM_THREADS=1 $(BIN)/python tests/filling.py --kills 200

docs: $(VENV)/.docs $(VENV)/.installed
	$(BIN)/python -m sphinx -q -E -W --keep-going -d build/site-trees docs build/site
	@echo 'build/site/index.html'

format: $(VENV)/.check
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.c' '*.h' '*.cpp' ':!*/c_templates/*')

clean:
	rm -rf build $(VENV)
	$(MAKE) --no-print-directory -C core clean

$(VENV)/.created:
	@sh tools/check-system.sh "$(PYTHON)"
	@echo '$(VENV): a virtual environment with tools to build, a few MB to fetch'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'
	$(PIP) install 'scikit-build-core>=1.1,<2' 'nanobind>=3.1,<4' cmake ninja
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(NATIVE)
	@echo 'skip2lora: its C core is compiled, and what it needs is fetched; a minute or two'
	$(INSTALL) '.[plot,data,parquet,power]'
	@touch $@

$(VENV)/.groups: force | $(VENV)/.created
	@echo '$(TEST_GROUPS)' | cmp -s - $@ || echo '$(TEST_GROUPS)' > $@

$(VENV)/.test: $(VENV)/.installed $(VENV)/.groups
	@echo 'tests: $(TEST_GROUPS), up to some 100 MB to fetch (more with torch); minutes'
	$(PIP) install $(TEST_GROUPS:%=--group %)
	@touch $@

$(VENV)/.check: $(VENV)/.created pyproject.toml
	$(PIP) install --group check
	@touch $@

$(VENV)/.mutate: $(VENV)/.created pyproject.toml
	$(PIP) install --group mutate
	@touch $@

$(VENV)/.docs: $(VENV)/.created pyproject.toml
	$(PIP) install --group docs
	@touch $@

$(VENV)/.wheels: $(VENV)/.created pyproject.toml
	$(PIP) install --group wheels
	@touch $@

$(VENV)/.web: $(VENV)/.created pyproject.toml
	$(PIP) install --group web
	mkdir -p build/web
	npm install --prefix build/web --no-audit --no-fund --no-save \
		--ignore-scripts onnxruntime-web@1.30.0
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(PIP) install --group bench
	@touch $@
