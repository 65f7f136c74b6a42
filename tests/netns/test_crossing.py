# SPDX-License-Identifier: BSD-2-Clause
"""Both sides dial at once, over a wire with a round trip (160 ms, on slow machines more).

All rounds of a test run side by side: each is a pair of fresh addresses, one at each end, whose
dials leave at the same moment, so that nearly every one of them crosses (on a busy machine some are
late). What the guard counts and tells is asserted here; that one link is left, whatever the skew and
the distance, is shown by tests/crossing with thousands of rounds.
"""

from harness import DELAY_MS, IPV4, IPV6, PATIENCE, PORT, SECOND, TIME_SCALE, now_ns, wait_for
from registry import core, each, test
from steps import assert_passed, assert_refused, dial, resent_within, wait_not_new

ROUNDS = 30
# How long a pair may take to have its one link; TCP counts it in SYNs that it sends again.
SETTLED_SECONDS = 3


class Race:
    """Pairs of addresses that dial each other at one moment."""

    def __init__(self, lab, family, rounds=ROUNDS):
        lab.need_delay()
        self.lab = lab
        self.pairs = [(lab.fresh(family, lab.home).address, lab.fresh(family, lab.far).address)
                      for _ in range(rounds)]
        # Later than both nodes need to get ready.
        at = now_ns() + round(SECOND / 2 * min(TIME_SCALE, 4))
        self.here = lab.home("node", listener=lab.home("listen", address="::", port=PORT),
                             port=PORT, dials=self.pairs, at=at)
        self.there = lab.far("node", listener=lab.far("listen", address="::", port=PORT),
                             port=PORT, dials=[(far, home) for home, far in self.pairs], at=at)

    def report(self):
        """Per pair: the records of links that the application here saw, and the one there."""
        here = self.lab.home("node_report", thread=self.here)
        there = self.lab.far("node_report", thread=self.there)
        return [(here["seen"].get(far, []), there["seen"].get(home, []))
                for home, far in self.pairs]

    def dials(self):
        """Outcomes of the dials from here and from there, in the order of the pairs."""
        here = self.lab.home("node_report", thread=self.here)["dials"]
        there = self.lab.far("node_report", thread=self.there)["dials"]
        return [(here[far], there[home]) for home, far in self.pairs]

    @staticmethod
    def open(records):
        return sum(1 for record in records if record[2] is None)

    def wait_one_link_each(self):
        """Until every pair has one link at both ends, whose dial has not taken longer than it may."""
        def wrong():
            return [(index, pair) for index, pair in enumerate(self.report())
                    if self.open(pair[0]) != 1 or self.open(pair[1]) != 1]
        wait_for(lambda: not wrong(),
                 lambda: f"every pair has one link; not {wrong()[:5]}, dials: {self.dials()}")
        resent = self.resent()
        assert max(resent) <= resent_within(self.lab.home, SETTLED_SECONDS), f"SYNs sent again: {resent}"

    def resent(self):
        """Of each dial of both ends that became a link: how often its SYN was sent again."""
        return [count for host, node in ((self.lab.home, self.here), (self.lab.far, self.there))
                for count in host("node_report", thread=node)["resent"].values()]

    def wait_dials_over(self):
        """Until every dial of both ends has an outcome: nobody waits for a SYN timeout."""
        wait_for(lambda: all(None not in pair for pair in self.dials()),
                 lambda: f"every dial ends; they are {self.dials()}")


def dials_of(grown):
    """All of a race. One that a slow machine makes late finds the other's handshake pending, or the link."""
    return sum(grown.get(cause, 0) for cause in ("dial_idle", "dial_pending", "dial_linked"))


def told(guard, address):
    """What a guard has told of a peer, for a message."""
    return [(event["time_ns"], event["cause"]) for event in guard.events.find(address=address)]


def assert_losers_hear_first(watch):
    """A dial that gives way has ended when their handshake is complete, by the kernel's own clock: accept()
    cannot return before. The handshake waits a moment for that, so a few may be late on a busy machine."""
    events = watch.guard.events
    ended = {event["address"]: event for event in events.find(watch.since, cause="dial_yielded")}
    linked = {event["address"]: event for event in events.find(watch.since, cause="link_inbound")}
    both = [(ended[address], linked[address]) for address in ended if address in linked]
    first = [pair for pair in both if pair[0]["time_ns"] < pair[1]["time_ns"]]
    assert both and 2 * len(first) > len(both), both
    for event, _link in both:
        assert event["attempts"] == 0 and event["until_ns"] is None, event
        assert event["ending"] == "aborted", event
    print(f"# {len(first)} of {len(both)} losers have ended before the winner is established")


