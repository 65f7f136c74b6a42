#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Takes a guard away with nothing but bpftool and a shell, whoever loaded it: detaches its programs from
# every cgroup (the connect hooks first), and removes its pins, which detaches what hung on pinned links.
#
# usage: bpftool-unload.sh NAME [CGROUP]
#   NAME     of the guard
#   CGROUP   absolute path of the cgroup2 directory it guards; without it, all cgroups are searched
#
# environment: BPFTOOL   the bpftool to use (bpftool)
#
# exit status: 0 the guard is gone, 1 failed or there was none, 2 usage
set -u

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Letters are those of ASCII, whatever the locale.
export LC_ALL=C
bpftool=${BPFTOOL:-bpftool}
bpffs=/sys/fs/bpf

usage() {
	printf 'bpftool-unload.sh: %s\nusage: bpftool-unload.sh NAME [CGROUP]\n' "$1" >&2
	exit 2
}

fail() {
	printf 'bpftool-unload.sh: %s\n' "$1" >&2
	exit 1
}

# quoted WORD: as a shell reads it. A path may be called anything, and no terminal shall obey it.
quoted() {
	printf '%q' "$1"
}

(($# == 1 || $# == 2)) || usage "a name, and perhaps a cgroup, were expected"
name=$1
cgroup=${2:-}
cgroup=${cgroup%/}
[[ $name =~ ^[A-Za-z0-9_-]{1,32}$ ]] ||
	usage "$(quoted "$name") is no guard name: 1 to 32 letters, digits, '-' or '_' were expected"
if [[ -n $cgroup ]]; then
	[[ $cgroup == /* ]] || usage "$(quoted "$cgroup") is not an absolute path"
	[[ -d $cgroup ]] || usage "there is no directory $(quoted "$cgroup")"
fi
((EUID == 0)) || fail "only root may detach BPF programs"
"$bpftool" version >/dev/null 2>&1 || fail "cannot run $(quoted "$bpftool"): install bpftool, or name it in BPFTOOL"

pins=$bpffs/connguard/$name
[[ -d $pins ]] || fail "there is no guard '$name': no $pins (bpffs hidden? 'ip netns exec' hides it, 'nsenter --net=' does not)"

# The guard's programs by kernel id. Only these are ever detached: others' programs at the same hooks stay.
declare -A ours=()
for pin in "$pins"/programs/*; do
	[[ -e $pin ]] || continue
	line=$("$bpftool" prog show pinned "$pin" 2>/dev/null) || continue
	[[ $line =~ ^([0-9]+): ]] && ours[${BASH_REMATCH[1]}]=$pin
done

# Attachments as "ID TYPE CGROUP" lines. `tree` prints a cgroup's path before its programs; the path has no
# newline in it, and may have anything else.
attachments() {
	local where=$cgroup line
	if [[ -n $cgroup ]]; then
		"$bpftool" cgroup show "$cgroup"
	else
		"$bpftool" cgroup tree
	fi 2>/dev/null | while IFS= read -r line; do
		if [[ $line == /* ]]; then
			where=$line
		elif [[ $line =~ ^[[:space:]]*([0-9]+)[[:space:]]+([^[:space:]]+) &&
			-n ${ours[${BASH_REMATCH[1]}]:-} ]]; then
			printf '%s %s %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "$where"
		fi
	done
}

# What hangs on a pinned link cannot be detached by program. The connect hooks go first. A daemon that runs
# holds the links too, so unpinning alone (all that an old bpftool leaves us) does not detach them.
for link in "$pins"/links/connect* "$pins"/links/*; do
	[[ -e $link ]] || continue
	"$bpftool" link detach pinned "$link" >/dev/null 2>&1
	rm -f "$link"
done

# Where the guard was loaded, when nobody says: the layout has the inode of the cgroup's directory.
guarded_cgroup() {
	local mount kind layout
	layout=$("$bpftool" map lookup pinned "$pins/layout" key 0 0 0 0 2>/dev/null)
	[[ $layout =~ cgroup_id[^0-9]+([0-9]+) ]] || return
	while read -r _ mount kind _; do
		[[ $kind == cgroup2 ]] || continue
		# The table has blanks and backslashes as octal numbers.
		printf -v mount '%b' "$mount"
		find "$mount" -xdev -type d -inum "${BASH_REMATCH[1]}" -print -quit 2>/dev/null
		return
	done </proc/mounts
}

# There first, by the pins and without a list: that of bpftool 7.0 and 7.1 has no programs on kernels before
# 6.0, and says nothing about it. `blind` is what could not be detached where there is something and no list.
where=${cgroup:-$(guarded_cgroup)}
blind=
for hook in inet4_connect:connect4 inet6_connect:connect6 inet_ingress:ingress inet_egress:egress \
	sock_ops:sock_ops inet_sock_release:sock_release; do
	pin=$pins/programs/${hook#*:}
	[[ -n $where && -e $pin ]] || continue
	"$bpftool" cgroup detach "$where" "cgroup_${hook%:*}" pinned "$pin" >/dev/null 2>&1 ||
		"$bpftool" cgroup show "$where" >/dev/null 2>&1 || blind="$blind ${hook#*:}"
done
[[ -z $blind ]] || fail "something stays attached to $(quoted "$where"), perhaps$blind, and this bpftool cannot list it: the pins stay in $pins"

# Then wherever else there is one.
status=0
while IFS= read -r line; do
	read -r id type _ <<<"$line"
	where=${line#"$id $type "}
	output=$("$bpftool" cgroup detach "$where" "$type" id "$id" 2>&1) || {
		printf '%s\n' "$output" >&2
		status=1
	}
done < <(attachments)
((status == 0)) || fail "some programs could not be detached: the pins stay in $pins"

# The layout's version 0 tells a daemon that its guard was taken away, so that it does not pin it again.
"$bpftool" map update pinned "$pins/layout" key 0 0 0 0 value 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 >/dev/null 2>&1
rm -rf "$pins" || fail "cannot remove $pins"
# The lock of a daemon that was killed is nobody's; one that runs holds its own.
[[ ! -d $pins:lock ]] || flock --nonblock "$pins:lock" rmdir "$pins:lock" 2>/dev/null
rmdir "$bpffs/connguard" 2>/dev/null
printf "guard '%s' is gone\n" "$name"
