# SPDX-License-Identifier: BSD-2-Clause
"""Several ports of one guard: each is a service of its own, and the limit is per peer and service."""

import os

from harness import FAMILIES, OTHER_PORT, PATIENCE, PORT, Events
from registry import core, each, each_family, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, dial, fail_silently, link_in,
                   link_out, listen_home)

PORTS = (PORT, OTHER_PORT)
BOTH = {"port": f"{PORT}, {OTHER_PORT}"}
LONG = {"initial": "60s", "max": "60s"}


def listen_everywhere(lab, peer, family=FAMILIES[0]):
    """Peer and home, each at both ports. Home's listeners."""
    for port in PORTS:
        peer.listen(port)
    return {port: listen_home(lab, family, port) for port in PORTS}


def told(guard, peer, port):
    """The document of a peer of this service."""
    return guard.cli_json("explain", peer.dial, str(port))[1]


def fail_at(lab, watch, peer, port):
    """An RST from there. The event."""
    result = dial(lab, peer, port=port)
    assert result["errno"] == "ECONNREFUSED", result
    event = watch.event(peer, "dial_failed", cookie=result["cookie"])
    assert event["service"] == port, event
    return event


@each_family
@core("IPv4", "IPv6")
def have_a_link_each(lab, family):
    """A link on one port is no duplicate of a link on the other, whoever has dialed."""
    guard, peer = lab.own_guard(**BOTH), lab.fresh(family)
    listeners = listen_everywhere(lab, peer, family)
    watch = guard.watch()
    out = assert_passed(dial(lab, peer))
    event = watch.event(peer, "link_outbound", cookie=out["cookie"])
    assert event["service"] == PORT, event
    inside = link_in(lab, peer, listeners[OTHER_PORT], OTHER_PORT)
    event = watch.event(peer, "link_inbound", cookie=inside.cookie)
    assert event["service"] == OTHER_PORT, event
    for port, cookie in ((PORT, out["cookie"]), (OTHER_PORT, inside.cookie)):
        event = assert_dial_refused(lab, watch, peer, "dial_linked", port=port)
        assert event["service"] == port and event["other_cookie"] == cookie, event
        event = assert_knock_refused(watch, peer, port=port)
        assert event["service"] == port and event["other_cookie"] == cookie, event
    watch.counted(dial_idle=1, link_outbound=1, knock_idle=1, link_inbound=1, dial_linked=2, knock_linked=2)
    assert inside.alive() and lab.home("state", fd=out["fd"]) == 1
    # The end of one is not that of the other.
    lab.home("close", fd=out["fd"])
    watch.event(peer, "link_ended", cookie=out["cookie"])
    assert_passed(dial(lab, peer))
    assert_dial_refused(lab, watch, peer, "dial_linked", port=OTHER_PORT)
    peers = [one for one in guard.peers() if one["address"] == peer.address]
    assert sorted(one["service"] for one in peers) == sorted(PORTS), peers
    assert all(len(one["links"]) == 1 for one in peers), peers


@test
@core()
def have_a_claim_each(lab):
    guard, peer = lab.own_guard(**BOTH), lab.void()
    watch = guard.watch()
    first = dial(lab, peer, blocking=False)
    second = dial(lab, peer, port=OTHER_PORT, blocking=False)
    assert first["errno"] == second["errno"] == "EINPROGRESS", (first, second)
    for port, pending in zip(PORTS, (first, second)):
        event = assert_dial_refused(lab, watch, peer, "dial_dialing", port=port)
        assert event["other_cookie"] == pending["cookie"], event
    watch.counted(dial_idle=2, dial_dialing=2)