@test
@core()
def of_two_guarded_ends_leaves_one_link_and_shows_no_other(lab):
    guard = lab.own_guard()
    remote = lab.new_guard(lab.far, guard.options)
    lab.at_end(remote.destroy)
    remote.start()
    watch, remote_watch = guard.watch(), remote.watch()
    race = Race(lab, IPV4)
    race.wait_one_link_each()
    race.wait_dials_over()
    race.wait_one_link_each()
    for pair, (here, there) in zip(race.pairs, race.report()):
        assert len(here) == 1, (f"{pair}: the application at home saw {here}; "
                                f"{told(guard, pair[1])}")
        assert len(there) == 1, (f"{pair}: the application far away saw {there}; "
                                 f"{told(remote, pair[0])}")
        assert here[0][0] != there[0][0], f"{pair}: not the same connection: {here} {there}"
    grown, remote_grown = watch.grown(), remote_watch.grown()
    for one, other in ((grown, remote_grown), (remote_grown, grown)):
        assert dials_of(one) == ROUNDS, one
        assert one["link_outbound"] + one["link_inbound"] == ROUNDS, one
        assert one["link_outbound"] == other["link_inbound"], (one, other)
        # Whoever lost held the winner's rival back: not one duplicate came up.
        assert "link_duplicate" not in one, one
    # It favours nobody (a fair coin gives 0 or 30 once in 500 million).
    assert 0 < grown["link_outbound"] < ROUNDS, grown
    assert grown.get("knock_goes_first") and grown.get("knock_tie_lost"), grown
    for each_watch, book in ((watch, grown), (remote_watch, remote_grown)):
        assert book["dial_yielded"] <= book["knock_goes_first"], book
        assert_losers_hear_first(each_watch)
    home, far = race.pairs[0]
    guard.events.wait(watch.since, address=far, subject="link")
    remote.events.wait(remote_watch.since, address=home, subject="link")


@test
@core()
def of_one_guarded_end_leaves_one_link(lab):
    guard = lab.own_guard()
    watch = guard.watch()
    race = Race(lab, IPV6)
    race.wait_one_link_each()
    race.wait_dials_over()
    race.wait_one_link_each()
    for pair, (here, _there) in zip(race.pairs, race.report()):
        assert len(here) == 1, (f"{pair}: the guarded application saw {here}; "
                                f"{told(guard, pair[1])}")
    grown = watch.grown()
    assert grown["link_outbound"] + grown["link_inbound"] == ROUNDS, grown
    assert grown.get("knock_goes_first") and grown.get("knock_tie_lost"), grown
    assert_losers_hear_first(watch)
    assert dials_of(grown) == ROUNDS, grown
    for _home, far in race.pairs[:3]:
        guard.events.wait(watch.since, address=far, subject="link")


@test
@core()
def left_to_the_service_leaves_both_and_reports_it(lab):
    guard = lab.own_guard(tie_break="none")
    watch = guard.watch()
    race = Race(lab, IPV4, rounds=8)
    race.wait_dials_over()

    def crossed():
        """Where both dials have become links."""
        return [pair for pair, (here, there) in zip(race.pairs, race.report())
                if Race.open(here) == Race.open(there) == 2]
    # Few of the dials are late, if any, and meet a link.
    wait_for(lambda: 0 < len(crossed()) == watch.grown().get("link_crossed"),
             lambda: f"what crossed is told of: {watch.grown()}, {race.report()}")
    grown, pairs = watch.grown(), crossed()
    assert grown.get("knock_tie_open", 0) >= len(pairs), grown
    assert "link_duplicate" not in grown and "link_destroyed" not in grown, grown
    for _home, far in pairs:
        event = watch.event(far, "link_crossed")
        assert event["other_cookie"], event


@each(IPV4, IPV6)
@core()
def our_syn_eaten_lets_theirs_in(lab, family):
    """A firewall eats our SYNs: whoever wins the tie, there is a link in three seconds, as Race counts them."""
    guard = lab.own_guard()
    lab.need_delay()
    prefix = "10.86.0.0/16" if family is IPV4 else "fd86::/64"
    lab.at_end(lab.far.eat_syns_from(prefix))
    watch = guard.watch()
    race = Race(lab, family, rounds=10)
    race.wait_one_link_each()
    for pair, (here, _there) in zip(race.pairs, race.report()):
        assert len(here) == 1 and here[0][0] == "inbound", f"{pair}: {here}"
    watch.counted_at_least(link_inbound=10, dial_idle=10)
    for _home, far in race.pairs:
        watch.event(far, "link_inbound")


