#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs the guard and its tests under the stock kernels that the distribution serves: finds the newest
# kernel of each series, boots it under software emulation with this machine's root directory, and
# runs there what was built here. Prints a line for each kernel, what failed, what the guard goes
# without there, every skip with its reason, and as its last line "N passed, N failed, N skipped"
# (kernels, not tests). Exits 1 when a kernel failed or none ran.
#
# A kernel fails when a test failed in it, when it panicked, ran into the time limit or ended without
# a status, and when its own log has a warning. A series that no suite serves (any more) is skipped.
#
# usage: vm-matrix.sh [SERIES]...     "6.1", or "newest"; default: 5.10 6.1 6.12 6.18 newest, but for the
#                                     numbered one that runs here, where `make test` tries all of it
#
# environment: BUILD         where things were built; kernels and logs go to BUILD/vm (build)
#              VM_SUITES     suites of tests/run.sh to run beside the tests in shell ("bpf,netns"), ""
#                            for none
#              VM_TESTS      of the netns suite: core, what every kernel has to pass, or all (core)
#              VM_JOBS       guests at a time (3: they wait a third of their time)
#              VM_SECONDS    the time limit of a guest (2700)
set -u
cd "$(dirname "$0")/.." || exit 1

BUILD=${BUILD:-build}
VM_SUITES=${VM_SUITES-bpf,netns}
VM_TESTS=${VM_TESTS:-core}
VM_JOBS=${VM_JOBS:-3}
VM_SECONDS=${VM_SECONDS:-2700}
STATUS_NOT_SERVED=3
# Lines shown of what failed in a guest; the log has them all.
SHOWN_LINES=80

if [ $# -eq 0 ]; then
	here=$(uname -r | cut -d . -f 1,2)
	for series in 5.10 6.1 6.12 6.18 newest; do
		[ "$series" = "$here" ] || set -- "$@" "$series"
	done
fi
if [ "$(id -u)" -ne 0 ]; then
	echo 'vm-matrix.sh: sharing the root directory with guests needs root' >&2
	exit 1
fi
case $VM_TESTS in
core | all) ;;
*)
	echo "vm-matrix.sh: VM_TESTS is '$VM_TESTS', expected core or all" >&2
	exit 2
	;;
esac
if [[ $PWD$BUILD$VM_SUITES =~ [[:space:]\"] ]]; then
	echo "vm-matrix.sh: a kernel's command line carries these and takes no spaces: $PWD, BUILD, VM_SUITES" >&2
	exit 1
fi
mkdir -p "$BUILD/vm/runs" || exit 1
state=$(cd "$BUILD/vm" && pwd)

passed=0
failed=0
skipped=0
guests=()

stop() {
	trap - INT TERM
	local guest
	for guest in "${guests[@]}"; do
		kill -TERM "$guest" 2>/dev/null
	done
	wait
	echo 'vm-matrix.sh: interrupted' >&2
	exit 130
}
trap stop INT TERM

# boot SERIES KERNEL_DIRECTORY: run the tests; the verdict goes to the run directory.
boot() {
	local run=$state/runs/$1
	exec scripts/vm/boot.sh "$2" "$run" "$VM_SECONDS" "$PWD/tests/vm/second_stage.sh" \
		"VM_TREE=$PWD" VM_COMMAND=tests/vm/guest_tests.sh "BUILD=$BUILD" \
		"VM_SUITES=$VM_SUITES" "VM_TESTS=$VM_TESTS" >"$run/verdict" 2>"$run/boot.log"
}

# What the kernel itself complained about.
complaints() {
	grep -E 'WARNING:|BUG:|Oops|general protection|Call Trace|rcu:.*stall' "$1/console.log"
}

# What a person must see of a failed run.
details() {
	case $2 in
	# Its first lines and its last are in ours already.
	exit*) grep -vE '^( *ok |kernel: |features: |1[.][.][0-9]|[0-9]+ passed, )' "$1/output.log" ;;
	panic | 'no status') tail -n 40 "$1/console.log" ;;
	time-out) tail -n 20 "$1/output.log" ;;
	*) cat "$1/boot.log" ;;
	esac | head -n "$SHOWN_LINES" | sed 's/^/      /'
}

