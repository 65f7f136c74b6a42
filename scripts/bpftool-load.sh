#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Loads a guard with nothing but bpftool and a shell: no daemon, no connguard. The programs and maps are
# pinned where connguardd would pin them, so that a daemon started later under the same name takes them
# over. Every number that both worlds must agree on is read from the object's own BTF.
#
# usage: bpftool-load.sh NAME CGROUP PORT...
#   NAME     of the guard: letters, digits, '-' and '_', at most 32
#   CGROUP   absolute path of the cgroup2 directory whose processes are guarded
#   PORT     1..65535: both what the service listens on and what it dials
#
# environment: BPFTOOL            the bpftool to use (bpftool)
#              CONNGUARD_OBJECT   the BPF object (beside this script, or in ../build/bpf)
#
# exit status: 0 the guard enforces, 1 failed (everything done was undone), 2 usage
set -u

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Letters are those of ASCII, whatever the locale.
export LC_ALL=C
bpftool=${BPFTOOL:-bpftool}
bpffs=/sys/fs/bpf
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

usage() {
	printf 'bpftool-load.sh: %s\nusage: bpftool-load.sh NAME CGROUP PORT...\n' "$1" >&2
	exit 2
}

# quoted WORD...: as a shell reads them. A path may be called anything: what a person copies from here must
# not be more than a path, nor a terminal obey it.
quoted() {
	local text
	printf -v text '%q ' "$@"
	printf '%s' "${text% }"
}

