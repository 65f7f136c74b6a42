#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon's work costs as others do more: a table of figures, each with its bar.

usage: growth.py [-k PATTERN]...
  -k PATTERN  only cases whose name matches this regular expression (any of several)

Real sockets in network namespaces: a million known peers, more links at start than one walk takes, sockets that are
none of the guard's, SYNs in the names of a thousand linked peers, which answer or say nothing, idle peers that the
service dials, duplicates beside many links. A processor's share is the daemon's, of one
processor. A busy machine makes the figures worse: this is a measurement, not a test. Needs root, and 6 GB of memory.
Its last line is "N passed, N failed, N skipped"; exit status 1 when a figure is over its bar.

environment: those of tests/netns/run.py
"""

import argparse
import contextlib
import ipaddress
import os
import re
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "netns"))

import harness  # noqa: E402
import test_growth  # noqa: E402
from harness import ALL_BUT_SYNS, IPV4, IPV6, PORT, die_with_parent, first_line, wait_for  # noqa: E402
from test_floods import Flood, accept_all  # noqa: E402
from test_growth import Window, cpu_seconds, longest_answer, quiet_guard  # noqa: E402

# Milliseconds within which `status` answers, whatever goes on.
STATUS_MS = 50
KNOWN_PEERS = 1_000_000
# More than one walk over all sockets takes under guard (ADOPTIONS_MAX).
LINKS = 70_000
STRANGERS = 50_000
OTHER_PORT = 9000
# How long the daemon is looked at when nothing happens: some checks.
LOOKED_AT_S = 20
# Idle peers that the service dials once each; links beside which duplicates come up.
DIALED = 1000
BESIDE = 3000
DOUBLED = 50
# Until the links of so many peers that say nothing are judged: the question beside TCP, and three of TCP's.
JUDGED_AFTER_S = 4


class Table:
    """The figures, told as they come."""

    def __init__(self):
        self.passed = self.failed = 0
        print(f"{'figure':66} {'measured':>12}  {'bar':>10}")

    def add(self, name, measured, unit, bar):
        good = measured <= bar
        self.passed += good
        self.failed += not good
        print(f"{name:66} {measured:>9.2f} {unit:2}  {bar:>7g} {unit:2} {'' if good else ' OVER'}", flush=True)


def answers(guard, seconds):
    """Ask for `status` again and again. The longest that it took in ms, and the daemon's share of a processor in
    percent."""
    longest, before, began = 0, cpu_seconds(guard.process), time.monotonic()
    while time.monotonic() - began < seconds:
        since = time.monotonic()
        guard.status()
        longest = max(longest, time.monotonic() - since)
        time.sleep(0.05)
    share = (cpu_seconds(guard.process) - before) / (time.monotonic() - began)
    return 1000 * longest, 100 * share


def started(guard):
    """Seconds until its daemon answers."""
    began = time.monotonic()
    guard.start_only()
    while not guard.is_up():
        time.sleep(0.002)
    return time.monotonic() - began


def crowd_address(number):
    """From which address the crowd dials, see crowd.py."""
    return str(ipaddress.IPv6Address("fd82::1:0") + number)


@contextlib.contextmanager
def crowd(lab, count, port):
    """So many connections from left's addresses to home."""
    script = os.path.join(HERE, "crowd.py")
    processes = []
    for host, role, where in ((lab.home, "accept", lab.home.cgroup), (lab.left, "dial", "fd82::/64")):
        process = subprocess.Popen(
            host.inside(sys.executable, script, role, IPV6.home, str(port), str(count), where),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        processes.append(process)
        assert first_line(process, f"{role} is ready") == b"ready\n"
    try:
        for process in processes:
            assert process.stdout.readline() == b"done\n", "not all connections are there"
        yield
    finally:
        for process in processes:
            process.stdin.close()
            process.wait()


def known_peers(lab, table):
    guard = lab.own_guard(start=False, max_peers=str(1048576), check_interval="10s")
    path = os.path.join(guard.directory, "peers")
    with open(path, "w", encoding="utf-8") as file:
        for number in range(KNOWN_PEERS):
            file.write(f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}\n")
    guard.write(dict(guard.options, peers=path))
    table.add("a million known peers: start", started(guard), "s", 3)
    longest, share = answers(guard, LOOKED_AT_S)
    table.add("  while they are announced: status", longest, "ms", STATUS_MS)
    while guard.counters().get("peer_due", 0) < KNOWN_PEERS:
        time.sleep(0.1)
    longest, share = answers(guard, LOOKED_AT_S)
    table.add("  afterwards, checked every 10 s: status", longest, "ms", STATUS_MS)
    table.add("  afterwards: share of a processor", share, "%", 25)
    began = time.monotonic()
    assert guard.end(signal.SIGQUIT, 60) == 0
    table.add("  stop, the guard stays", time.monotonic() - began, "s", 5)
    table.add("  start that takes it over", started(guard), "s", 3)
    began = time.monotonic()
    assert guard.end(signal.SIGTERM, 60) == 0
    table.add("  stop, the guard goes", time.monotonic() - began, "s", 5)


def links_at_start(lab, table):
    # Of one network, which has an eighth of the map.
    guard = lab.own_guard(start=False, max_peers=str(8 * LINKS), check_interval="5s")
    with crowd(lab, LINKS, PORT):
        table.add(f"{LINKS} links at start: start", started(guard), "s", 3)
        longest, share = answers(guard, LOOKED_AT_S)
        table.add("  afterwards, checked every 5 s: status", longest, "ms", STATUS_MS)
        table.add("  afterwards: share of a processor", share, "%", 25)
        table.add("  links that are not under guard", LINKS - guard.status()["peers"]["linked"], "", 0)
        assert guard.end(signal.SIGTERM, 60) == 0


def strangers(lab, table):
    guard = lab.own_guard(check_interval="500ms")
    _, without = answers(guard, LOOKED_AT_S)
    with crowd(lab, STRANGERS, OTHER_PORT):
        longest, share = answers(guard, LOOKED_AT_S)
        table.add(f"{STRANGERS} connections at another port, checked twice a second: status", longest, "ms", STATUS_MS)
        table.add("  share of a processor beyond that without them", max(0, share - without), "%", 5)
    guard.stop()


def flood(lab, table):
    figures = test_growth.crash_under_flood(lab)
    table.add("3000 SYNs a second in a thousand linked peers' names: a crash is over", figures.back_s, "s", 1.5)
    table.add("  status", 1000 * figures.status_s, "ms", STATUS_MS)
    table.add("  share of a processor, while nobody follows or asks", 100 * figures.share, "%", 5)


def while_nobody_answers(lab, measure):
    """SYNs in a thousand linked peers' names, until their links are judged. What `measure` says of the guard."""
    guard = quiet_guard(lab, suspect_after="1s", min_uptime="0s")
    accept_all(lab)
    test_growth.linked_peers(lab, guard)
    # All are quiet.
    time.sleep(1.5)
    revive = lab.left.silence(test_growth.PREFIX, only=ALL_BUT_SYNS)
    syns = Flood(lab, IPV4, test_growth.PREFIX, 150000, 3000)
    measured = measure(guard)
    assert syns.running(), "the flood had ended before"
    syns.kill()
    # By TCP, or for as long as a knock is held.
    counters = guard.counters_in_kernel()
    unanswered = counters["link_unanswered"] + counters["knock_unproven"]
    assert unanswered > test_growth.PEERS / 2, f"{unanswered} links were asked in vain"
    revive()
    guard.stop()
    lab.close_sockets()
    return measured


def silent_flood(lab, table):
    """TCP is made to ask, which takes walks over all sockets, those of others among them."""
    def share(guard):
        window = Window(guard)
        time.sleep(JUDGED_AFTER_S)
        return window.end().share

    with crowd(lab, STRANGERS, OTHER_PORT):
        table.add(f"{STRANGERS} foreign sockets, the same flood, no answers: share of a processor",
                  100 * while_nobody_answers(lab, share), "%", 5)
        longest = while_nobody_answers(lab, lambda guard: longest_answer(guard, 10 * JUDGED_AFTER_S))
        table.add("  status", 1000 * longest, "ms", STATUS_MS)


def idle_dialed(lab, table):
    """Our own dials are refused for links that are quiet, and ask nobody."""
    guard = quiet_guard(lab, suspect_after="1s", min_uptime="0s")
    with crowd(lab, DIALED, PORT):
        wait_for(lambda: guard.status()["peers"]["linked"] >= DIALED, "all are linked")
        time.sleep(1.5)
        window = Window(guard)
        for first in range(0, DIALED, 100):
            lab.home("volley", dials=[{"address": crowd_address(number), "port": PORT}
                                      for number in range(first, first + 100)])
        wait_for(lambda: guard.counters_in_kernel()["dial_suspect"] >= DIALED, "all dials are refused")
        time.sleep(1)
        window.end()
        table.add(f"{DIALED} idle linked peers, dialed once each: of a processor", window.ran_s, "s", 0.25)
    guard.stop()


def duplicates(lab, table):
    """Each of some peers knocks twice within one round trip, beside many links."""
    # Of one network, which has an eighth of the map.
    guard = quiet_guard(lab, hold_max="0s", suspect_after="60s", max_peers=str(16 * BESIDE))
    lab.need_delay()
    with crowd(lab, BESIDE, PORT):
        wait_for(lambda: guard.status()["peers"]["linked"] >= BESIDE, "all are linked")
        lab.home("node", listener=lab.home("listen", address="10.78.0.1", port=PORT), port=PORT)
        knockers = [lab.fresh(host=lab.far) for _ in range(DOUBLED)]
        before, window = guard.counters_in_kernel(), Window(guard)
        lab.far("volley", dials=[{"address": "10.78.0.1", "port": PORT, "source": knocker.address}
                                 for knocker in knockers for _ in range(2)])

        def grown(cause):
            return guard.counters_in_kernel()[cause] - before[cause]
        # On a busy machine the second one may be later than a round trip, and is refused.
        wait_for(lambda: grown("link_duplicate") + grown("knock_linked") >= DOUBLED, "all have knocked twice")
        wait_for(lambda: grown("link_destroyed") == grown("link_duplicate"), "all duplicates are destroyed")
        window.end()
        count = grown("link_destroyed")
        assert count, "no duplicate came up"
        table.add(f"a duplicate beside {BESIDE} links, with its handshakes: of a processor",
                  1000 * window.ran_s / count, "ms", 1)
    guard.stop()


CASES = (known_peers, links_at_start, strangers, flood, silent_flood, idle_dialed, duplicates)


def main():
    parser = argparse.ArgumentParser(description="what the daemon's work costs as others do more")
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("growth.py: making network namespaces needs root", file=sys.stderr)
        return 2
    lab = harness.Lab()
    table = Table()
    try:
        lab.set_up()
        for case in CASES:
            if options.k and not any(re.search(pattern, case.__name__) for pattern in options.k):
                continue
            case(lab, table)
            lab.clear()
    finally:
        lab.tear_down()
    print(f"{table.passed} passed, {table.failed} failed, 0 skipped")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
