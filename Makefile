# SPDX-License-Identifier: BSD-2-Clause
#
# Builds connguard. One file for the whole tree, no recursion between directories: every source file
# is found by the directory it lies in, everything that is made lies under $(BUILD), and headers are
# tracked for the BPF world and for userspace alike. `make help` lists what can be asked for.

VERSION := 0.1.0

# ---- what a caller may change ----------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
AR ?= ar
INSTALL ?= install
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g
WERROR ?= -Werror

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib/connguard
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/connguard
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d

# V=1 shows whole commands. SAN=1 builds userspace with the address and undefined-behaviour
# sanitizers, beside the normal build; SAN=fuzz, which `make fuzz` asks for, with clang's fuzzer too.
# The BPF object is the same for all and lies under $(BUILD).
V ?= 0
SAN ?=
BUILD ?= build
OUT := $(BUILD)$(if $(filter fuzz,$(SAN)),/fuzz,$(if $(SAN),/san))
# How long `make fuzz` runs each target, and `make soak` runs; rounds of each configuration that
# `make crossing` runs, and the seed they are drawn from (none: the time); how often `make test-services` runs.
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 60
ROUNDS ?= 10000
SEED ?=
RUNS ?= 1

# ---- tools and flags -------------------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

ifeq ($(V),1)
Q :=
say :=
else
Q := @
say = @printf '  %-7s %s\n' '$(1)' '$(2)'
endif

# Asks the shell when first used and remembers the answer: reading this file runs no tool, so that it
# works on a machine where none is installed yet.
once = $(eval $(1) := $$(shell $(2)))$($(1))

MODULES := libbpf libelf zlib libevent_core libevent_extra inih jansson libmnl libcap-ng libseccomp
MODULE_CFLAGS = $(call once,MODULE_CFLAGS,$(PKG_CONFIG) --cflags $(MODULES))
MODULE_LIBS = $(call once,MODULE_LIBS,$(PKG_CONFIG) --libs $(MODULES))
CMOCKA_CFLAGS = $(call once,CMOCKA_CFLAGS,$(PKG_CONFIG) --cflags cmocka)
CMOCKA_LIBS = $(call once,CMOCKA_LIBS,$(PKG_CONFIG) --libs cmocka)
MULTIARCH = $(call once,MULTIARCH,$(CC) -print-multiarch)
BPFTOOL ?= $(call once,BPFTOOL,scripts/bootstrap.sh --print-bpftool)

