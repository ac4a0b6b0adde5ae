# The frame of the workspace. `make` or `make help` lists the targets; everything else lives in scripts/ and in cargo.
CARGO ?= cargo
export CARGO

.PHONY: help demo demo-pq drill timing deb test bench bench-pki fuzz fuzz-replay chaos scale scale-pki conformance docs fmt lint clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: ## build in release mode and walk through the whole system in ./var/demo (KEEP=1 leaves it running)
	@KEEP="$(KEEP)" scripts/demo

demo-pq: ## an ML-DSA PKI in our token: a device enrols and renews over EST, Python's cryptography verifies the chain
	@scripts/demo-pq

drill: ## rehearse a restore on a fresh token: backup, scratch copy, signatures, report
	@scripts/drill

timing: ## whether times tell secrets: Welch's t of tags, paddings, commitments, PINs, handles (some minutes; nothing else running)
	@$(CARGO) test --release --package hsm-core --lib timing -- --ignored --nocapture --test-threads=1 2>&1 | sed -n 's/.*TABLE //p'

deb: ## build the Debian package into target/deb (packaging/README.md)
	@scripts/deb

test: ## install the test tools (as root), build, and run every test of the workspace
	@scripts/test

bench: ## our module beside SoftHSM2: C_Sign P-256, RSA-2048, Ed25519 at 1, 2 and 8 threads
	@scripts/bench

bench-pki: ## EST renewals a second with a mutual TLS handshake each: P-256 and ML-DSA-65
	@scripts/bench-pki

fuzz: ## fuzz every target with coverage guidance for FUZZ_SECONDS each (600); FUZZ_TARGETS names some of them
	@scripts/fuzz

fuzz-replay: ## play one input again: FILE=fuzz/findings/TARGET/NAME
	@RUST_BACKTRACE=1 $(CARGO) run --quiet --package hsm-fuzz --bin craton-fuzz -- replay "$(FILE)"

chaos: ## the long chaos tests: 2,000 kills, every fault point of the disk, half-open connections, a soak (hours)
	@scripts/chaos

scale: ## a token of 1,000, 10,000 and 100,000 objects: searches, listings, login, start and memory
	@scripts/scale

scale-pki: ## a PKI of 1,000,000 certificates: enrolments, OCSP, revocations, CRLs, start (CERTIFICATES, UNDER_ONE, PROFILE)
	@scripts/scale-pki

conformance: ## public PKCS#11 test suites against our module (safe, compat) and SoftHSM2, side by side
	@scripts/conformance

docs: ## write docs/mechanisms.md anew from the mechanism table
	CRATON_WRITE_DOCS=1 $(CARGO) test --workspace --lib mechanism::document

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## formatting, clippy with warnings as errors, and cargo-deny when it is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null 2>&1; then cargo-deny check; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

clean: ## remove build products, the demo's state and the test tools' environment
	@scripts/demo --stop
	$(CARGO) clean
	rm -rf var .venv
