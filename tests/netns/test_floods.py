# SPDX-License-Identifier: BSD-2-Clause
"""SYN floods and lost events: what stays bounded, and who still gets in.

The floods come from left's namespace (flood.c), in the name of addresses that nobody has (the void: our
SYN-ACK is eaten), of addresses that somebody has (an RST answers our SYN-ACK), or of one peer.
"""

import collections
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import (BPFTOOL, IPV4, IPV6, PORT, SECOND, TIME_SCALE, Events, Skip, die_with_parent, first_line,
                     helper, now_ns, run, wait_for, waiting)
from prober import Prober
from registry import each, test
from steps import assert_passed, assert_refused, dial, link_in, link_out, listen_home

# Of include/connguard/rules.h and the default policy: a SYN is held for so long, twice at most.
HOLD_SECONDS = 1.5
HOLD_PERIODS = 2
# Half-open connections that home's kernel keeps. Without SYN cookies it drops SYNs from three quarters on.
BACKLOG = 4096
# Of user/pure/throttle.h.
CAUSE_LINES = 100


def void_prefix(family):
    return "10.85.0.0/16" if family.version == 4 else "fd85::/64"


def left_prefix(family):
    return "10.82.0.0/16" if family.version == 4 else "fd82::/64"


class Flood:
    """SYNs on their way to home's port."""

    def __init__(self, lab, family, sources, count, rate):
        self.process = subprocess.Popen(
            lab.left.inside(helper("flood"), family.home, str(PORT), sources, str(count), str(rate)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        lab.at_end(self.kill)
        assert first_line(self.process, "the flood begins") == b"ready\n", "the flood does not begin"

    def running(self):
        return self.process.poll() is None

    def end(self):
        """When all have left: how many."""
        with waiting("all SYNs of the flood have left"):
            output = self.process.stdout.read()
            assert self.process.wait() == 0
        return int(re.match(rb"sent (\d+) in", output).group(1))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def flood(lab, family, sources, count, rate=50000):
    return Flood(lab, family, sources, count, rate).end()


def memory(guard):
    """Kilobytes that the daemon has, and bytes that each map has locked."""
    with open(f"/proc/{guard.process.pid}/status", encoding="ascii") as file:
        resident = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
    maps = {}
    for name in os.listdir(guard.pins):
        path = os.path.join(guard.pins, name)
        if os.path.isfile(path):
            _status, text = run(BPFTOOL, "-j", "map", "show", "pinned", path)
            maps[name] = json.loads(text)["bytes_memlock"]
    return resident, maps


def extension(host, *names):
    """Counters of /proc/net/netstat, TcpExt."""
    _status, text = run(*host.inside("cat", "/proc/net/netstat"))
    lines = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    return [int(lines[1][lines[0].index(name)]) for name in names]


@contextlib.contextmanager
def syn_cookies(lab, value):
    """With this setting at home, and room for many half-open connections."""
    lab.home.sysctl("net.ipv4.tcp_syncookies", value)
    try:
        yield
    finally:
        lab.home.sysctl("net.ipv4.tcp_syncookies", 1)


def accept_all(lab):
    """Home accepts whoever comes; room for the handshakes of a flood that SYN cookies do not help."""
    lab.home.sysctl("net.core.somaxconn", BACKLOG)
    lab.home.sysctl("net.ipv4.tcp_max_syn_backlog", BACKLOG)
    return lab.home("node", listener=lab.home("listen", address="::", port=PORT, backlog=BACKLOG),
                    port=PORT)


def link_while(lab, guard, family, going, most=30):
    """Fresh peers knock and are dialed while something goes on. How long each took to link."""
    knocks, dials = [], []
    while going() and len(knocks) < most:
        knocker, dialed = lab.fresh(family), lab.fresh(family)
        dialed.listen()
        knocks.append(assert_passed(knocker.knock())["elapsed"])
        dials.append(assert_passed(dial(lab, dialed))["elapsed"])
        for peer in (knocker, dialed):
            wait_for(lambda peer=peer: guard.state(peer.address) == "linked",
                     f"{peer.address} is linked")
    return knocks, dials


@each(IPV4, IPV6)
def spoofed_syns_allocate_nothing_and_peers_link_meanwhile(lab, family):
    guard = lab.own_guard(frugal=True)
    accept_all(lab)
    # Everything that is allocated once is there.
    flood(lab, family, void_prefix(family), 2000)
    link_while(lab, guard, family, lambda: True, 1)
    resident, maps = memory(guard)
    linked = 2
    # Without cookies the kernel itself drops SYNs when its queue is full: fewer of them.
    for cookies, count, rate in ((0, 2500, 2500), (1, 20000, 20000), (2, 20000, 20000)):
        with syn_cookies(lab, cookies):
            sent_before, = extension(lab.home, "SyncookiesSent")
            seen_before = sum(guard.counters().get(name, 0)
                              for name in ("knock_idle", "knock_pending", "knock_hold_spent"))
            began = time.monotonic()
            syns = Flood(lab, family, void_prefix(family), count, rate)
            knocks, dials = link_while(lab, guard, family, syns.running)
            peers = guard.status()["peers"]
            sent = syns.end()
            seconds = time.monotonic() - began
        linked += 2 * len(knocks)
        assert len(knocks) > 2, "nobody tried to link during the flood"
        assert peers["count"] == peers["linked"] == linked, peers
        seen = sum(guard.counters().get(name, 0)
                   for name in ("knock_idle", "knock_pending", "knock_hold_spent")) - seen_before
        assert seen >= sent * 0.9, f"the guard has seen {seen} of {sent} SYNs"
        cookies_sent = extension(lab.home, "SyncookiesSent")[0] - sent_before
        assert cookies_sent > sent * (0, 0.3, 0.9)[cookies] or not cookies and not cookies_sent, \
            (cookies, cookies_sent)
        # Nobody waits for a retransmission.
        assert max(knocks + dials) < 0.9 * TIME_SCALE, (knocks, dials)
        print(f"# {family}, tcp_syncookies {cookies}: {sent} spoofed SYNs in {seconds:.1f} s "
              f"({cookies_sent} cookies); {len(knocks)} peers knocked, {len(dials)} were dialed, linked "
              f"within {max(knocks) * 1000:.1f} and {max(dials) * 1000:.1f} ms; "
              f"{peers['count']} peers in the map, all linked")
    resident_after, maps_after = memory(guard)
    assert maps_after == maps, (maps, maps_after)
    # Entries for the SYNs would be a hundred times more.
    assert resident_after - resident < 24 * 1024, (resident, resident_after)
    print(f"# the daemon: {resident} kB before, {resident_after} kB after; maps: {sum(maps.values())} bytes "
          f"before and after, of them peers {maps['peers']}, handshakes {maps['handshakes']}, "
          f"events {maps['events']}, sockets {maps['sockets']} (and a storage for each link)")


@test
def syns_from_real_addresses_make_no_peer(lab):
    """Their hosts know nothing of the handshakes and end them with RST."""
    guard = lab.own_guard()
    accept_all(lab)
    for family in (IPV4, IPV6):
        before = guard.status()["peers"]["count"]
        resets_before = lab.left.snmp("Tcp", "OutRsts")
        syns = Flood(lab, family, left_prefix(family), 20000, 20000)
        knocks, dials = link_while(lab, guard, family, syns.running)
        peers = guard.status()["peers"]
        sent = syns.end()
        resets = lab.left.snmp("Tcp", "OutRsts") - resets_before
        assert resets > sent / 2, f"{resets} RSTs to {sent} SYNs"
        assert peers["count"] - before == 2 * len(knocks) > 4, (before, peers)
        assert peers["count"] == peers["linked"], peers
        assert max(knocks + dials) < 0.9 * TIME_SCALE, (knocks, dials)
        print(f"# {family}: {sent} SYNs, {resets} RSTs to our answers; {2 * len(knocks)} peers linked "
              f"meanwhile, within {max(knocks + dials) * 1000:.1f} ms")


@contextlib.contextmanager
def silent_about_strangers(lab):
    """Left sends no RST: to a handshake that it knows nothing of it says nothing."""
    if shutil.which("nft") is None:
        raise Skip("nft is missing: nothing here can eat an RST")
    run(*lab.left.inside("nft", "add table inet cgt; "
                         "add chain inet cgt output { type filter hook output priority 0; }; "
                         "add rule inet cgt output tcp flags & rst == rst drop"))
    try:
        yield
    finally:
        run(*lab.left.inside("nft", "delete", "table", "inet", "cgt"))


def alone(family, address):
    """The prefix that is one address."""
    return f"{address}/{32 if family.version == 4 else 128}"


@test
def a_flood_in_the_name_of_a_peer_keeps_it_waiting_for_a_bounded_time(lab):
    """Off-path: the attacker sees neither our answers nor the peer's SYNs. Peers with a firewall that keeps
    silent are the worst case; each is flooded from before its knock, or our dial, until after it."""
    guard = lab.own_guard()
    accept_all(lab)
    # So few SYNs that one handshake always is pending, and so many that all places are taken.
    cases = [(family, rate, what) for family in (IPV4, IPV6) for rate in (1, 4, 1000)
             for what in ("knock", "dial")]
    with silent_about_strangers(lab):
        peers = [(case, lab.fresh(case[0])) for case in cases for _ in range(3)]
        for (_family, _rate, what), peer in peers:
            if what == "dial":
                peer.listen()
        floods = [Flood(lab, family, alone(family, peer.address), 15 * rate, rate)
                  for (family, rate, _what), peer in peers]
        began = {}
        for (_family, _rate, what), peer in peers:
            began[peer] = now_ns()
            result = peer.knock(blocking=False) if what == "knock" else dial(lab, peer, blocking=False)
            assert result["errno"] == "EINPROGRESS", result
        waits = collections.defaultdict(list)
        for case, peer in peers:
            wait_for(lambda peer=peer: guard.state(peer.address) == "linked",
                     f"{peer.address} is linked, {case}", 9)
            link, = guard.peer(peer.address)["links"]
            waits[case].append((link["since_ns"] - began[peer]) / SECOND)
        assert all(one.running() for one in floods), "a flood had ended before"
        for one in floods:
            one.kill()
    for family, rate, what in cases:
        if what == "knock":
            print(f"# {family}, {rate} SYNs a second in the name of each peer: its knock waited "
                  f"{max(waits[family, rate, 'knock']):.2f} s at most, our dial "
                  f"{max(waits[family, rate, 'dial']):.2f} s")
    # A SYN is held twice at most; then its sender's next retransmission passes. The answer to our dial is
    # held for as long, and once more when a knock crosses it meanwhile; then the peer, asked again by our
    # own retransmission, answers again.
    bound = HOLD_PERIODS * HOLD_SECONDS
    for (_family, _rate, what), seconds in waits.items():
        longest = bound if what == "knock" else 2 * bound + 1
        assert max(seconds) < longest + 0.3 * TIME_SCALE, waits
    assert_nothing_but_losses(guard)


@test
def a_flood_in_the_name_of_a_linked_peer_changes_nothing(lab):
    guard = lab.own_guard()
    listener = lab.home("listen", address="::", port=PORT)
    for family in (IPV4, IPV6):
        peer = lab.fresh(family)
        watch = guard.watch()
        link = link_in(lab, peer, listener)
        syns = Flood(lab, family, alone(family, peer.address), 20000, 20000)
        others = 0
        while syns.running():
            peer.host("send", fd=link.there, text="x")
            assert lab.home("receive", fd=link.here, timeout=5) == "x"
            if others < 50:
                link_in(lab, lab.fresh(family), listener)
                others += 1
        sent = syns.end()
        assert link.alive() and others > 2, others
        watch.counted_at_least(knock_linked=sent * 9 // 10)
        assert len(guard.peer(peer.address)["links"]) == 1
        lines = [line for line in guard.log(2000).splitlines() if f" {peer.address}: " in line]
        assert len(lines) < 10, lines
        print(f"# {family}: {sent} SYNs refused, {others} others linked meanwhile, {len(lines)} lines in the "
              f"log about the peer; {guard.status()['events_lost']} events lost so far")


@test
def spoofed_syns_that_are_held_do_not_fill_the_log(lab):
    """Twice from each of many addresses: the second SYN is held and told."""
    guard = lab.own_guard()
    accept_all(lab)
    watch = guard.watch()
    # 20,000 SYNs of 4,096 addresses.
    flood(lab, IPV4, "10.85.240.0/20", 20000)
    held = watch.grown()["knock_pending"]
    assert held > 5 * CAUSE_LINES, held
    size = os.path.getsize(guard.log_path)
    lines = [line for line in guard.log(20000).splitlines() if "another handshake" in line]
    assert len(lines) <= CAUSE_LINES, len(lines)
    # Others are still heard.
    peer = lab.fresh()
    assert dial(lab, peer)["errno"] == "ECONNREFUSED"
    guard.wait_log(rf"{re.escape(peer.address)}: the dial failed")
    print(f"# {held} SYNs held: {len(lines)} lines, {size} bytes of log")


def stopped(guard):
    """The daemon is stopped meanwhile: the ring fills."""
    @contextlib.contextmanager
    def stop():
        guard.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            guard.signal(signal.SIGCONT)
    return stop()


def assert_nothing_but_losses(guard):
    """The guard is whole, whatever events a flood has cost."""
    problems = guard.status()["problems"]
    assert all("were lost" in problem for problem in problems), problems


def lost_lines(guard):
    return [line for line in guard.log(2000).splitlines() if "warning" in line and "were lost" in line]


@test
def knocks_cannot_push_dials_and_links_out_of_the_ring(lab):
    """A flood at a linked peer while the daemon is slow: what others cause has room of its own."""
    guard, peer, failing = lab.own_guard(), lab.fresh(), lab.fresh()
    link_in(lab, peer, listen_home(lab))
    watch = guard.watch()
    with stopped(guard):
        flood(lab, IPV4, f"{peer.address}/32", 20000)
        result = dial(lab, failing)
        assert result["errno"] == "ECONNREFUSED", result

    def told(cause, address):
        """In the daemon's own history: a follower may be too slow for so many."""
        return [event for event in guard.ask("events")["events"]
                if event["cause"] == cause and event["address"] == address]
    wait_for(lambda: told("dial_failed", failing.address), "the failed dial is told")
    lost = guard.status()["events_lost"]
    assert lost > 10000 and told("knock_linked", peer.address), lost
    # It is said and made up for, and said once.
    wait_for(lambda: lost_lines(guard), "the loss is said")
    with stopped(guard):
        flood(lab, IPV4, f"{peer.address}/32", 20000)
    wait_for(lambda: guard.status()["events_lost"] > lost + 10000, "more is lost")
    watch = guard.watch()
    began = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - began > 2.5 * SECOND, "two heartbeats more")
    assert len(lost_lines(guard)) == 1, lost_lines(guard)
    print(f"# of 20000 refused knocks {lost} were not told for want of room; the failed dial was told")


@test
def what_was_in_lost_events_is_made_up_for(lab):
    """Edge case 35: here a backoff of which the daemon never heard ends, long before the next check."""
    guard, linked, failing = lab.own_guard(), lab.fresh(), lab.fresh()
    link_out(lab, linked)
    watch = guard.watch()
    # Of all events, so many at a time may be too many for a follower.
    due = Events(guard, "due")
    lab.at_end(due.stop)
    wait_for(lambda: guard.cli("due")[0] == 0, "the daemon answers")
    with stopped(guard):
        Prober(lab, lab.home, linked.address, interval_us=0, limit=12000).stop(at_limit=True)
        result = dial(lab, failing)
        assert result["errno"] == "ECONNREFUSED", result
    due.wait(seconds=8, address=failing.address)
    watch.counted_at_least(dial_failed=1, peer_due=1)
    status = guard.status()
    assert status["events_lost"] > 0, status
    assert not [event for event in guard.ask("events")["events"]
                if event["address"] == failing.address and event["cause"] == "dial_failed"]
    guard.wait_log(r"warning: \d+ event\(s\) were lost, the ring was full: the map is checked")
    assert_refused(dial(lab, linked))
