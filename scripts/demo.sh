#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Shows the race on real sockets, without a guard, with one host guarded, and with all guarded.
#
# Three hosts (network namespaces, a cgroup each) hang on a switch (a bridge in a namespace of its
# own) and run tests/racer, 60 times faster than the origin did. One host is down for ten minutes of
# the origin's time, then another one's cable is out for three. tests/wire counts the dials between
# them, on the switch; scripts/demo/report.py makes the table, the JSON and the plot. TCP's own time-out
# of a SYN is as many times shorter (tests/racer/syn_timers.bpf.c), in all runs alike.
#
# usage: demo.sh [unguarded] [one_guarded] [all_guarded]        (default: all three; root)
# environment: CONNGUARD_BUILD   where the programs are, and demo.svg and demo/ go (build)
#              DEMO_JSON         write the numbers to this file, too
#
# Touches nothing outside what it made: names begin with cgt-demo, and are removed on every exit.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BUILD=${CONNGUARD_BUILD:-build} BPFTOOL=${BPFTOOL:-bpftool}
readonly OUTPUT=$BUILD/demo
readonly PREFIX=cgt-demo
readonly HOSTS=(a b c)
readonly PORT=24000
readonly TIME_SCALE=60
# Between two continents. The hosts here are a few microseconds apart; see tests/racer/node.h.
readonly ROUND_TRIP_MS=80
readonly LOCK=/run/$PREFIX.lock
# Pins and sockets of the guards, by the guard's name.
readonly PINS=/sys/fs/bpf/connguard SOCKETS=/run/connguard
# What shortens TCP's time-outs, for as long as the demo runs.
readonly TIMERS=/sys/fs/bpf/$PREFIX-timers

# The scenario, in hundredths of a second from the moment that all pairs are linked.
readonly HOST_DOWN_AT=500 HOST_BACK_AT=1500 CABLE_OUT_AT=2300 CABLE_BACK_AT=2600 END_AT=3900

cgroups=''		# where cgroup2 is mounted
run=''			# the run under way
origin=0		# uptime, in hundredths of a second, from which the scenario counts
declare -A racer_pid=() guard_pid=()
wire_pid=''

say() {
	printf '%s\n' "$*"
}

fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

address_of() {
	case $1 in
	a) echo 192.0.2.1 ;;
	b) echo 192.0.2.2 ;;
	c) echo 192.0.2.3 ;;
	esac
}

# Runs a command in a host's network, or the switch's. Not "ip netns exec": that hides bpffs. Do not
# put it in the background: the process started would be a shell, and signals would stop there.
in_network() {
	local where=$1
	shift
	nsenter --net="/run/netns/$PREFIX-$where" "$@"
}