# What was done: the hooks that were attached, in that order, each as "TYPE PROGRAM"; and that the pins are ours.
attached=()
pinned=
undo() {
	local i
	for ((i = ${#attached[@]} - 1; i >= 0; i--)); do
		"$bpftool" cgroup detach "$cgroup" "${attached[i]% *}" pinned "$pins/programs/${attached[i]#* }"
	done
	rm -rf -- "$pins"
} >/dev/null 2>&1

fail() {
	printf 'bpftool-load.sh: %s\n' "$1" >&2
	if [[ -n $pinned ]]; then
		undo
		printf 'bpftool-load.sh: what had been done is undone\n' >&2
	fi
	exit 1
}

# Runs a command quietly; its own words are shown only when it fails.
try() {
	local output
	output=$("$@" 2>&1) || {
		printf '%s\n' "$output" >&2
		fail "failed: $(quoted "$@")"
	}
}

# ---- arguments --------------------------------------------------------------------------------------

(($# >= 3)) || usage "a name, a cgroup and at least one port are needed"
name=$1
cgroup=${2%/}
shift 2

[[ $name =~ ^[A-Za-z0-9_-]{1,32}$ ]] ||
	usage "$(quoted "$name") is no guard name: 1 to 32 letters, digits, '-' or '_' were expected"
[[ $cgroup == /* ]] || usage "$(quoted "$cgroup") is not an absolute path"
[[ -d $cgroup ]] || usage "there is no directory $(quoted "$cgroup")"
# Every cgroup2 directory has this file, also the root of the hierarchy; a cgroup1 directory has not.
[[ -e $cgroup/cgroup.controllers ]] || usage "$(quoted "$cgroup") is not a cgroup2 directory"
for port in "$@"; do
	if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
		usage "$(quoted "$port") is no port: a number from 1 to 65535 was expected"
	fi
done
((EUID == 0)) || fail "only root may load BPF programs"
"$bpftool" version >/dev/null 2>&1 || fail "cannot run $(quoted "$bpftool"): install bpftool, or name it in BPFTOOL"

object=${CONNGUARD_OBJECT:-}
if [[ -z $object ]]; then
	for candidate in "$here/connguard.bpf.o" "$here/../build/bpf/connguard.bpf.o"; do
		if [[ -r $candidate ]]; then
			object=$candidate
			break
		fi
	done
	[[ -n $object ]] || fail "no BPF object beside this script or in ../build/bpf: run make, or set CONNGUARD_OBJECT"
fi
[[ -r $object ]] || fail "cannot read the BPF object $(quoted "$object")"
# No option of bpftool's, whatever it is called.
[[ $object == /* ]] || object=./$object

# ---- numbers as maps want them ----------------------------------------------------------------------

byte_order=little
[[ -r /sys/kernel/cpu_byteorder ]] && read -r byte_order </sys/kernel/cpu_byteorder

# bytes NUMBER SIZE: the number as that many decimal bytes in this machine's order.
bytes() {
	local number=$1 size=$2 text='' i
	for ((i = 0; i < size; i++)); do
		if [[ $byte_order == big ]]; then
			text="$((number & 255)) $text"
		else
			text="$text $((number & 255))"
		fi
		number=$((number >> 8))
	done
	printf '%s' "$text"
}

# enumerator NAME: its value in the object's BTF. Answers nothing when there is none.
enumerator() {
	local line
	while IFS= read -r line; do
		if [[ $line =~ \'$1\'\ val=([0-9]+) ]]; then
			printf '%s' "${BASH_REMATCH[1]}"
			return
		fi
	done < <("$bpftool" btf dump file "$object" 2>/dev/null)
}

layout=$(enumerator CONNGUARD_LAYOUT)
mode_enforce=$(enumerator MODE_ENFORCE)
[[ -n $layout && -n $mode_enforce ]] || fail "$(quoted "$object") does not name its layout and modes: not connguard's object"

# update MAP KEY-BYTES... value VALUE-BYTES...
update() {
	local map=$1
	shift
	try "$bpftool" map update pinned "$pins/$map" key "$@"
}

# ---- load and pin -----------------------------------------------------------------------------------

mounted=
while read -r _ where kind _; do
	[[ $where == "$bpffs" && $kind == bpf ]] && mounted=yes
done </proc/mounts
[[ -n $mounted ]] || try mount -t bpf bpf "$bpffs"

pins=$bpffs/connguard/$name
[[ ! -e $pins ]] || fail "there is a guard '$name' already, pinned in $pins"
# Whoever unloads the last guard takes the directory of all away, perhaps between these two.
made=
for _ in 1 2 3 4; do
	mkdir -p "$bpffs/connguard" || fail "cannot make $bpffs/connguard"
	mkdir -m 0700 "$pins" 2>/dev/null && made=yes && break
done
[[ -n $made ]] || try mkdir -m 0700 "$pins"
pinned=yes
try "$bpftool" prog loadall "$object" "$pins/programs" pinmaps "$pins"

# The value is the service that the port belongs to, by its own number: a link at one port is no duplicate
# of a link at another.
for port in "$@"; do
	# shellcheck disable=SC2046 # the bytes are words of their own
	update ports $(bytes "$port" 2) value $(bytes "$port" 4)
done

# struct handshake_key: random numbers, which place peers in the table of pending handshakes.
handshake_key=$(od -An -v -tu1 -N48 /dev/urandom) || fail "cannot read 48 bytes of /dev/urandom"
# shellcheck disable=SC2086 # the bytes are words of their own
update handshake_key 0 0 0 0 value $handshake_key

# The built-in policy: the `command` program writes it when it is run on a packet of zeros, as long as a
# struct guard_command.
try "$bpftool" prog run pinned "$pins/programs/command" data_in <(head -c 64 /dev/zero) repeat 1

# struct guard_layout: the version, four bytes reserved, the cgroup's inode. The inode comes before the
# first program is attached, so that whoever clears a load that died here knows where to look.
cgroup_id=$(stat -c %i -- "$cgroup") || fail "cannot read the inode of $(quoted "$cgroup")"
# shellcheck disable=SC2046
update layout 0 0 0 0 value 0 0 0 0 0 0 0 0 $(bytes "$cgroup_id" 8)

# ---- attach: first what ends claims and links, then what makes them ---------------------------------

attach() {
	try "$bpftool" cgroup attach "$cgroup" "$1" pinned "$pins/programs/$2" multi
	attached+=("$1 $2")
}

attach cgroup_sock_ops sock_ops
attach cgroup_inet_sock_release sock_release
attach cgroup_inet_ingress ingress
attach cgroup_inet_egress egress
attach cgroup_inet4_connect connect4
attach cgroup_inet6_connect connect6

# The layout's version is written last of all: without it a load counts as unfinished. Until the mode is
# written it is 0, off: the guard begins to refuse when it is whole.
# shellcheck disable=SC2046
{
	update mode 0 0 0 0 value $(bytes "$mode_enforce" 4)
	update layout 0 0 0 0 value $(bytes "$layout" 4) 0 0 0 0 $(bytes "$cgroup_id" 8)
}

cat <<END
guard '$name' enforces on $(quoted "$cgroup"), port(s) $*, with the built-in policy.
pinned in $pins

bpftool alone cannot do everything. Reduced until connguardd is started under this name (it takes the guard over):
  - a refused knock is dropped, not answered with RST: sk_lookup cannot be attached to a network namespace
  - the programs are attached without pinned links: 'bpftool cgroup detach' by anybody takes them away
  - every network namespace below the cgroup is guarded, not one
  - this host's own addresses are not exempt (loopback is)
  - links that exist already are not known
  - what operators had decided (a panic, limits, what is allowed for good) is not in force
  - no scheduler, no periodic check, no repair: a duplicate link that came up is reported, not destroyed
  - a dial that crosses a knock is not ended for it: its answer is held until it gives up by itself
  - nobody asks a quiet link for a sign of life: its peer's knock waits for deny_max (60 s) at most
  - a network or a host that is back ends no backoff (a service that starts anew does)

look:    $(quoted "$bpftool" map dump pinned "$pins/peers")
stop:    $(quoted "$bpftool" map update pinned "$pins/mode" key 0 0 0 0 value 0 0 0 0)
unload:  $(quoted "$here/bpftool-unload.sh" "$name" "$cgroup")
END
