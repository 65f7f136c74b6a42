# SPDX-License-Identifier: BSD-2-Clause
"""Suspect links: silent ones whose peer dials or knocks are probed, and die only by proof.

Edge cases 1 to 3. Liveness is left at its minute, so that whatever ends within seconds here ends by
the probing alone.
"""

import os
import re
import signal

from harness import IPV4, PATIENCE, PORT, SECOND, TIME_SCALE, Skip, now_ns, run, wait_for, wait_past
from prober import Prober
from registry import core, each, each_family, needs, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial, link_in,
                   link_out, listen_home, resent_within)

SUSPECT_AFTER = 2
OPTIONS = {"suspect_after": f"{SUSPECT_AFTER}s", "min_uptime": "0s"}
# From its first SYN to its link, for a peer that crashed and is back.
BACK_SECONDS = 5
RESETS = "tcp flags & rst == rst"


class Case:
    """A peer whose host crashes, or whose wire is cut: its link, and what is special about it."""

    def __init__(self, lab, family, listener, direction, data, same_port=False):
        self.peer = lab.fresh(family)
        self.peer.listen()
        self.link = link_in(lab, self.peer, listener) if direction == "inbound" \
            else link_out(lab, self.peer)
        self.data = data
        self.source_port = self.link.dial["local"][1] if same_port else 0
        self.name = f"{direction}, {data}{', same port' if same_port else ''}"


def silent(guard, *addresses):
    """Until these peers' links are silent enough to be suspect."""
    def quiet():
        return all(link["silent_ns"] > SUSPECT_AFTER * SECOND
                   for address in addresses for link in guard.peer(address)["links"])
    wait_for(quiet, "the links are silent")


def crash(lab, cases):
    """Their hosts die: no FIN, no RST. Returns how they come back, with no memory of their links."""
    host = cases[0].peer.host
    revive = host.silence(*[case.peer.address for case in cases])
    for case in cases:
        host("close", fd=case.link.there, reset=True)
        if case.data != "idle":
            lab.home("send", fd=case.link.here, text="is anybody there?")
    return revive


def come_back(lab, cases, family):
    """All of them dial at once. Asserts that each is in, in time, which TCP counts in SYNs that it sends
    again; returns the seconds it took."""
    knocks = [case.peer.knock(blocking=False, source_port=case.source_port) for case in cases]
    took = {}
    for case, knock in zip(cases, knocks):
        outcome = case.peer.host("settle", fd=knock["fd"], timeout=PATIENCE * TIME_SCALE)
        assert outcome and outcome["errno"] == "success" \
            and outcome["resent"] <= resent_within(case.peer.host, BACK_SECONDS), \
            f"{family}, {case.name}: the peer is not back in {BACK_SECONDS} s: {outcome}"
        case.resent = outcome["resent"]
        took[case.name] = (outcome["at"] - knock["began"]) / SECOND
    return took


def assert_one_new_link(guard, cases):
    for case in cases:
        def settled(case=case):
            links = guard.peer(case.peer.address)["links"]
            return len(links) == 1 and links[0]["cookie"] != case.link.cookie
        wait_for(settled, lambda case=case: f"{case.name}: one link, the new one: "
                                            f"{guard.peer(case.peer.address)['links']}")


@each_family
@core("IPv4")
@needs("socket_iterator")
def link_of_a_peer_that_crashed_makes_room_at_its_knock(lab, family):
    """Edge case 1: the peer is back, and its host answers for the old link with RST."""
    guard = lab.guard(**OPTIONS)
    watch, listener = guard.watch(), listen_home(lab, family)
    cases = [Case(lab, family, listener, direction, data)
             for direction in ("outbound", "inbound") for data in ("idle", "unacknowledged data")]
    cases += [Case(lab, family, listener, "inbound", data, same_port=True)
              for data in ("idle", "unacknowledged data")]
    revive = crash(lab, cases)
    silent(guard, *[case.peer.address for case in cases])
    revive()
    for name, seconds in come_back(lab, cases, family).items():
        print(f"# {family}: {name}: back after {seconds:.2f} s", flush=True)
    assert_one_new_link(guard, cases)
    for case in cases:
        if not case.source_port:
            event = watch.event(case.peer, "knock_suspect")
            assert event["verdict"] == "hold" and event["until_ns"] > event["time_ns"], event
    watch.counted_at_least(knock_suspect=4, link_inbound=len(cases))


