#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs the fuzz targets that were built, as many at a time as there are processors, each for a while
# with its corpus, and prints a line for each and as its last line "N passed, N failed, N skipped".
# Exits 1 when anything failed. `make fuzz` builds them first.
#
# usage: run.sh [TARGET]...    such as fuzz_config; default: all
#
# A target starts with the inputs of tests/fuzz/corpus/TARGET, as read-only copies, and with what
# earlier runs found in BUILD/fuzz/found/TARGET, where new finds go. An input that fails is kept in
# BUILD/fuzz/failed. Worth keeping for good: copy it to tests/fuzz/corpus/TARGET.
#
# environment: BUILD           where things were built (build)
#              FUZZ_SECONDS    how long each target runs (60)
set -u
cd "$(dirname "$0")/../.." || exit 1

FUZZ=${BUILD:-build}/fuzz
SECONDS_EACH=${FUZZ_SECONDS:-60}
# Bytes. What is longer says nothing new, and takes long.
LONGEST_INPUT=8192
# Seconds that one input may take, and that a target may go on after its time: they end what hangs.
INPUT_LIMIT=10
OVERTIME=120
# Lines printed of a failing target; the log has them all.
SHOWN_LINES=60

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

case $SECONDS_EACH in
'' | *[!0-9]* | 0)
	echo "run.sh: FUZZ_SECONDS is '$SECONDS_EACH', expected seconds" >&2
	exit 2
	;;
esac

targets=("$@")
if [ $# -eq 0 ]; then
	for source in tests/fuzz/fuzz_*.c; do
		name=${source##*/}
		targets+=("${name%.c}")
	done
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/cgt-fuzz.XXXXXX") || exit 1
running=()
finish() {
	local job
	for job in "${running[@]}"; do
		kill -TERM "$job" 2>/dev/null
	done
	wait
	rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

logs=$FUZZ/logs
mkdir -p "$logs" "$FUZZ/failed" || exit 1

# run_target NAME: the exit status goes to a file, for the shell that waits is another one.
run_target() {
	local name=$1 seeds=$FUZZ/corpus/$1 found=$FUZZ/found/$1
	rm -rf "$seeds"
	mkdir -p "$seeds" "$found"
	cp -r "tests/fuzz/corpus/$name/." "$seeds"
	chmod -R a-w "$seeds"

	local options=(-max_total_time="$SECONDS_EACH" -timeout="$INPUT_LIMIT"
		-max_len="$LONGEST_INPUT" -artifact_prefix="$FUZZ/failed/$name-"
		-print_final_stats=1 -verbosity=1)
	[ ! -e "tests/fuzz/$name.dict" ] || options+=(-dict="tests/fuzz/$name.dict")
	TMPDIR=$scratch exec timeout --kill-after=10 $((SECONDS_EACH + OVERTIME)) \
		"$FUZZ/$name" "${options[@]}" "$found" "$seeds" >"$logs/$name.log" 2>&1 </dev/null
}

# A line for a target that has ended: STATUS NAME.
report() {
	local status=$1 name=$2 log=$logs/$2.log executions
	executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ "$status" -eq 0 ]; then
		passed=$((passed + 1))
		printf 'ok   %s (%s inputs in %s s)\n' "$name" "${executions:-?}" "$SECONDS_EACH"
		return
	fi
	failed=$((failed + 1))
	printf 'FAIL %s (exit status %s)\n' "$name" "$status"
	grep -vE '^(#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)|INFO:)' "$log" | tail -n "$SHOWN_LINES" |
		sed 's/^/      /'
	sed -n "s|.*Test unit written to \(.*\)|  repeat: $FUZZ/$name \1|p" "$log"
	printf '  log: %s\n' "$log"
}

passed=0
failed=0
declare -A name_of
wait_for_one() {
	local job=${running[0]}
	wait "$job"
	report $? "${name_of[$job]}"
	running=("${running[@]:1}")
}

processors=$(nproc)
for name in "${targets[@]}"; do
	if [ ! -x "$FUZZ/$name" ]; then
		failed=$((failed + 1))
		printf 'FAIL %s: %s was not built\n' "$name" "$FUZZ/$name"
		continue
	fi
	[ ${#running[@]} -lt "$processors" ] || wait_for_one
	run_target "$name" &
	running+=($!)
	name_of[$!]=$name
done
while [ ${#running[@]} -gt 0 ]; do
	wait_for_one
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
