#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Compares connguard with nothing and with its nearest substitute, a pair of nftables rules (rules.nft): what
# each does, found by trying it, and what it costs.
#
# Two hosts (network namespaces, a cgroup each) on one wire; tests/bench/load.c is the applications of both. Each
# round builds them anew for each of the three, in turn, so that whatever else this machine does meets all of
# them. report.py makes the tables and the numbers.
#
# usage: compare.sh                (root)
# environment: CONNGUARD_BUILD   where the programs are and bench.json goes (build)
#              BENCH_ROUNDS      rounds (9)
#              BENCH_COUNT       connections of each kind in a round, a multiple of 50 (2000)
#
# Touches nothing outside what it made: names begin with cgt-bench, and are removed on every exit.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly BUILD=${CONNGUARD_BUILD:-build}
readonly ROUNDS=${BENCH_ROUNDS:-9} COUNT=${BENCH_COUNT:-2000}
readonly PREFIX=cgt-bench
readonly LOCK=/run/$PREFIX.lock
readonly PINS=/sys/fs/bpf/connguard SOCKETS=/run/connguard
readonly VARIANTS=(nothing nftables connguard)

cgroups=''		# where cgroup2 is mounted
work=''			# a directory for what is written on the way
guard_pids=()
load_ms=''		# how long the last guard took to load

fail() {
	printf 'bench: %s\n' "$*" >&2
	exit 1
}

# Not "ip netns exec": that hides bpffs. Do not put it in the background: signals would stop at the shell.
in_network() {
	local host=$1
	shift
	nsenter --net="/run/netns/$PREFIX-$host" "$@"
}

# Microseconds; only differences of it are used.
now_us() {
	echo "${EPOCHREALTIME/[.,]/}"
}

# --- set-up and removal ---------------------------------------------------------------------------

find_cgroups() {
	local line
	while read -r -a line; do
		case " ${line[*]} " in
		*' - cgroup2 '*)
			cgroups=${line[4]}
			return
			;;
		esac
	done </proc/self/mountinfo
	fail 'no cgroup2 is mounted; try: mount -t cgroup2 none /sys/fs/cgroup'
}

# Waits for a cgroup to be empty, which an ended process leaves with a delay, and removes it.
remove_cgroup() {
	local try
	for ((try = 0; try < 100; try++)); do
		! rmdir "$1" 2>/dev/null || return 0
		sleep 0.02
	done
	printf 'bench: cannot remove %s\n' "$1" >&2
}

remove_hosts() {
	local path pid
	for path in /run/netns/"$PREFIX"-*; do
		[ -e "$path" ] || continue
		# Nothing but what we started ever enters one.
		for pid in $(ip netns pids "${path##*/}" 2>/dev/null || true); do
			kill -9 "$pid" 2>/dev/null || true
		done
		ip netns delete "${path##*/}"
	done
	for path in "$cgroups/$PREFIX"-*; do
		[ ! -d "$path" ] || remove_cgroup "$path"
	done
	for path in "$PINS/$PREFIX"-*; do
		[ ! -d "$path" ] || rm -rf "$path"
	done
	rm -f "$SOCKETS/$PREFIX"-*
}

stop_guards() {
	local pid try
	for pid in "${guard_pids[@]}"; do
		kill "$pid" 2>/dev/null || true
		for ((try = 0; try < 200; try++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.02
		done
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	guard_pids=()
}

clean_up() {
	trap - EXIT INT TERM
	set +e
	stop_guards
	remove_hosts
	rm -rf "$work"
	rm -f "$LOCK"
}

make_hosts() {
	local host
	for host in here there; do
		ip netns add "$PREFIX-$host"
		mkdir "$cgroups/$PREFIX-$host"
	done
	ip link add eth0 netns "$PREFIX-here" type veth peer name eth0 netns "$PREFIX-there"
	in_network here ip address add 192.0.2.1/24 dev eth0
	in_network there ip address add 192.0.2.2/24 dev eth0
	for host in here there; do
		in_network "$host" ip link set lo up
		in_network "$host" ip link set eth0 up
	done
	# As many peers as anybody wants, without an address to add for each.
	in_network there ip route add local 198.18.0.0/15 dev lo
	in_network here ip route add 198.18.0.0/15 via 192.0.2.2
}

# --- the three variants ---------------------------------------------------------------------------

# Links as short as those of a benchmark are failures to a guard: here they are not.
write_guard_config() {
	cat >"$work/$1.conf" <<-END
		[guard]
		cgroup = /$PREFIX-$1
		port = 24000

		[backoff]
		min_uptime = 0s
		stable_after = 0s
	END
}

# Notes how long it takes to put the guard into the kernel, program start included; then, for connguard, has a
# daemon take it over.
guard_host() {
	local variant=$1 host=$2 before try
	load_ms=0
	case $variant in
	nothing) return ;;
	nftables)
		before=$(now_us)
		in_network "$host" nft -f tests/bench/rules.nft
		load_ms=$((($(now_us) - before) / 1000))
		;;
	connguard)
		write_guard_config "$host"
		before=$(now_us)
		in_network "$host" "$BUILD/connguard" -n "$PREFIX-$host" load -c "$work/$host.conf" >/dev/null
		load_ms=$((($(now_us) - before) / 1000))
		nsenter --net="/run/netns/$PREFIX-$host" "$BUILD/connguardd" -c "$work/$host.conf" \
			"$PREFIX-$host" >"$work/$host.log" 2>&1 9>&- &
		guard_pids+=($!)
		for ((try = 0; try < 200; try++)); do
			! grep -qs 'taken over' "$work/$host.log" || return 0
			kill -0 "${guard_pids[-1]}" 2>/dev/null || break
			sleep 0.02
		done
		cat "$work/$host.log" >&2
		fail "connguardd did not start for host $host"
		;;
	esac
}

