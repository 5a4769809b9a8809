# Two commands do everything: `make demo` and `make test`. Both install what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
TOOLS := .tools
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen
# Where it is set, as in many images, each of the many processes here compiles torch anew: 10 s a start instead of 3.
unexport PYTHONDONTWRITEBYTECODE
SYSTEM_PACKAGES := espeak-ng libgomp1 libusb-1.0-0
# Tests that need one of these are skipped, loudly, where it is missing.
TEST_PACKAGES := chromium faketime fonts-dejavu-core gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good postgresql

.PHONY: help demo test lint models bench bench-edge proto system system-test install install-bench install-demo edge-bundle

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet uv

system: ## the Debian packages tests and simulation need
	@missing=$$(for p in $(SYSTEM_PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	  else echo "These system packages are missing; run:  sudo apt-get install -y" $$missing; exit 1; fi; fi

system-test: ## the Debian packages that a few tests need, where they can be installed
	@missing=$$(for p in $(TEST_PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null \
	  || echo "Not installed:" $$missing "(tests that need it are skipped)"; fi

install: system $(if $(findstring $(TOOLS),$(UV)),$(UV)) ## everything, for development
	$(UV) sync --frozen --extra dev

install-demo: $(if $(findstring $(TOOLS),$(UV)),$(UV))
	$(UV) sync --frozen --inexact --extra replay

demo: install-demo ## edge daemon and cloud service on the bundled recording, then a report
	$(RUN) --no-sync replay demo --out out/demo

test: install system-test lint ## lint, types, import rules, proto freshness, tests
	$(RUN) --no-sync python -m fusion.wire.generate --check
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) --no-sync pytest -n logical --maxprocesses 4

lint: install ## ruff, mypy --strict, import rules
	$(RUN) --no-sync ruff check .
	$(RUN) --no-sync ruff format --check .
	$(RUN) --no-sync mypy --num-workers $$(nproc)
	$(RUN) --no-sync lint-imports

edge-bundle: $(if $(findstring $(TOOLS),$(UV)),$(UV)) ## the edge node for devices without a network; see deploy/README.md
	deploy/bundle.sh $(UV) out

proto: install ## regenerate the protobuf stubs
	$(RUN) --no-sync python -m fusion.wire.generate

models: install ## train every bundled model again (hours on a laptop), PCB=FOLDER for DeepPCB; RESUME=1 goes on; see docs/models.md
	$(RUN) --no-sync fusion train all --out runs $(if $(PCB),--data "$(PCB)") $(if $(RESUME),--resume)

install-bench: install ## what is measured against, too
	$(UV) sync --frozen --extra bench

bench: install-bench ## measure, each against a rival in the same run
	for b in benchmarks/*.py; do echo "== $$b"; $(RUN) --no-sync python $$b || exit 1; done

bench-edge: install ## the edge node's perception against ultralytics' predict; PCB=FOLDER for DeepPCB
	$(RUN) --no-sync python benchmarks/edge.py $(if $(PCB),--pcb $(PCB))
