# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A thin front door: meson builds, scripts/ and tests/ do the rest. Everything is
# built in build*/ here and, for QEMU and the guests, in a cache outside.

# The recipes use scripts/lib.
SHELL  := /bin/bash
# meson finds ccache by itself: the same file is compiled once for all clones, without a run of the preprocessor.
export CCACHE_NOHASHDIR := 1
export CCACHE_DEPEND    := 1
BUILD  ?= build
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc)
# Debian's, whatever other python3 comes first on PATH.
PYTHON := /usr/bin/python3
MESON  := $(PYTHON) /usr/bin/meson
# Options for tests/run, e.g. make test TESTS='--only store'
TESTS  ?=
# and for bench/run
BENCH  ?=
# Of a label and a log: runs what follows, and says how far it is.
progress = . scripts/lib/progress.sh && progress "$(1)" $(2)
ninja    = $(call progress,building $(1),$(BUILD)/$(1).log) ninja -C $(BUILD) -j $(JOBS) $(1)

.PHONY: help demo test test-asan test-tsan build programs packages qemu guests install deb bench bench-ab \
	fuzz soak format lint clean

help:
	@echo 'make demo       protect a Debian guest under load, lose its host, have it back'
	@echo 'make test       all tests; TESTS="--only REGEX --suite unit|functional"'
	@echo 'make test-asan  all of ours with the address and undefined behaviour sanitizers'
	@echo 'make test-tsan  the same with the thread sanitizer'
	@echo 'make build      packages, patched QEMU, guests, and everything of ours'
	@echo 'make install    to DESTDIR and PREFIX (default /usr/local)'
	@echo 'make deb        build-deb/ckpt_*.deb, with the patched QEMU'
	@echo 'make bench      figures next to their floors; BENCH="--quick --only NAME --json"'
	@echo 'make bench-ab REV=REVISION   measures it and this tree in turn'
	@echo 'make fuzz       fuzz every parser; FUZZ_SECONDS each (default 60)'
	@echo 'make soak       the long proofs'
	@echo 'make format, lint, clean'

demo: packages qemu guests programs
	tests/demo/run

test: build
	$(PYTHON) tests/run --build $(BUILD) $(TESTS)

build: packages qemu guests $(BUILD)/build.ninja
	@$(call ninja,all)

# Without tests and bench: half the time.
programs: $(BUILD)/build.ninja
	@$(call ninja,programs)

packages:
	@scripts/install-packages

qemu: packages
	@scripts/qemu build

guests: packages qemu
	@tests/guests/build linux-small >/dev/null
	@tests/guests/build bare >/dev/null
	@tests/guests/build debian >/dev/null

$(BUILD)/build.ninja: | packages
	$(MESON) setup $(BUILD) --prefix=$(PREFIX)

test-asan: packages qemu guests
	JOBS=$(JOBS) tests/sanitized asan $(TESTS)

test-tsan: packages qemu guests
	JOBS=$(JOBS) tests/sanitized tsan $(TESTS)

install: packages qemu $(BUILD)/build.ninja
	$(MESON) configure $(BUILD) -Dprefix=$(PREFIX)
	@$(call ninja,programs)
	DESTDIR=$(abspath $(DESTDIR)) $(MESON) install -C $(BUILD) --no-rebuild
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/qemu install

deb: packages qemu
	@$(call progress,package,build-deb/deb.log) debian/rules binary
	@ls build-deb/ckpt_*.deb

bench: build
	@scripts/install-packages bench
	bench/run --build $(BUILD) $(BENCH)

bench-ab: build
	bench/ab $(REV) $(BENCH)

fuzz: packages
	scripts/fuzz

soak: build
	$(PYTHON) tests/run --build $(BUILD) --suite soak $(TESTS)

format: packages
	git ls-files '*.cc' '*.cpp' '*.h' '*.c' | xargs -r clang-format -i

lint: packages
	git ls-files '*.cc' '*.cpp' '*.h' '*.c' | xargs -r clang-format --dry-run -Werror
	git ls-files | xargs grep -lE '^#!/bin/(ba)?sh' | xargs -r -n 1 bash -n
	git ls-files '*.py' tests/run tests/demo/run bench/run bench/ab scripts/kvm-probe | xargs -r $(PYTHON) -m py_compile

# The cache of QEMU and the guests is kept; its path: scripts/qemu path.
clean:
	rm -rf build build-asan build-tsan build-fuzz build-deb
	rm -rf debian/.debhelper debian/ckpt debian/files debian/debhelper-build-stamp debian/ckpt.ckptd.service debian/ckpt.*.debhelper debian/ckpt.debhelper.log debian/ckpt.substvars