unguard() {
	stop_guards
	remove_hosts
}

run_load() {
	"$BUILD/tests/bench/load" "/run/netns/$PREFIX-here" "$cgroups/$PREFIX-here" \
		"/run/netns/$PREFIX-there" "$cgroups/$PREFIX-there" "$1" "$COUNT" 9>&-
}

# --- behaviours -----------------------------------------------------------------------------------

# Everything that the variant has to say about what it did.
account_of() {
	case $1 in
	nothing) ;;
	nftables) in_network here nft list ruleset ;;
	connguard) "$BUILD/connguard" -n "$PREFIX-here" --json events ;;
	esac
}

# The words of an account for the refusal of a dial to this peer: nothing when there are none.
reason_in_account() {
	local variant=$1 peer=$2
	case $variant in
	nothing) ;;
	nftables) grep -oE "$peer( [a-z0-9]+)+" | cut -d ' ' -f 2- ;;
	connguard)
		python3 -c 'import json, sys
for event in json.load(sys.stdin)["events"]:
    if event["address"] == sys.argv[1] and event["verdict"] == "refuse":
        print(event["cause"])' "$peer"
		;;
	esac || true
}

try_reasons() {
	local variant=$1 pid linked dialing one other
	read -r pid linked dialing < <(run_load reasons)
	account_of "$variant" >"$work/account"
	one=$(reason_in_account "$variant" "$linked" <"$work/account")
	other=$(reason_in_account "$variant" "$dialing" <"$work/account")
	if [ -n "$one" ] && [ -n "$other" ] && [ "$one" != "$other" ]; then
		echo "reason_visible yes ${one// /_},${other// /_}"
	else
		echo 'reason_visible no -'
	fi
	if grep -qw "$pid" "$work/account"; then
		echo 'process_visible yes -'
	else
		echo 'process_visible no -'
	fi
}

try_behaviours() {
	local variant=$1
	make_hosts
	guard_host "$variant" here
	{
		run_load behaviours
		try_reasons "$variant"
	} | sed "s/^/$variant /" >>"$work/behaviours"
	unguard
	make_hosts
	guard_host "$variant" here
	guard_host "$variant" there
	run_load crossing | sed "s/^/$variant /" >>"$work/crossing"
	unguard
}

# --- costs ----------------------------------------------------------------------------------------

measure_costs() {
	local round=$1 variant=$2
	make_hosts
	guard_host "$variant" here
	echo "$round $variant $load_ms" >>"$work/loads"
	run_load costs | sed "s/^/$round $variant /" >>"$work/costs"
	unguard
}

# --- main -----------------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || fail 'namespaces and cgroups need root: sudo make bench'
for program in connguard connguardd tests/bench/load; do
	[ -x "$BUILD/$program" ] || fail "$BUILD/$program is not built; make bench does it"
done

# One at a time: a second one would remove the first one's things as leftovers. No program that lives for long
# inherits the lock (9>&-).
exec 9>"$LOCK"
flock --nonblock 9 || fail 'another comparison is running'
find_cgroups
work=$(mktemp -d "${TMPDIR:-/tmp}/$PREFIX.XXXXXX")
export STATE_DIRECTORY=$work/state
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
remove_hosts

for variant in "${VARIANTS[@]}"; do
	printf 'trying what it does: %s\n' "$variant"
	try_behaviours "$variant"
done
for ((round = 1; round <= ROUNDS; round++)); do
	printf 'measuring what it costs: round %d of %d\n' "$round" "$ROUNDS"
	# A different one begins each time.
	for ((turn = 0; turn < ${#VARIANTS[@]}; turn++)); do
		measure_costs "$round" "${VARIANTS[(round + turn) % ${#VARIANTS[@]}]}"
	done
done
python3 -B tests/bench/report.py "$work" "$COUNT" "$BUILD/bench.json"
