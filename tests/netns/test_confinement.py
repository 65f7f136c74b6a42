# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon gives up once it guards, and that it can do its work with what it keeps.

All other tests run on a confined daemon as well: it is never anything else.
"""

import errno
import os
import re
import shutil
import signal
import struct
import sys

from harness import RUN, TOP, Skip, lacks, libc, wait_for
from registry import core, test
from steps import assert_refused, assert_reset, dial, link_in, link_out, listen_home

UNIT = os.path.join(TOP, "scripts", "systemd", "connguardd@.service")
# capabilities(7)
CAPABILITIES = {"chown": 0, "dac_read_search": 2, "setpcap": 8, "net_admin": 12, "sys_ptrace": 19,
                "sys_admin": 21, "sys_resource": 24, "perfmon": 38, "bpf": 39, "net_raw": 13}
NOBODY = 65534


def sets_of(guard):
    """The capability sets of /proc/PID/status as numbers, no_new_privs, and the mode of seccomp (2: a filter)."""
    with open(f"/proc/{guard.process.pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return ({name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
            int(fields["NoNewPrivs"]), int(fields["Seccomp"]))


def kept():
    """The names of the capabilities that a daemon keeps on this kernel."""
    version = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
    with open("/proc/sys/kernel/unprivileged_bpf_disabled", encoding="ascii") as file:
        for_everybody = file.read().strip() == "0"
    # Where bpf(2) is for everybody it cannot be told whether it needs one when that ends.
    return (["net_admin", "dac_read_search"] + ["bpf"] * (version < (5, 19) or for_everybody)
            + ["sys_ptrace"] * (version < (5, 15)))


def bits(names):
    return sum(1 << CAPABILITIES[name] for name in names)


def kernel_has_landlock():
    """landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)"""
    return libc.syscall(444, None, 0, 1) > 0


@test
def the_daemon_keeps_what_it_needs_and_says_so(lab):
    guard = lab.guard()
    confinement = guard.status()["confinement"]
    sets, no_new_privileges, seccomp = sets_of(guard)
    assert sets["CapPrm"] == sets["CapEff"] == bits(kept()), {name: hex(one) for name, one in sets.items()}
    assert sets["CapBnd"] == bits(kept()) and confinement["bounded"], (hex(sets["CapBnd"]), confinement)
    assert sets["CapInh"] == sets["CapAmb"] == 0 and no_new_privileges == 1, sets
    assert seccomp == 2 and confinement["seccomp"], (seccomp, confinement)
    assert confinement["capabilities"] == kept(), confinement
    status, text = guard.cli("status")
    assert re.search(r"^daemon keeps .*; executes, loads and traces nothing$", text, re.M), text
    assert status == 0 and re.search(rf"^daemon keeps +{', '.join(kept())}; ", text, re.M), text
    # Said in words where it is not so.
    limited = kernel_has_landlock() and "socket_iterator" not in lacks
    assert bool(confinement["landlock"]) == limited, confinement
    assert ("access to its own files only" in text) == limited, text
    assert ("not limited: " in text) != limited and ("not limited: " in guard.log(1000)) != limited, text


@test
def what_a_namespace_of_its_own_costs_is_said(lab):
    """Who may load programs and trace says so, and nobody else: with seccomp nobody may."""
    def said(guard):
        return [note for note in guard.status()["notes"] if "could load programs" in note]
    inside = lab.own_guard(start=False)
    inside.wrapper = without(*NO_SECCOMP)
    inside.start()
    assert [("bpf" in note) for note in said(inside)] == [True] * ("bpf" in kept()), said(inside)
    assert not any("sys_admin" in note for note in said(inside)), said(inside)
    inside.stop()
    guard = lab.own_guard(netns=f"/run/netns/{lab.home.namespace}")
    sets, _, seccomp = sets_of(guard)
    assert sets["CapPrm"] == sets["CapBnd"] == bits(kept() + ["sys_admin", "net_raw"]), hex(sets["CapPrm"])
    assert seccomp == 2 and not said(guard), said(guard)
    guard.stop()
    guard.wrapper = without(*NO_SECCOMP)
    guard.start()
    note, = said(guard)
    assert "keeps sys_admin, which the kernel takes for bpf and perfmon as well" in note, note


def holder_of(guard, peer):
    link, = guard.peer(peer.address)["links"]
    return link["process_id"], link["command"]


@test
def it_finds_who_holds_a_link_without_power_over_processes(lab):
    """A link that came in, held by a process of another user alone."""
    if shutil.which("setpriv") is None:
        raise Skip("setpriv is missing")
    guard, peer = lab.guard(), lab.fresh()
    link = link_in(lab, peer, listen_home(lab))
    # Where a walk over all processes takes long it is not made for each question.
    wait_for(lambda: holder_of(guard, peer) == (lab.home.worker.pid, "cgt-home"), lambda: f"{holder_of(guard, peer)}")
    process = lab.home("inherit", fd=link.here, user=NOBODY)
    # Both hold it: the one with the lower number is named.
    both = {lab.home.worker.pid: "cgt-home", process: "sleep"}
    wait_for(lambda: holder_of(guard, peer) == min(both.items()), lambda: f"{holder_of(guard, peer)}")
    lab.home("close", fd=link.here)
    wait_for(lambda: holder_of(guard, peer) == (process, "sleep"), lambda: f"{holder_of(guard, peer)}")
    lab.home("end", process=process)
    wait_for(lambda: not guard.peer(peer.address)["links"], "the link is over")


@test
def it_starts_with_what_the_systemd_unit_leaves_it_and_does_all_its_work(lab):
    if shutil.which("setpriv") is None:
        raise Skip("setpriv is missing")
    with open(UNIT, encoding="utf-8") as file:
        text = file.read()
    names = [name.lower() for line in re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.M)
             for name in line.split()]
    assert {name[4:] for name in names} == set(CAPABILITIES), names
    # Each has its line of what it is for.
    comment = text[text.index("# What root may still do here:"):text.index("CapabilityBoundingSet=")]
    assert all(name.upper() in comment for name in names), comment
    guard = lab.own_guard(start=False)
    listed = ",".join("+" + name[4:] for name in names)
    guard.wrapper = ["setpriv", "--no-new-privs", f"--bounding-set=-all,{listed}", "--inh-caps=-all"]
    guard.start()
    peer, other = lab.fresh(), lab.fresh()
    link = link_in(lab, peer, listen_home(lab))
    link_out(lab, other)
    assert_reset(peer.knock())
    assert_refused(dial(lab, other))
    assert holder_of(guard, peer) == (lab.home.worker.pid, "cgt-home")
    guard.write(dict(guard.options, max_links=2))
    guard.tell("reload")
    assert guard.status()["policy"]["max_links"] == 2
    guard.tell("cut", peer.address)
    wait_for(lambda: not link.alive(), "the link is cut")
    for command, mode in (("panic", "off"), ("resume", "enforce")):
        guard.tell(command)
        assert guard.status()["mode"] == mode and not guard.status()["problems"], guard.status()
    sets, _, seccomp = sets_of(guard)
    assert sets["CapBnd"] == sets["CapPrm"] == bits(kept()) and seccomp == 2, (sets, seccomp)
    guard.stop()


@test
def without_the_power_to_bound_itself_it_guards_and_says_so(lab):
    if shutil.which("setpriv") is None:
        raise Skip("setpriv is missing")
    guard = lab.own_guard(start=False)
    guard.wrapper = ["setpriv", "--bounding-set=-setpcap"]
    guard.start()
    sets, _, _ = sets_of(guard)
    assert sets["CapPrm"] == bits(kept()) and sets["CapBnd"] & ~sets["CapPrm"], sets
    document = guard.status()
    assert not document["confinement"]["bounded"], document["confinement"]
    assert any("bounding set has more capabilities than it keeps" in note for note in document["notes"]), document
    guard.stop()


@test
def files_that_editors_replace_are_read_again(lab):
    guard = lab.own_guard(start=False)
    path = os.path.join(guard.directory, "peers")
    peers = [lab.fresh().address for _ in range(3)]
    guard.write(dict(guard.options, peers=path))
    for count in (1, 2, 3):
        # A new file each time, moved into place.
        with open(path + "~", "w", encoding="utf-8") as file:
            file.write("".join(f"{address}\n" for address in peers[:count]))
        os.rename(path + "~", path)
        if count == 1:
            guard.start()
        else:
            guard.write(dict(guard.options, max_links=count))
            guard.tell("reload")
            assert guard.status()["policy"]["max_links"] == count
        assert [bool(guard.peer(address)) for address in peers] == [i < count for i in range(3)]
    # Another name in the same place.
    os.rename(path, path + ".other")
    guard.write(dict(guard.options, peers=path + ".other"))
    guard.tell("reload")


@test
def each_path_of_the_configuration_counts(lab):
    """The file, the peers and the namespace, each by a link that leads elsewhere: as many rules as there can be."""
    guard = lab.own_guard(start=False)
    real = {}
    for name in ("guard.conf", "peers", "netns"):
        place = os.path.join(guard.directory, "real " + name)
        named = os.path.join(guard.directory, "named " + name)
        os.mkdir(place)
        os.mkdir(named)
        real[name] = os.path.join(place, name)
        os.symlink(real[name], os.path.join(named, name))
    named = {name: os.path.join(guard.directory, "named " + name, name) for name in real}
    # A namespace is a mount; of the file beside it the link is the third one.
    os.unlink(named["netns"])
    os.symlink(f"/run/netns/{lab.home.namespace}", named["netns"])
    peers = [lab.fresh().address for _ in range(4)]

    def write(count, max_links):
        """New files, moved into the places where the old ones are."""
        with open(real["peers"] + "~", "w", encoding="utf-8") as file:
            file.write("".join(f"{address}\n" for address in peers[:count]))
        os.rename(real["peers"] + "~", real["peers"])
        guard.file = real["guard.conf"]
        guard.write(dict(guard.options, peers=named["peers"], netns=named["netns"], max_links=max_links))
        guard.file = named["guard.conf"]
    write(1, 1)
    guard.start()
    for count in (2, 3):
        write(count, count)
        guard.tell("reload")
        assert guard.status()["policy"]["max_links"] == count
        assert [bool(guard.peer(address)) for address in peers] == [i < count for i in range(4)]
    # Links that are replaced by files, in the named places.
    write(4, 4)
    for name in ("guard.conf", "peers"):
        os.unlink(named[name])
        shutil.copy(real[name], named[name])
    guard.tell("reload")
    assert guard.status()["policy"]["max_links"] == 4 and guard.peer(peers[3])
    # At the end it removes its control socket, and its lock.
    guard.stop()
    assert not os.path.exists(os.path.join(RUN, guard.name + ".lock"))


@test
def other_files_are_refused_at_reload_with_what_to_do(lab):
    if not kernel_has_landlock():
        raise Skip("this kernel has no Landlock, or it is switched off")
    guard = lab.own_guard()
    elsewhere = guard.directory + "-elsewhere"
    os.mkdir(elsewhere)
    path = os.path.join(elsewhere, "peers")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{lab.fresh().address}\n")
    before = guard.status()["policy"]

    def refused(setting):
        guard.write(dict(guard.options, peers=setting, max_links=5))
        status, output = guard.cli("reload")
        assert status == 1 and f"[guard] peers = {setting}: cannot be opened: Permission denied" in output
        assert "restart connguardd" in output and "/etc/connguard" in output, output
        assert guard.status()["policy"] == before
    refused(path)
    # A link in the right place that leads to a wrong one: what the service may write must not make root's
    # daemon read what the service may not.
    link = os.path.join(guard.directory, "link")
    os.symlink("/etc/shadow", link)
    refused(link)
    # By signal it is in the log.
    guard.signal(signal.SIGHUP)
    guard.wait_log(r"not reloaded, the last good configuration stays in force: .*restart connguardd")
    # As said: a restart takes it.
    guard.write(dict(guard.options, peers=path))
    guard.end(signal.SIGQUIT)
    guard.start()
    assert guard.status()["policy"]["max_links"] == 5


# System calls by number: Landlock's is the same on all machines, of the others x86-64 has its own.
CREATE_RULESET = 444
SECCOMP, PRCTL = (317, 157) if os.uname().machine == "x86_64" else (277, 167)
PR_SET_SECCOMP = 22
# What a kernel that has neither answers: system call, its first argument if that matters, errno.
NO_LANDLOCK = [(CREATE_RULESET, None, errno.ENOSYS)]
NO_SECCOMP = [(SECCOMP, None, errno.ENOSYS), (PRCTL, PR_SET_SECCOMP, errno.EINVAL)]

# Has the kernel run the filter (seccomp(2)) that is its first argument, before it is the program of the others.
FILTERED = """
import ctypes, os, struct, sys
code = bytes.fromhex(sys.argv[1])
text = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(text)))
prctl = ctypes.CDLL(None).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, program):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
    sys.exit("no seccomp")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def without(*refusals):
    """A program in front of the daemon's: from it on the kernel answers these calls with an error."""
    load_word, jump_if_equal, back = 0x20, 0x15, 0x06  # linux/filter.h
    refuse, allow = 0x00050000, 0x7fff0000  # linux/seccomp.h
    first_argument = 16 if sys.byteorder == "little" else 20  # its lower half, in struct seccomp_data
    code = []
    for number, argument, error in refusals:
        code += [(load_word, 0, 0, 0), (jump_if_equal, 0, 1 if argument is None else 3, number)]
        if argument is not None:
            code += [(load_word, 0, 0, first_argument), (jump_if_equal, 0, 1, argument)]
        code += [(back, 0, 0, refuse | error)]
    code += [(back, 0, 0, allow)]
    return [sys.executable, "-S", "-c", FILTERED, b"".join(struct.pack("=HBBI", *one) for one in code).hex()]


