# SPDX-License-Identifier: BSD-2-Clause
"""The unit under a real systemd, which is process 1 of a container made of namespaces and an overlay of /.

Its cgroup namespace begins in one of the laboratory's, and its network is home's: the service that it starts
is a service at home. Nothing of the host's own manager is touched.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys

from harness import (BUILD, CGROUP_HOOKS, PORT, PREFIX, TOP, Skip, attached_programs, die_with_parent, run, wait_end,
                     wait_for)
from registry import test
from steps import assert_passed, assert_refused, dial
from test_upgrade import Besieged, kernel_ids

SYSTEMD = "/lib/systemd/systemd"
UNIT = os.path.join(TOP, "scripts", "systemd", "connguardd@.service")
INSTANCE = "connguardd@cgt.service"

# What process 1 is before it is systemd: a root of its own in which only /run, /tmp, /dev and what is written
# over / can be changed, and of /sys the cgroups and the pins.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs cgt-systemd {directory}
mkdir {directory}/upper {directory}/work {directory}/root
mount -t overlay cgt-root -o lowerdir=/,upperdir={directory}/upper,workdir={directory}/work {directory}/root
cd {directory}/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf cgt-bpf sys/fs/bpf
mount -t tmpfs cgt-dev dev
for name in null zero full random urandom tty; do
    mknod -m 666 dev/$name c $(stat -c '0x%t 0x%T' /dev/$name)
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t devpts -o newinstance devpts dev/pts
mount -t tmpfs cgt-run run
mount -t tmpfs cgt-tmp tmp
mkdir -p run/units old etc/connguard
cp -r {files}/units/. run/units/
cp {files}/guard.conf etc/connguard/cgt.conf
pivot_root . old
umount -l /old
exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units {systemd} --unit=cgt.target \\
    --show-status=no --log-target=null
"""

# The service: two dials to one peer, as soon as it runs; then it keeps what it has.
NODE = """
import json, os, socket, time
def dial():
    peer = socket.socket()
    try:
        peer.connect(("{address}", {port}))
    except OSError as error:
        return peer, error.errno
    return peer, 0
dials = [dial(), dial()]
with open("/run/dials~", "w") as file:
    json.dump([result for _, result in dials], file)
os.rename("/run/dials~", "/run/dials")
while True:
    time.sleep(1000)
"""


