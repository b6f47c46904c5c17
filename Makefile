# Everything that is done with this repository; `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Cargo is called without --package throughout: the selection of packages selects the features of what they depend on, and one
# selection means that everything is compiled once.
CARGO ?= cargo

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: demo
demo: tools ## Show the whole loop on a throw-away Kubernetes; ARGS="--once" ends by itself
	@if [ "$$(id -u)" = 0 ]; then
	  e2e/control-plane/install-node.sh >&2 || echo "going on without a real node" >&2
	fi
	exec $(CARGO) run --locked --bin demo -- $(ARGS)

.PHONY: test
test: tools node ## Run every test, from unit to real Kubernetes
	e2e/control-plane/build.sh >/dev/null
	policy/build.sh >/dev/null
	policy/preview/build.sh >/dev/null
	$(CARGO) test --locked --no-fail-fast

.PHONY: check
check: rust ## Check format, lints, purity of the cores and, where cargo-deny is installed, licences and advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --test purity
	if command -v cargo-deny >/dev/null; then
	  $(CARGO) deny --locked check
	else
	  echo "licences and advisories were not checked: cargo install --locked cargo-deny"
	fi

.PHONY: policy
policy: tools ## Build the annotated policy and print where it is
	policy/build.sh

.PHONY: chart
chart: rust ## Write the custom resources of the Helm chart anew, from the Rust types
	$(CARGO) run --locked --bin host-sync -- crds > host-sync/chart/files/crds.yaml.part
	mv host-sync/chart/files/crds.yaml.part host-sync/chart/files/crds.yaml

.PHONY: preview
preview: tools ## Build the dashboard's preview and print its folder (host-sync run --preview-folder)
	policy/preview/build.sh

.PHONY: clean
clean: ## Remove what was built here; the test Kubernetes in ~/.cache/scout stays
	$(CARGO) clean

# What a build needs: installed where it can be, asked for in one sentence where not.

.PHONY: tools
tools: rust
	@if ! command -v go >/dev/null; then
	  echo "Go is missing, which builds the Kubernetes for the tests: install 1.26 or later from https://go.dev/dl" >&2
	  exit 1
	fi

.PHONY: rust
rust:
	@if ! command -v $(CARGO) >/dev/null; then
	  echo "Rust is missing: install it with rustup, https://rustup.rs" >&2
	  exit 1
	fi
	if ! command -v cc >/dev/null; then
	  if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	    echo "a C compiler is missing: run 'sudo apt-get install gcc libc6-dev'" >&2
	    exit 1
	  fi
	  apt-get update -q >&2
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends gcc libc6-dev >&2
	fi

# A real node needs root anyway, so nothing is installed for anybody else; the tests that need one then say so.
.PHONY: node
node:
	@if [ "$$(id -u)" = 0 ]; then
	  e2e/control-plane/install-node.sh >&2
	else
	  echo "not root: what needs a real node is left out; 'sudo -E env PATH=\"\$$PATH\" make test' runs it too" >&2
	fi
