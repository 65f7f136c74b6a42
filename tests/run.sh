#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs the tests that were built, prints a line for each program (for each test where they take
# long), what the failing ones said, every skip with its reason, and as its last line
# "N passed, N failed, N skipped". Exits 1 when anything failed or when no test ran.
#
# usage: run.sh [SUITE]...    lint, unit, san (unit tests with sanitizers), corpus (what the fuzzer starts with,
#                             likewise), bpf, netns, crossing, soak; default: all
#        run.sh services      not among all: applications, which `make test-services` installs
#
# Every suite speaks TAP: cmocka when told to, tests/netns/run.py by itself. So there is one reader.
#
# environment: BUILD              where things were built (build)
#              CONNGUARD_BUILD    the daemon and the CLI that netns, crossing and soak run, see below
#              NETNS_TESTS        all, or core: what of the netns suite is run on every kernel (all)
#              NETNS_JOBS         namespace tests at a time (8): they wait most of their time
#              CROSSING_ROUNDS    rounds of each configuration (500)
#              CROSSING_SEED      repeats them (1: a failure is the fault of the change at hand)
#              SOAK_SECONDS       how long the soak runs (20)
#              SOAK_SEED          repeats its choices (1, likewise)
#              SERVICES_RUNS      how often the applications are run (1); several are a measurement
set -u
cd "$(dirname "$0")/.." || exit 1

BUILD=${BUILD:-build}
# The tests on real sockets run once, against the build that notices the most.
export CONNGUARD_BUILD=${CONNGUARD_BUILD:-$BUILD/san}

# Seconds. Far above what each takes; they end what hangs.
PROGRAM_LIMIT=900
NETNS_LIMIT=3600
SERVICES_LIMIT=1200 # of one run

LOGS=$BUILD/test-logs
# Lines printed for one failing test; the log has them all.
SHOWN_LINES=60

export CMOCKA_MESSAGE_OUTPUT=TAP
export PYTHONUNBUFFERED=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

passed=0
failed=0
skipped=0
# Tests other than lint: without any, a green result would say nothing.
ran=0
running=

stop() {
	trap - INT TERM
	if [ -n "$running" ]; then
		kill -TERM "$running" 2>/dev/null
		wait "$running"
	fi
	echo 'run.sh: interrupted' >&2
	exit 130
}
trap stop INT TERM

