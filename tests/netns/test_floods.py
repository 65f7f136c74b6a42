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

from harness import (BPFTOOL, IPV4, IPV6, PATIENCE, PORT, SECOND, Events, Skip, die_with_parent, first_line,
                     helper, now_ns, run, wait_for, waiting)
from prober import Prober
from registry import each, test
from steps import assert_passed, assert_refused, dial, link_in, link_out, listen_home, refusal, resent_within, wait_not_new

# How many peers try to link while a flood is on.
TRIES = 5
# Of include/connguard/rules.h and the default policy: a SYN is held for so long, twice at most.
HOLD_SECONDS = 1.5
HOLD_PERIODS = 2
# Half-open connections that home's kernel keeps. Without SYN cookies it drops SYNs from three quarters on:
# more than the floods without cookies have.
BACKLOG = 8192
# Of user/pure/throttle.h.
CAUSE_LINES = 100


def void_prefix(family):
    return "10.85.0.0/16" if family.version == 4 else "fd85::/64"


def left_prefix(family):
    return "10.82.0.0/16" if family.version == 4 else "fd82::/64"


class Flood:
    """SYNs on their way to home's port, with random sequence numbers or all with this one."""

    def __init__(self, lab, family, sources, count, rate, sequence=None):
        number = [] if sequence is None else [str(sequence)]
        self.process = subprocess.Popen(
            lab.left.inside(helper("flood"), family.home, str(PORT), sources, str(count), str(rate), *number),
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


def flood(lab, family, sources, count, rate=50000, sequence=None):
    return Flood(lab, family, sources, count, rate, sequence).end()


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


class KernelDrops:
    """What the kernel drops by itself from now on, between left and home, by the name of its counter.

    At a listener: its queue of handshakes is full, or that of connections; ListenDrops has them all. On the
    way: a processor has more packets waiting than it keeps (net.core.netdev_max_backlog). These are the
    ends of the cables that take packets to home, and back; what goes back is flooded to all, for the void.
    """

    AT_LISTENER = ("ListenDrops", "TCPReqQFullDrop", "ListenOverflows")

    def __init__(self, lab):
        switch = next(host for host in lab.hosts if host.name == "switch")
        self.listeners = (lab.home, lab.left)
        self.ways = {"to home": ((switch, "port2"), (lab.home, "eth0")),
                     "to left": ((switch, "port1"), (lab.left, "eth0"))}
        self.before = self.read()

    def read(self):
        counts = collections.Counter()
        for host in self.listeners:
            counts.update(dict(zip(self.AT_LISTENER, extension(host, *self.AT_LISTENER))))
        for way, devices in self.ways.items():
            for host, device in devices:
                _status, text = run(*host.inside("ip", "-s", "-j", "link", "show", "dev", device))
                counts[way] += json.loads(text)[0]["stats64"]["rx"]["dropped"]
        return counts

    def grown(self):
        return {name: count - self.before[name] for name, count in self.read().items()}

    @property
    def to_home(self):
        return self.grown()["to home"]

    @property
    def all(self):
        grown = self.grown()
        return grown["ListenDrops"] + grown["to home"] + grown["to left"]


def held(guard, address):
    """Causes for which the guard has held a SYN of this peer, or an answer to ours, as it has told them."""
    told = guard.ask("explain", address=address)["events"] + guard.events.find(address=address)
    return sorted({event["cause"] for event in told if event["verdict"] == "hold"})


class Try:
    """A peer's knock, or our dial to it, that became a link during a flood."""

    def __init__(self, what, result, guard, address, drops):
        self.what = what
        self.seconds = result["elapsed"]
        self.resent = result["resent"]
        # Looked at only where it matters.
        self.held = held(guard, address) if self.resent else []
        self.dropped = drops.grown() if self.resent else {}
        self.drops = drops.all if self.resent else 0

    def __repr__(self):
        return (f"a {self.what} whose SYN was sent {self.resent} times more ({self.seconds:.1f} s): the guard "
                f"held {self.held or 'nothing'}, the kernel dropped {self.dropped}")


def assert_none_was_held(tries):
    """Who had to ask again was dropped by the kernel, which has a counter for it, and not by the guard."""
    for one in tries:
        if one.resent:
            print(f"# {one}")
        assert not one.held and one.drops >= one.resent, one


def longest(tries, what):
    """In milliseconds, of those who did not have to ask again."""
    return max((one.seconds * 1000 for one in tries if one.what == what and not one.resent), default=0)


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
    """Fresh peers knock and are dialed while something goes on. What became of each Try."""
    tries = []
    while going() and len(tries) < 2 * most:
        knocker, dialed = lab.fresh(family), lab.fresh(family)
        dialed.listen()
        drops = KernelDrops(lab)
        tries.append(Try("knock", assert_passed(knocker.knock()), guard, knocker.address, drops))
        drops = KernelDrops(lab)
        tries.append(Try("dial", assert_passed(dial(lab, dialed)), guard, dialed.address, drops))
        for peer in (knocker, dialed):
            wait_for(lambda peer=peer: guard.state(peer.address) == "linked",
                     f"{peer.address} is linked")
    return tries


def link_during(lab, guard, family, sources, count, rate):
    """Fresh peers link during a flood, and another one if it was too short for TRIES of them.

    The Tries, how many SYNs there were, and what the guard said of its peers before the flood was over."""
    tries, sent = [], 0
    while len(tries) < 2 * TRIES:
        syns = Flood(lab, family, sources, count, rate)
        tries += link_while(lab, guard, family, syns.running)
        peers = guard.status()["peers"]
        sent += syns.end()
    return tries, sent, peers


def knocks_seen(guard):
    """How many SYNs the guard has let pass, or held."""
    counters = guard.counters()
    return sum(counters.get(name, 0) for name in ("knock_idle", "knock_pending", "knock_hold_spent"))


@each(IPV4, IPV6)
def spoofed_syns_allocate_nothing_and_peers_link_meanwhile(lab, family):
    guard = lab.own_guard(frugal=True)
    accept_all(lab)
    # Everything that is allocated once is there.
    flood(lab, family, void_prefix(family), 2000)
    link_while(lab, guard, family, lambda: True, 1)
    resident, maps = memory(guard)
    linked = 2
    # Without cookies the kernel itself drops SYNs when its queue is full: too few of them for that.
    for cookies, count, rate in ((0, 2500, 2500), (1, 20000, 20000), (2, 20000, 20000)):
        with syn_cookies(lab, cookies):
            cookies_before, = extension(lab.home, "SyncookiesSent")
            seen_before, drops = knocks_seen(guard), KernelDrops(lab)
            began = time.monotonic()
            tries, sent, peers = link_during(lab, guard, family, void_prefix(family), count, rate)
            seconds = time.monotonic() - began
        linked += len(tries)
        assert peers["count"] == peers["linked"] == linked, peers
        wait_for(lambda: knocks_seen(guard) - seen_before >= (sent - drops.to_home) * 0.9,
                 lambda: f"the guard sees {sent} SYNs; it has seen {knocks_seen(guard) - seen_before}, the "
                         f"kernel dropped {drops.grown()}")
        seen = knocks_seen(guard) - seen_before
        cookies_sent = extension(lab.home, "SyncookiesSent")[0] - cookies_before
        assert cookies_sent > seen * (0, 0.3, 0.9)[cookies] or not cookies and not cookies_sent, \
            (cookies, cookies_sent, seen)
        print(f"# {family}, tcp_syncookies {cookies}: {sent} spoofed SYNs in {seconds:.1f} s "
              f"({cookies_sent} cookies, the kernel dropped {drops.grown()}); {len(tries) // 2} peers knocked, "
              f"as many were dialed, linked within {longest(tries, 'knock'):.1f} and "
              f"{longest(tries, 'dial'):.1f} ms; {peers['count']} peers in the map, all linked")
        # Nobody waits for a retransmission on our account.
        assert_none_was_held(tries)
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
        resets_before, drops = lab.left.snmp("Tcp", "OutRsts"), KernelDrops(lab)
        tries, sent, peers = link_during(lab, guard, family, left_prefix(family), 20000, 20000)

        def resets():
            return lab.left.snmp("Tcp", "OutRsts") - resets_before
        wait_for(lambda: resets() > (sent - drops.all) / 2,
                 lambda: f"RSTs to {sent} SYNs: {resets()}; the kernel dropped {drops.grown()}")
        assert peers["count"] - before == len(tries), (before, peers)
        assert peers["count"] == peers["linked"], peers
        print(f"# {family}: {sent} SYNs, {resets()} RSTs to our answers; {len(tries)} peers linked meanwhile, "
              f"within {max(longest(tries, what) for what in ('knock', 'dial')):.1f} ms")
        assert_none_was_held(tries)


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


class Redialer:
    """An application that dials a peer again whenever its dial has failed, until it is in."""

    def __init__(self, lab, peer):
        self.lab, self.peer = lab, peer
        self.refused, self.ended, self.given_up = [], [], 0
        self.pending = None
        self.dial()
        self.began = (self.refused + [self.pending])[0]["began"]

    def dial(self):
        result = dial(self.lab, self.peer, blocking=False)
        if result["errno"] == "EINPROGRESS":
            self.pending = result
        else:
            assert result["errno"] == refusal(), result
            self.refused.append(result)

    def is_in(self):
        """The outcome of the dial that is in, None if none is yet."""
        if not self.pending:
            self.dial()
            return None
        outcome = self.lab.home("settle", fd=self.pending["fd"], timeout=0)
        if not outcome or outcome["errno"] == "success":
            return outcome
        self.ended.append(outcome["errno"])
        self.lab.home("close", fd=self.pending["fd"])
        self.pending = None
        return None

    def give_up(self, seconds):
        """A dial that has no answer for so long is closed, and dialed again. How many were so far."""
        if self.pending and now_ns() - self.pending["began"] > seconds * SECOND:
            self.given_up += 1
            self.lab.home("close", fd=self.pending["fd"])
            self.pending = None

    def assert_bounded(self):
        """Refused for a handshake that is pending for hold_max, given up for one once."""
        assert len(self.ended) <= 1 and set(self.ended) <= {"ECONNABORTED"}, self.ended
        if self.refused:
            lasted = self.refused[-1]["began"] - self.refused[0]["ended"]
            assert lasted < HOLD_SECONDS * SECOND, f"refused for {lasted / SECOND:.2f} s"


@test
def a_flood_in_the_name_of_a_peer_keeps_it_waiting_for_a_bounded_time(lab):
    """Off-path: the attacker sees neither our answers nor the peer's SYNs. Peers with a firewall that keeps
    silent are the worst case; each is flooded from before its knock, or our dial, until after it. Our dial
    is refused for hold_max at most, and given up once; then it is held as a knock is."""
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
        floods = [Flood(lab, family, alone(family, peer.address), 100 * rate, rate)
                  for (family, rate, _what), peer in peers]
        asked, drops = {}, KernelDrops(lab)
        for (_family, _rate, what), peer in peers:
            if what == "dial":
                asked[peer] = Redialer(lab, peer)
                continue
            asked[peer] = peer.knock(blocking=False)
            assert asked[peer]["errno"] == "EINPROGRESS", asked[peer]
        outcomes = {}

        def all_in():
            """All are asked each time: none of the dials waits for another one."""
            for (_family, _rate, what), peer in peers:
                if not outcomes.get(peer):
                    outcomes[peer] = asked[peer].is_in() if what == "dial" else \
                        peer.host("settle", fd=asked[peer]["fd"], timeout=0)
            return all(outcomes.values())
        wait_for(all_in, lambda: f"all are in, but {[peer.address for peer in asked if not outcomes.get(peer)]}",
                 2 * PATIENCE)
        waits, resent = collections.defaultdict(list), collections.defaultdict(list)
        for case, peer in peers:
            wait_for(lambda peer=peer: guard.state(peer.address) == "linked",
                     f"{peer.address} is linked, {case}")
            link, = guard.peer(peer.address)["links"]
            began = asked[peer].began if case[2] == "dial" else asked[peer]["began"]
            waits[case].append((link["since_ns"] - began) / SECOND)
            assert outcomes[peer]["errno"] == "success", (case, outcomes[peer])
            resent[case].append(outcomes[peer]["resent"])
        redialers = [asked[peer] for case, peer in peers if case[2] == "dial"]
        for redialer in redialers:
            redialer.assert_bounded()
        print(f"# of {len(redialers)} peers that are dialed {sum(bool(one.refused) for one in redialers)} were "
              f"refused at first, {sum(bool(one.ended) for one in redialers)} given up once")
        dropped, lost = drops.grown(), drops.all
        assert all(one.running() for one in floods), "a flood had ended before"
        for one in floods:
            one.kill()
    for family, rate, what in cases:
        if what == "knock":
            print(f"# {family}, {rate} SYNs a second in the name of each peer: its knock waited "
                  f"{max(waits[family, rate, 'knock']):.2f} s at most, our dial "
                  f"{max(waits[family, rate, 'dial']):.2f} s")
    print(f"# SYNs sent again: {max(map(max, resent.values()))} at most; the kernel dropped {dropped}")
    # A SYN is held twice at most; then its sender's next retransmission passes. The answer to our dial is
    # held for as long, and once more when a knock crosses it meanwhile; then the peer, asked again by our
    # own retransmission, answers again. Of that time the kernel's own count is the measure.
    bound = HOLD_PERIODS * HOLD_SECONDS
    for (_family, _rate, what), counts in resent.items():
        most = resent_within(lab.home, bound if what == "knock" else 2 * bound + 1)
        assert max(counts) <= most + lost, (most, dict(resent), dropped)
    assert_nothing_but_losses(guard)


class Knocker:
    """An application of the peer's host that dials us until it is in, and gives no dial more than so many seconds."""

    def __init__(self, peer):
        self.peer, self.given_up = peer, 0
        self.pending = peer.knock(blocking=False)

    def is_in(self):
        return self.peer.host("settle", fd=self.pending["fd"], timeout=0)

    def give_up(self, seconds):
        if now_ns() - self.pending["began"] > seconds * SECOND:
            self.given_up += 1
            self.peer.host("close", fd=self.pending["fd"])
            self.pending = self.peer.knock(blocking=False)


@each("dial", "knock")
def an_application_that_gives_its_dials_up_links_under_a_flood(lab, what):
    """Three seconds each, less than its answer or its SYN can be held for in all: that is once."""
    guard = lab.own_guard()
    accept_all(lab)
    with silent_about_strangers(lab):
        peers = [lab.fresh(family) for family in (IPV4, IPV6) for _ in range(10)]
        if what == "dial":
            for peer in peers:
                peer.listen()
        floods = [Flood(lab, peer.family, alone(peer.family, peer.address), 400, 4) for peer in peers]
        applications = [Redialer(lab, peer) if what == "dial" else Knocker(peer) for peer in peers]
        outcomes = {}

        def all_in():
            for one in applications:
                if not outcomes.get(one):
                    outcomes[one] = one.is_in()
                if not outcomes.get(one):
                    one.give_up(3)
            return all(outcomes.get(one) for one in applications)
        wait_for(all_in, "all are in", 2 * PATIENCE)
        assert all(one.running() for one in floods), "a flood had ended before"
        for one in floods:
            one.kill()
    print(f"# given up: {sorted(one.given_up for one in applications)}")
    # A dial is given up for a knock once, and an answer or a SYN is held once. What takes a dial that nobody holds three
    # seconds is the machine.
    for one in applications:
        held = {event["cookie"] for event in guard.events.find(address=one.peer.address, cause="answer_tie_lost")}
        assert one.given_up <= 1 or what == "dial" and len(held) <= 1, (one.given_up, held)
    assert_nothing_but_losses(guard)


@test
def a_flood_in_the_name_of_a_linked_peer_changes_nothing(lab):
    guard = lab.own_guard()
    listener = lab.home("listen", address="::", port=PORT)
    for family in (IPV4, IPV6):
        peer = lab.fresh(family)
        watch, drops = guard.watch(), KernelDrops(lab)
        link = link_in(lab, peer, listener)
        others = sent = 0
        # Once is enough, if it is not too short for this machine.
        while others < TRIES:
            syns = Flood(lab, family, alone(family, peer.address), 20000, 20000)
            while syns.running():
                peer.host("send", fd=link.there, text="x")
                assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "x"
                if others < 50:
                    link_in(lab, lab.fresh(family), listener)
                    others += 1
            sent += syns.end()
        assert link.alive()
        watch.counted_at_least(knock_linked=(sent - drops.to_home) * 9 // 10)
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


@each("knocks", "dials")
def push_no_link_and_no_failure_out_of_the_ring(lab, what):
    """A flood at a linked peer while the daemon is slow: what is refused has room of its own."""
    guard, peer, failing = lab.own_guard(), lab.fresh(), lab.fresh()
    listener = listen_home(lab)
    link_in(lab, peer, listener)
    wait_not_new()

    def flooded():
        if what == "knocks":
            flood(lab, IPV4, f"{peer.address}/32", 20000)
        else:
            Prober(lab, lab.home, peer.address, interval_us=0, limit=20000).stop(at_limit=True)
    with stopped(guard):
        flooded()
        result = dial(lab, failing)
        assert result["errno"] == "ECONNREFUSED", result

    def told(cause, address):
        """In the daemon's own history: a follower may be too slow for so many."""
        return [event for event in guard.ask("events")["events"]
                if event["cause"] == cause and event["address"] == address]
    wait_for(lambda: told("dial_failed", failing.address), "the failed dial is told")
    lost = guard.status()["events_lost"]
    assert lost > 10000 and told("knock_linked" if what == "knocks" else "dial_linked", peer.address), lost
    # It is said and made up for, and said once.
    wait_for(lambda: lost_lines(guard), "the loss is said")
    with stopped(guard):
        flooded()
    wait_for(lambda: guard.status()["events_lost"] > lost + 10000, "more is lost")
    began = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - began > 2.5 * SECOND, "two heartbeats more")
    assert len(lost_lines(guard)) == 1, lost_lines(guard)
    print(f"# of 20000 refused {what} {lost} were not told for want of room; the failed dial was told")


@test
def what_was_in_lost_events_is_made_up_for(lab):
    """Here a backoff of which the daemon never heard ends, long before the next check."""
    guard, linked, failing, exempt = lab.own_guard(), lab.fresh(), lab.fresh(), lab.fresh()
    link_out(lab, linked)
    guard.ask("allow", address=exempt.address, seconds=3600)
    watch = guard.watch()
    # Of all events, so many at a time may be too many for a follower.
    due = Events(guard, "due")
    lab.at_end(due.stop)
    wait_for(lambda: guard.cli("due")[0] == 0, "the daemon answers")
    with stopped(guard):
        # None of them is refused, and each is told with its end: more than the ring holds.
        Prober(lab, lab.home, exempt.address, interval_us=0, limit=12000).stop(at_limit=True)
        result = dial(lab, failing)
        assert result["errno"] == "ECONNREFUSED", result
    due.wait(address=failing.address)
    watch.counted_at_least(dial_failed=1, peer_due=1)
    status = guard.status()
    assert status["events_lost"] > 0, status
    assert not [event for event in guard.ask("events")["events"]
                if event["address"] == failing.address and event["cause"] == "dial_failed"]
    guard.wait_log(r"warning: \d+ event\(s\) were lost, the ring was full: the map is checked")
    assert_refused(dial(lab, linked))
