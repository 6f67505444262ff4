# Weft: the commands of every day. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Build outputs live outside the checkout, so that a fresh clone does not build RocksDB again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/weft/target
# Debian's ccache, when installed, makes the second build profile of the C++ code cheap.
export PATH := /usr/lib/ccache:$(HOME)/.cargo/bin:$(PATH)

BIN := $(CARGO_TARGET_DIR)/debug
BENCH = $(CARGO_TARGET_DIR)/release/weft --dir .weft-bench
DIR ?= .weft

.PHONY: help deps build run down test e2e faults fuzz fuzz-cmin verify fix bench bench-functions clean-run images images-load

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

deps: ## install what a build needs from Debian's packages, when it is missing
	@.ci/deps build

build: deps ## build the node, the weft command and the sample contract
	cargo build --locked -p weft-node -p weft-operator -p asset-contract

run: build ## start examples/basic.yaml, run a transaction, say what to try next
	@$(BIN)/weft up -f examples/basic.yaml --dir $(DIR) --detach --quiet
	@echo; echo "weft invoke InitLedger"; $(BIN)/weft invoke --dir $(DIR) InitLedger
	@echo "weft query ReadAsset asset1"; $(BIN)/weft query --dir $(DIR) ReadAsset asset1
	@echo; $(BIN)/weft status --dir $(DIR)
	@echo; echo "next:"
	@echo "  export PATH=$(BIN):\$$PATH WEFT_DIR=$(abspath $(DIR))"
	@echo "  weft invoke TransferAsset asset1 ada; weft query GetAssetHistory asset1"
	@echo "  weft up -f examples/grown.yaml --detach   # one more peer, one more organization"
	@echo "  weft bench                                # throughput and latency"
	@echo "  make down                                 # stop; make clean-run deletes it as well"
	@echo "  programs of yours connect with $(abspath $(DIR))/connection.json"

down: ## stop the network that `make run` started
	@if [ -e $(DIR)/state.json ]; then $(BIN)/weft down --dir $(DIR); else echo "no network in $(DIR)"; fi

clean-run: ## stop that network and delete its ledgers, keys and logs
	@if [ -e $(DIR)/state.json ]; then $(BIN)/weft down --dir $(DIR) --delete; else echo "no network in $(DIR)"; fi

test: deps ## everything that can be tested without a cluster
	@.ci/deps clients
	cargo build --locked -p weft-node -p weft-operator -p asset-contract
	cargo test --locked --workspace --exclude weft-e2e
	@# One network of processes at a time: what is tested is faults, not an overloaded machine.
	cargo test --locked -p weft-e2e -- --test-threads 1
	$(MAKE) --no-print-directory -C e2e/clients test

# What fails for real: processes, links, disks, clocks; floods; certificates; replays.
FAULTS := fault_kill fault_torn fault_links fault_disk fault_clock fault_catch_up \
  failover flood hostile tls replay

faults: deps ## the campaign of faults on real processes; needs root for disks and clocks
	@.ci/deps faults
	cargo build --locked -p weft-node -p weft-operator -p asset-contract
	WEFT_CAMPAIGN=1 cargo test --locked -p weft-e2e --no-fail-fast $(FAULTS:%=--test %) \
	  -- --test-threads 1 --include-ignored --nocapture

e2e: deps ## the end-to-end tests on the cluster of KUBECONFIG, or on one that kind makes
	@.ci/deps clients
	@$(MAKE) --no-print-directory -C e2e/clients install
	@e2e/cluster $(TESTS)

verify: deps ## formatting, lints, docs, licences and generated files; writes nothing
	@.ci/deps verify
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	.ci/deny
	cargo run --locked -q -p weft-operator --bin weft-operator -- crd --check crds
	cargo run --locked -q -p weft-operator --bin weft-operator -- crd --check charts/weft-operator/files/crds
	cargo run --locked -q -p weft-operator --bin weft-operator -- docs --check docs

fix: ## format and regenerate
	cargo fmt --all
	cargo run -q -p weft-operator --bin weft-operator -- crd --write crds
	cargo run -q -p weft-operator --bin weft-operator -- crd --write charts/weft-operator/files/crds
	cargo run -q -p weft-operator --bin weft-operator -- docs --write docs
	WEFT_UPDATE=1 cargo test -q -p weft-operator --test charts the_schema_of_networks_is_that_of_the_kinds

bench: deps ## `weft bench` on a release build: throughput, latency, catching up
	cargo build --locked --release -p weft-node -p weft-operator -p asset-contract
	@$(BENCH) up -f examples/bench.yaml --detach --quiet
	@trap '$(BENCH) down --delete' EXIT; \
	  $(BENCH) bench --clients 1 --seconds 10; echo; \
	  $(BENCH) bench --clients 128 --seconds 20; echo; \
	  $(BENCH) bench --clients 128 --transactions 50000 --catch-up

bench-functions: deps ## criterion benches of single functions
	cargo bench --locked -p weft-crypto -p weft-msp -p weft-ledger -p weft-ledger-rocks

# Instrumented code is built apart from all other.
fuzz fuzz-cmin: export CARGO_TARGET_DIR := $(HOME)/.cache/weft/fuzz-target

fuzz: deps ## fuzz TARGET, or all targets, for MINUTES (30) each
	@node/fuzz/campaign run $(TARGET)

fuzz-cmin: deps ## keep in node/fuzz/corpus what campaigns have learnt about TARGET, or all
	@node/fuzz/campaign cmin $(TARGET)

images: deps ## build the container images of release programs as archives in dist/
	cargo build --locked --release -p weft-node -p weft-operator -p asset-contract
	@cargo run --locked -q -p weft-images -- build --bin-dir $(CARGO_TARGET_DIR)/release --out dist

images-load: images ## build the images and load them into the Docker engine
	@images/load dist/*.tar
