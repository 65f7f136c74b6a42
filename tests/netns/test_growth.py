# SPDX-License-Identifier: BSD-2-Clause
"""What others do does not keep the daemon from its work, however many links there are."""

import os
import re
import signal
import time
import typing

from harness import IPV4, IPV6, PATIENCE, PORT, SECOND, Events, now_ns, wait_for
from registry import each, test
from steps import assert_knock_refused, assert_passed, fail_dial, link_out, listen_home, resent_within
from test_floods import Flood, accept_all
from test_revival import STARTS_AT_ONCE
from test_suspect import silent

PEERS = 1000
# Of 1024 addresses all but a few are those of a peer with a link.
PREFIX = "10.82.240.0/22"


def schedule(process):
    """How long its one thread has run, and was ready to run while the processors ran others, in seconds."""
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        ran, waited = file.read().split()[:2]
    return int(ran) / SECOND, int(waited) / SECOND


def cpu_seconds(process):
    return schedule(process)[0]


def linked_peers(lab, guard, count=PEERS):
    """So many have knocked and say nothing."""
    sources = [f"10.82.{240 + number // 256}.{number % 256}" for number in range(1, count + 1)]
    for first in range(0, count, 100):
        lab.left("volley", dials=[{"address": IPV4.home, "port": PORT, "source": source}
                                  for source in sources[first:first + 100]])
    wait_for(lambda: sum(peer["state"] == "linked" for peer in guard.peers()) >= count,
             f"{count} peers are linked")


def wake_ups(process):
    """How often it has waited for something."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.MULTILINE)[1])


def quiet_guard(lab, **options):
    """A guard of one's own whose events nobody follows: the daemon would write each for its followers."""
    guard = lab.own_guard(**options)
    guard.events.stop()
    guard.events = None
    return guard


class Window:
    """What the daemon does from now on, while nobody asks it anything."""

    def __init__(self, guard):
        self.process = guard.process
        self.began = time.monotonic()
        self.schedule, self.wake_ups = schedule(self.process), wake_ups(self.process)

    def end(self):
        self.lasted_s = time.monotonic() - self.began
        self.ran_s, self.waited_s = (now - before for now, before in zip(schedule(self.process), self.schedule))
        self.share = self.ran_s / self.lasted_s
        self.woken = (wake_ups(self.process) - self.wake_ups) / self.lasted_s
        return self


def longest_answer(guard, count=20):
    """Of so many to `status`, ten in a second."""
    longest = 0
    for _ in range(count):
        since = time.monotonic()
        guard.status()
        longest = max(longest, time.monotonic() - since)
        time.sleep(0.1)
    return longest


class UnderFlood(typing.NamedTuple):
    """What a flood does to others."""

    back_s: float    # until the last crashed peer was back
    status_s: float  # the longest answer to `status`
    share: float     # of a processor, the daemon's, while nobody follows or asks
    resent: int      # SYNs that a crashed peer had to repeat
    waited_s: float  # the daemon, for a processor, meanwhile
    allowed: int     # so many SYNs at most: those of a second, and of that
    woken: float     # times a second, the daemon, meanwhile


def crash_under_flood(lab):
    """Three peers crash while others knock in the name of a thousand. Off-path: each of these SYNs puts a link that
    lives in doubt."""
    guard = quiet_guard(lab, suspect_after="1s", min_uptime="0s")
    accept_all(lab)
    crashed = [lab.fresh() for _ in range(3)]
    links = [assert_passed(peer.knock()) for peer in crashed]
    linked_peers(lab, guard)
    silent(guard, *[peer.address for peer in crashed])
    host = crashed[0].host
    revive = host.silence(*[peer.address for peer in crashed])
    for link in links:
        host("close", fd=link["fd"], reset=True)
    syns = Flood(lab, IPV4, PREFIX, 150000, 3000)
    time.sleep(2)
    window = Window(guard)
    time.sleep(2)
    revive()
    knocks = [peer.knock(blocking=False) for peer in crashed]
    outcomes = [host("settle", fd=knock["fd"], timeout=PATIENCE) for knock in knocks]
    time.sleep(2)
    window.end()
    longest = longest_answer(guard)
    assert syns.running(), "the flood had ended before"
    syns.kill()
    assert all(outcome and outcome["errno"] == "success" for outcome in outcomes), outcomes
    took = [(outcome["at"] - knock["began"]) / SECOND for knock, outcome in zip(knocks, outcomes)]
    return UnderFlood(max(took), longest, window.share, max(outcome["resent"] for outcome in outcomes),
                      window.waited_s, resent_within(host, 1 + window.waited_s), window.woken)