@each_family
@core("IPv6")
@needs("socket_iterator")
def link_that_nothing_answers_for_is_dead_after_three_probes(lab, family):
    """The peer is back behind a firewall that lets no RST out: only silence speaks for it."""
    guard = lab.guard(**OPTIONS)
    watch, listener = guard.watch(), listen_home(lab, family)
    cases = [Case(lab, family, listener, direction, data)
             for direction in ("outbound", "inbound") for data in ("idle", "unacknowledged data")]
    revive = crash(lab, cases)
    silent(guard, *[case.peer.address for case in cases])
    revive()
    lab.at_end(cases[0].peer.host.silence(*[case.peer.address for case in cases], only=RESETS))
    for name, seconds in come_back(lab, cases, family).items():
        print(f"# {family}: no answer: {name}: back after {seconds:.2f} s", flush=True)
    assert_one_new_link(guard, cases)
    for case in cases:
        event = watch.event(case.peer, "link_dead", cookie=case.link.cookie)
        assert event["enforced"] is True and event["attempts"] == 0, event
    watch.counted_at_least(link_dead=4, link_inbound=4, knock_suspect=4)


def not_repeated_soon(host):
    """How many closed sockets of the host will not repeat their FIN in the next five seconds."""
    _status, text = run(*host.inside("ss", "-Htno", "state", "fin-wait-1"))
    return sum(float(left) >= 5 for left in re.findall(r"timer:\(on,([\d.]+)sec,", text))


@test
@core()
@needs("socket_iterator")
def link_whose_end_was_lost_gives_way_to_the_peers_knock(lab):
    """A link that one end has closed while the wire was cut: its kernel still answers probes, and the FIN
    may come as much later as the cut has lasted (RFC 6298 doubles the time-out)."""
    guard = lab.guard(**OPTIONS)
    watch, listener = guard.watch(), listen_home(lab)
    knocking, quiet = [[Case(lab, IPV4, listener, direction, what) for direction in ("inbound", "outbound")]
                       for what in ("knocks", "does not knock")]
    host = knocking[0].peer.host
    mend = lab.home.eat("input", f"ip saddr {{ {', '.join(c.peer.address for c in knocking + quiet)} }}")
    for case in knocking + quiet:
        host("send", fd=case.link.there, text="good bye")
        host("close", fd=case.link.there)
    wait_for(lambda: not_repeated_soon(host) == 4, "what is lost is not repeated for seconds")
    mend()
    # Nobody but our own application asks for a link to these: they keep what they have.
    for case in quiet:
        assert_dial_refused(lab, watch, case.peer, "dial_suspect")
    for name, seconds in come_back(lab, knocking, IPV4).items():
        print(f"# {name}: in after {seconds:.2f} s", flush=True)
        assert seconds > 1.7, "time to repeat what was lost"
    assert_one_new_link(guard, knocking)
    for case in knocking:
        event = watch.event(case.peer, "link_stalled", cookie=case.link.cookie)
        assert event["verdict"] == "none" and event["enforced"] is True, event
    for case in quiet:
        links = guard.peer(case.peer.address)["links"]
        assert [link["cookie"] for link in links] == [case.link.cookie] and links[0]["stalled_ns"], links
    # What was missing comes, and the end with it.
    for case in quiet:
        watch.event(case.peer, "link_ended", cookie=case.link.cookie)
    assert "link_dead" not in watch.grown()


@each_family
@needs("socket_iterator")
def silent_link_outlives_a_thousand_knocks(lab, family):
    """Edge case 2: alive, silent, and knocked at by what may be anybody."""
    guard, peer = lab.guard(**OPTIONS), lab.fresh(family)
    watch = guard.watch()
    link = link_in(lab, peer, listen_home(lab, family))
    silent(guard, peer.address)
    outcome = Prober(lab, peer.host, family.home, source=peer.address, interval_us=5000,
                     limit=1000).stop(at_limit=True)
    assert outcome["dials"] == 1000, outcome
    assert "success" not in outcome["outcomes"], outcome
    assert link.alive()
    lab.home("send", fd=link.here, text="still here")
    assert peer.host("receive", fd=link.there, timeout=PATIENCE) == "still here"
    grown = watch.grown()
    assert grown["knock_suspect"] >= 2 and grown["knock_linked"] >= 100, grown
    for cause in ("link_dead", "link_ended", "link_replaced", "knock_unproven"):
        assert cause not in grown, grown
    watch.event(peer, "knock_suspect")
    watch.event(peer, "knock_linked")


