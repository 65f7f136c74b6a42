#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Boots one kernel under software emulation with this machine's root directory, runs a script there
# as root, and says how that ended. The guest sees the root read-only; what it writes stays in its
# memory. It has no network.
#
# usage: boot.sh KERNEL_DIRECTORY RUN_DIRECTORY SECONDS SECOND_STAGE [NAME=VALUE]...
#        NAME=VALUE: variables of the second stage, without spaces
#
# RUN_DIRECTORY takes console.log (the kernel's) and output.log (the script's). The one line on
# standard output is "exit N", "time-out", "panic" or "no status": the exit status here is 0 for
# each of them, 1 when the emulator could not be started.
set -eu

MEMORY_MIB=1536

kernel=$1
run=$2
limit=$3
second_stage=$4
shift 4

mkdir -p "$run"
run=$(cd "$run" && pwd)
rm -f "$run"/{console,output,virtiofsd,qemu}.log "$run/status"
# A path of its own: the address of a local socket is short.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/cgt-vm.XXXXXX")
virtiofsd_process=
emulator=

clean_up() {
	trap '' INT TERM
	[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
	[ -z "$virtiofsd_process" ] || kill "$virtiofsd_process" 2>/dev/null || true
	wait || true
	rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

virtiofsd=$("$(dirname "$0")/../bootstrap.sh" --print-virtiofsd)
# The root as a mount namespace of its own sees it, without what belongs to the running kernel: a
# guest that looks below its own /proc must find an empty directory there.
mkdir "$scratch/root"
# shellcheck disable=SC2016 # the inner shell expands these
unshare --mount sh -eu -c '
	mount --rbind / "$1"
	for below in proc sys dev run; do
		umount --lazy "$1/$below" 2>/dev/null || true
	done
	exec "$2" --socket-path="$3" -o "source=$1" -o cache=always -o sandbox=chroot -f
	' sh "$scratch/root" "$virtiofsd" "$scratch/fs" >"$run/virtiofsd.log" 2>&1 &
virtiofsd_process=$!
for _ in $(seq 100); do
	[ ! -S "$scratch/fs" ] || break
	kill -0 "$virtiofsd_process" 2>/dev/null || break
	sleep 0.05
done
[ -S "$scratch/fs" ] || {
	sed 's/^/boot: /' "$run/virtiofsd.log" >&2
	exit 1
}

# Software emulation is the one thing that works wherever this runs, nested in other guests too.
# It translates code for each address anew, hence norandmaps. One processor is faster than two.
timeout --kill-after=10 "$limit" qemu-system-x86_64 \
	-accel tcg -cpu qemu64 -smp 1 \
	-M q35,memory-backend=memory -m "$MEMORY_MIB" \
	-object "memory-backend-memfd,id=memory,size=${MEMORY_MIB}M,share=on" \
	-chardev "socket,id=fs,path=$scratch/fs" -device vhost-user-fs-pci,chardev=fs,tag=host \
	-nodefaults -display none -no-reboot \
	-serial "file:$run/console.log" -serial "file:$run/output.log" -serial "file:$run/status" \
	-kernel "$kernel/vmlinuz" -initrd "$kernel/initramfs" \
	-append "console=ttyS0 panic=-1 norandmaps nokaslr mitigations=off loglevel=5 \
VM_SECOND_STAGE=$second_stage VM_KERNEL_DIRECTORY=$kernel $*" \
	>"$run/qemu.log" 2>&1 </dev/null &
emulator=$!
ended=0
wait "$emulator" || ended=$?
emulator=

status=$(cat "$run/status" 2>/dev/null || true)
if [[ $status =~ ^exit\ [0-9]+$ ]]; then
	echo "$status"
elif [ "$ended" -eq 124 ] || [ "$ended" -eq 137 ]; then
	echo 'time-out'
elif grep -q 'Kernel panic' "$run/console.log" 2>/dev/null; then
	echo 'panic'
elif [ ! -s "$run/console.log" ]; then
	sed 's/^/boot: /' "$run/qemu.log" >&2
	exit 1
else
	echo 'no status'
fi