@each_family
@core("IPv4")
def have_a_backoff_each(lab, family):
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh(family)
    watch = guard.watch()
    failure = fail_at(lab, watch, peer, PORT)
    assert_dial_refused(lab, watch, peer, "dial_backoff")
    other = fail_at(lab, watch, peer, OTHER_PORT)
    assert other["attempts"] == failure["attempts"] == 1, (failure, other)
    peer.listen(OTHER_PORT)
    # A link, a knock that is let in: neither says anything of the other service.
    watch = guard.watch()
    listener = listen_home(lab, family)
    started = guard.events.wait(watch.since, cause="service_started")
    assert started["address"] is None, started
    # That was the whole guard's: every backoff is over.
    assert_passed(dial(lab, peer, port=OTHER_PORT))
    fail_at(lab, watch, peer, PORT)
    assert_dial_refused(lab, watch, peer, "dial_backoff")
    assert_dial_refused(lab, watch, peer, "dial_linked", port=OTHER_PORT)
    link_in(lab, peer, listener)
    assert_dial_refused(lab, watch, peer, "dial_linked")


@test
@core()
def have_a_way_to_fail_each(lab):
    """Refused at one port, silent at the other: what is kept is the dial to the latter."""
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh()
    watch = guard.watch()
    lab.at_end(peer.host.silence(peer.address, only=f"tcp sport {OTHER_PORT}"))
    fail_at(lab, watch, peer, PORT)
    fail_silently(lab, watch, peer, OTHER_PORT)
    assert_dial_refused(lab, watch, peer, "dial_backoff")
    pending = dial(lab, peer, port=OTHER_PORT, blocking=False)
    event = watch.event(peer, "dial_kept", cookie=pending["cookie"])
    assert event["service"] == OTHER_PORT, event


@test
@core()
def are_told_apart_by_explain(lab):
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh()
    watch = guard.watch()
    peer.listen(OTHER_PORT)
    fail_at(lab, watch, peer, PORT)
    assert_passed(dial(lab, peer, port=OTHER_PORT))
    watch.event(peer, "link_outbound", service=OTHER_PORT)
    assert told(guard, peer, PORT)["dial"]["cause"] == "dial_backoff", told(guard, peer, PORT)
    assert told(guard, peer, OTHER_PORT)["dial"]["cause"] == "dial_linked", told(guard, peer, OTHER_PORT)
    assert guard.cli("explain", peer.address, str(PORT))[0] == 3
    status, text = guard.cli("explain", peer.address, "1")
    assert status == 1 and "no such port" in text, (status, text)


@test
@core()
def are_all_reached_by_commands_about_an_address(lab):
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh()
    watch = guard.watch()
    for port in PORTS:
        fail_at(lab, watch, peer, port)
    guard.tell("kick", peer.address)
    for port in PORTS:
        watch.event(peer, "peer_kicked", service=port)
        peer.listen(port)
        assert_passed(dial(lab, peer, port=port))
        assert_dial_refused(lab, watch, peer, "dial_linked", port=port)
    guard.tell("limit", peer.address, "2")
    for port in PORTS:
        assert_passed(dial(lab, peer, port=port))
        assert_dial_refused(lab, watch, peer, "dial_linked", port=port)
    guard.tell("allow", peer.address, "--for", "1h")
    for port in PORTS:
        assert_passed(dial(lab, peer, port=port))
    guard.tell("allow", peer.address, "--end")
    guard.tell("cut", peer.address)
    for port in PORTS:
        watch.event(peer, "link_cut", service=port, count=3)
    for port in PORTS:
        assert_passed(dial(lab, peer, port=port))


@each_family
@core("IPv4")
def are_one_with_share_limit(lab, family):
    """What several ports meant before: one link of the peer, at whichever of them."""
    guard, peer = lab.own_guard(share_limit="yes", **BOTH, **LONG), lab.fresh(family)
    listeners = listen_everywhere(lab, peer, family)
    watch = guard.watch()
    link = link_in(lab, peer, listeners[PORT])
    event = watch.event(peer, "link_inbound", cookie=link.cookie)
    assert not event["service"], event
    for port in PORTS:
        assert_dial_refused(lab, watch, peer, "dial_linked", port=port)
        assert_knock_refused(watch, peer, port=port)
    link.close()
    watch.event(peer, "link_ended", cookie=link.cookie)
    failing = lab.fresh(family)
    result = dial(lab, failing, port=OTHER_PORT)
    watch.event(failing, "dial_failed", cookie=result["cookie"])
    assert_dial_refused(lab, watch, failing, "dial_backoff")
    watch.counted(knock_idle=1, link_inbound=1, dial_linked=2, knock_linked=2, link_ended=1, dial_idle=1,
                  dial_failed=1, dial_backoff=1)


