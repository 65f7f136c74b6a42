# SPDX-License-Identifier: BSD-2-Clause
"""Suspect links: quiet ones whose peer knocks are asked, and end only when the peer has another one.

Liveness is off, so that whatever ends within seconds here ends by what the peer's
knock has brought about.
"""

import os
import re
import signal

from harness import (ALL_BUT_SYNS, IPV4, PATIENCE, PORT, SECOND, SYNS, TIME_SCALE, Family, Skip, now_ns, run,
                     wait_for, wait_past)
from prober import Prober
from registry import core, each, each_family, needs, test
from steps import (assert_dial_refused, assert_knock_refused, assert_knock_told, assert_passed, assert_refused, dial, link_in,
                   link_out, listen_home, resent_within)

SUSPECT_AFTER = 2
OPTIONS = {"suspect_after": f"{SUSPECT_AFTER}s", "min_uptime": "0s"}
# From its first SYN to its link, for a peer that crashed and is back.
BACK_SECONDS = 5
RESETS = "tcp flags & rst == rst"
# The shortest that the setting takes.
DENY_MAX = 5
OUTAGE_SECONDS = 6.5


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
def link_of_a_peer_that_crashed_makes_room_at_its_knock(lab, family):
    """The peer is back, and its host answers for the old link with RST."""
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
@core()
def link_with_data_on_its_way_is_asked_beside_tcp(lab, family):
    """TCP would ask when it next repeats the data, which is as much later as nobody has answered."""
    guard = lab.guard(**OPTIONS)
    watch = guard.watch()
    case = Case(lab, family, listen_home(lab, family), "inbound", "unacknowledged data")
    revive = crash(lab, [case])
    address = case.peer.address
    wait_for(lambda: not_repeated_soon(lab.home, "established", "dst", f"[{address}]" if ":" in address else address) == 1,
             "the data is not repeated for seconds")
    repeated = lab.home("resent", fd=case.link.here)
    revive()
    come_back(lab, [case], family)
    event = watch.event(case.peer, "link_ended", cookie=case.link.cookie)
    assert event["ending"] == "reset", event
    assert lab.home("resent", fd=case.link.here) == repeated, "TCP has asked by itself"
    assert_one_new_link(guard, [case])


@each_family
@core("IPv6")
@needs("socket_options")
def link_that_nothing_answers_for_makes_room_after_three_probes(lab, family):
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
        event = watch.event(case.peer, "link_unanswered", cookie=case.link.cookie)
        assert event["enforced"] is True and event["attempts"] == 0, event
        # What ends it is the new link, and that one was there before. A knock is let in after three seconds, whether or
        # not a daemon that had no processor has judged by then.
        held = watch.event(case.peer, "knock_suspect")
        replaced = watch.event(case.peer, "link_replaced", other_cookie=case.link.cookie)
        ended = watch.event(case.peer, "link_destroyed", cookie=case.link.cookie)
        assert replaced["time_ns"] < ended["time_ns"], (replaced, ended)
        assert event["time_ns"] < replaced["time_ns"] or \
            replaced["time_ns"] - held["time_ns"] > 3 * SECOND, (held, event, replaced)
    watch.counted_at_least(link_unanswered=4, link_replaced=4, knock_suspect=4)


@test
@needs("socket_options")
def many_links_that_nothing_answers_for_make_room_together(lab):
    """A whole site is back behind such a firewall: each of its peers is in as soon as one alone would be."""
    guard = lab.guard(**OPTIONS)
    watch, listener = guard.watch(), listen_home(lab)
    cases = [Case(lab, IPV4, listener, "inbound", "idle") for _ in range(100)]
    revive = crash(lab, cases)
    silent(guard, *[case.peer.address for case in cases])
    revive()
    lab.at_end(cases[0].peer.host.silence(*[case.peer.address for case in cases], only=RESETS))
    come_back(lab, cases, IPV4)
    assert_one_new_link(guard, cases)
    watch.counted_at_least(link_replaced=len(cases), link_destroyed=len(cases))


def not_repeated_soon(host, state, *which):
    """How many sockets of the host in this state will not repeat what they have sent in the next five seconds."""
    _status, text = run(*host.inside("ss", "-Htno", "state", state, *which))
    return sum(float(left) >= 5 for left in re.findall(r"timer:\(on,([\d.]+)sec,", text))