@test
def a_crashed_peer_is_back_while_others_knock_in_the_name_of_a_thousand(lab):
    seen = crash_under_flood(lab)
    print(f"# back after {seen.back_s:.2f} s; status in {1000 * seen.status_s:.0f} ms at most; "
          f"{100 * seen.share:.1f} % of a processor, for which it waited {seen.waited_s:.2f} s; "
          f"woken {seen.woken:.0f} times a second")
    assert seen.resent <= seen.allowed, seen
    # In a second events are read 50 times at once and then with pauses of 2 ms, and links are looked at.
    assert seen.woken <= 600, seen


def guard_with_due_peers(lab, count, **options):
    """A guard of one's own with so many known peers, all of which it has announced."""
    guard = lab.own_guard(start=False, max_peers=str(count + 1000), **options)
    path = os.path.join(guard.directory, "peers")
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}\n")
    guard.write(dict(guard.options, peers=path))
    guard.start()
    wait_for(lambda: guard.counters().get("peer_due", 0) >= count,
             lambda: f"all are announced: {guard.counters()}")
    return guard


@test
def many_due_peers_are_announced_without_a_loss(lab):
    """More than the kernel's ring has room for: each is an event."""
    count = 15000
    guard = guard_with_due_peers(lab, count, check_interval="500ms")
    # Several checks later each has been announced once.
    time.sleep(2)
    assert guard.counters()["peer_due"] == count, guard.counters()
    status = guard.status()
    assert status["events_lost"] == 0 and status["healthy"], status
    # Of so many the last check's count is told.
    assert status["peers"]["idle"] == count and status["peers"]["counted_ns"] < status["now_ns"], status
    # There are more than one answer lists, so that it cannot be compared with the sockets afterwards.
    assert guard.end(signal.SIGTERM) == 0


@each(IPV4, IPV6)
def one_visitor_with_many_addresses_fills_the_map_and_keeps_nobody_out(lab, family):
    """Each of its addresses links and leaves. Peers with state, named ones and those that we dial stay."""
    guard = lab.own_guard(start=False, max_peers="64", check_interval="300ms", min_uptime="0s", initial="60s", max="60s")
    path = os.path.join(guard.directory, "peers")
    named, linked, failed, dialed = (lab.fresh(family) for _ in range(4))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{named.address}\n")
    guard.write(dict(guard.options, peers=path))
    guard.start()
    watch = guard.watch()
    accept_all(lab)
    link_out(lab, linked)
    fail_dial(lab, watch, failed)
    link_out(lab, dialed).close()
    watch.event(dialed, "link_ended")
    visitor = [lab.fresh(family) for _ in range(200)]
    for peer in visitor:
        link = assert_passed(peer.knock())
        peer.host("close", fd=link["fd"])
    for peer in (named, linked, failed, dialed):
        assert guard.peer(peer.address), f"{peer.address} is forgotten"
    wait_for(lambda: guard.status()["healthy"], lambda: guard.status()["problems"])
    # Whoever comes now is guarded.
    late = lab.fresh(family)
    assert_passed(late.knock())
    wait_for(lambda: guard.state(late.address) == "linked", "the last one is linked")
    assert_knock_refused(watch, late)
    # One network has a quarter of so small a map, the least there is.
    full = "fd82::/64 had all the peers that one network may" if family is IPV6 else "the peers map was full"
    assert guard.log(1000).count(full) >= 1, guard.log()