@test
def link_that_speaks_refuses_at_once(lab):
    """A byte now and then is enough, in either direction."""
    guard, peer = lab.guard(**OPTIONS), lab.fresh(IPV4)
    watch = guard.watch()
    link = link_in(lab, peer, listen_home(lab))
    for speaker, fd in ((lab.home, link.here), (peer.host, link.there)):
        silent(guard, peer.address)
        speaker("send", fd=fd, text="x")
        wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND,
                 "the byte is taken for a sign of life")
        assert_knock_refused(watch, peer)
    assert "knock_suspect" not in watch.grown()


@test
@core()
@needs("socket_iterator")
def dial_to_a_suspect_link_is_refused_and_has_it_probed(lab):
    guard, peer = lab.guard(**OPTIONS), lab.fresh(IPV4)
    watch = guard.watch()
    link = link_out(lab, peer)
    silent(guard, peer.address)
    status, document = guard.explain(peer.address)
    assert status == 3 and document["dial"]["cause"] == "dial_suspect", document
    assert document["knock"]["cause"] == "knock_suspect", document
    assert_dial_refused(lab, watch, peer, "dial_suspect")
    wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND,
             "the link shows life")
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert link.alive()
    # The same with a dead one: the next dial has its place.
    revive = peer.host.silence(peer.address)
    peer.host("close", fd=link.there, reset=True)
    silent(guard, peer.address)
    revive()
    assert_dial_refused(lab, watch, peer, "dial_suspect")
    watch.event(peer, "link_ended", cookie=link.cookie)
    wait_for(lambda: dial(lab, peer)["errno"] == "success", "a dial passes")
    watch.counted_at_least(dial_suspect=2, dial_linked=1)


@each(0, 60)
@needs("socket_iterator")
def link_has_its_own_settings_back_after_the_probing(lab, liveness):
    guard, peer = lab.guard(liveness=f"{liveness}s", **OPTIONS), lab.fresh(IPV4)
    link = link_in(lab, peer, listen_home(lab))
    before = lab.home("keepalive", fd=link.here)
    assert before["on"] == bool(liveness), before
    assert before["idle"] == (30 if liveness else 7200), before
    for _ in range(2):
        silent(guard, peer.address)
        knock = peer.knock(blocking=False)
        wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND,
                 "the link shows life")
        wait_for(lambda: lab.home("keepalive", fd=link.here) == before,
                 lambda: f"the settings are {before} again: {lab.home('keepalive', fd=link.here)}")
        peer.host("close", fd=knock["fd"])


@test
@needs("socket_iterator")
def link_left_nudged_by_a_dead_daemon_is_set_back_by_the_next(lab):
    guard, peer = lab.own_guard(**OPTIONS), lab.fresh(IPV4)
    link = link_in(lab, peer, listen_home(lab))
    before = lab.home("keepalive", fd=link.here)
    revive = peer.host.silence(peer.address)
    silent(guard, peer.address)
    assert lab.home("dial", address=peer.dial, port=PORT)["errno"] == "ECONNREFUSED"
    wait_for(lambda: lab.home("keepalive", fd=link.here)["idle"] == 1, "the link is being probed")
    guard.end(signal.SIGKILL)
    assert lab.home("keepalive", fd=link.here)["idle"] == 1
    # The next one may take longer to start than the link would live without an answer.
    revive()
    guard.start()
    wait_for(lambda: lab.home("keepalive", fd=link.here) == before, "the settings are back")