@test
@core()
def have_their_known_peers_due_at_each(lab):
    peer = lab.fresh()
    guard = lab.own_guard(start=False, check_interval="300ms", **BOTH, **LONG)
    path = os.path.join(guard.directory, "peers")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{peer.address}\n")
    guard.write(dict(guard.options, peers=path))
    guard.start()
    stream = Events(guard, "due")
    lab.at_end(stream.stop)
    for port in PORTS:
        stream.wait(address=peer.address, service=port)
    status, text = guard.cli("due")
    assert status == 0 and sorted(text.splitlines()) == [
        f"{peer.address} port {port}  0 failed  known" for port in sorted(PORTS)], text
    # Linked at one, it is due at the other alone.
    peer.listen(OTHER_PORT)
    assert_passed(dial(lab, peer, port=OTHER_PORT))
    guard.events.wait(address=peer.address, cause="link_outbound")
    mark = len(stream.list)
    stream.wait(mark, address=peer.address, service=PORT, count=3)
    assert not stream.find(mark, address=peer.address, service=OTHER_PORT)


@each("added", "taken away")
def that_are(lab, how):
    """By a reload: what the others have is as before."""
    peer = lab.fresh()
    guard = lab.own_guard(**({} if how == "added" else BOTH), **LONG)
    watch = guard.watch()
    link = link_out(lab, peer)
    peer.listen(OTHER_PORT)
    strange = assert_passed(dial(lab, peer, port=OTHER_PORT))
    guard.write(dict(guard.options, **BOTH) if how == "added" else dict(guard.options, port=PORT))
    guard.tell("reload")
    cause = "link_adopted" if how == "added" else "link_unguarded"
    event = watch.event(peer, cause, cookie=strange["cookie"])
    assert event["service"] == OTHER_PORT, event
    assert_dial_refused(lab, watch, peer, "dial_linked")
    if how == "added":
        assert_dial_refused(lab, watch, peer, "dial_linked", port=OTHER_PORT)
    else:
        assert_passed(dial(lab, peer, port=OTHER_PORT))
    assert link.alive()
    assert "repaired" not in guard.log(1000), guard.log(1000)


@test
def that_are_up_anew_end_the_backoffs_of_all(lab):
    """A service that has started anew may have been why the other one's peers hung up on it."""
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh()
    watch = guard.watch()
    failures = [fail_at(lab, watch, peer, port) for port in PORTS]
    for port in PORTS:
        peer.listen(port)
    listen_home(lab, port=OTHER_PORT)
    for port in PORTS:
        assert_passed(dial(lab, peer, port=port))
    assert all(failure["attempts"] == 1 for failure in failures), failures


@test
def are_in_no_mixture_when_a_peer_dials_from_a_guarded_port(lab):
    """Their knock from port 24001 at our port 24000 is one at 24000, and so is our dial from there."""
    guard, peer = lab.own_guard(**BOTH, **LONG), lab.fresh()
    listener = listen_home(lab)
    watch = guard.watch()
    knock = assert_passed(peer.knock(source_port=OTHER_PORT))
    event = watch.event(peer, "link_inbound")
    assert event["service"] == PORT and event["remote_port"] == OTHER_PORT, event
    assert lab.home("accept", fd=listener, timeout=PATIENCE), knock
    other = lab.fresh()
    other.listen()
    assert_passed(dial(lab, other, source="10.77.0.1", source_port=OTHER_PORT, reuse=True))
    event = watch.event(other, "link_outbound")
    assert event["service"] == PORT and event["local_port"] == OTHER_PORT, event
