# SPDX-License-Identifier: BSD-2-Clause
"""What is this host itself, by the kernel's routing tables, and links whose own address goes away."""

import ctypes
import os
import struct

from harness import (IPV4, IPV6, MAPPED, PATIENCE, PORT, SECOND, SYS_BPF, Skip, libc, run, wait_for,
                     wait_past)
from registry import core, each, each_family, needs, test
from steps import (Link, assert_dial_refused, assert_knock_refused, assert_passed, dial, link_in, link_out,
                   listen_home)

MANY = 1500
# As long as a link that was never heard of again would keep its peer out, and longer than any test takes.
ALIVE = {"suspect_after": "600s", "deny_max": "3600s"}


def own_address(number):
    return f"10.98.{number // 250}.{number % 250 + 1}"


def is_own(guard, address):
    prefixes = guard.ask("explain", address=address)["exempt_prefixes"]
    return bool(prefixes) and prefixes[0]["own"]


def wait_own(guard, address, own=True):
    wait_for(lambda: is_own(guard, address) == own,
             lambda: f"{address} is {'this host' if own else 'another'} to the guard")


def assert_no_peer(lab, watch, address):
    """Dials go through, and nothing is counted."""
    for _ in range(3):
        assert_passed(lab.home("dial", address=address, port=PORT))
    watch.counted()


def add(lab, first, count):
    lab.home.ip(*(f"addr add {own_address(number)}/32 dev lo" for number in range(first, first + count)))
    lab.at_end(remove, lab, first, count)


def remove(lab, first, count):
    present = {line.split()[3].split("/")[0] for line in
               run("ip", "-n", lab.home.namespace, "-o", "-4", "addr", "show", "dev", "lo")[1].splitlines()}
    lab.home.ip(*(f"addr del {own_address(number)}/32 dev lo" for number in range(first, first + count)
                  if own_address(number) in present))


def assert_whole(guard):
    status, document = guard.cli_json("status")
    assert status == 0 and not document["problems"], document["problems"]
    return document["own"]


@test
def more_addresses_than_a_thousand(lab):
    """At the start, and added later, one by one; and taken away again."""
    add(lab, 0, MANY)
    guard = lab.own_guard()
    listen_home(lab, MAPPED)
    watch = guard.watch()
    assert_no_peer(lab, watch, own_address(MANY - 100))
    add(lab, MANY, MANY)
    wait_own(guard, own_address(2 * MANY - 1))
    assert_no_peer(lab, watch, own_address(2 * MANY - 100))
    own = assert_whole(guard)
    assert 2 * MANY <= own["count"] < 2 * MANY + 100 < own["max"], own
    remove(lab, 0, 2 * MANY)
    wait_own(guard, own_address(0), False)
    wait_for(lambda: guard.status()["own"]["count"] < 100, lambda: guard.status()["own"])
    assert guard.running() and assert_whole(guard)["count"] < 100


# Commands of bpf(2), linux/bpf.h.
BPF_OBJ_GET = 7
BPF_MAP_UPDATE_BATCH = 26