# tap_summary STATUS LIMIT <LOG
# Reads TAP and prints one line "PASSED FAILED SKIPPED", then what a person must see: skips with their
# reason, failing tests with what they printed.
#
# cmocka reports a skip as "not ok 3 # SKIP name" and a failing group fixture as "not ok 0 - name"; the
# reason of its skips is the line that the test printed before.
tap_summary() {
	awk -v status="$1" -v limit="$2" -v shown="$SHOWN_LINES" '
		function result_name(text) {
			sub(/^(not )?ok *[0-9]* *(- *)?/, "", text)
			return text
		}
		function see(text) { seen[++seen_count] = text }
		function flush_block(    line) {
			for (line = 1; line <= block_count; line++)
				if (line <= shown)
					see("      " block[line])
			if (block_count > shown)
				see("      ... " block_count - shown " more lines in the log")
			block_count = 0
		}
		function end_of_result() {
			if (failing)
				flush_block()
			failing = 0
		}
		/^1\.\.[0-9]+/ {
			count = $0
			sub(/^1\.\./, "", count)
			sub(/[^0-9].*/, "", count)
			planned += count
			has_plan = 1
			if (count == 0 && $0 ~ /# *[Ss][Kk][Ii][Pp]/) {
				reason = $0
				sub(/.*# *[Ss][Kk][Ii][Pp][^ ]* */, "", reason)
				skipped++
				see("  SKIP all: " (reason == "" ? "no reason given" : reason))
			}
			next
		}
		/^(not )?ok( |$)/ {
			last_line = block_count ? block[block_count] : ""
			end_of_result()
			results++
			if (match($0, /# *[Ss][Kk][Ii][Pp]/)) {
				reason = substr($0, RSTART + RLENGTH)
				name = result_name(substr($0, 1, RSTART - 1))
				sub(/^ +/, "", reason)
				sub(/ +$/, "", name)
				if (name == "") {
					name = reason
					reason = last_line ~ /^#/ ? "" : last_line
				}
				skipped++
				see("  SKIP " name ": " (reason == "" ? "no reason given" : reason))
				block_count = 0
			} else if (/^not ok/) {
				failed++
				failing = 1
				see("  FAIL " result_name($0))
				flush_block()
			} else {
				passed++
				block_count = 0
			}
			next
		}
		{ block[++block_count] = $0 }
		END {
			incomplete = ""
			if (!has_plan)
				incomplete = "it printed no plan"
			else if (results < planned)
				incomplete = "it planned " planned " tests and reported " results + 0
			if (status == 124 || status == 137)
				incomplete = "it was ended after " limit " seconds"
			if (incomplete != "" || (status != 0 && !failed)) {
				failed++
				end_of_result()
				if (incomplete == "")
					incomplete = "all it reported passed"
				see("  FAIL did not complete: " incomplete "; exit status " status)
				failing = 1
			}
			end_of_result()
			print passed + 0, failed + 0, skipped + 0
			for (line = 1; line <= seen_count; line++)
				print seen[line]
		}'
}

# run_program NAME LIMIT LIVE COMMAND...
# Runs one TAP program and adds its results. LIVE=live shows each result when it comes.
run_program() {
	local name=$1 limit=$2 live=$3
	shift 3
	local log=$LOGS/${name//\//-}.log status summary program_passed program_failed program_skipped
	local details mark viewer

	# The output goes to a file and not through a pipe, so that a process left behind by a test cannot
	# keep us waiting. A shell without job control has its background programs ignore SIGINT and
	# SIGQUIT, which tests may want to send.
	: >"$log"
	timeout --kill-after=30 "$limit" env --default-signal=INT,QUIT "$@" >"$log" 2>&1 </dev/null &
	running=$!
	if [ "$live" = live ]; then
		echo "$name:"
		tail -n +1 -s 0.2 -f --pid="$running" "$log" |
			awk '/^(not )?ok( |$)/ { print "  " $0; fflush() }' &
		viewer=$!
	fi
	# The shell would tell of a program that a signal ended; the summary does.
	wait "$running" 2>/dev/null
	status=$?
	running=
	[ "$live" != live ] || wait "$viewer"

	summary=$(tap_summary "$status" "$limit" <"$log")
	read -r program_passed program_failed program_skipped <<<"$summary"
	details=$(tail -n +2 <<<"$summary")
	passed=$((passed + program_passed))
	failed=$((failed + program_failed))
	skipped=$((skipped + program_skipped))
	ran=$((ran + program_passed + program_failed))

	mark='ok  '
	[ "$program_failed" -eq 0 ] || mark='FAIL'
	printf '%s %s (%d passed, %d failed, %d skipped)\n' "$mark" "$name" \
		"$program_passed" "$program_failed" "$program_skipped"
	[ -z "$details" ] || printf '%s\n' "$details"
	[ "$program_failed" -eq 0 ] || printf '  log: %s\n' "$log"
}

fail() {
	failed=$((failed + 1))
	ran=$((ran + 1))
	printf 'FAIL %s: %s\n' "$1" "$2"
}

skip() {
	skipped=$((skipped + 1))
	printf 'SKIP %s: %s\n' "$1" "$2"
}

# is_root SUITE WHAT NEEDS IT: else the suite is skipped.
is_root() {
	[ "$(id -u)" -eq 0 ] || {
		skip "$1" "$2 needs root"
		return 1
	}
}

# run_cmocka NAME SOURCE_DIRECTORY BUILD_DIRECTORY
# One program for each test_*.c, so that a test that was not built cannot go unnoticed.
run_cmocka() {
	local suite=$1 sources=$2 programs=$3 source name
	for source in "$sources"/test_*.c; do
		[ -e "$source" ] || continue
		name=${source##*/}
		name=${name%.c}
		if [ -x "$programs/$name" ]; then
			run_program "$suite/$name" "$PROGRAM_LIMIT" quiet "$programs/$name"
		else
			fail "$suite/$name" "$programs/$name was not built"
		fi
	done
}

suite_lint() {
	local log=$LOGS/lint.log
	if scripts/lint.sh >"$log" 2>&1; then
		passed=$((passed + 1))
		echo 'ok   lint'
	else
		failed=$((failed + 1))
		echo 'FAIL lint'
		head -n "$SHOWN_LINES" "$log" | sed 's/^/      /'
		printf '  log: %s\n' "$log"
	fi
}

suite_unit() {
	run_cmocka unit tests/unit "$BUILD/tests/unit"
}

suite_san() {
	run_cmocka san tests/unit "$BUILD/san/tests/unit"
}

suite_corpus() {
	local source name
	for source in tests/fuzz/fuzz_*.c; do
		name=${source##*/}
		name=${name%.c}
		if [ -x "$BUILD/san/tests/fuzz/$name" ]; then
			run_program "corpus/$name" "$PROGRAM_LIMIT" quiet "$BUILD/san/tests/fuzz/$name" "tests/fuzz/corpus/$name"
		else
			fail "corpus/$name" "$BUILD/san/tests/fuzz/$name was not built"
		fi
	done
}

suite_bpf() {
	local sources=(tests/bpf/test_*.c)
	[ -e "${sources[0]}" ] || return 0
	is_root bpf 'loading BPF programs' || return 0
	run_cmocka bpf tests/bpf "$BUILD/tests/bpf"
}

suite_netns() {
	is_root netns 'making network namespaces' || return 0
	local options=(--jobs "${NETNS_JOBS:-8}")
	[ "${NETNS_TESTS:-all}" = all ] || options+=("--$NETNS_TESTS")
	run_program netns "$NETNS_LIMIT" live python3 tests/netns/run.py "${options[@]}"
}

suite_crossing() {
	is_root crossing 'making network namespaces' || return 0
	rm -f "$BUILD/crossing.txt"
	CROSSING_SEED=${CROSSING_SEED:-1} run_program crossing "$NETNS_LIMIT" live \
		python3 tests/crossing/crossing.py
	[ ! -e "$BUILD/crossing.txt" ] || sed 's/^/  /' "$BUILD/crossing.txt"
}

suite_soak() {
	is_root soak 'making network namespaces' || return 0
	SOAK_SEED=${SOAK_SEED:-1} run_program soak "$NETNS_LIMIT" live python3 tests/soak/soak.py
}

# Times are compared there: with the build that operators run.
suite_services() {
	local table=$BUILD/services.txt
	is_root services 'making network namespaces' || return 0
	rm -f "$table"
	run_program services "$((SERVICES_LIMIT * ${SERVICES_RUNS:-1}))" live \
		env CONNGUARD_BUILD="$BUILD" python3 tests/services/run.py --runs "${SERVICES_RUNS:-1}"
	if [ -e "$table" ]; then
		echo
		cat "$table"
		echo
	fi
}

[ $# -gt 0 ] || set -- lint unit san corpus bpf netns crossing soak
for suite in "$@"; do
	case $suite in
	lint | unit | san | corpus | bpf | netns | crossing | soak | services) ;;
	*)
		echo "run.sh: unknown suite '$suite' (expected lint, unit, san, corpus, bpf, netns, crossing, soak" \
			'or services)' >&2
		exit 2
		;;
	esac
done

rm -rf "$LOGS"
mkdir -p "$LOGS" || exit 1
for suite in "$@"; do
	"suite_$suite"
done

verdict=0
if [ "$failed" -gt 0 ]; then
	verdict=1
elif [ "$ran" -eq 0 ] && [ "$*" != lint ]; then
	echo 'run.sh: no test ran'
	verdict=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit $verdict