@test
@core()
@needs("socket_options")
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
    wait_for(lambda: not_repeated_soon(host, "fin-wait-1") == 4, "what is lost is not repeated for seconds")
    mend()
    # Nobody but our own application asks for a link to these: they keep what they have.
    for case in quiet:
        assert_dial_refused(lab, watch, case.peer, "dial_suspect")
    for name, seconds in come_back(lab, knocking, IPV4).items():
        print(f"# {name}: in after {seconds:.2f} s", flush=True)
        assert seconds > 0.25, "time to repeat what was lost"
    assert_one_new_link(guard, knocking)
    for case in knocking:
        event = watch.event(case.peer, "link_unanswered", cookie=case.link.cookie)
        assert event["verdict"] == "none" and event["enforced"] is True, event
    for case in quiet:
        links = guard.peer(case.peer.address)["links"]
        assert [link["cookie"] for link in links] in ([case.link.cookie], []), links
    # What was missing comes, and the end with it.
    for case in quiet:
        watch.event(case.peer, "link_ended", cookie=case.link.cookie)
        watch.no_event(case.peer, "link_unanswered")


@test
@core()
@needs("socket_options")
def link_is_judged_by_its_round_trip_not_by_the_outage(lab):
    """The acknowledgments of what we had sent are lost with the wire: the first one afterwards makes TCP believe that
    the way took as long as the outage (RFC 7323, section 4.3, has it echo the last segment that came in order)."""
    guard = lab.guard(**OPTIONS)
    watch = guard.watch()
    case = Case(lab, IPV4, listen_home(lab), "inbound", "idle")
    host, peer = case.peer.host, case.peer
    mend = lab.home.eat("input", f"ip saddr {peer.address}")
    # Of several segments TCP repeats the first, which the other end has had with the others.
    text = "is anybody there?" * 240
    lab.home("send", fd=case.link.here, text=text)
    # All of it is read: a socket that is closed beside unread data is reset (RFC 2525, section 2.17).
    while text:
        text = text[len(host("receive", fd=case.link.there, timeout=PATIENCE)):]
    host("send", fd=case.link.there, text="good bye")
    host("close", fd=case.link.there)
    wait_for(lambda: not_repeated_soon(host, "fin-wait-1", "src", peer.address), "what is lost is not repeated soon")
    mend()
    silent(guard, peer.address)
    come_back(lab, [case], IPV4)
    assert_one_new_link(guard, [case])
    waited = (watch.event(peer, "link_unanswered", cookie=case.link.cookie)["time_ns"] -
              watch.event(peer, "knock_suspect")["time_ns"]) / SECOND
    believed = lab.home("round_trip", fd=case.link.here)
    assert believed > 0.5, f"TCP has not taken the outage for a round trip: {believed} s"
    assert waited < 2 * believed, f"{waited} s for an answer, and {believed} s believed"


class CutLink:
    """A quiet link of which nothing comes in any more, and a guard of its own to watch."""

    def __init__(self, lab, peer=None, interface=None, **options):
        self.guard = lab.guard(**OPTIONS, **options)
        self.peer = peer or lab.fresh(IPV4)
        self.listener = lab.home("listen", address=self.peer.family.listen, port=PORT, interface=interface)
        self.watch = self.guard.watch()
        self.link = link_in(lab, self.peer, self.listener)
        self.cut = lab.home.eat("input", f"ip saddr {self.peer.address} tcp sport {self.link.dial['local'][1]}")
        lab.at_end(self.mend)
        silent(self.guard, self.peer.address)

    def mend(self):
        """Let it in again: once, at the end of the test if not before."""
        if self.cut:
            self.cut()
        self.cut = None


@each("nothing answers", "our application closes the link", "nothing answers, the listener is bound to a device")
@core("nothing answers", "our application closes the link")
@needs("socket_options")
def knock_that_was_held_is_let_in(lab, case):
    """By the daemon: its sender would repeat it later, here never."""
    cut = CutLink(lab, interface="eth0" if "bound" in case else None)
    watch, peer, link = cut.watch, cut.peer, cut.link
    knock = peer.knock(blocking=False)
    watch.event(peer, "knock_suspect")
    lab.at_end(peer.host.silence(peer.address, only=SYNS))
    if case == "our application closes the link":
        lab.home("close", fd=link.here)
    assert lab.home("accept", fd=cut.listener, timeout=PATIENCE), "nothing comes in"
    outcome = peer.host("settle", fd=knock["fd"], timeout=PATIENCE)
    assert outcome and outcome["errno"] == "success", outcome
    watch.event(peer, "link_unanswered" if "nothing answers" in case else "link_ended", cookie=link.cookie)
    watch.event(peer, "link_inbound")