def bpf(command, form, *arguments):
    attributes = ctypes.create_string_buffer(128)
    struct.pack_into(form, attributes, 0, *arguments)
    result = libc.syscall(SYS_BPF, command, attributes, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return result


def fill(guard, count):
    """Put so many addresses into the guard's own map that no host has (RFC 3849)."""
    path = ctypes.create_string_buffer(os.path.join(guard.pins, "own").encode())
    keys = ctypes.create_string_buffer(b"".join(
        struct.pack("=I", 128) + struct.pack(">QQ", 0x20010db8 << 32, number) for number in range(count)))
    values = ctypes.create_string_buffer(struct.pack("=I", 128) * count)
    descriptor = bpf(BPF_OBJ_GET, "=Q", ctypes.addressof(path))
    try:
        # struct batch of union bpf_attr: in_batch, out_batch, keys, values, count, map_fd, two words of flags.
        bpf(BPF_MAP_UPDATE_BATCH, "=QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), count,
            descriptor, 0, 0)
    finally:
        os.close(descriptor)


@test
def more_addresses_than_there_is_room_for(lab):
    """A problem that is named, for as long as it lasts, and no end."""
    guard = lab.own_guard()
    own = assert_whole(guard)
    fill(guard, own["max"] - own["count"])
    add_one(lab, "10.97.3.3/32", "lo")
    wait_for(lambda: guard.cli_json("status")[0] == 1, lambda: f"it is told: {guard.log()}")
    problems = guard.cli_json("status")[1]["problems"]
    assert len(problems) == 1 and f"room for ({own['max']})" in problems[0], problems
    # What is no address of this host goes with the next change.
    add_one(lab, "10.97.3.4/32", "lo")
    wait_own(guard, "10.97.3.4")
    wait_own(guard, "10.97.3.3")
    wait_for(lambda: guard.cli_json("status")[0] == 0, lambda: guard.cli("status")[1])
    guard.wait_log("over: this host has more addresses")
    listen_home(lab, MAPPED)
    assert_no_peer(lab, guard.watch(), "10.97.3.3")


@each_family
@core("IPv4", "IPv6")
def a_prefix_that_is_made_local(lab, family):
    """AnyIP: every address in it is this host, as long as the route is there."""
    guard = lab.guard()
    prefix, address = (("fd98:1::/64", "fd98:1::7:7") if family.version == 6 else
                       ("10.97.0.0/16", "10.97.7.7"))
    listen_home(lab, MAPPED)
    lab.home.ip(f"route add local {prefix} dev lo")
    gone = lab.home.ip
    lab.at_end(lambda: gone and gone(f"route del local {prefix} dev lo"))
    wait_own(guard, address)
    watch = guard.watch()
    assert_no_peer(lab, watch, f"::ffff:{address}" if family is MAPPED else address)
    covering = guard.ask("explain", address=address)["exempt_prefixes"]
    assert [one["prefix"] for one in covering] == [prefix], covering
    gone(f"route del local {prefix} dev lo")
    gone = None
    wait_own(guard, address, False)


@test
def a_hole_in_a_prefix_that_is_made_local(lab):
    """What `throw` takes out of it is this host to the guard all the same: a known limit."""
    guard = lab.guard()
    routes = ("local 10.97.0.0/16 dev lo", "throw 10.97.7.0/24 table local")
    lab.home.ip(*(f"route add {route}" for route in routes))
    lab.at_end(lab.home.ip, *(f"route del {route}" for route in routes))
    wait_own(guard, "10.97.8.8")
    assert is_own(guard, "10.97.7.7")


@test
def a_prefix_that_only_a_rule_leads_to_is_none_of_ours(lab):
    """TPROXY: all the world is "local" to packets with a mark."""
    lab.home.ip("route add local 0.0.0.0/0 dev lo table 100", "route add local ::/0 dev lo table 100")
    lab.at_end(lab.home.ip, "route del local 0.0.0.0/0 dev lo table 100", "route del local ::/0 dev lo table 100")
    guard = lab.own_guard()
    for family in (IPV4, IPV6):
        peer = lab.fresh(family)
        watch = guard.watch()
        assert not is_own(guard, peer.address)
        link_out(lab, peer)
        assert_dial_refused(lab, watch, peer, "dial_linked")


@test
def an_address_of_a_vrf(lab):
    """It is in the VRF's table, and nowhere else."""
    try:
        lab.home.ip("link add cgtvrf type vrf table 77")
    except AssertionError as error:
        raise Skip(f"this kernel has no VRF: {error}") from error
    lab.at_end(lab.home.ip, "link del cgtvrf")
    guard = lab.guard()
    lab.home.ip("link set cgtvrf up", "addr add 10.97.1.1/32 dev cgtvrf")
    wait_own(guard, "10.97.1.1")
    lab.home.ip("addr del 10.97.1.1/32 dev cgtvrf")
    wait_own(guard, "10.97.1.1", False)


@test
def an_own_address_in_an_exempt_prefix_is_no_peer(lab):
    guard = lab.guard(exempt="10.97.0.0/16, 10.97.3.3")
    add_one(lab, "10.97.3.3/32", "lo")
    wait_own(guard, "10.97.3.3")
    listen_home(lab, MAPPED)
    watch = guard.watch()
    assert_no_peer(lab, watch, "10.97.3.3")
    guard.tell("allow", "10.97.3.0/24", "--for", "1h")
    lab.at_end(guard.cli, "allow", "10.97.3.0/24", "--end")
    guard.tell("allow", "10.97.3.3/32", "--for", "1h")
    guard.tell("allow", "10.97.3.3/32", "--end")
    assert_no_peer(lab, watch, "10.97.3.3")


def add_one(lab, prefix, device="eth0"):
    """An address that is there until the end of the test at most. Returns how to take it away."""
    def take_away():
        nonlocal there
        if there:
            there = False
            lab.home.ip(f"addr del {prefix} dev {device}")
    lab.home.ip(f"addr add {prefix} dev {device}" + (" nodad" if ":" in prefix else ""))
    there = True
    lab.at_end(take_away)
    return take_away


class Stranded:
    """A peer that is linked with a second address of home's, which can go and come."""

    def __init__(self, lab, family, way, **options):
        self.lab, self.family = lab, family
        self.guard = lab.guard(**dict(ALIVE, **options))
        self.peer = lab.fresh(family)
        self.second, bits = ("fd77::60", 64) if family.version == 6 else ("10.77.0.60", 24)
        self.prefix = f"{self.second}/{bits}"
        self.take_away = add_one(lab, self.prefix)
        wait_own(self.guard, self.second)
        self.listener = listen_home(lab, MAPPED)
        self.watch = self.guard.watch()
        if way == "our dial":
            self.peer.listen()
            result = assert_passed(dial(lab, self.peer, source=self.source(self.second)))
            accepted = self.peer.host("accept", fd=self.peer.listener, timeout=PATIENCE)
            self.link = Link(lab, self.peer, result["fd"], accepted["fd"], result, accepted)
        else:
            result = assert_passed(self.peer.knock(self.second))
            accepted = lab.home("accept", fd=self.listener, timeout=PATIENCE)
            self.link = Link(lab, self.peer, accepted["fd"], result["fd"], result, accepted)
        self.cookie = result["cookie"] if way == "our dial" else accepted["cookie"]
        self.watch.event(self.peer, "link_outbound" if way == "our dial" else "link_inbound", cookie=self.cookie)

    def source(self, address):
        return f"::ffff:{address}" if self.family is MAPPED else address

    def slot(self):
        links = self.guard.peer(self.peer.address)["links"]
        return next((one for one in links if one["cookie"] == self.cookie), None)

    def wait_marked(self):
        event = self.watch.event(self.peer, "link_stranded", cookie=self.cookie)
        assert self.slot()["life"] == "stranded", self.slot()
        return event


@each_family
@core("IPv4")
def link_whose_own_address_is_gone_keeps_no_knock_out(lab, family):
    case = Stranded(lab, family, "our dial")
    assert_knock_refused(case.watch, case.peer)
    case.take_away()
    case.wait_marked()
    second = link_in(lab, case.peer, case.listener)
    case.watch.counted_at_least(knock_unproven=1)
    case.watch.event(case.peer, "link_replaced", cookie=second.cookie, other_cookie=case.cookie)
    # Then it makes room: the service is to know.
    case.watch.event(case.peer, "link_destroyed", cookie=case.cookie)
    assert second.alive()
    grown = case.watch.grown()
    assert "knock_suspect" not in grown and "link_unanswered" not in grown, grown


@each_family
def link_whose_own_address_is_gone_keeps_no_dial_back(lab, family):
    case = Stranded(lab, family, "their knock")
    case.peer.listen()
    assert_dial_refused(lab, case.watch, case.peer, "dial_linked")
    case.take_away()
    case.wait_marked()
    second = link_out(lab, case.peer)
    case.watch.event(case.peer, "dial_unproven")
    case.watch.event(case.peer, "link_replaced", cookie=second.cookie, other_cookie=case.cookie)
    case.watch.event(case.peer, "link_destroyed", cookie=case.cookie)
    assert second.alive()


@test
@core()
@needs("socket_options")
def knock_that_is_held_comes_in_when_the_own_address_goes(lab):
    """The quiet link is being asked, and cannot be answered any more."""
    case = Stranded(lab, IPV4, "their knock", suspect_after="1s", deny_max="3600s")
    end = lab.home.eat("input", f"ip saddr {case.peer.address} ip daddr {case.second}")
    lab.at_end(end)
    wait_for(lambda: case.slot()["life"] == "quiet", case.slot)
    knock = case.peer.knock(blocking=False)
    case.watch.event(case.peer, "knock_suspect")
    case.take_away()
    case.wait_marked()
    outcome = case.peer.host("settle", fd=knock["fd"], timeout=PATIENCE)
    assert outcome and outcome["errno"] == "success", outcome
    assert lab.home("accept", fd=case.listener, timeout=PATIENCE), "nothing comes in"
    case.watch.event(case.peer, "link_replaced", other_cookie=case.cookie)


@each_family
def link_whose_own_address_comes_back_is_as_it_was(lab, family):
    """A lease that is renewed too late, an address that moves to another host and back."""
    case = Stranded(lab, family, "our dial")
    for _ in range(3):
        case.take_away()
        case.wait_marked()
        case.take_away = add_one(lab, case.prefix)
        wait_for(lambda: case.slot()["life"] == "alive", lambda: f"it is as it was: {case.slot()}")
        assert not case.slot()["unanswered"], case.slot()
        case.watch = case.guard.watch()
        assert_knock_refused(case.watch, case.peer)
    assert case.link.alive()
    case.peer.host("send", fd=case.link.there, text="still here")
    assert lab.home("receive", fd=case.link.here, timeout=PATIENCE) == "still here"
    grown = case.watch.grown()
    assert not {"link_replaced", "link_ended", "link_destroyed"} & set(grown), grown


@test
def other_links_are_as_they_were(lab):
    case, other = Stranded(lab, IPV4, "our dial"), lab.fresh()
    link = link_out(lab, other)
    case.watch.event(other, "link_outbound")
    # The same address on another interface: it is this host's all the same.
    take_away = add_one(lab, f"{case.second}/32", "lo")
    case.take_away()
    case.guard.ask("status")
    wait_past(case.guard.status()["now_ns"] + SECOND)
    case.watch.no_event(case.peer, "link_stranded")
    assert_dial_refused(lab, case.watch, case.peer, "dial_linked")
    take_away()
    case.wait_marked()
    assert_dial_refused(lab, case.watch, other, "dial_linked")
    assert link.alive()
    case.watch.no_event(other, "link_stranded")


@test
def address_that_goes_and_comes_while_there_is_no_daemon(lab):
    """The next daemon knows what the one before it had known."""
    case = Stranded(lab, IPV4, "our dial")
    guard = case.guard
    for gone in (True, False):
        guard.end(9)
        if gone:
            case.take_away()
        else:
            case.take_away = add_one(lab, case.prefix)
        guard.start()
        wait_for(lambda gone=gone: (case.slot()["life"] == "stranded") == gone, case.slot)
    assert case.link.alive()
    assert_dial_refused(lab, guard.watch(), case.peer, "dial_linked")