@test
def where_landlock_is_missing_it_guards_and_says_so(lab):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    guard.wrapper = without(*NO_LANDLOCK)
    guard.start()
    # Where Landlock would be of no use nobody asks for it.
    reason = "on this kernel only /proc tells who holds a link" if "socket_iterator" in lacks \
        else "no Landlock here (Function not implemented)"
    guard.wait_log("warning: access to files is not limited: " + re.escape(reason))
    status, text = guard.cli("status")
    assert status == 0 and "access to all files" in text, text
    assert "the daemon's access to files is not limited: " + reason in text, text
    assert guard.status()["confinement"]["landlock"] is None
    sets, _, _ = sets_of(guard)
    assert sets["CapPrm"] == bits(kept()), sets
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    guard.stop()


@test
def where_seccomp_is_missing_it_guards_and_says_so(lab):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    guard.wrapper = without(*NO_SECCOMP)
    guard.start()
    reason = "no seccomp here (Invalid argument)"
    guard.wait_log("warning: system calls are not limited: " + re.escape(reason))
    status, text = guard.cli("status")
    assert status == 0 and re.search(r"^daemon keeps .*; all system calls$", text, re.M), text
    assert "the daemon's system calls are not limited: " + reason in text, text
    confinement = guard.status()["confinement"]
    assert not confinement["seccomp"] and confinement["bounded"], confinement
    sets, _, _ = sets_of(guard)
    assert sets["CapPrm"] == sets["CapBnd"] == bits(kept()), sets
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    guard.stop()