@test
@needs("socket_options")
def knock_that_was_held_waits_where_a_copy_would_belong_to_nothing(lab):
    """The listener is bound to a device, and its address is on another one, by which a copy would come: nobody would be
    there, and the peer's dial would fail. Its sender repeats it."""
    lab.left.ip("route add 10.78.0.1/32 via 10.77.0.1")
    lab.at_end(lab.left.ip, "route del 10.78.0.1/32 via 10.77.0.1")
    cut = CutLink(lab, lab.fresh(Family("IPv4 of eth1", listen="10.78.0.1", home="10.78.0.1", version=4)), interface="eth0")
    watch, peer, link = cut.watch, cut.peer, cut.link
    knock = peer.knock(blocking=False)
    watch.event(peer, "knock_suspect")
    watch.event(peer, "link_unanswered", cookie=link.cookie)
    outcome = peer.host("settle", fd=knock["fd"], timeout=PATIENCE)
    assert outcome and outcome["errno"] == "success" and outcome["resent"], outcome
    assert lab.home("accept", fd=cut.listener, timeout=PATIENCE), "nothing comes in"
    watch.event(peer, "link_inbound")


@test
@needs("socket_options")
def knock_that_was_held_is_let_in_without_a_verdict(lab):
    """TCP waits for an answer on a slow path, and has not asked often enough when the hold is over."""
    peer = lab.fresh(IPV4)
    lab.home.ip(f"route add {peer.address} via 10.77.0.2 dev eth0 rto_min 30s")
    lab.at_end(lambda: lab.home.ip(f"route del {peer.address} via 10.77.0.2 dev eth0"))
    cut = CutLink(lab, peer)
    watch, link = cut.watch, cut.link
    lab.home("send", fd=link.here, text="are you there?")
    knock = peer.knock(blocking=False)
    held = watch.event(peer, "knock_suspect")
    lab.at_end(peer.host.silence(peer.address, only=SYNS))
    assert lab.home("accept", fd=cut.listener, timeout=PATIENCE), "nothing comes in"
    outcome = peer.host("settle", fd=knock["fd"], timeout=PATIENCE)
    assert outcome and outcome["errno"] == "success", outcome
    replaced = watch.event(peer, "link_replaced", other_cookie=link.cookie)
    assert replaced["time_ns"] >= held["until_ns"], (held, replaced)
    watch.no_event(peer, "link_unanswered")


@each("its peer ends the new one", "both stay")
@core()
@needs("socket_options")
def link_that_lives_after_all_outlives_what_came_in_its_place(lab, case):
    """The wire ate what its peer answered, as an outage does while TCP waits to repeat what was lost, and a
    second task of the peer dialed. Whether or not that one sees that it is one too many: the link stays."""
    cut = CutLink(lab, check_interval="1s")
    guard, watch, peer, link = cut.guard, cut.watch, cut.peer, cut.link
    second = link_in(lab, peer, cut.listener)
    replaced = watch.event(peer, "link_replaced", cookie=second.cookie, other_cookie=link.cookie)
    # Time in which a hasty daemon would destroy it, or its periodic check.
    wait_past(replaced["time_ns"] + SECOND)
    if case == "its peer ends the new one":
        second.close()
        spared = watch.event(peer, "link_spared", cookie=link.cookie)
        assert spared["time_ns"] > replaced["time_ns"], (replaced, spared)
    cut.mend()
    peer.host("send", fd=link.there, text="here I am")
    watch.event(peer, "link_spared", cookie=link.cookie)
    wait_for(lambda: [one["cookie"] for one in guard.peer(peer.address)["links"]] == [link.cookie],
             lambda: f"the old link is the only one: {guard.peer(peer.address)['links']}")
    assert link.alive()
    watch.no_event(peer, "link_destroyed", cookie=link.cookie)
    # A link as any other again.
    peer.host("send", fd=link.there, text="still here")
    assert_knock_refused(watch, peer)


