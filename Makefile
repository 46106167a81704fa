# Everything a newcomer needs: `make demo` runs the main job, `make test` the tests. Each sets up what it lacks.

PYTHON ?= python3
BIN := .venv/bin
# Without a C compiler the firmware is built by the one in the ziglang wheel.
comma := ,
ZIG := $(shell command -v $${CC:-cc} >/dev/null 2>&1 || echo ,zig)

.PHONY: demo test slow check bench truth kills crashes soak fortnight firmware clean

demo: .venv/ready-demo firmware
	$(BIN)/labd demo

test: .venv/ready-test firmware
	$(BIN)/pytest -n 2 --dist loadscope

slow: .venv/ready-test firmware
	$(BIN)/pytest -m slow --timeout 3600

check: .venv/ready-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/labd check lab.toml

bench: .venv/ready-test firmware
	$(BIN)/python -m tests.benchmarks

truth: .venv/ready-test
	$(BIN)/python -m tests.truth

kills: .venv/ready-test firmware
	$(BIN)/python -m tests.end_to_end.campaign

crashes: .venv/ready-test
	$(BIN)/python -m tests.trace.crashes

soak: .venv/ready-test
	$(BIN)/python -m tests.soak

fortnight: .venv/ready-test
	$(BIN)/python -m tests.fortnight

firmware: .venv/ready-demo
	$(BIN)/python firmware/build.py --out build/firmware

clean:
	rm -rf build .venv var/demo

# Debian splits ensurepip off into python3-venv; where it is missing, the system's own pip fills the environment.
.venv/bin/python:
	$(PYTHON) -m venv .venv >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip .venv

# $(call install,extras)
define install
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then $(BIN)/python -m pip install -q -e '.[$(1)]'; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then $(PYTHON) -m pip --python $(BIN)/python install -q -e '.[$(1)]'; \
	else echo "neither venv nor pip is there: apt-get install python3-venv"; rm -rf .venv; exit 1; fi
	@touch $@
endef

.venv/ready-demo: pyproject.toml | .venv/bin/python
	@echo "installing labd into .venv"
	$(call install,firmware$(ZIG))

.venv/ready-test: pyproject.toml .venv/ready-demo
	@echo "installing what the tests need"
	$(call install,firmware$(comma)test$(ZIG))
