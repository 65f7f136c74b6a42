# SPDX-License-Identifier: BSD-2-Clause
"""Programs of others at our hooks, before and after ours, above and below."""

import json
import os
import subprocess

from harness import BPFTOOL, CGROUP_HOOKS, DAEMON, PATIENCE, PORT, helper, run, wait_for
from registry import core, each, needs, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   link_in, link_out, listen_home, start_foreign, wait_state)

CLOSE_WAIT = 8
ESTABLISHED = 1


def child_cgroup(lab, name):
    """A cgroup below home's."""
    path = os.path.join(lab.home.cgroup, name)
    os.makedirs(path, exist_ok=True)
    return path


# ---- one that rewrites the address -----------------------------------------------------------------


def service_and_peer(lab):
    """An address that nobody has, and the peer that is behind it."""
    service, peer = lab.void(), lab.fresh()
    peer.listen()
    return service, peer


@test
def a_dial_rewritten_before_us_is_a_dial_of_the_real_peer(lab):
    lab.retire_shared()
    service, peer = service_and_peer(lab)
    start_foreign(lab, "rewrite", service.address, peer.address)
    guard = lab.own_guard()
    watch = guard.watch()
    assert_passed(dial(lab, service))
    watch.event(peer, "link_outbound")
    result = assert_refused(dial(lab, service))
    watch.event(peer, "dial_linked", cookie=result["cookie"])
    assert_refused(dial(lab, peer))
    assert guard.peer(service.address) is None
    status, document = guard.cli_json("status")
    hooks = {hook["name"]: hook for hook in document["hooks"]}
    assert status == 0 and hooks["connect4"]["foreign"] == 1, (status, document)
    assert any("connect4" in note and "others" in note for note in document["notes"]), document


@each("at our cgroup", "at a cgroup above")
def a_dial_rewritten_after_us_becomes_a_link_of_the_real_peer(lab, where):
    """Cilium's service translation, say: its programs are at the root, and run after ours."""
    guard = lab.own_guard(initial="60s", max="60s", min_uptime="0s")
    service, peer = service_and_peer(lab)
    start_foreign(lab, "rewrite", service.address, peer.address,
                  cgroup=lab.home.cgroup if where == "at our cgroup" else
                  os.path.dirname(lab.home.cgroup))
    watch = guard.watch()
    first = assert_passed(dial(lab, service))
    watch.event(peer, "link_outbound", cookie=first["cookie"])
    assert guard.peer(peer.address)["links"][0]["cookie"] == first["cookie"]
    # The address that was asked for holds nothing, and is not to be dialed for our sake.
    document = guard.peer(service.address)
    assert document["state"] == "idle" and document["claims"] == [] and not document["due"], document
    # Who dials the peer itself meets the link.
    assert_dial_refused(lab, watch, peer, "dial_linked")
    # Who dials the service is found out when it is established, and loses.
    second = assert_passed(dial(lab, service))
    watch.event(peer, "link_duplicate", other_cookie=second["cookie"])
    assert lab.home("receive", fd=second["fd"], timeout=PATIENCE) == "ECONNABORTED"
    assert lab.home("state", fd=first["fd"]) == ESTABLISHED
    watch.event(peer, "link_destroyed", cookie=second["cookie"])
    # The end is the real peer's, and no failure.
    lab.home("close", fd=first["fd"])
    watch.event(peer, "link_ended", cookie=first["cookie"], attempts=0)
    assert guard.peer(service.address)["claims"] == []


@test
def a_rewritten_dial_that_fails_backs_off(lab):
    """By the address that was asked for: it is what the service dials again and again."""
    guard, service, peer = lab.own_guard(initial="60s", max="60s"), lab.void(), lab.fresh()
    start_foreign(lab, "rewrite", service.address, peer.address)
    watch = guard.watch()
    result = dial(lab, service)
    assert result["errno"] == "ECONNREFUSED", result
    watch.event(service, "dial_failed", cookie=result["cookie"], attempts=1)
    assert_dial_refused(lab, watch, service, "dial_backoff")
    assert guard.peer(peer.address) is None


# ---- one that takes the callbacks away ---------------------------------------------------------------


@test
def an_end_that_another_program_hides_is_found_by_the_check(lab):
    """sock_ops programs share one set of flags per socket, and most overwrite it."""
    guard, peer = lab.own_guard(check_interval="300ms"), lab.fresh()
    start_foreign(lab, "deaf")
    listener = listen_home(lab)
    watch = guard.watch()
    link = link_in(lab, peer, listener)
    watch.event(peer, "link_inbound")
    peer.host("close", fd=link.there)
    wait_state(lab.home, link.here, CLOSE_WAIT, "the end has come")
    watch.event(peer, "link_released", cookie=link.accepted["cookie"])
    link_in(lab, peer, listener)


