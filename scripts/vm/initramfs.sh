#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Builds the small initramfs that mounts the host's root in a guest: a static busybox, the few
# modules needed for that, and first-stage.sh as its init.
#
# usage: initramfs.sh KERNEL_DIRECTORY      (see kernels.sh; writes KERNEL_DIRECTORY/initramfs)
set -eu

# In the order in which they are inserted; what a kernel has built in is left out.
MODULES='virtio_pci virtiofs overlay'

kernel=$1
release=$(cat "$kernel/release")
first_stage=$(dirname "$0")/first-stage.sh
busybox=$(command -v busybox)

[ -z "$(find "$kernel/initramfs" -newer "$first_stage" -newer "$0" 2>/dev/null)" ] || exit 0

root=$(mktemp -d "$kernel/initramfs.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,modules,lower,upper,new}
cp "$busybox" "$root/bin/busybox"
install -m 755 "$first_stage" "$root/init"

# unpack FILE TARGET: a module as the kernel takes it.
unpack() {
	case $1 in
	*.ko) cp "$1" "$2" ;;
	*.ko.xz) xz -dc "$1" >"$2" ;;
	*.ko.zst) zstd -qdc "$1" >"$2" ;;
	*.ko.gz) gzip -dc "$1" >"$2" ;;
	*)
		echo "initramfs: do not know how to unpack $1" >&2
		exit 1
		;;
	esac
}

tree=$kernel/lib/modules/$release
: >"$root/modules/order"
for module in $MODULES; do
	# "kernel/a.ko: kernel/b.ko kernel/c.ko": the last dependency goes in first.
	entry=$(awk -v name="$module" '
		{
			file = $1
			sub(/:$/, "", file)
			base = file
			sub(/.*\//, "", base)
			sub(/[.]ko.*/, "", base)
			gsub(/-/, "_", base)
			if (base == name) {
				for (i = NF; i > 1; i--)
					printf "%s ", $i
				print file
			}
		}' "$tree/modules.dep")
	for file in $entry; do
		name=$(basename "$file")
		name=${name%%.*}.ko
		[ ! -e "$root/modules/$name" ] || continue
		unpack "$tree/$file" "$root/modules/$name"
		echo "$name" >>"$root/modules/order"
	done
done
(cd "$root" && find . -print | cpio --quiet -o -H newc | gzip -1) >"$kernel/initramfs.new"
mv "$kernel/initramfs.new" "$kernel/initramfs"
