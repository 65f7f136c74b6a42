#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# First process of a guest, after scripts/vm/first-stage.sh has mounted the host's root: makes the
# surroundings that the tests expect of a running system, runs VM_COMMAND, writes its exit status to
# the third serial port and ends the guest.
#
# environment, from the kernel's command line: VM_COMMAND, a script in VM_TREE; VM_KERNEL_DIRECTORY,
# where the kernel's modules are; whatever VM_COMMAND wants.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

OUTPUT=/dev/ttyS1
STATUS=/dev/ttyS2

end() {
	echo "exit $1" >"$STATUS"
	sync
	busybox reboot -f
}

stty -F "$OUTPUT" raw -echo
stty -F "$STATUS" raw -echo
exec >"$OUTPUT" 2>&1 </dev/null

surroundings() {
	set -e
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t bpf bpf /sys/fs/bpf
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -p /dev/pts /dev/shm
	# What a device manager would link; shells need it for <(command).
	ln -s /proc/self/fd /dev/fd
	mount -t devpts devpts /dev/pts
	mount -t tmpfs tmpfs /dev/shm
	# Where the kernel and modprobe look; on the host it is another kernel's.
	mkdir -p "/lib/modules/$(uname -r)"
	mount --bind "$VM_KERNEL_DIRECTORY/lib/modules/$(uname -r)" "/lib/modules/$(uname -r)"
}

# In a shell of its own, which ends at the first failure: then the last mount is missing.
(surroundings)
mountpoint -q "/lib/modules/$(uname -r)" || end 125
# A device node of a module does not load it without a device manager.
modprobe tun
ip link set lo up

cd "$VM_TREE" || end 125
"$VM_COMMAND"
end $?
