# `make demo` and `make test` are all the set-up there is: each makes .venv, installs with the constraints, and goes on.
# Settings:  ONCE=1 (the demo exits when done)   DATA=folder (of the starter's images)   PYTHON=python3.12 (which Python makes .venv)   ARGS="..." (passed on)

.DEFAULT_GOAL := help
.PHONY: help install demo up starter test test-all gpu check docs lint-fix protos release-protos client clean

BIN := .venv/bin
STAMP := .venv/.installed
PROTOC := .venv-protos/bin/python

export PYTHON

help:  ## what can be made here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'

install: $(STAMP)  ## only make the environment

demo: $(STAMP)  ## the whole loop on blood cells, with a report (ONCE=1 exits afterwards)
	@$(BIN)/python -m benchmarks.demo $(if $(ONCE),--once) $(ARGS)

up: $(STAMP)  ## start the system in the foreground and say where it is
	@$(BIN)/vouch up $(ARGS)

starter: $(STAMP)  ## train everything that ships anew; resumes (DATA=folder of pbc64; ARGS="--part generator")
	@$(BIN)/python -m training starter --no-ray --data "$(or $(DATA),../shared/data/pbc64)" $(ARGS)

test: $(STAMP)  ## every test but those that take minutes
	@scripts/test -m "not slow" $(ARGS)

test-all: $(STAMP)  ## every test
	@scripts/test $(ARGS)

gpu: $(STAMP)  ## what a GPU adds, in pieces of nine minutes (DATA=folder of the image sets; ARGS="--piece engine")
	@$(BIN)/python -m benchmarks.gpu_pieces $(if $(DATA),--data "$(DATA)") $(ARGS)

check: $(STAMP)  ## lint, format, types, who imports whom, the contract against the released one
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.binpb

docs: $(STAMP)  ## build the documentation into build/site; a dead link fails it
	@$(BIN)/python -m scripts.docs stage
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f build/mkdocs.yml
	@echo "built build/site/index.html"

lint-fix: $(STAMP)  ## repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generated code refuses a grpcio and protobuf older than its generator's: an old generator keeps our lower bounds low.
# It needs a protobuf of its own time, so it lives in an environment of its own.
protos: $(PROTOC)  ## regenerate vouch/pb from protos/
	$(PROTOC) -m grpc_tools.protoc -Ivouch/pb=protos/vouch \
	    --python_out=. --pyi_out=. --grpc_python_out=. protos/vouch/v1/*.proto

$(PROTOC):
	"$$(scripts/find-python)" -m venv .venv-protos
	$(PROTOC) -m pip install --quiet --disable-pip-version-check 'grpcio-tools==1.71.2' 'setuptools<81'

release-protos: $(STAMP)  ## take the contract as it is for the released one; each break needs a line in CHANGELOG.md
	$(BIN)/buf build --exclude-source-info -o protos/released.binpb

client:  ## regenerate the sync client from the one for asyncio
	$(BIN)/python scripts/generate_client.py

clean:  ## remove the environment and every cache; state/ stays
	rm -rf .venv .venv-protos build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@scripts/install