def cost(guard, action, seconds=1.5):
    """(how long a processor works for its daemon, how long that takes), until so many seconds after the action."""
    window = Window(guard)
    action()
    time.sleep(seconds)
    window.end()
    return window.ran_s, window.lasted_s


# Of a processor; what is done again and again rests in between, so that it takes half as much.
SHARE = 1 / 10


@test
def a_service_that_starts_again_and_again_costs_a_few_walks_over_its_peers(lab):
    """Each time all backoffs are over, and who waited for that is looked for among all peers."""
    count, times = 15000, STARTS_AT_ONCE - 2
    guard = guard_with_due_peers(lab, count, initial="60s", max="60s")
    # The first checks are over, and with so many announcements perhaps what followed them.
    time.sleep(3)
    guard.events.stop()
    guard.events = Events(guard)
    watch, waiting = guard.watch(), lab.fresh()
    fail_dial(lab, watch, waiting)

    def start_anew(times):
        for _ in range(times):
            lab.home("close", fd=listen_home(lab))

    once, _ = cost(guard, lambda: start_anew(1))
    watch.event(waiting, "peer_due", attempts=1)
    often, lasted = cost(guard, lambda: start_anew(times))
    watch.counted_at_least(service_started=1 + times)
    print(f"# once {1e3 * once:.1f} ms of a processor, {times} times {1e3 * often:.1f} ms in {lasted:.1f} s")
    assert often <= times / 10 * once + SHARE * lasted, (once, often, lasted)
    # There are more than one answer lists, so that it cannot be compared with the sockets afterwards.
    assert guard.end(signal.SIGTERM) == 0


@test
def links_without_room_cost_a_check_no_more_than_guarded_ones(lab):
    """They are many, and in each check the same."""
    accept_all(lab)

    def check(guard):
        costs = []
        for _ in range(3):
            # The second look of the one before is over, and its rest.
            time.sleep(2)
            costs.append(cost(guard, lambda: guard.ask("forget"), 0.8)[0])
        return min(costs)

    guard = lab.own_guard(max_peers=str(2 * PEERS))
    linked_peers(lab, guard)
    guarded = check(guard)
    guard.stop()
    guard = lab.own_guard(start=False, max_peers="64")
    guard.start_only()
    guard.wait_answers()
    wait_for(lambda: f"{PEERS - 64} link(s) are not guarded" in " ".join(guard.status()["problems"]),
             lambda: guard.status()["problems"])
    without_room = check(guard)
    print(f"# {1e3 * guarded:.1f} ms of a processor for {PEERS} that are guarded, "
          f"{1e3 * without_room:.1f} ms with room for 64")
    # Asked about one by one they are two and a half times as dear.
    assert without_room <= 1.8 * guarded, (without_room, guarded)
    guard.stop()


@test
def listeners_are_looked_at_now_and_then_however_often_that_is_asked_for(lab):
    """Anybody may listen at any number of addresses, and many things ask for a look."""
    guard, listeners, times = lab.own_guard(), 800, 200

    def ask():
        for _ in range(times):
            guard.ask("forget")

    time.sleep(2)
    without, _ = cost(guard, ask)
    for number in range(listeners):
        lab.home("listen", address=f"127.1.{number // 250}.{number % 250 + 1}", port=PORT)
    time.sleep(2)
    beside, lasted = cost(guard, ask)
    print(f"# {times} requests: {1e3 * without:.1f} ms of a processor, "
          f"beside {listeners} listeners {1e3 * beside:.1f} ms in {lasted:.1f} s")
    assert beside <= 2 * without + SHARE * lasted, (without, beside, lasted)
