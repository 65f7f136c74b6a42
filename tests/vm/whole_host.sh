#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# `connguardd --port 24000`, with no file and no name: a guard for the whole host, at the root cgroup,
# as TAP. Only in a guest: it refuses connections of whatever runs on the machine.
#
# environment: BUILD (build)
set -u
cd "$(dirname "$0")/../.." || exit 1

BUILD=${BUILD:-build}
PORT=24000
OTHER_PORT=24001
# The guard's name when nobody gives one.
NAME=default
HERE=10.78.0.1
THERE=10.78.0.2
PLAN=16

# Set by scripts/vm/boot.sh on the command line of a guest's kernel.
if ! grep -q 'VM_SECOND_STAGE=' /proc/cmdline; then
	echo '1..0 # SKIP this is no guest, and guards the whole host'
	exit 0
fi

scratch=$(mktemp -d /tmp/cgt-whole.XXXXXX)
export STATE_DIRECTORY=$scratch/state
daemon=
root=$(sed -n 's/^\([^ ]* \)\{4\}\([^ ]*\) .* - cgroup2 .*/\2/p' /proc/self/mountinfo | head -n 1)

# shellcheck source=tests/vm/steps.sh
. tests/vm/steps.sh

connguard() {
	"$BUILD/connguard" "$@"
}

clean_up() {
	[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null
	talkers_end
	connguard unload >/dev/null 2>&1
	ip netns del cgt-whole-there 2>/dev/null
	ip link del cgt-here 2>/dev/null
	rmdir "$root/cgt-whole" 2>/dev/null
	rm -rf "$scratch"
}
trap clean_up EXIT

# A process of the host, anywhere; one in a cgroup of its own; one of another host. Each becomes the
# command itself.
here() {
	exec "$@"
}

below() {
	echo "$BASHPID" >"$root/cgt-whole/cgroup.procs"
	exec "$@"
}

there() {
	exec nsenter --net=/run/netns/cgt-whole-there "$@"
}

start_daemon() {
	"$BUILD/connguardd" --port "$PORT" >>"$scratch/daemon.log" 2>&1 &
	daemon=$!
}

answering() {
	connguard status >"$scratch/status" 2>&1 && ! grep -q 'not running' "$scratch/status"
}

echo "1..$PLAN"
mkdir "$root/cgt-whole"
ip netns add cgt-whole-there
ip link add cgt-here type veth peer name there netns cgt-whole-there
ip addr add $HERE/24 dev cgt-here
ip link set cgt-here up
ip -n cgt-whole-there addr add $THERE/24 dev there
ip -n cgt-whole-there link set there up

start_daemon
eventually answering
result 'the daemon needs a port and nothing else' $? "$(cat "$scratch/daemon.log" "$scratch/status")"
[ $failures -eq 0 ] || exit 1
grep -q "^cgroup  *$root\$" "$scratch/status"
result 'it guards the root cgroup' $? "$(cat "$scratch/status")"
grep -q 'the whole host is guarded' "$scratch/status"
result 'it notes that every user counts' $? "$(cat "$scratch/status")"
grep -q 'warning: .*the whole host is guarded' "$scratch/daemon.log"
result 'and warns of it' $? "$(cat "$scratch/daemon.log")"
refusal='Connection refused'
! grep -q 'lacks refusal_errno' "$scratch/status" || refusal='Operation not permitted'

talk here-listens here listen 0.0.0.0 $PORT
talk there-listens there listen $THERE $PORT
talk there-listens-too there listen $THERE $OTHER_PORT
talk dial here dial $THERE $PORT
first=${talkers[-1]}
expect 'a first dial passes' connected
talk duplicate here dial $THERE $PORT
expect 'a second dial is refused' "$refusal"
talk duplicate-below below dial $THERE $PORT
expect 'a second dial is refused in a cgroup below as well' "$refusal"
talk knock there dial $HERE $PORT
expect 'a knock while linked is refused with RST' 'Connection refused'
talk other-port here dial $THERE $OTHER_PORT
talk other-port-again here dial $THERE $OTHER_PORT
expect 'another port is left alone' connected
talk loopback here dial 127.0.0.1 $PORT
talk loopback-again here dial 127.0.0.1 $PORT
expect 'loopback is left alone' connected
talk own here dial $HERE $PORT
talk own-again here dial $HERE $PORT
expect 'an address of the host itself is left alone' connected

end "$daemon"
talk orphaned below dial $THERE $PORT
expect 'a second dial is refused without the daemon too' "$refusal"
start_daemon
eventually answering
result 'a new daemon takes over' $? "$(cat "$scratch/daemon.log" "$scratch/status")"
# What our side has closed is no failure, whatever the policy.
end "$first"
talk again below dial $THERE $PORT
expect 'a peer whose link we have closed can be dialed, from anywhere' connected

expect_removal
[ $failures -eq 0 ]