# CLOCK_BOOTTIME, as in all logs, in hundredths of a second.
uptime_now() {
	local seconds
	read -r seconds _ </proc/uptime
	echo $((10#${seconds/./}))
}

# --- set-up and removal ---------------------------------------------------------------------------

need_programs() {
	local program
	for program in "$@"; do
		[ -x "$BUILD/$program" ] || fail "$BUILD/$program is not built; make demo does it"
	done
}

find_cgroups() {
	local line
	while read -r -a line; do
		case " ${line[*]} " in
		*' - cgroup2 '*)
			# The table has blanks and backslashes as octal numbers.
			printf -v cgroups '%b' "${line[4]}"
			return
			;;
		esac
	done </proc/self/mountinfo
	fail 'no cgroup2 is mounted; try: mount -t cgroup2 none /sys/fs/cgroup'
}

# Ends every process in a namespace of ours: nothing else ever enters one.
end_processes_in() {
	local pid
	for pid in $(ip netns pids "$1" 2>/dev/null || true); do
		kill -9 "$pid" 2>/dev/null || true
	done
}

# Waits for a cgroup to be empty, which a killed process leaves with a delay, and removes it.
remove_cgroup() {
	local try
	for ((try = 0; try < 100; try++)); do
		! rmdir "$1" 2>/dev/null || return 0
		sleep 0.02
	done
	printf 'demo: cannot remove %s\n' "$1" >&2
}

remove_everything() {
	local path
	for path in /run/netns/"$PREFIX"-*; do
		[ -e "$path" ] || continue
		end_processes_in "${path##*/}"
		ip netns delete "${path##*/}"
	done
	for path in "$cgroups/$PREFIX"-*; do
		[ ! -d "$path" ] || remove_cgroup "$path"
	done
	for path in "$PINS/$PREFIX"-*; do
		[ ! -d "$path" ] || rm -rf "$path"
	done
	rm -f "$SOCKETS/$PREFIX"-*.sock
	rm -rf "$TIMERS"
}

clean_up() {
	local pid
	trap - EXIT INT TERM
	set +e
	for pid in "${racer_pid[@]}" $wire_pid; do
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	# With SIGTERM, so that each takes its own programs away.
	stop_guards
	remove_everything
	rm -f "$LOCK"
}

make_network() {
	local host other number=0
	ip netns add "$PREFIX-switch"
	in_network switch ip link add switch type bridge stp_state 0 forward_delay 0
	in_network switch ip link set switch up
	for host in "${HOSTS[@]}"; do
		number=$((number + 1))
		ip netns add "$PREFIX-$host"
		ip link add eth0 netns "$PREFIX-$host" address "02:00:00:00:00:0$number" type veth \
			peer name "port-$host" netns "$PREFIX-switch"
		in_network switch ip link set "port-$host" master switch up
		in_network "$host" ip link set lo up
		in_network "$host" ip address add "$(address_of "$host")/24" dev eth0
		in_network "$host" ip link set eth0 up
		mkdir "$cgroups/$PREFIX-$host"
		"$BPFTOOL" cgroup attach "$cgroups/$PREFIX-$host" sock_ops \
			pinned "$TIMERS/syn_timers" multi
	done
	# A host that is down is one that does not answer, as it would be behind a router: without this,
	# ARP would tell its neighbours.
	for host in "${HOSTS[@]}"; do
		number=0
		for other in "${HOSTS[@]}"; do
			number=$((number + 1))
			[ "$host" = "$other" ] || in_network "$host" ip neighbour replace \
				"$(address_of "$other")" lladdr "02:00:00:00:00:0$number" dev eth0 \
				nud permanent
		done
	done
}

# TCP_TIMEOUT_INIT is a second; a jiffy is what the coarse clock's resolution is, in ns.
load_timers() {
	local jiffy timeout key=(0 0 0 0)
	jiffy=$(python3 -c 'import time; print(round(time.clock_getres(6) * 1e9))')
	timeout=$((1000000000 / TIME_SCALE / jiffy))
	[ "$timeout" -gt 0 ] || timeout=1
	"$BPFTOOL" prog loadall "$BUILD/tests/syn_timers.bpf.o" "$TIMERS" type sockops \
		pinmaps "$TIMERS" >/dev/null
	"$BPFTOOL" map update pinned "$TIMERS/first_timeout" key "${key[@]}" \
		value $((timeout & 255)) $((timeout >> 8)) 0 0
}

# --- programs -------------------------------------------------------------------------------------

start_wire() {
	local host ports=()
	for host in "${HOSTS[@]}"; do
		ports+=(--interface "port-$host")
	done
	# A dial that is not answered within 1.5 s of the origin's time, twenty of its round trips, is
	# lost, not in flight: what comes after it is no duplicate of it.
	nsenter --net="/run/netns/$PREFIX-switch" "$BUILD/tests/wire" --port "$PORT" \
		--in-flight-ms $((1500 / TIME_SCALE)) "${ports[@]}" \
		>"$OUTPUT/$run/wire.jsonl" 9>&- &
	wire_pid=$!
	local try
	for ((try = 0; try < 250; try++)); do
		[ ! -s "$OUTPUT/$run/wire.jsonl" ] || return 0
		kill -0 "$wire_pid" 2>/dev/null || break
		sleep 0.02
	done
	fail 'the observer on the switch did not start'
}

start_racer() {
	local host=$1 other peers=''
	for other in "${HOSTS[@]}"; do
		[ "$host" = "$other" ] || peers+=${peers:+,}$(address_of "$other")
	done
	# shellcheck disable=SC2016 # expanded by the inner shell, which is in the cgroup then
	bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$cgroups/$PREFIX-$host" \
		nsenter --net="/run/netns/$PREFIX-$host" "$BUILD/tests/racer" --name "$host" \
		--address "$(address_of "$host")" --peers "$peers" --port "$PORT" \
		--time-scale "$TIME_SCALE" --round-trip-ms "$ROUND_TRIP_MS" \
		--log "$OUTPUT/$run/$host.jsonl" 2>"$OUTPUT/$run/$host.errors" 9>&- &
	racer_pid[$host]=$!
}

# The defaults of a guard, with all times divided by the time scale.
write_guard_config() {
	cat >"$OUTPUT/$run/$1.conf" <<-END
		[guard]
		cgroup = /$PREFIX-$1
		port = $PORT
		mode = enforce
		check_interval = 2s

		[backoff]
		initial = 166ms
		max = 5s
		min_uptime = 166ms
		stable_after = 5s
		hold_max = 25ms
	END
}

guard_is_up() {
	"$BUILD/connguard" -n "$PREFIX-$1" status >"$OUTPUT/$run/$1.status" 2>&1
}

start_guard() {
	local host=$1 try
	write_guard_config "$host"
	STATE_DIRECTORY=$OUTPUT/$run/state nsenter --net="/run/netns/$PREFIX-$host" "$BUILD/connguardd" \
		-c "$OUTPUT/$run/$host.conf" "$PREFIX-$host" >"$OUTPUT/$run/$host.guard" 2>&1 9>&- &
	guard_pid[$host]=$!
	for ((try = 0; try < 100; try++)); do
		! guard_is_up "$host" || return 0
		kill -0 "${guard_pid[$host]}" 2>/dev/null || break
		sleep 0.1
	done
	{
		echo "--- what connguardd $PREFIX-$host said:"
		tail -n 20 "$OUTPUT/$run/$host.guard"
		echo "--- what connguard -n $PREFIX-$host status said:"
		tail -n 20 "$OUTPUT/$run/$host.status"
	} >&2
	fail "the guard of host $host did not come up; there is no result for $run"
}

# A guard that died in the middle still guards, but its numbers would not be those of a whole one.
check_guards() {
	local host
	for host in "${!guard_pid[@]}"; do
		guard_is_up "$host" || fail "the guard of host $host is no longer whole;" \
			"see $OUTPUT/$run/$host.status and $host.guard"
	done
}

stop_guards() {
	local host try
	for host in "${!guard_pid[@]}"; do
		kill "${guard_pid[$host]}" 2>/dev/null || true
		for ((try = 0; try < 100; try++)); do
			kill -0 "${guard_pid[$host]}" 2>/dev/null || break
			sleep 0.05
		done
		kill -9 "${guard_pid[$host]}" 2>/dev/null || true
		wait "${guard_pid[$host]}" 2>/dev/null || true
		[ ! -d "$PINS/$PREFIX-$host" ] ||
			printf 'demo: the guard %s left its pins behind\n' "$PREFIX-$host" >&2
	done
	guard_pid=()
}

# --- the scenario ---------------------------------------------------------------------------------

# Writes the beginning of a phase down; further arguments are JSON members.
phase() {
	local time
	time=$(uptime_now)
	printf '{"time":%d.%02d,"phase":"%s"%s}\n' $((time / 100)) $((time % 100)) "$1" "${2:-}" \
		>>"$OUTPUT/$run/phases.jsonl"
}

progress() {
	local seconds=$((($(uptime_now) - origin) / 100)) duplicates
	duplicates=$(grep -c '"duplicate":true' "$OUTPUT/$run/wire.jsonl" || true)
	printf '  %2d s  (%2d min)  %-34s duplicate dials on the wire so far: %d\n' "$seconds" \
		$((seconds * TIME_SCALE / 60)) "$1" "$duplicates"
}

# Sleeps until that time of the scenario, with a sign of life every five seconds.
sleep_until() {
	local left
	while left=$((origin + $1 - $(uptime_now))) && [ "$left" -gt 0 ]; do
		[ "$left" -le 500 ] || left=500
		sleep "$(printf '%d.%02d' $((left / 100)) $((left % 100)))" 9>&-
		[ $((origin + $1 - $(uptime_now))) -le 0 ] || progress '...'
	done
}

# A crash with the cable out: no FIN and no RST leaves, and a SYN that comes is not answered.
host_goes_down() {
	in_network switch ip link set "port-$1" down
	kill -9 "${racer_pid[$1]}"
	wait "${racer_pid[$1]}" 2>/dev/null || true
	# Orphans would speak up after the restart; those of a crashed machine do not. Where the kernel
	# cannot destroy sockets they do, which only makes the news of the crash come sooner.
	in_network "$1" ss --tcp --all --kill "( sport = :$PORT or dport = :$PORT )" \
		>/dev/null 2>&1 || true
}

host_comes_back() {
	in_network switch ip link set "port-$1" up
	start_racer "$1"
}

run_scenario() {
	local host guarded=() guarded_json='' hosts_json=''
	run=$1
	shift
	guarded=("$@")
	rm -rf "${OUTPUT:?}/$run"
	mkdir -p "$OUTPUT/$run"
	say "$run: hosts ${HOSTS[*]}; guarded: ${guarded[*]:-none}"

	load_timers
	make_network
	start_wire
	for host in "${guarded[@]}"; do
		start_guard "$host"
		guarded_json+=${guarded_json:+,}\"$host\"
	done
	for host in "${HOSTS[@]}"; do
		hosts_json+=${hosts_json:+,}\"$host\":\"$(address_of "$host")\"
		: >"$OUTPUT/$run/$host.jsonl"
	done
	phase start ",\"time_scale\":$TIME_SCALE,\"hosts\":{$hosts_json},\"guarded\":[$guarded_json]"
	for host in "${HOSTS[@]}"; do
		start_racer "$host"
	done
	python3 -B scripts/demo/wait_linked.py "$OUTPUT/$run" 15 9>&- ||
		fail "the hosts did not find each other within 15 s; see $OUTPUT/$run"
	origin=$(uptime_now)
	phase all_up
	progress 'all pairs linked'

	sleep_until "$HOST_DOWN_AT"
	phase host_down ',"host":"c"'
	host_goes_down c
	progress 'host c is down'

	sleep_until "$HOST_BACK_AT"
	host_comes_back c
	phase host_back ',"host":"c"'
	progress 'host c is back'

	sleep_until "$CABLE_OUT_AT"
	phase cable_out ',"host":"b"'
	in_network switch ip link set port-b down
	progress 'the cable of host b is out'

	sleep_until "$CABLE_BACK_AT"
	in_network switch ip link set port-b up
	phase cable_back ',"host":"b"'
	progress 'the cable of host b is back'

	sleep_until "$END_AT"
	check_guards
	phase end
	progress 'end'

	for host in "${HOSTS[@]}"; do
		kill "${racer_pid[$host]}" 2>/dev/null || fail "the racer of host $host has died;" \
			"see $OUTPUT/$run/$host.errors"
	done
	for host in "${HOSTS[@]}"; do
		wait "${racer_pid[$host]}" || fail "the racer of host $host ended with an error"
	done
	{ kill "$wire_pid" && wait "$wire_pid"; } || fail 'the observer on the switch has died'
	racer_pid=()
	wire_pid=''
	stop_guards
	remove_everything
}

# --- main -----------------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || fail 'namespaces and cgroups need root: sudo make demo'
need_programs tests/racer tests/wire
[ -r "$BUILD/tests/syn_timers.bpf.o" ] || fail "tests/syn_timers.bpf.o is not built; make demo does it"
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(unguarded one_guarded all_guarded)
for run in "${runs[@]}"; do
	case $run in
	unguarded) ;;
	one_guarded | all_guarded)
		need_programs connguardd connguard
		;;
	*) fail "unknown run '$run' (expected unguarded, one_guarded, all_guarded)" ;;
	esac
done

# One demo at a time: a second one would remove the first one's things as leftovers. No program that
# lives for long inherits the lock (9>&-): what outlives a killed demo must not look like one.
exec 9>"$LOCK"
flock --nonblock 9 || fail 'another demo is running'
find_cgroups
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
remove_everything
mkdir -p "$OUTPUT"

for run in "${runs[@]}"; do
	case $run in
	unguarded) run_scenario unguarded ;;
	one_guarded) run_scenario one_guarded a ;;
	all_guarded) run_scenario all_guarded "${HOSTS[@]}" ;;
	esac
done
python3 -B scripts/demo/report.py --directory "$OUTPUT" --svg "$BUILD/demo.svg" \
	${DEMO_JSON:+--json "$DEMO_JSON"} "${runs[@]}"