# What the caller left to us to choose is in CFLAGS; what the code relies on is here.
comma := ,
SANITIZE := -fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-U_FORTIFY_SOURCE $(if $(filter fuzz,$(SAN)),-fsanitize=fuzzer-no-link)
# Fortified library calls exist only in optimised code.
HARDEN := -fstack-protector-strong \
	$(if $(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
PROTECT := $(if $(SAN),$(SANITIZE),$(HARDEN))
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DCONNGUARD_VERSION='"$(VERSION)"' -Wall -Wextra $(WERROR) \
	-pthread $(PROTECT)
INCLUDES := -Iinclude -Iuser -I$(BUILD)
BASE_LDFLAGS = -pthread -Wl,--as-needed -Wl,-z,relro,-z,now $(PROTECT)

BPF_CFLAGS ?= -O2 -g
BASE_BPF_CFLAGS = -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra $(WERROR) -Iinclude \
	-isystem /usr/include/$(MULTIARCH)

# ---- sources, by directory -------------------------------------------------------------------------

sources = $(sort $(foreach directory,$(1),$(wildcard $(directory)/*.c)))
objects = $(patsubst %.c,$(OUT)/obj/%.o,$(1))

BPF_SOURCES := $(sort $(wildcard bpf/*.bpf.c))
BPF_PARTS := $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(BPF_SOURCES))
# What goes into the programs; and what bpftool can load on every kernel and use: all but the iterators.
WHOLE_OBJECT := $(if $(BPF_SOURCES),$(BUILD)/bpf/whole.bpf.o)
BPF_OBJECT := $(if $(BPF_SOURCES),$(BUILD)/bpf/connguard.bpf.o)
SKELETON := $(if $(BPF_SOURCES),$(BUILD)/bpf/connguard.skel.h)

LIBRARY_OBJECTS := $(call objects,$(call sources,user/base user/pure user/edge))
DAEMON_OBJECTS := $(call objects,$(call sources,user/connguardd))
CLI_OBJECTS := $(call objects,$(call sources,user/connguard))

LIBRARY := $(OUT)/libconnguard.a
DAEMON := $(if $(DAEMON_OBJECTS),$(OUT)/connguardd)
CLI := $(if $(CLI_OBJECTS),$(OUT)/connguard)

# tests/unit and tests/bpf: every test_*.c is a program; what lies beside is linked into each.
test_sources = $(sort $(wildcard tests/$(1)/test_*.c))
test_support = $(call objects,$(filter-out $(call test_sources,$(1)),$(call sources,tests/$(1))))
UNIT_TESTS := $(patsubst %.c,$(OUT)/%,$(call test_sources,unit))
UNIT_SUPPORT := $(call test_support,unit)
BPF_TESTS := $(patsubst %.c,$(OUT)/%,$(call test_sources,bpf))
BPF_TEST_SUPPORT := $(call test_support,bpf)

# tests/racer knows nothing of connguard and is linked with none of it.
WIRE_SOURCES := $(wildcard tests/racer/wire.c)
SYN_TIMERS := $(OUT)/tests/syn_timers.bpf.o
RACER_OBJECTS := $(call objects,$(filter-out $(WIRE_SOURCES) %.bpf.c,$(call sources,tests/racer)))
WIRE_OBJECTS := $(call objects,$(WIRE_SOURCES))
RACER := $(if $(RACER_OBJECTS),$(OUT)/tests/racer)
WIRE := $(if $(WIRE_OBJECTS),$(OUT)/tests/wire)

# Every source in tests/crossing is a program, but for the plan, which is linked into each.
CROSSING_SUPPORT := $(call objects,tests/crossing/plan.c)
CROSSING := $(patsubst %.c,$(OUT)/%,$(filter-out tests/crossing/plan.c,$(call sources,tests/crossing)))

NETNS_HELPERS := $(patsubst %.c,$(OUT)/%,$(call sources,tests/netns))
BENCH_LOAD := $(patsubst %.c,$(OUT)/%,$(call sources,tests/bench))
VM_HELPERS := $(patsubst %.c,$(OUT)/%,$(call sources,tests/vm))

# Every fuzz_*.c in tests/fuzz is a fuzz target. The tests have each go through its corpus once, without the
# fuzzer: a replay.
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$(OUT)/%,$(FUZZ_SOURCES))
FUZZ_REPLAYS := $(patsubst %.c,$(OUT)/%,$(FUZZ_SOURCES))
FUZZ_REPLAY_MAIN := $(call objects,tests/fuzz/replay.c)
FUZZ_OBJECTS := $(call objects,$(FUZZ_SOURCES)) $(FUZZ_REPLAY_MAIN)

# ---- targets ---------------------------------------------------------------------------------------

.PHONY: all build-tests build-demo build-bench build-vm build-fuzz build-services test test-vm \
	test-loaded test-services demo bench growth crossing soak fuzz model lint install uninstall clean help FORCE

all: $(BPF_OBJECT) $(SKELETON) $(DAEMON) $(CLI) ## build everything; needs no root (the default)

# What other targets run is compiled too, so that no change leaves it behind.
TEST_PROGRAMS := $(UNIT_TESTS) $(BPF_TESTS) $(RACER) $(WIRE) $(NETNS_HELPERS) $(CROSSING) $(FUZZ_REPLAYS)
COMPILED_ALONG := $(SYN_TIMERS) $(BENCH_LOAD) $(VM_HELPERS)

build-tests: all $(TEST_PROGRAMS) $(COMPILED_ALONG) ## build the test programs too

build-demo: all $(RACER) $(WIRE) $(SYN_TIMERS)

build-bench: all $(BENCH_LOAD)

build-vm: build-tests $(VM_HELPERS)

build-fuzz: $(FUZZ_TARGETS)

build-services: all $(NETNS_HELPERS)

# Set-up comes first and may install the very tools that the rules below ask for, hence a make of its
# own for the build that follows. It runs on all processors unless the caller chose a number.
BUILD_AFTER_SETUP = $(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

test: ## install what is missing, build, run every test; needs root (TESTS="unit bpf" runs some)
	$(Q)scripts/bootstrap.sh build test lint
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-tests
	+$(Q)$(BUILD_AFTER_SETUP) SAN=1 build-tests
	$(Q)BUILD='$(BUILD)' BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" tests/run.sh $(TESTS)

test-loaded: ## `make test` ten times, beside four loops that keep the processors busy; needs root (LOADED_RUNS=1)
	$(Q)tests/loaded.sh

test-vm: ## the core of it under other kernels, in emulated guests; needs root (KERNELS="5.10 6.1", VM_TESTS=all)
	$(Q)scripts/bootstrap.sh build test vm
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-vm
	$(Q)BUILD='$(BUILD)' scripts/vm-matrix.sh $(KERNELS)

test-services: ## install applications, build, run each unguarded and guarded, RUNS times; needs root
	$(Q)scripts/bootstrap.sh build services
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-services
	$(Q)BUILD='$(BUILD)' BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" SERVICES_RUNS='$(RUNS)' \
		tests/run.sh services

demo: ## install what is missing, build, show the race unguarded and guarded; needs root (DEMO_JSON=FILE)
	$(Q)scripts/bootstrap.sh build demo
	+$(Q)$(BUILD_AFTER_SETUP) SAN=$(SAN) build-demo
	$(Q)CONNGUARD_BUILD='$(OUT)' BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" \
		DEMO_JSON='$(DEMO_JSON)' scripts/demo.sh

bench: ## install what is missing, build, compare with nftables rules and with nothing; needs root
	$(Q)scripts/bootstrap.sh build demo
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-bench
	$(Q)CONNGUARD_BUILD='$(BUILD)' tests/bench/compare.sh

growth: ## install what is missing, build, measure the daemon's work as others do more; needs root and 6 GB
	$(Q)scripts/bootstrap.sh build test
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-tests
	$(Q)BUILD='$(BUILD)' CONNGUARD_BUILD='$(BUILD)' \
		BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" tests/growth/growth.py

crossing: ## install what is missing, build, ROUNDS of dials that cross, in each configuration; needs root (SEED=N)
	$(Q)scripts/bootstrap.sh build test
	+$(Q)$(BUILD_AFTER_SETUP) SAN= build-tests
	$(Q)BUILD='$(BUILD)' CONNGUARD_BUILD='$(BUILD)' \
		BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" CROSSING_ROUNDS='$(ROUNDS)' \
		CROSSING_SEED='$(or $(SEED),$(shell date +%s))' tests/run.sh crossing

soak: ## install what is missing, build, random operations on real sockets for SOAK_SECONDS; needs root (SOAK_SEED=N)
	$(Q)scripts/bootstrap.sh build test
	+$(Q)$(BUILD_AFTER_SETUP) SAN=1 build-tests
	$(Q)BUILD='$(BUILD)' CONNGUARD_BUILD='$(BUILD)/san' \
		BPFTOOL="$$(scripts/bootstrap.sh --print-bpftool)" \
		SOAK_SECONDS='$(SOAK_SECONDS)' SOAK_SEED='$(SOAK_SEED)' tests/soak/soak.py

fuzz: ## install what is missing, build, run each fuzz target for FUZZ_SECONDS
	$(Q)scripts/bootstrap.sh build fuzz
	+$(Q)$(BUILD_AFTER_SETUP) SAN=fuzz CC='$(CLANG)' build-fuzz
	$(Q)BUILD='$(BUILD)' FUZZ_SECONDS='$(FUZZ_SECONDS)' tests/fuzz/run.sh

model: ## install what is missing, search all orders of events between two hosts (a few minutes)
	$(Q)scripts/bootstrap.sh model
	$(Q)BUILD='$(BUILD)' CC='$(CC)' tests/model/run.py

lint: ## check scripts, licences, include direction, white space and the names in the model
	$(Q)scripts/lint.sh

clean: ## remove everything that was built
	$(Q)rm -rf $(BUILD)

help: ## show this
	@awk 'BEGIN { print "usage: make [TARGET] [VARIABLE=VALUE]...\n" } \
		/^[a-z-]+:.*## / { name = $$1; sub(":.*", "", name); sub(".*## ", ""); \
			printf "  %-13s %s\n", name, $$0 }' Makefile
	@echo
	@printf '  %-13s %s\n' \
		'V=1' 'show whole commands' \
		'SAN=1' 'build with sanitizers, into $(BUILD)/san' \
		'CC, CLANG' 'the compilers: $(CC), $(CLANG)' \
		'CFLAGS' 'optimisation and debugging: $(CFLAGS)' \
		'FUZZ_SECONDS' 'how long each fuzz target runs: $(FUZZ_SECONDS)' \
		'SOAK_SECONDS' 'how long the soak runs: $(SOAK_SECONDS)' \
		'ROUNDS, SEED' 'rounds of dials that cross: $(ROUNDS)' \
		'RUNS' 'how often the applications are run: $(RUNS)' \
		'WERROR=' 'let warnings be warnings' \
		'BUILD' 'where everything is built: $(BUILD)' \
		'PREFIX' 'where to install: $(PREFIX)' \
		'DESTDIR' 'put in front of it, for packages'

# ---- rules: what must be there ---------------------------------------------------------------------

# Made once, so that a missing tool is named in words before a compiler or a linker stumbles on it.
BUILD_TOOLS := $(BUILD)/.build-tools
TEST_TOOLS := $(BUILD)/.test-tools

$(BUILD_TOOLS): scripts/bootstrap.sh
	$(Q)CC='$(CC)' CLANG='$(CLANG)' BPFTOOL='$(BPFTOOL)' scripts/bootstrap.sh --check build
	$(Q)mkdir -p $(@D) && touch $@

$(TEST_TOOLS): scripts/bootstrap.sh
	$(Q)CC='$(CC)' CONNGUARD_BOOTSTRAP_MINIMAL=1 scripts/bootstrap.sh --check test
	$(Q)mkdir -p $(@D) && touch $@

# A file whose text is $(1), written only when that changes: what is made from a list of flags or of
# files depends on it and is made again when the list changes, a file that went away included.
record = $(Q)mkdir -p $(@D) && printf '%s\n' $(foreach word,$(1),'$(subst ','\'',$(word))') >$@.new && \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(OUT)/.flags: FORCE
	$(call record,$(CC) $(BASE_CFLAGS) $(CFLAGS) $(LDFLAGS))
$(OUT)/.library: FORCE
	$(call record,$(LIBRARY_OBJECTS))
$(OUT)/.programs: FORCE
	$(call record,$(DAEMON_OBJECTS) $(CLI_OBJECTS) $(UNIT_SUPPORT) $(BPF_TEST_SUPPORT) $(RACER_OBJECTS) \
		$(CROSSING_SUPPORT))
$(BUILD)/.bpf: FORCE
	$(call record,$(CLANG) $(BPF_CFLAGS) $(WERROR) $(BPF_PARTS))

# ---- rules: the BPF world --------------------------------------------------------------------------

$(BPF_PARTS): $(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c
$(SYN_TIMERS): tests/racer/syn_timers.bpf.c

$(BPF_PARTS) $(SYN_TIMERS): Makefile $(BUILD)/.bpf | $(BUILD_TOOLS)
	$(call say,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BASE_BPF_CFLAGS) $(BPF_CFLAGS) -MMD -MP -MF $(@:.o=.d) -MT $@ \
		-c $(filter %.bpf.c,$^) -o $@

$(WHOLE_OBJECT): $(BPF_PARTS)
$(BPF_OBJECT): $(filter-out %/adopt.bpf.o %/nudge.bpf.o %/holders.bpf.o %/look.bpf.o,$(BPF_PARTS))
$(WHOLE_OBJECT) $(BPF_OBJECT): $(BUILD)/.bpf
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $(filter %.bpf.o,$^)

$(SKELETON): $(WHOLE_OBJECT)
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name connguard >$@

# ---- rules: userspace ------------------------------------------------------------------------------

$(OUT)/obj/%.o: %.c Makefile $(OUT)/.flags | $(BUILD_TOOLS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(INCLUDES) $(MODULE_CFLAGS) $(EXTRA_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# The first compilation does not know its headers yet, and one of them is made here.
$(OUT)/obj/user/edge/kernel_load.o $(patsubst $(OUT)/%,$(OUT)/obj/%.o,$(BPF_TESTS)) $(BPF_TEST_SUPPORT): \
	| $(SKELETON)

$(LIBRARY): $(LIBRARY_OBJECTS) $(OUT)/.library
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcsD $@ $(LIBRARY_OBJECTS)

# $(1): objects, $(2): libraries
link = $(Q)mkdir -p $(@D) && $(CC) $(BASE_LDFLAGS) $(CFLAGS) $(LDFLAGS) $(1) $(2) -o $@

$(OUT)/connguardd: $(DAEMON_OBJECTS) $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(DAEMON_OBJECTS) $(LIBRARY),$(MODULE_LIBS))

$(OUT)/connguard: $(CLI_OBJECTS) $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(CLI_OBJECTS) $(LIBRARY),$(MODULE_LIBS))

# ---- rules: tests ----------------------------------------------------------------------------------

$(UNIT_TESTS): $(OUT)/%: $(OUT)/obj/%.o $(UNIT_SUPPORT) $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$< $(UNIT_SUPPORT) $(LIBRARY),$(CMOCKA_LIBS) $(MODULE_LIBS))

$(BPF_TESTS): $(OUT)/%: $(OUT)/obj/%.o $(BPF_TEST_SUPPORT) $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$< $(BPF_TEST_SUPPORT) $(LIBRARY),$(CMOCKA_LIBS) $(MODULE_LIBS))

TEST_OBJECTS := $(patsubst $(OUT)/%,$(OUT)/obj/%.o,$(UNIT_TESTS) $(BPF_TESTS)) $(UNIT_SUPPORT) \
	$(BPF_TEST_SUPPORT)
$(TEST_OBJECTS): EXTRA_CFLAGS = $(CMOCKA_CFLAGS)
$(TEST_OBJECTS): | $(TEST_TOOLS)

$(OUT)/tests/racer: $(RACER_OBJECTS) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(RACER_OBJECTS),$(MODULE_LIBS) -lm)

$(OUT)/tests/wire: $(WIRE_OBJECTS) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(WIRE_OBJECTS),$(MODULE_LIBS))

$(NETNS_HELPERS) $(BENCH_LOAD) $(VM_HELPERS): $(OUT)/%: $(OUT)/obj/%.o $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$<,$(MODULE_LIBS))

$(CROSSING): $(OUT)/%: $(OUT)/obj/%.o $(CROSSING_SUPPORT) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$< $(CROSSING_SUPPORT),)

# The real requests; what lies below them is in the target.
$(addsuffix fuzz_control,$(OUT)/ $(OUT)/tests/fuzz/): $(OUT)/obj/user/connguardd/requests.o
$(addsuffix fuzz_client,$(OUT)/ $(OUT)/tests/fuzz/): $(OUT)/obj/user/connguard/client.o \
	$(OUT)/obj/user/connguard/render.o

$(FUZZ_TARGETS): $(OUT)/%: $(OUT)/obj/tests/fuzz/%.o $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(filter %.o,$^) $(LIBRARY),$(MODULE_LIBS) -fsanitize=fuzzer)

$(FUZZ_REPLAYS): $(OUT)/%: $(OUT)/obj/%.o $(FUZZ_REPLAY_MAIN) $(LIBRARY) $(OUT)/.programs
	$(call say,LINK,$@)
	$(call link,$(filter %.o,$^) $(LIBRARY),$(MODULE_LIBS))

# ---- installing ------------------------------------------------------------------------------------

# Each line: where | mode | the file, under the name that it keeps there. @SBINDIR@ and the like are
# put into the text files.
INSTALL_FILES := \
	$(foreach file,$(DAEMON),$(SBINDIR)|755|$(file)) \
	$(foreach file,$(CLI),$(BINDIR)|755|$(file)) \
	$(foreach file,$(BPF_OBJECT),$(LIBDIR)|644|$(file)) \
	$(foreach file,$(wildcard scripts/bpftool-load.sh scripts/bpftool-unload.sh),$(LIBDIR)|755|$(file)) \
	$(foreach file,$(wildcard scripts/completion/*.bash),$(COMPLETIONDIR)|644|$(file)) \
	$(foreach file,$(wildcard scripts/connguard.conf.example README.md CHANGELOG.md) LICENSE, \
		$(DOCDIR)|644|$(file)) \
	$(foreach file,$(sort $(wildcard scripts/examples/*.conf)),$(DOCDIR)/examples|644|$(file)) \
	$(foreach file,$(sort $(wildcard LICENSES/*.txt)),$(DOCDIR)/LICENSES|644|$(file))
INSTALL_TEXTS := \
	$(foreach section,5 8,$(foreach file,$(sort $(wildcard user/man/*.$(section))), \
		$(MANDIR)/man$(section)|644|$(file))) \
	$(foreach file,$(wildcard scripts/systemd/*.service),$(UNITDIR)|644|$(file)) \
	$(foreach file,$(wildcard scripts/systemd/sysusers.d/*.conf),$(SYSUSERSDIR)|644|$(file))

# The parts of such a line.
where = $(word 1,$(subst |, ,$(1)))
mode = $(word 2,$(subst |, ,$(1)))
what = $(word 3,$(subst |, ,$(1)))
placed = $(DESTDIR)$(call where,$(1))/$(notdir $(call what,$(1)))

define newline


endef

install: all ## install programs, BPF object, scripts, man pages and systemd unit (PREFIX, DESTDIR)
	$(foreach entry,$(INSTALL_FILES),\
		$(Q)$(INSTALL) -D -m $(call mode,$(entry)) $(call what,$(entry)) $(call placed,$(entry))$(newline)\
		$(call say,INSTALL,$(call placed,$(entry)))$(newline))
	$(foreach entry,$(INSTALL_TEXTS),\
		$(Q)sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@SBINDIR@|$(SBINDIR)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
			-e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@VERSION@|$(VERSION)|g' \
			$(call what,$(entry)) >$(OUT)/.install-text$(newline)\
		$(Q)$(INSTALL) -D -m $(call mode,$(entry)) $(OUT)/.install-text $(call placed,$(entry))$(newline)\
		$(call say,INSTALL,$(call placed,$(entry)))$(newline))
	$(Q)rm -f $(OUT)/.install-text
	$(Q)$(INSTALL) -d $(DESTDIR)$(SYSCONFDIR)/connguard

uninstall: ## remove what install put there; configuration stays
	$(Q)rm -f $(foreach entry,$(INSTALL_FILES) $(INSTALL_TEXTS),$(call placed,$(entry)))
	$(Q)for directory in $(DOCDIR)/LICENSES $(DOCDIR)/examples $(DOCDIR) $(LIBDIR) $(SYSCONFDIR)/connguard; do \
		[ ! -d $(DESTDIR)$$directory ] || \
			rmdir --ignore-fail-on-non-empty $(DESTDIR)$$directory; \
	done

# ---- headers, as the compilers reported them -------------------------------------------------------

-include $(BPF_PARTS:.o=.d) $(SYN_TIMERS:.o=.d)
-include $(patsubst %.o,%.d,$(LIBRARY_OBJECTS) $(DAEMON_OBJECTS) $(CLI_OBJECTS) $(TEST_OBJECTS) \
	$(RACER_OBJECTS) $(WIRE_OBJECTS) $(CROSSING_SUPPORT) $(FUZZ_OBJECTS) \
	$(patsubst $(OUT)/%,$(OUT)/obj/%.o,$(NETNS_HELPERS) $(CROSSING) $(BENCH_LOAD) \
		$(VM_HELPERS)))
