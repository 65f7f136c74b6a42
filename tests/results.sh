# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The sum of what test commands say; to be sourced.

passed=0
failed=0
skipped=0

# add_up LOG STATUS: add the last line "N passed, N failed, N skipped" of a command that ended with STATUS. One that ended in
# the middle has failed, whatever it counted. The line that was added is in $added.
add_up() {
	local results
	read -ra results < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$1" | tail -n 1)
	if [ ${#results[@]} -ne 3 ] || { [ "$2" -ne 0 ] && [ "${results[1]}" -eq 0 ]; }; then
		results=("${results[0]:-0}" $((${results[1]:-0} + 1)) "${results[2]:-0}")
		echo "it did not complete: exit status $2"
	fi
	passed=$((passed + results[0]))
	failed=$((failed + results[1]))
	skipped=$((skipped + results[2]))
	# shellcheck disable=SC2034 # of whoever sources this
	added="${results[0]} passed, ${results[1]} failed, ${results[2]} skipped"
}

# add_up_end: print the sum; 1 when anything failed.
add_up_end() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
}