class Container:
    """A systemd with the guard's unit, a service, and what is written over them."""

    numbers = itertools.count(1)

    def __init__(self, lab, peer, cgroup, units):
        if not os.access(SYSTEMD, os.X_OK):
            raise Skip("systemd is not installed")
        if not re.search(r"\boverlay$", open("/proc/filesystems", encoding="ascii").read(), re.M):
            raise Skip("this kernel has no overlay file system")
        name = f"systemd{next(self.numbers)}"
        self.guarded = cgroup
        self.cgroup = os.path.join(lab.cgroups, PREFIX, name)
        files = os.path.join(lab.directory, f"{name}-files")
        directory = os.path.join(lab.directory, name)
        for path in (self.cgroup, directory, os.path.join(files, "units")):
            os.makedirs(path, exist_ok=True)
        with open(UNIT, encoding="utf-8") as file:
            unit = file.read().replace("@SBINDIR@", BUILD).replace("@BINDIR@", BUILD)
        node = os.path.join("/run/units", "node.py")
        units = dict({
            "connguardd@.service": unit,
            "node.py": NODE.format(address=peer.address, port=PORT).lstrip(),
            "node.service": f"[Service]\nExecStart={sys.executable} -S {node}\n",
            "cgt.target": f"[Unit]\nWants={INSTANCE} node.service\nAfter=network.target\n",
        }, **units)
        # The last two are those that services are ordered behind.
        units.update({f"{name}.target": "[Unit]\n"
                      for name in ("sysinit", "basic", "shutdown", "network-pre", "network")})
        for name, text in units.items():
            path = os.path.join(files, "units", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self.configure(f"port = {PORT}", os.path.join(files, "guard.conf"))
        script = BOOT.format(directory=directory, files=files, systemd=SYSTEMD)
        self.output = os.path.join(lab.directory, f"{name}-output")
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                lab.home.inside("sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', self.cgroup,
                                "unshare", "--pid", "--mount", "--cgroup", "--uts", "--ipc", "--fork",
                                "--kill-child", "sh", "-c", script),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent)
        lab.at_end(self.end)
        # What comes before systemd is what the machine can or cannot do.
        wait_for(lambda: self.first() or self.process.poll() is not None, "systemd begins")
        if self.process.poll() is not None:
            raise Skip(f"no container can be made here: {self.said().strip()}")
        wait_for(lambda: self.run("systemctl", "is-system-running")[1].strip() in ("running", "degraded"),
                 lambda: f"systemd has started: {self.said()} {self.run('systemctl', 'list-jobs')[1]}")

    def said(self):
        with open(self.output, encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        """Process 1 of a namespace takes all others of it along."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGKILL)
        wait_end(self.process, "systemd ends")

    def first(self):
        """Process 1, by its number here; None: there is none yet."""
        pid = self.process.pid
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                first = int(file.read())
            # Before, / is the host's yet.
            with open(f"/proc/{first}/comm", encoding="ascii") as file:
                return first if file.read().strip() == "systemd" else None
        return None

    def inside(self, path):
        """A path of the container, as it is seen from here."""
        return f"/proc/{self.first()}/root{path}"

    @property
    def pins(self):
        return self.inside("/sys/fs/bpf/connguard/cgt")

    def configure(self, settings, path=None):
        """What the guard's file says from now on (or the one at this path)."""
        with open(path or self.inside("/etc/connguard/cgt.conf"), "w", encoding="utf-8") as file:
            # A test that is slow shall not find its own links silent.
            file.write(f"[guard]\ncgroup = {self.guarded}\nsuspect_after = 15s\n{settings}\n")

    def cgroup_below(self, name):
        """Here, a cgroup in the one that is guarded: what is in it is of the service."""
        path = os.path.join(self.cgroup, self.guarded.lstrip("/"), name)
        os.makedirs(path, exist_ok=True)
        return path

    def attached(self):
        """How many programs are at the guarded cgroup."""
        directory = os.open(os.path.join(self.cgroup, self.guarded.lstrip("/")), os.O_RDONLY)
        try:
            return sum(attached_programs(directory, hook) for hook in CGROUP_HOOKS.values())
        finally:
            os.close(directory)

    def run(self, *arguments):
        """A program in the container: status and output."""
        first = self.first()
        if first is None:
            return 1, "there is no process 1 yet"
        # Where the state is there says the unit alone.
        environment = {name: value for name, value in os.environ.items() if name != "STATE_DIRECTORY"}
        return run("nsenter", f"--target={first}", "--mount", "--pid", *arguments, check=False, env=environment)

    def must(self, *arguments):
        """One that must succeed. Its output."""
        status, text = self.run(*arguments)
        assert status == 0, f"{' '.join(arguments)} exits {status}: {text}\n{self.log()}"
        return text

    def tell(self, *arguments):
        """A command to the guard, which must succeed."""
        return self.must(os.path.join(BUILD, "connguard"), "-n", "cgt", *arguments)

    def log(self):
        """What the guard's unit says, where it says it to a file (OWN_SLICE)."""
        return self.run("cat", "/run/guard.log")[1]

    def show(self, unit, property_name):
        return self.run("systemctl", "show", "--value", "-p", property_name, unit)[1].strip()

    def status(self):
        """Of the guard: exit status and document."""
        code, text = self.run(os.path.join(BUILD, "connguard"), "-n", "cgt", "--json", "status")
        return code, json.loads(text)

    def dials(self):
        """What became of the service's dials, when both are done."""
        code, text = wait_for(lambda: (lambda done: not done[0] and done)(self.run("cat", "/run/dials")),
                              lambda: f"the service has dialed: {self.run('systemctl', 'status', 'node')[1]}")
        assert code == 0
        return [os.strerror(number) if number else "success" for number in json.loads(text)]


# The service has a slice of its own, which is guarded: as connguardd(8) has it under SYSTEMD.
OWN_SLICE = {
    f"{INSTANCE}.d/slice.conf": "[Unit]\nRequires=node.slice\nAfter=node.slice\n",
    "node.service.d/slice.conf": f"[Unit]\nWants={INSTANCE}\nAfter={INSTANCE}\n[Service]\nSlice=node.slice\n",
    f"{INSTANCE}.d/log.conf": "[Service]\nStandardError=append:/run/guard.log\n",
    "cgt.target": "[Unit]\nWants=node.service\n",
}


def container_with_a_slice(lab):
    """And the peer with which the service in it is linked, of its two dials."""
    peer = lab.fresh()
    peer.listen()
    lab.retire_shared()
    container = Container(lab, peer, "/node.slice", OWN_SLICE)
    assert container.dials() == ["success", os.strerror(errno.ECONNREFUSED)], container.dials()
    return container, peer


@test
def the_unit_is_ready_while_it_waits_for_the_cgroup_of_the_service(lab):
    peer = lab.fresh()
    peer.listen()
    lab.retire_shared()
    container = Container(lab, peer, "/system.slice/node.service", {
        "cgt.target": f"[Unit]\nWants={INSTANCE} network.target\nAfter=network.target\n"})
    # What is ordered behind network.target, as services are, starts now.
    assert container.show(INSTANCE, "ActiveState") == "active", container.run("systemctl", "status", INSTANCE)[1]
    assert container.show(INSTANCE, "StatusText") == \
        "nothing is guarded: waiting for cgroup /sys/fs/cgroup/system.slice/node.service"
    code, document = container.status()
    assert code == 1 and document["waits_for"] == "/sys/fs/cgroup/system.slice/node.service", document
    # The unit leaves it what it takes to confine itself.
    assert document["confinement"]["bounded"] and document["confinement"]["seccomp"], document["confinement"]
    assert container.run("systemctl", "start", "node.service")[0] == 0
    wait_for(lambda: container.status()[0] == 0, lambda: container.status()[1]["problems"])
    # Whether the first dial was faster than the hooks is systemd's affair and the processor's: it is a link.
    assert container.dials()[0] == "success", container.dials()
    wait_for(lambda: container.status()[1]["peers"]["linked"] == 1, lambda: container.status()[1])
    assert container.show(INSTANCE, "StatusText").startswith("guarding"), container.show(INSTANCE, "StatusText")
    assert container.show(INSTANCE, "NRestarts") == "0"
    container.run("systemctl", "stop", "node.service")
    wait_for(lambda: container.status()[0] == 1, "the cgroup has gone with its service")
    wait_for(lambda: container.show(INSTANCE, "StatusText").startswith("nothing is guarded"), "systemd is told")
    assert container.run("systemctl", "stop", INSTANCE)[0] == 0
    assert container.show(INSTANCE, "Result") == "success"


@test
def in_a_slice_of_its_own_not_one_dial_of_the_service_is_unguarded(lab):
    container, _peer = container_with_a_slice(lab)
    for again in (True, False):
        assert container.dials() == ["success", os.strerror(errno.ECONNREFUSED)], container.dials()
        code, document = container.status()
        counters = document["counters"]["enforced"]
        assert code == 0 and document["cgroup"] == "/sys/fs/cgroup/node.slice", document
        assert document["peers"]["linked"] == 1 and "link_adopted" not in counters, document
        if again:
            container.must("rm", "/run/dials")
            container.must("systemctl", "restart", "node.service")
    # The slice outlives its service, so there was nothing to follow.
    log = container.log()
    assert "followed" not in log and "waiting" not in log and "loaded: cgroup /sys/fs/cgroup/node.slice" in log, log


@test
def a_reload_of_a_bad_file_fails_and_what_was_in_force_stays(lab):
    container, peer = container_with_a_slice(lab)
    second = lab.home.add_worker("cgt-second", container.cgroup_below("second"))
    before, process = kernel_ids(container), container.show(INSTANCE, "MainPID")
    container.configure("port = 240000\nmode = off")
    status, text = container.run("systemctl", "reload", INSTANCE)
    assert status != 0, text
    assert container.show(INSTANCE, "ReloadResult") == "exit-code", container.show(INSTANCE, "ReloadResult")
    assert "'240000' is not a port" in container.log(), container.log()
    code, document = container.status()
    assert code == 0 and document["ports"] == [PORT] and document["mode"] == "enforce", document
    assert container.show(INSTANCE, "ActiveState") == "active" and kernel_ids(container) == before
    assert_refused(dial(lab, peer, second))
    # One that is mended is taken by the same daemon.
    container.configure(f"port = {PORT}\nmode = off")
    container.must("systemctl", "reload", INSTANCE)
    assert container.show(INSTANCE, "ReloadResult") == "success", container.show(INSTANCE, "ReloadResult")
    assert container.status()[1]["mode"] == "off" and container.show(INSTANCE, "MainPID") == process
    assert_passed(dial(lab, peer, second))


@test
def a_restart_keeps_the_hooks_and_leaves_no_gap(lab):
    """RestartKillSignal: another signal than that which removes the guard."""
    container, _peer = container_with_a_slice(lab)
    siege = Besieged(lab, cgroup=container.cgroup_below("besieged"))
    for _ in range(2):
        before, process = kernel_ids(container), container.show(INSTANCE, "MainPID")
        programs = {hook["name"]: hook["program_id"] for hook in container.status()[1]["hooks"]}
        container.must("systemctl", "restart", INSTANCE)
        siege.wait()
        after = kernel_ids(container)
        kept = [pin for pin in before if "/links/" in pin or pin.endswith("/peers")]
        assert len(kept) > len(CGROUP_HOOKS), before
        assert all(after[pin] == before[pin] for pin in kept), (before, after)
        # Another daemon, with programs of its own at the same hooks.
        hooks = container.status()[1]["hooks"]
        assert all(hook["program_id"] != programs[hook["name"]] for hook in hooks), (programs, hooks)
        assert container.show(INSTANCE, "MainPID") != process
    siege.assert_no_gap(100)
    wait_for(lambda: container.status()[0] == 0, lambda: container.status()[1]["problems"])
    assert container.show(INSTANCE, "Result") == "success" and container.show(INSTANCE, "NRestarts") == "0"


@test
def a_panic_outlives_a_stop_and_a_start(lab):
    """StateDirectory: the daemon, whose view of the host is the unit's, can keep it."""
    container, peer = container_with_a_slice(lab)
    second = lab.home.add_worker("cgt-second", container.cgroup_below("second"))
    assert_refused(dial(lab, peer, second))
    container.tell("panic")
    container.must("systemctl", "stop", INSTANCE)
    wait_for(lambda: container.attached() == 0, lambda: f"{container.attached()} programs stay attached")
    assert "\nmode off " in container.must("cat", "/var/lib/connguard/cgt.state")
    assert container.must("stat", "-c", "%a", "/var/lib/connguard") == "700\n"
    container.must("systemctl", "start", INSTANCE)
    document = container.status()[1]
    assert document["mode"] == "off" and document["decided"]["mode"]["mode"] == "off", document
    assert_passed(dial(lab, peer, second))
    container.tell("resume")
    container.must("systemctl", "stop", INSTANCE)
    container.must("systemctl", "start", INSTANCE)
    assert container.status()[1]["mode"] == "enforce", container.status()
    assert_refused(dial(lab, peer, second))
