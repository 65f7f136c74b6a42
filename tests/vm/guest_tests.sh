#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What runs in a guest: does the guard load on this kernel, what does it find there, and the tests.
# The output is for a person and for scripts/vm-matrix.sh, which reads the lines "features: ..." and
# the last one, "N passed, N failed, N skipped". Exits 1 when anything failed.
#
# environment: BUILD       where the host built everything (build)
#              VM_SUITES   suites of tests/run.sh to run after those in shell, separated by commas
#              VM_TESTS    of the netns suite: core or all (core)
set -u
cd "$(dirname "$0")/../.." || exit 1

export BUILD=${BUILD:-build}
# The normal build: sanitizers are for machines that can afford them.
export CONNGUARD_BUILD=$BUILD
# Software emulation makes everything slow, and Python more than anything.
export CONNGUARD_TIME_SCALE=${CONNGUARD_TIME_SCALE:-15}

passed=0
failed=0
skipped=0

# add PASSED FAILED SKIPPED
add() {
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + $3))
}

# tap COMMAND...: show what a TAP program says, add its results.
tap() {
	local output status counts
	output=$("$@" 2>&1)
	status=$?
	printf '%s\n' "$output"
	counts=$(awk '
		/^(not )?ok .*# SKIP/ { skipped++; next }
		/^ok / { passed++ }
		/^not ok / { failed++ }
		/^1[.][.][0-9]+/ { planned = substr($1, 4) }
		END {
			if (passed + failed + skipped < planned || !planned)
				failed++
			print passed + 0, failed + 0, skipped + 0
		}' <<<"$output")
	# shellcheck disable=SC2086 # three numbers
	add $counts
	return $status
}

# A name for what the guard goes without here, as `connguard status` tells it.
features() {
	local name=cgt-features lacks
	local cgroup=/sys/fs/cgroup/$name

	mkdir "$cgroup"
	printf '[guard]\ncgroup = /%s\nport = 24000\n' "$name" >"/tmp/$name.conf"
	"$BUILD/connguard" --name "$name" -c "/tmp/$name.conf" load >"/tmp/$name.log" 2>&1 || {
		echo 'features: the guard does not load'
		sed 's/^/# /' "/tmp/$name.log"
		return 1
	}
	lacks=$("$BUILD/connguard" --name "$name" status 2>&1 |
		sed -n 's/.*this kernel lacks \([^ :]*\):.*/\1/p' | paste -sd ' ')
	"$BUILD/connguard" --name "$name" unload >/dev/null 2>&1
	rmdir "$cgroup"
	if [ -n "$lacks" ]; then
		echo "features: without $lacks"
	else
		echo 'features: full'
	fi
}

exec 3>&1
echo "kernel: $(uname -r)"
if ! features; then
	# Why, in the verifier's words.
	"$BUILD/tests/vm/load_programs" "$BUILD/bpf/whole.bpf.o"
	echo '0 passed, 1 failed, 0 skipped'
	exit 1
fi
tap tests/vm/smoke.sh
tap tests/vm/whole_host.sh
IFS=, read -ra suites <<<"${VM_SUITES:-}"
if [ ${#suites[@]} -gt 0 ]; then
	# As it comes, so that a run that is cut off shows how far it was.
	results=$(NETNS_JOBS=1 NETNS_TESTS=${VM_TESTS:-core} tests/run.sh "${suites[@]}" | tee /dev/fd/3 | tail -n 1)
	# shellcheck disable=SC2046
	add $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' <<<"$results" |
		grep . || echo 0 1 0)
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
