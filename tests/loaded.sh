#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# `make test` again and again, beside loops that keep the processors busy: a test that fails by that is a defect. Prints
# the last line of each run, what failed in it, and as its own last line the sum, "N passed, N failed, N skipped". Exits 1 when
# anything failed.
#
# environment: LOADED_RUNS    how often (10)
#              LOADED_LOOPS   how many loops (4)
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/results.sh
. tests/results.sh

log=$(mktemp "${TMPDIR:-/tmp}/cgt-loaded.XXXXXX") || exit 1
loops=()
end() {
	trap - EXIT INT TERM
	kill "${loops[@]}" 2>/dev/null
	rm -f "$log"
}
trap end EXIT
trap 'end; exit 130' INT TERM

for ((i = 0; i < ${LOADED_LOOPS:-4}; i++)); do
	while :; do :; done &
	loops+=($!)
done

for ((run = 1; run <= ${LOADED_RUNS:-10}; run++)); do
	began=$SECONDS
	make test </dev/null >"$log" 2>&1
	add_up "$log" $?
	grep -A 20 '^ *FAIL' "$log"
	echo "run $run: $added, in $((SECONDS - began)) s"
done
add_up_end
