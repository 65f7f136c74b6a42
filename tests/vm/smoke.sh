#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The guard's first minute on a kernel, as TAP: the daemon loads it, links and refusals come out
# right on real connections between two namespaces, enforcement outlives the daemon, and it goes
# away without a trace. For guests: shell and small C programs, no Python.
#
# environment: BUILD (build)
set -u
cd "$(dirname "$0")/../.." || exit 1

BUILD=${BUILD:-build}
NAME=cgt-smoke-$$
PORT=24000
HERE=10.77.0.1
THERE=10.77.0.2
PLAN=14

scratch=$(mktemp -d /tmp/cgt-smoke.XXXXXX)
export STATE_DIRECTORY=$scratch/state
daemon=
cgroup=$(sed -n 's/^\([^ ]* \)\{4\}\([^ ]*\) .* - cgroup2 .*/\2/p' /proc/self/mountinfo | head -n 1)

# shellcheck source=tests/vm/steps.sh
. tests/vm/steps.sh

connguard() {
	"$BUILD/connguard" --name "$NAME" "$@"
}

clean_up() {
	[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null
	talkers_end
	connguard unload >/dev/null 2>&1
	ip netns del "$NAME-here" 2>/dev/null
	ip netns del "$NAME-there" 2>/dev/null
	rmdir "$cgroup/$NAME" 2>/dev/null
	rm -rf "$scratch"
}
trap clean_up EXIT

# In a namespace; the guarded side in the guarded cgroup too. Both become the command itself.
here() {
	echo "$BASHPID" >"$cgroup/$NAME/cgroup.procs"
	exec nsenter --net="/run/netns/$NAME-here" "$@"
}

there() {
	exec nsenter --net="/run/netns/$NAME-there" "$@"
}

start_daemon() {
	nsenter --net="/run/netns/$NAME-here" "$BUILD/connguardd" -c "$scratch/conf" "$NAME" \
		>>"$scratch/daemon.log" 2>&1 &
	daemon=$!
}

healthy() {
	connguard status >"$scratch/status" 2>&1
}

answering() {
	healthy && ! grep -q 'not running' "$scratch/status"
}

echo "1..$PLAN"
mkdir "$cgroup/$NAME"
ip netns add "$NAME-here"
ip netns add "$NAME-there"
ip link add here netns "$NAME-here" type veth peer name there netns "$NAME-there"
ip -n "$NAME-here" link set lo up
ip -n "$NAME-here" addr add $HERE/24 dev here
ip -n "$NAME-here" link set here up
ip -n "$NAME-there" addr add $THERE/24 dev there
ip -n "$NAME-there" link set there up
cat >"$scratch/conf" <<-EOF
	[guard]
	cgroup = /$NAME
	port = $PORT
	suspect_after = 1m
	[backoff]
	initial = 5m
	max = 5m
EOF

start_daemon
eventually answering
result 'the daemon loads the guard and says it is whole' $? "$(cat "$scratch/daemon.log" "$scratch/status")"
[ $failures -eq 0 ] || exit 1

# CAP_DAC_READ_SEARCH and CAP_NET_ADMIN; CAP_SYS_PTRACE before 5.15; CAP_BPF before 5.19, and where bpf(2)
# is for everybody and so does not tell.
expected=$((1 << 2 | 1 << 12))
case $(uname -r) in 5.1[0-4].*) expected=$((expected | 1 << 19)) ;; esac
case $(uname -r) in 5.1[0-8].*) expected=$((expected | 1 << 39)) ;; esac
[ "$(cat /proc/sys/kernel/unprivileged_bpf_disabled)" != 0 ] || expected=$((expected | 1 << 39))
keeps=$((16#$(sed -n 's/^CapPrm:[[:space:]]*//p' "/proc/$daemon/status")))
[ $keeps -eq $expected ]
result 'the daemon has given up what it does not need' $? "it keeps $(printf '%x, expected %x' $keeps $expected)"
refusal='Connection refused'
! grep -q 'lacks refusal_errno' "$scratch/status" || refusal='Operation not permitted'

talk here-listens here listen $HERE $PORT
talk there-listens there listen $THERE $PORT
listener=${talkers[-1]}
talk dial here dial $THERE $PORT
first=${talkers[-1]}
expect 'a first dial passes' connected
talk duplicate here dial $THERE $PORT
expect 'a second dial is refused' "$refusal"
talk knock there dial $HERE $PORT
expect 'a knock while linked is refused with RST' 'Connection refused'

end "$daemon"
talk orphaned here dial $THERE $PORT
expect 'a second dial is refused without the daemon too' "$refusal"
start_daemon
eventually answering
result 'a new daemon takes over' $? "$(cat "$scratch/daemon.log" "$scratch/status")"
talk taken-over here dial $THERE $PORT
expect 'a second dial is refused after the take-over' "$refusal"

# What our side has closed is no failure; that nobody listens is one, and backoff.
end "$first"
end "$listener"
talk failing here dial $THERE $PORT
expect 'a dial to nobody fails' 'Connection refused'
talk there-listens-again there listen $THERE $PORT
talk backing-off here dial $THERE $PORT
expect 'a dial in backoff is refused' "$refusal"
connguard kick $THERE >/dev/null
talk kicked here dial $THERE $PORT
expect 'a kicked peer can be dialed' connected

connguard peers >"$scratch/peers" 2>&1
grep -q $THERE "$scratch/peers"
result 'the peer is listed' $? "$(cat "$scratch/peers")"

# Asked to end, it takes the guard along.
expect_removal
[ $failures -eq 0 ]