@each(IPV4, IPV6)
@core()
def two_knocks_at_once_of_an_unguarded_peer_become_one_link(lab, family):
    guard = lab.own_guard()
    lab.need_delay()
    peers = [lab.fresh(family, lab.far) for _ in range(10)]
    listener = lab.home("listen", address="::", port=PORT)
    node = lab.home("node", listener=listener, port=PORT)
    watch = guard.watch()
    target = "10.78.0.1" if family is IPV4 else "fd78::1"
    knocks = lab.far("volley", dials=[{"address": target, "port": PORT, "source": peer.address}
                                      for peer in peers for _ in range(2)])
    assert all(knock["errno"] == "EINPROGRESS" for knock in knocks), knocks

    def seen():
        return lab.home("node_report", thread=node)["seen"]
    wait_for(lambda: len(seen()) == len(peers), lambda: f"every peer gets in: {seen()}")
    # The other one of each pair asks again by retransmission, and is refused then.
    outcomes = [lab.far("settle", fd=knock["fd"], timeout=PATIENCE * TIME_SCALE) for knock in knocks]
    names = [outcome and outcome["errno"] for outcome in outcomes]
    assert names.count("success") == len(peers), names
    assert names.count("ECONNREFUSED") == len(peers), names
    for peer in peers:
        assert len(seen()[peer.address]) == 1, f"the application saw {seen()[peer.address]}"
        event = watch.event(peer, "knock_pending")
        assert event["verdict"] == "hold" and event["until_ns"] > event["time_ns"], event
        watch.event(peer, "knock_linked")
    watch.counted_at_least(link_inbound=len(peers), knock_pending=len(peers),
                           knock_linked=len(peers))
    assert watch.grown()["link_inbound"] == len(peers), watch.grown()


class OnePort:
    """Pairs of hosts that dial each other from the port on which they listen, at one moment: both ends open
    one connection."""

    def __init__(self, lab, family, count=8):
        lab.need_delay()
        self.lab = lab
        self.pairs = [(lab.fresh(family, lab.home), lab.fresh(family, lab.far)) for _ in range(count)]
        self.listeners = {peer: peer.host("listen", address=peer.address, port=PORT, shared=True)
                          for pair in self.pairs for peer in pair}
        at = now_ns() + round(SECOND / 2 * min(TIME_SCALE, 4))
        numbers = [(host, host.start("volley", dials=[
            {"address": pair[1 - end].address, "port": PORT, "source": pair[end].address,
             "source_port": PORT, "reuse": True, "at": at} for pair in self.pairs]))
                   for end, host in ((0, lab.home), (1, lab.far))]
        self.dials = dict(zip((peer for pair in zip(*self.pairs) for peer in pair),
                              (dial for host, number in numbers for dial in host.finish(number))))

    def outcomes(self, pair):
        """Of the dials of both ends: errno."""
        found = []
        for peer in pair:
            if self.dials[peer]["errno"] != "EINPROGRESS":
                # Late: the other end's SYN has come to our listener, and the four tuple is taken.
                found.append(self.dials[peer]["errno"])
                continue
            outcome = peer.host("settle", fd=self.dials[peer]["fd"], timeout=PATIENCE * TIME_SCALE)
            found.append(outcome and outcome["errno"])
        return found

    def assert_one_link_each(self):
        """One end has dialed, and the other one has accepted; or, without a guard there, both have dialed
        one connection. How many of the pairs have a dialer and an accepter."""
        accepted = 0
        for pair in self.pairs:
            outcomes = self.outcomes(pair)
            assert "success" in outcomes, (pair[0].address, outcomes)
            if outcomes.count("success") == 1:
                loser = pair[outcomes.index("success") - 1]
                there = loser.host("accept", fd=self.listeners[loser], timeout=PATIENCE)
                assert there, f"{loser.address} accepts nothing: {outcomes}"
                accepted += 1
            for peer in pair:
                assert peer.host("accept", fd=self.listeners[peer], timeout=0) is None, "a second link"
        return accepted


@each(IPV4, IPV6)
@core()
def of_one_four_tuple_is_one_link_with_one_guard(lab, family):
    """One 4-tuple: an end without a guard answers our SYN from its own dial."""
    guard = lab.own_guard()
    watch = guard.watch()
    opened = OnePort(lab, family)
    opened.assert_one_link_each()
    for _home, far in opened.pairs:
        guard.wait_state(far.address, "linked")
        slot, = guard.peer(far.address)["links"]
        assert slot["local_port"] == slot["remote_port"] == PORT, slot
    grown = watch.grown()
    # On a busy machine theirs may be the first, and be answered when ours begins.
    assert grown.get("dial_idle", 0) + grown.get("dial_pending", 0) == len(opened.pairs), grown
    assert grown.get("link_outbound", 0) + grown.get("link_inbound", 0) == len(opened.pairs), grown
    assert grown.get("knock_open_won", 0) + grown.get("knock_open_met", 0) > 0, grown
    assert "dial_failed" not in grown and "link_duplicate" not in grown, grown
    # And it is a link like any other.
    far = opened.pairs[0][1]
    wait_not_new(2 * DELAY_MS / 1000)
    assert_refused(dial(lab, far))
    watch.event(far, "dial_linked")