# ---- one that has callbacks of its own ---------------------------------------------------------------


@each("a dial", "a knock", "a listener")
@core()
@needs("adopt_callbacks")
def another_programs_callbacks_stay_on_what_is_older_than_the_guard(lab, older):
    """The guard's own are added to them, and both come."""
    lab.retire_shared()
    foreign, peer = start_foreign(lab, "round-trips"), lab.fresh()
    listener = listen_home(lab)
    links = {"a dial": lambda: link_out(lab, peer), "a knock": lambda: link_in(lab, peer, listener)}
    link = links[older]() if older in links else None
    guard = lab.own_guard()
    watch = guard.watch()
    # What is accepted has the flags of its listener, which the guard has taken over.
    link = link or link_in(lab, peer, listener)
    assert guard.peer(peer.address)["links"][0]["adopted"] == (older in links)
    before = foreign.counted()

    def told():
        lab.home("send", fd=link.here, text="a round trip")
        return foreign.counted() > before
    wait_for(told, "the other program is told of a round trip")
    # No socket at home is closed, and the check comes in two minutes.
    peer.host("close", fd=link.there)
    watch.event(peer, "link_ended", cookie=link.cookie)


# ---- those that want a hook for themselves -----------------------------------------------------------


@each("alone", "yielding")
def a_program_in_a_cgroup_below_does_not_keep_ours_from_running(lab, kind):
    """Attached without BPF_F_ALLOW_MULTI: ours, above it, has that flag and runs all the same."""
    lab.retire_shared()
    below = child_cgroup(lab, f"below-{kind}")
    guard = lab.own_guard(start=False)
    start_foreign(lab, kind, cgroup=below)
    guard.start()
    peer, watch = lab.fresh(), guard.watch()
    worker = lab.home.add_worker("cgt-below", cgroup=below)
    listener = worker("listen", address="10.77.0.1", port=PORT)
    link_out(lab, peer, worker)
    assert_dial_refused(lab, watch, peer, "dial_linked", worker=worker)
    assert_knock_refused(watch, peer)
    assert worker("accept", fd=listener, timeout=0) is None
    status, text = guard.cli("status")
    assert status == 0, text


@test
def a_hook_that_another_program_has_for_itself_is_named(lab):
    lab.retire_shared()
    end = start_foreign(lab, "alone")
    guard = lab.own_guard(start=False)
    status, text = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and "ingress: another program has this hook for itself" in text, (status, text)
    assert not os.path.exists(guard.pins) and len(guard.attached()) == 2, guard.attached()
    end()
    guard.start()


@test
def a_program_that_wants_a_hook_of_ours_for_itself_is_kept_out(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    done = subprocess.run([helper("foreign"), lab.home.cgroup, "alone"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and b"not permitted" in done.stderr, done
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    assert guard.cli("status")[0] == 0


# ---- those who detach all there is -------------------------------------------------------------------


def detach_everything(lab):
    """As an agent does that clears a cgroup: how many programs went."""
    gone = 0
    for entry in json.loads(run(BPFTOOL, "-j", "cgroup", "show", lab.home.cgroup)[1]):
        status, _text = run(BPFTOOL, "cgroup", "detach", lab.home.cgroup, entry["attach_type"],
                            "id", str(entry["id"]), check=False)
        gone += status == 0
    return gone


@test
def a_bulk_detach_takes_nothing_of_a_guard_with_links(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    assert len(guard.attached()) == len(CGROUP_HOOKS) and detach_everything(lab) == 0
    assert guard.cli("status")[0] == 0 and len(guard.attached()) == len(CGROUP_HOOKS)
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")


@test
def a_bulk_detach_of_what_bpftool_attached_is_told_and_made_good(lab):
    from test_bpftool import load
    guard, peer = load(lab), lab.fresh()
    assert detach_everything(lab) == len(CGROUP_HOOKS)
    status, document = guard.cli_json("status")
    assert status == 1 and document["healthy"] is False, (status, document)
    for hook in document["hooks"]:
        assert not hook["attached"], hook
        assert any(hook["name"] in problem for problem in document["problems"]), document
    link_out(lab, peer)
    guard.start()
    assert_refused(dial(lab, peer))


@test
def a_hook_taken_out_of_our_link_by_force_stays_out_and_is_told(lab):
    """Whoever may do that may have meant it: the daemon says so and undoes nothing."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    run(BPFTOOL, "link", "detach", "pinned", f"{guard.pins}/links/connect4")
    began = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - began > 1_200_000_000, "a heartbeat")
    status, text = guard.cli("status")
    assert status == 1 and "connect4" in text, text
    assert_passed(dial(lab, peer))