@each_family
def silent_link_outlives_a_thousand_knocks(lab, family):
    """Alive, silent, and knocked at by what may be anybody."""
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
    for cause in ("link_unanswered", "link_ended", "link_replaced", "knock_unproven"):
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
@needs("socket_options")
def dial_to_a_suspect_link_asks_nobody_until_deny_max(lab):
    """Our own dial proves nothing about the other end. But no peer is refused for longer without evidence."""
    guard = lab.guard(deny_max=f"{DENY_MAX}s", **OPTIONS)
    peer, dead = lab.fresh(IPV4), lab.fresh(IPV4)
    watch = guard.watch()
    links = [link_out(lab, one) for one in (peer, dead)]
    revive = dead.host.silence(dead.address)
    dead.host("close", fd=links[1].there, reset=True)
    silent(guard, peer.address, dead.address)
    revive()
    status, document = guard.explain(peer.address)
    assert status == 3 and document["dial"]["cause"] == "dial_suspect", document
    assert document["knock"]["cause"] == "knock_suspect", document
    before = lab.home("keepalive", fd=links[0].here)
    heard = guard.peer(peer.address)["links"][0]["heard_ns"]
    first = [assert_dial_refused(lab, watch, one, "dial_suspect") for one in (peer, dead)][0]
    while guard.status()["now_ns"] < first["time_ns"] + DENY_MAX * SECOND / 2:
        result = assert_refused(dial(lab, peer))
        link, = guard.peer(peer.address)["links"]
        if watch.event(peer, "dial_suspect", cookie=result["cookie"])["time_ns"] \
                < first["time_ns"] + DENY_MAX * SECOND:
            assert link["heard_ns"] == heard and lab.home("keepalive", fd=links[0].here) == before, link
    # Then they are asked: the living one answers, and of the dead one nobody knows anything.
    wait_past(first["time_ns"] + (DENY_MAX + 1) * SECOND)
    assert_dial_refused(lab, watch, peer, "dial_suspect")
    assert_dial_refused(lab, watch, dead, "dial_suspect")
    wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND, "the link shows life")
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert links[0].alive()
    event = watch.event(dead, "link_ended", cookie=links[1].cookie)
    assert event["ending"] == "reset", event
    link_out(lab, dead)
    assert "link_unanswered" not in watch.grown(), watch.grown()


class Outage:
    """The peer and its link are there, but nothing of it comes through except SYNs, of whomever."""

    def __init__(self, lab, peer):
        self.mend = peer.host.silence(peer.address, only=ALL_BUT_SYNS)
        self.over = False
        self.peer = peer
        self.knocks = []
        lab.at_end(self.let_through)

    def knock(self):
        """A SYN in the peer's name, by somebody whose handshake never ends."""
        self.knocks.append(self.peer.knock(blocking=False))

    def let_through(self):
        if not self.over:
            self.mend()
        self.over = True

    def end(self):
        """Nothing of the knocks is left to be sent again."""
        for knock in self.knocks:
            self.peer.host("close", fd=knock["fd"], reset=True)
        self.let_through()


@each(*[f"{direction}, {data}" for direction in ("inbound", "outbound")
        for data in ("idle", "unacknowledged data", "a user timeout")])
