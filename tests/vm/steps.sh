# SPDX-License-Identifier: BSD-2-Clause
#
# What the shell tests of a guest share: results as TAP, waiting, and talkers (talker.c), processes
# that make and keep one connection. Sourced; the script that does it sets BUILD, and `scratch` to a
# directory of its own, and ends with: talkers_end.
#
# shellcheck shell=bash

# How long a condition may take to come true.
PATIENCE=60

tests=0
failures=0
talkers=()
answer=

# result NAME STATUS [WHAT WAS SEEN]
result() {
	tests=$((tests + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $tests - $1"
	else
		failures=$((failures + 1))
		echo "not ok $tests - $1"
		[ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
	fi
}

# eventually COMMAND...: 0 as soon as it succeeds.
eventually() {
	local until=$((SECONDS + PATIENCE))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || return 1
		sleep 0.1
	done
}

said() {
	[ -s "$1" ]
}

# talk OUTPUT SIDE ARGUMENT...: start a talker, wait for its first line, which is the answer. SIDE is
# a function that becomes its arguments in the right place.
talk() {
	# shellcheck disable=SC2154 # set by the script that sources this
	local output=$scratch/$1 side=$2
	shift 2
	: >"$output"
	("$side" "$BUILD/tests/vm/talker" "$@") >"$output" 2>&1 &
	talkers+=($!)
	eventually said "$output"
	answer=$(cat "$output")
}

# expect NAME ANSWER: what the last talker said.
expect() {
	[ "$answer" = "$2" ]
	result "$1" $? "said '$answer', expected '$2'"
}

# Two results: the daemon ends when it is asked to, and takes the guard along. The script has `daemon`,
# `here` and the guard's NAME, and a listener at THERE and PORT.
expect_removal() {
	# shellcheck disable=SC2154 # set by the script that sources this
	kill -TERM "$daemon"
	wait "$daemon" 2>/dev/null
	[ ! -e "/sys/fs/bpf/connguard/$NAME" ]
	result 'the daemon removes the guard when it ends' $? "$(cat "$scratch/daemon.log")"
	talk unguarded here dial "$THERE" "$PORT"
	expect 'a second dial passes without the guard' connected
}

# End a process of ours, without the shell's comment.
end() {
	kill -KILL "$1"
	wait "$1" 2>/dev/null
} 2>/dev/null

talkers_end() {
	local talker
	for talker in "${talkers[@]}"; do
		kill -KILL "$talker" 2>/dev/null
	done
	wait 2>/dev/null
}
