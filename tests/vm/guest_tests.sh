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

# shellcheck source=tests/results.sh
. tests/results.sh

# tap COMMAND...: show what a TAP program says, add its results.
tap() {
	local output status results
	output=$("$@" 2>&1)
	status=$?
	printf '%s\n' "$output"
	results=$(awk '
		/^(not )?ok .*# SKIP/ { skipped++; next }
		/^ok / { passed++ }
		/^not ok / { failed++ }
		/^1[.][.][0-9]+/ { planned = substr($1, 4) }
		END {
			if (passed + failed + skipped < planned || !planned)
				failed++
			printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
		}' <<<"$output")
	add_up <(echo "$results") "$status"
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
	log=$(mktemp /tmp/cgt-suites.XXXXXX)
	# As it comes, so that a run that is cut off shows how far it was.
	NETNS_JOBS=1 NETNS_TESTS=${VM_TESTS:-core} tests/run.sh "${suites[@]}" | tee "$log"
	add_up "$log" "${PIPESTATUS[0]}"
fi
add_up_end
