# The chores of this repository. `make` alone lists them. Steps longer than a line or two live in scripts/.
# Settings may be given as variables of make or of the environment: make up API_PORT=9090 MEDIA=/srv/video

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup up build test check fmt openapi

help: ## List these targets
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 16
	@echo
	@echo "  make up MEDIA=DIR lets jobs name the files of a folder; API_HOST, API_PORT and FFPROBE_API_STATE_DIR work too."

up: setup ## Build and run everything on this machine, until Ctrl-C
	@exec scripts/up.sh

test: ## Run the whole test suite; CI runs exactly this
	@scripts/setup.sh test
	cargo build -p api -p worker -p cli
	cargo test --workspace --no-fail-fast

check: ## Before you push: format, lints, docs, dependencies, shell scripts, then the tests
	@scripts/setup.sh test
	@exec scripts/check.sh

build: setup ## Build the release binaries: ffprobe-api, ffprobe-worker, probectl
	cargo build --release -p api -p worker -p cli

fmt: ## Format the Rust code
	cargo fmt --all

openapi: ## Write openapi.json and docs/rights.md again, from the code
	cargo run --quiet --bin ffprobe-api -- openapi > openapi.json.new
	mv openapi.json.new openapi.json
	cargo run --quiet --bin ffprobe-api -- rights > docs/rights.md.new
	mv docs/rights.md.new docs/rights.md

setup: ## Install what is missing: ffmpeg, PostgreSQL and Redis binaries (up and test do this first)
	@exec scripts/setup.sh

chaos: setup ## Minutes of kills, freezes and lost servers under load; CHAOS_SECONDS, CHAOS_JOBS and CHAOS_SEED work
	@exec bench/chaos.sh

.PHONY: chaos

backlog: ## Measure what a million queued jobs cost, as ratios to an empty queue
	cargo run --release -p bench --bin backlog

.PHONY: backlog

limits: ## Measure what credentials and limits cost for each request, and a submission with 100,000 jobs waiting
	cargo run --release -p bench --bin limits

.PHONY: limits

batch: ## Measure a batch of 10,000 files, as ratios to ffprobe alone: ten minutes; BATCH_FILES works
	cargo run --release -p bench --bin batch -- $(if $(BATCH_FILES),--files $(BATCH_FILES))

.PHONY: batch

scan: ## Measure what files of 50 GB and scans of every packet cost, as ratios
	cargo run --release -p bench --bin scan

.PHONY: scan

uploads: ## Measure uploads of 2 GiB by tus and raw, as ratios to nginx's DAV PUT; UPLOADS_GIB works
	@exec bench/uploads.sh

.PHONY: uploads

images: ## Build the container images of API and worker; ENGINE=podman works too
	$(or $(ENGINE),docker) build -f Dockerfile.api -t ffprobe-api:local .
	$(or $(ENGINE),docker) build -f Dockerfile.worker -t ffprobe-worker:local .

.PHONY: images
