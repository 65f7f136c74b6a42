#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Init of the initramfs: mounts the host's root read-only, puts a file system in memory over it, and
# goes on with the second stage from there. The kernel hands over what its command line sets:
# VM_SECOND_STAGE (a path in the host's root), and the second stage's own variables.
#
# shellcheck shell=dash
set -eu
export PATH=/bin

b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do
	$b insmod "/modules/$module"
done </modules/order
$b mount -t virtiofs -o ro host /lower
$b mount -t tmpfs -o mode=755 tmpfs /upper
$b mkdir /upper/changes /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work overlay /new
$b umount /proc
$b umount /sys
$b mount -o move /dev /new/dev
exec $b switch_root /new /bin/bash "$VM_SECOND_STAGE"