@core("inbound, idle", "outbound, a user timeout")
@needs("socket_options")
def link_survives_an_outage_during_which_anybody_knocks(lab, case):
    """Six seconds and longer without an answer, and SYNs in the peer's name all the time: TCP keeps such a
    link, and so does the guard."""
    direction, data = case.split(", ")
    guard, peer = lab.guard(**OPTIONS), lab.fresh(IPV4)
    watch, listener = guard.watch(), listen_home(lab)
    peer.listen()
    link = link_in(lab, peer, listener) if direction == "inbound" else link_out(lab, peer)
    if data == "a user timeout":
        # The link has been silent for longer: with it one unanswered probe would be enough.
        lab.home("set_keepalive", fd=link.here, on=True, user_timeout=SUSPECT_AFTER)
    before = lab.home("keepalive", fd=link.here)
    silent(guard, peer.address)
    outage = Outage(lab, peer)
    began = now_ns()
    if data == "unacknowledged data":
        lab.home("send", fd=link.here, text="is anybody there?")
    outage.knock()
    watch.event(peer, "knock_suspect")
    wait_for(lambda: watch.grown().get("link_unanswered"), "the link is asked in vain")
    while now_ns() < began + OUTAGE_SECONDS * SECOND or not watch.grown().get("knock_unproven"):
        outage.knock()
        wait_past(now_ns() + SECOND // 10)
        assert now_ns() < began + PATIENCE * TIME_SCALE * SECOND, watch.grown()
    assert lab.home("state", fd=link.here) == 1
    outage.end()
    if data == "unacknowledged data":
        assert peer.host("receive", fd=link.there, timeout=PATIENCE) == "is anybody there?"
    peer.host("send", fd=link.there, text="still here")
    assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "still here"
    assert link.alive()
    wait_for(lambda: lab.home("keepalive", fd=link.here) == before,
             lambda: f"the settings are {before} again: {lab.home('keepalive', fd=link.here)}")

    def refused_at_once():
        peer.host("send", fd=link.there, text="and here")
        assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "and here"
        knock = peer.knock()
        assert knock["errno"] == "ECONNREFUSED", knock
        return None if knock["resent"] else knock
    # On a slow machine it is quiet again before the knock comes.
    assert_knock_told(watch, peer, wait_for(refused_at_once, "a knock is refused at once"))
    grown = watch.grown()
    assert not {"link_ended", "link_replaced", "link_destroyed", "link_duplicate"} & set(grown), grown


@each("keepalive was on", "keepalive was off")
@core("keepalive was off")
@needs("socket_options")
def link_keeps_what_its_service_sets_while_it_is_asked(lab, case):
    """A value that was changed meanwhile is not overwritten; the others are as before."""
    guard, peer = lab.guard(**OPTIONS), lab.fresh(IPV4)
    watch, link = guard.watch(), link_in(lab, peer, listen_home(lab))
    lab.home("set_keepalive", fd=link.here, on=case == "keepalive was on", idle=600, interval=60, probes=9,
             user_timeout=900)
    silent(guard, peer.address)
    outage = Outage(lab, peer)
    outage.knock()
    watch.event(peer, "knock_suspect")
    wait_for(lambda: lab.home("keepalive", fd=link.here)["idle"] == 1, "the link is asked")
    assert lab.home("keepalive", fd=link.here)["user_timeout"] == 0
    lab.home("set_keepalive", fd=link.here, on=True, idle=77, user_timeout=88)
    outage.end()
    peer.host("send", fd=link.there, text="still here")
    wait_for(lambda: lab.home("keepalive", fd=link.here)["interval"] == 60, "the link is left alone")
    wanted = {"on": True, "idle": 77, "interval": 60, "probes": 9, "user_timeout": 88}
    assert lab.home("keepalive", fd=link.here) == wanted, lab.home("keepalive", fd=link.here)
    assert link.alive()


@test
def link_that_answers_is_not_touched(lab):
    """It is asked beside TCP, which changes nothing of the socket: TCP itself sends no probe."""
    guard = lab.guard(**OPTIONS)
    watch, listener = guard.watch(), listen_home(lab)
    peers = [lab.fresh(IPV4) for _ in range(6)]
    for peer in peers:
        link_in(lab, peer, listener)
    silent(guard, *[peer.address for peer in peers])
    probes = lab.home.snmp("TcpExt", "TCPKeepAlive")
    for peer in peers:
        peer.knock(blocking=False)
        watch.event(peer, "knock_suspect")
        wait_for(lambda: guard.peer(peer.address)["links"][0]["silent_ns"] < SECOND, "the link shows life")
    # A machine may be so busy that an answer comes too late, but not each.
    assert lab.home.snmp("TcpExt", "TCPKeepAlive") - probes < len(peers) - 1
    assert "link_unanswered" not in watch.grown(), watch.grown()


@each(0, 60)
@needs("socket_options")
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
@needs("socket_options")
def link_left_nudged_by_a_dead_daemon_is_set_back_by_the_next(lab):
    guard, peer = lab.own_guard(**OPTIONS), lab.fresh(IPV4)
    link = link_in(lab, peer, listen_home(lab))
    before = lab.home("keepalive", fd=link.here)
    silent(guard, peer.address)
    outage = Outage(lab, peer)
    outage.knock()
    wait_for(lambda: lab.home("keepalive", fd=link.here)["idle"] == 1, "the link is being probed")
    guard.end(signal.SIGKILL)
    assert lab.home("keepalive", fd=link.here)["idle"] == 1
    # The next one may take longer to start than the link would live without an answer.
    outage.end()
    guard.start()
    wait_for(lambda: lab.home("keepalive", fd=link.here) == before, "the settings are back")


@test
@needs("socket_options")
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
    assert "link_unanswered" not in watch.grown()


@test
@core()
def without_a_daemon_deny_max_lets_the_peer_and_our_dial_in(lab):
    """Nobody probes, and keepalive is the service's business: a denial needs proof all the same."""
    guard = lab.own_guard(liveness="0s", deny_max="5s", **OPTIONS)
    listener = listen_home(lab)
    case, dialed = [Case(lab, IPV4, listener, direction, "idle") for direction in ("inbound", "outbound")]
    revive = crash(lab, [case, dialed])
    silent(guard, case.peer.address, dialed.peer.address)
    # After SIGKILL the others would take it for alive for some seconds.
    guard.end(signal.SIGQUIT)
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