# conclude SERIES RELEASE SECONDS: read how a guest ended that ran for so long.
conclude() {
	local run=$state/runs/$1 verdict features counts noise
	verdict=$(cat "$run/verdict" 2>/dev/null)
	features=$(sed -n 's/^features: //p' "$run/output.log" 2>/dev/null)
	counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$run/output.log" 2>/dev/null | tail -n 1)
	noise=$(complaints "$run")
	if [ "$verdict" = 'exit 0' ] && [ -n "$counts" ] && [ -z "$noise" ]; then
		passed=$((passed + 1))
		printf 'ok   %s (%s): %s; %s, in %d s\n' "$1" "$2" "$features" "$counts" "$3"
		grep -E '^ *SKIP |^ok .*# SKIP' "$run/output.log" | sed 's/^ */      /'
		return
	fi
	failed=$((failed + 1))
	printf 'FAIL %s (%s): %s; %s; %s, in %d s\n' "$1" "$2" \
		"${verdict:-the emulator did not start}" "${features:-features unknown}" \
		"${counts:-no result}" "$3"
	[ -z "$noise" ] || printf '%s\n' "$noise" | sed 's/^/      kernel: /'
	details "$run" "$verdict"
	printf '      logs: %s\n' "$run"
}

skip() {
	skipped=$((skipped + 1))
	printf 'SKIP %s: %s\n' "$1" "$2"
}

refused=$(scripts/vm/kernels.sh refresh "$state")
status=$?
if [ $status -eq $STATUS_NOT_SERVED ]; then
	for series in "$@"; do
		skip "$series" "$refused"
	done
	set --
elif [ $status -ne 0 ]; then
	echo 'vm-matrix.sh: reading the package lists failed' >&2
	exit 1
fi

# Ends when fewer than $1 guests are left, and concludes those that ended.
declare -A series_of release_of started_at seen
wait_for_room() {
	local guest running
	while [ ${#guests[@]} -ge "$1" ] && [ ${#guests[@]} -gt 0 ]; do
		wait -n "${guests[@]}"
		running=()
		for guest in "${guests[@]}"; do
			if kill -0 "$guest" 2>/dev/null; then
				running+=("$guest")
			else
				conclude "${series_of[$guest]}" "${release_of[$guest]}" \
					$((SECONDS - started_at[$guest]))
			fi
		done
		guests=("${running[@]}")
	done
}

for series in "$@"; do
	kernel=$(scripts/vm/kernels.sh fetch "$state" "$series")
	status=$?
	if [ $status -eq $STATUS_NOT_SERVED ]; then
		skip "$series" "$kernel"
		continue
	fi
	if [ $status -ne 0 ] || ! scripts/vm/initramfs.sh "$kernel"; then
		failed=$((failed + 1))
		printf 'FAIL %s: fetching or unpacking its kernel failed\n' "$series"
		continue
	fi
	release=$(cat "$kernel/release")
	if [ -n "${seen[$release]:-}" ]; then
		skip "$series" "the same kernel as ${seen[$release]}: $release"
		continue
	fi
	seen[$release]=$series
	wait_for_room "$VM_JOBS"
	rm -rf "${state:?}/runs/$series"
	mkdir -p "$state/runs/$series"
	boot "$series" "$kernel" &
	guests+=($!)
	series_of[$!]=$series
	release_of[$!]=$release
	started_at[$!]=$SECONDS
done
wait_for_room 1

verdict=0
if [ "$failed" -gt 0 ]; then
	verdict=1
elif [ "$passed" -eq 0 ]; then
	echo 'vm-matrix.sh: no kernel ran'
	verdict=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit $verdict