@test
@needs("socket_iterator")
def link_of_signed_segments_is_probed_with_signed_ones(lab):
    """TCP MD5, as between BGP speakers: an unsigned probe would get no answer from a living peer."""
    guard, peer = lab.guard(**OPTIONS), lab.fresh(IPV4)
    watch, listener = guard.watch(), listen_home(lab)

    def signed_dial(**options):
        sock = peer.host("socket", address=IPV4.home, source=peer.address)["fd"]
        peer.host("sign", fd=sock, remote=IPV4.home, key="sesame")
        return peer.host("connect", fd=sock, address=IPV4.home, port=PORT, **options)
    try:
        lab.home("sign", fd=listener, remote=peer.address, key="sesame")
    except AssertionError as error:
        if "ENOPROTOOPT" in str(error):
            raise Skip("this kernel has no TCP MD5 signatures (CONFIG_TCP_MD5SIG)") from error
        raise
    assert_passed(signed_dial())
    here = lab.home("accept", fd=listener, timeout=PATIENCE)["fd"]
    silent(guard, peer.address)
    signed_dial(blocking=False)
    watch.event(peer, "knock_suspect")
    wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND,
             "the link shows life")
    assert lab.home("state", fd=here) == 1
    assert "link_dead" not in watch.grown()


@test
@needs("socket_iterator")
def dead_link_is_told_and_left_while_observing(lab):
    """Edge case 36: what would have been refused while the old link was dead."""
    guard = lab.own_guard(mode="observe", **OPTIONS)
    watch, listener = guard.watch(), listen_home(lab)
    case = Case(lab, IPV4, listener, "inbound", "idle")
    revive = crash(lab, [case])
    silent(guard, case.peer.address)
    revive()
    lab.at_end(case.peer.host.silence(case.peer.address, only=RESETS))
    come_back(lab, [case], IPV4)
    assert case.resent == 0, case.resent
    event = watch.event(case.peer, "link_dead", cookie=case.link.cookie)
    assert event["enforced"] is False, event
    assert lab.home("state", fd=case.link.here) == 1
    grown = watch.grown("observed")
    assert grown["knock_suspect"] >= 1 and grown["link_dead"] == 1, grown
    assert "link_dead" not in watch.grown()


@test
@core()
def without_a_daemon_deny_max_lets_the_peer_and_our_dial_in(lab):
    """Nobody probes, and keepalive is the service's business: a denial needs proof all the same."""
    guard = lab.own_guard(liveness="0s", deny_max="5s", **OPTIONS)
    listener = listen_home(lab)
    case, dialed = [Case(lab, IPV4, listener, direction, "idle") for direction in ("inbound", "outbound")]
    revive = crash(lab, [case, dialed])
    silent(guard, case.peer.address, dialed.peer.address)
    guard.end(signal.SIGKILL)
    revive()
    assert_refused(dial(lab, dialed.peer))
    # Nothing leaves the old link by itself, so nothing ends it.
    began = now_ns()
    knock = assert_passed(case.peer.knock())
    assert knock["elapsed"] > 4, f"let in after {knock['elapsed']:.2f} s, before deny_max"
    print(f"# let in {knock['elapsed']:.2f} s after its first SYN", flush=True)
    assert lab.home("accept", fd=listener, timeout=PATIENCE)
    assert lab.home("state", fd=case.link.here) == 1
    # Nor is it forgotten in that time that our own dial was turned away.
    wait_for(lambda: dial(lab, dialed.peer)["errno"] == "success", "our dial passes")
    guard.start()
    counters = guard.counters()
    assert counters["knock_unproven"] >= 1 and counters["link_replaced"] == 2, counters
    assert counters["dial_suspect"] >= 1 and counters["dial_unproven"] == 1, counters
    # The one that was replaced is destroyed as soon as there is somebody to do it.
    for each_case in (case, dialed):
        wait_for(lambda gone=each_case.link.here: lab.home("state", fd=gone) != 1, "the old link is destroyed")
    assert_one_new_link(guard, [case, dialed])
    assert now_ns() > began


@test
def live_link_outlives_deny_max_without_a_daemon(lab):
    """Its keepalive is evidence enough, every few seconds."""
    guard, peer = lab.own_guard(liveness="3s", deny_max="5s", **OPTIONS), lab.fresh(IPV4)
    link = link_in(lab, peer, listen_home(lab))
    silent_since = now_ns()
    guard.end(signal.SIGKILL)
    prober = Prober(lab, peer.host, IPV4.home, source=peer.address, interval_us=50_000)
    wait_past(silent_since + 9 * SECOND)
    outcome = prober.stop()
    assert outcome["dials"] > 50 and "success" not in outcome["outcomes"], outcome
    assert link.alive()
    guard.start()
    assert "knock_unproven" not in guard.counters(), guard.counters()
    assert os.path.exists(guard.socket_path)