@each(IPV4, IPV6)
@core()
def of_one_four_tuple_is_a_dial_here_and_a_knock_there_with_two_guards(lab, family):
    """One 4-tuple: the greater number stays a dial, the other end gives its dial up, and its listener answers. Without
    a guard both dials succeed together, and no application has accepted anything."""
    guard = lab.own_guard()
    remote = lab.new_guard(lab.far, guard.options)
    lab.at_end(remote.destroy)
    remote.start()
    watch, remote_watch = guard.watch(), remote.watch()
    opened = OnePort(lab, family)
    accepted = opened.assert_one_link_each()
    assert accepted == len(opened.pairs), f"{accepted} of {len(opened.pairs)} have an accepter"
    for home, far in opened.pairs:
        guard.wait_state(far.address, "linked")
        remote.wait_state(home.address, "linked")
        here, = guard.peer(far.address)["links"]
        there, = remote.peer(home.address)["links"]
        assert {here["direction"], there["direction"]} == {"inbound", "outbound"}, (here, there)
    grown, remote_grown = watch.grown(), remote_watch.grown()
    both = {name: grown.get(name, 0) + remote_grown.get(name, 0) for name in set(grown) | set(remote_grown)}
    assert both["link_outbound"] == both["link_inbound"] == len(opened.pairs), both
    assert both.get("knock_open_won") and both.get("knock_open_lost"), both
    assert not {"dial_failed", "link_duplicate"} & set(both), both


@test
def a_duplicate_from_observe_does_not_survive_forever_unseen(lab):
    """Two links that observe mode let up: enforcing counts both and lets no third one up."""
    guard, peer = lab.own_guard(mode="observe"), lab.fresh()
    peer.listen()
    watch = guard.watch()
    first, second = assert_passed(dial(lab, peer)), assert_passed(dial(lab, peer))
    watch.event(peer, "dial_linked", cookie=second["cookie"])
    guard.tell("resume")
    assert_refused(dial(lab, peer))
    assert lab.home("state", fd=first["fd"]) == 1, "the older link is the one that stays"


@each(IPV4, IPV6)
@core()
def a_link_too_many_is_destroyed_by_the_daemon(lab, family):
    """Without holds two knocks inside one round trip both come up: one of them goes at once."""
    guard = lab.own_guard(hold_max="0s")
    lab.need_delay()
    peers = [lab.fresh(family, lab.far) for _ in range(5)]
    listener = lab.home("listen", address="::", port=PORT)
    node = lab.home("node", listener=listener, port=PORT)
    watch = guard.watch()
    target = "10.78.0.1" if family is IPV4 else "fd78::1"
    knocks = lab.far("volley", dials=[{"address": target, "port": PORT, "source": peer.address}
                                      for peer in peers for _ in range(2)])
    assert all(knock["errno"] == "EINPROGRESS" for knock in knocks), knocks

    def told_of(cause):
        return [peer for peer in peers
                if guard.events.find(watch.since, address=peer.address, cause=cause)]
    # On a busy machine the second one may be later than a round trip, and is refused.
    wait_for(lambda: len(told_of("link_duplicate") + told_of("knock_linked")) >= len(peers),
             lambda: f"the second knock of every peer is told of: {watch.grown()}")
    doubled = told_of("link_duplicate")
    assert doubled, watch.grown()
    delays = []
    for peer in doubled:
        duplicate = watch.event(peer, "link_duplicate")
        destroyed = watch.event(peer, "link_destroyed")
        assert destroyed["cookie"] == duplicate["other_cookie"], (duplicate, destroyed)
        delays.append(destroyed["time_ns"] - duplicate["time_ns"])

        def links(address=peer.address):
            return [slot for slot in guard.peer(address)["links"] if not slot["doomed"]]
        wait_for(lambda: len(links()) == 1, lambda: f"one link stays: {links()}")

        def seen(address=peer.address):
            return lab.home("node_report", thread=node)["seen"][address]
        wait_for(lambda: len(seen()) == 2 and sum(ended is None for _, _, ended in seen()) == 1,
                 lambda: f"two were seen, one of them ended: {seen()}")
    watch.counted_at_least(link_duplicate=len(doubled), link_destroyed=len(doubled))
    print(f"# destroyed after at most {max(delays) / 1e6:.1f} ms")
