# Thin: each target makes the machine ready, then calls one tool. PYTHON may name another interpreter (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
WINDOWS_TESTS := tests/unit tests/property/test_agent_frames.py tests/property/test_layers.py tests/property/test_store.py

.PHONY: demo test test-full test-windows unit lint format
.PHONY: bench bench-boards bench-disks bench-pull bench-windows fuzz kernel kernel-wheel constraints clean

demo:
	@$(PYTHON) tools/bootstrap.py run
	@$(BIN)/python tools/demo.py

test: kernel
	$(PYTEST) -q --ignore tests/windows

test-full: kernel test-windows
	$(PYTEST) -q --ignore tests/windows -m "heavy or not heavy"

# Windows under Wine: what needs no POSIX in the Windows interpreter, then propolis as a user runs it there.
# Without trio, whose event loop needs a driver that Wine does not have.
test-windows: kernel
	@$(PYTHON) tools/bootstrap.py windows
	@$(BIN)/python tools/windows.py python -m pytest -q -p no:cacheprovider -k "not trio" $(WINDOWS_TESTS)
	$(PYTEST) -q tests/windows

# What reads foreign bytes, in the guest and of images, ten minutes each under libFuzzer.
fuzz:
	@$(PYTHON) tools/bootstrap.py test
	FUZZ_SECONDS=600 $(PYTEST) -q tests/fuzz/test_guest_fuzz.py tests/fuzz/test_image_bytes_fuzz.py

unit:
	@$(PYTHON) tools/bootstrap.py run
	$(PYTEST) -q tests/unit tests/architecture

lint:
	@$(PYTHON) tools/bootstrap.py run
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --platform linux
	$(BIN)/mypy --platform darwin
	$(BIN)/mypy --platform win32
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/gen_wire_h.py --check
	$(BIN)/python tools/gen_blocking.py --check
	$(BIN)/python tools/gen_windows_doc.py --check

format:
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The tuned kernel, built once for each version of its source and configuration (some minutes).
kernel:
	@$(PYTHON) tools/bootstrap.py test
	@$(PYTHON) tools/kernel.py

kernel-wheel: kernel
	@$(PYTHON) tools/kernel.py --wheel

bench: kernel
	PYTHONPATH=tools $(BIN)/python bench/bench.py

# What boards, processor models and kernel options cost; MAP names the kernel's System.map for the names of initcalls.
bench-boards: kernel
	PYTHONPATH=tools $(BIN)/python bench/boards.py $(if $(MAP),--map $(MAP))

bench-disks:
	@$(PYTHON) tools/bootstrap.py test
	PYTHONPATH=tools $(BIN)/python bench/conversion.py

# A start over the Hyper-V backend, taken apart; also under Wine, if `make test-windows` has made a Windows.
bench-windows: kernel
	PYTHONPATH=tools:tests $(BIN)/python bench/hyperv.py

# A pull from a registry beside skopeo's.
bench-pull:
	@$(PYTHON) tools/bootstrap.py test
	PYTHONPATH=tools $(BIN)/python bench/pulling.py

PIP_COMPILE := $(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
    --no-emit-trusted-host --no-header --no-emit-find-links
constraints:
	$(PIP_COMPILE) --output-file constraints/dev.txt constraints/dev.in pyproject.toml
	$(PIP_COMPILE) --output-file constraints/windows.txt -c constraints/dev.txt constraints/windows.in pyproject.toml
	$(PIP_COMPILE) --output-file constraints/windows-python.txt constraints/windows-python.in

clean:
	rm -rf .venv .cache build dist
