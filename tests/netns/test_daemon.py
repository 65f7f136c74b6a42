# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's life: start, death, take-over, reload, the periodic check."""

import json
import os
import re
import signal
import struct
import subprocess

from harness import (BPFTOOL, DAEMON, IPV4, IPV6, MAPPED, OTHER_PORT, PORT, SECOND, lacks, now_ns, paced, run,
                     wait_for, wait_past)
from prober import Prober
from registry import core, each, each_family, test
from steps import (ESTABLISHED, assert_dial_refused, assert_knock_refused, assert_passed, assert_refused,
                   assert_reset, dial, fail_dial, link_in, link_out, listen_home, refusal, wait_not_new,
                   wait_state)

CLOSE_WAIT = 8


def start_prober(lab, peer):
    prober = Prober(lab, lab.home, peer.dial)
    prober.wait_dials(20)
    return prober


@each_family
@core("IPv4", "IPv6")
def killed_in_the_middle_of_traffic_the_hooks_go_on(lab, family):
    guard, peer = lab.own_guard(initial=paced(2000), max=paced(2000)), lab.fresh(family)
    listener = listen_home(lab, family)
    link = link_out(lab, peer)
    prober = start_prober(lab, peer)
    assert guard.end(signal.SIGKILL) == -signal.SIGKILL
    prober.wait_dials(50)
    assert_refused(dial(lab, peer))
    assert_reset(peer.knock())
    assert lab.home("accept", fd=listener, timeout=0.1) is None
    # The kernel goes on by itself: failures, backoff, links and their ends.
    other = lab.fresh(family)
    result = dial(lab, other)
    assert result["errno"] == "ECONNREFUSED", result
    other.listen()
    before = other.host.snmp("Tcp", "PassiveOpens")
    assert_refused(dial(lab, other))
    assert other.host.snmp("Tcp", "PassiveOpens") == before, "a dial in backoff got through"
    prober.assert_no_gap(70)
    wait_for(lambda: dial(lab, other)["errno"] == "success", "the backoff ends")
    link.close()
    wait_for(lambda: dial(lab, peer)["errno"] == "success", "the ended link makes room")
    counters = guard.cli_json("status")[1]["counters"]["enforced"]
    assert counters["dial_linked"] >= 70 and counters["dial_failed"] == 1, counters
    assert counters["knock_linked"] == 1 and counters["dial_backoff"] >= 1, counters


@test
def where_processors_are_busy_it_goes_first(lab):
    """Handshakes wait for it."""
    assert os.getpriority(os.PRIO_PROCESS, lab.own_guard().process.pid) == -10


@each("kill -9", "SIGQUIT")
@core()
def restarted_it_takes_over_without_a_gap(lab, way):
    guard = lab.own_guard(initial="60s", max="60s")
    peer, failed, cut_off = lab.fresh(), lab.fresh(), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    failure = fail_dial(lab, watch, failed)
    gone = link_out(lab, cut_off)
    before = guard.peer(peer.address)
    prober = start_prober(lab, peer)
    number = signal.SIGKILL if way == "kill -9" else signal.SIGQUIT
    assert guard.end(number) == (-number if way == "kill -9" else 0)
    assert os.path.exists(guard.pins), "the guard is gone"
    gone.close()
    prober.wait_dials(50)
    guard.start()
    prober.wait_dials(50)
    prober.assert_no_gap(120)
    after = guard.peer(peer.address)
    assert after["links"][0]["cookie"] == link.cookie, after
    assert after["first_seen_ns"] == before["first_seen_ns"], (before, after)
    backoff = guard.peer(failed.address)
    assert backoff["next_attempt_ns"] == failure["until_ns"] and backoff["attempts"] == 1, backoff
    assert guard.peer(cut_off.address)["links"] == []
    status = guard.status()
    assert status["healthy"] and status["counters"]["enforced"]["dial_linked"] >= 120, status
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_linked")
    link.close()
    event = watch.event(peer, "link_ended", cookie=link.cookie)
    assert event["direction"] == "outbound", event
    guard.stop()
    assert_passed(dial(lab, peer))


@each("SIGTERM", "SIGINT")
@core("SIGTERM")
def asked_to_stop_it_removes_the_guard(lab, name):
    guard, peer = lab.own_guard(), lab.fresh()
    link = link_out(lab, peer)
    assert_refused(dial(lab, peer))
    assert guard.end(getattr(signal, name)) == 0
    assert not os.path.exists(guard.pins) and not guard.attached()
    assert_passed(dial(lab, peer))
    assert link.alive(), "the link did not survive the guard"
    assert guard.cli("status")[0] == 1


@test
def a_second_daemon_for_the_same_guard_is_refused(lab):
    guard = lab.own_guard()
    status, text = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and "another connguardd runs" in text, (status, text)
    assert guard.cli("status")[0] == 0


def own_guard_that_adopts(lab, feature):
    """Without the feature the check alone sees what became of an older link: let it look often."""
    return lab.own_guard(check_interval="300ms" if feature in lacks else "120s")


@each(*(f"{direction}, {family}" for direction in ("outbound", "inbound")
        for family in ("IPv4", "IPv6", "v4-mapped")))
@core("outbound, IPv4", "outbound, v4-mapped", "inbound, IPv4", "inbound, IPv6")
def links_older_than_the_guard_are_adopted(lab, case):
    direction, family_name = case.split(", ")
    family = {"IPv4": IPV4, "IPv6": IPV6, "v4-mapped": MAPPED}[family_name]
    lab.retire_shared()
    peer = lab.fresh(family)
    listener = listen_home(lab, family)
    peer.listen()
    link = link_out(lab, peer) if direction == "outbound" else link_in(lab, peer, listener)
    guard = own_guard_that_adopts(lab, "socket_iterator")
    slot, = guard.peer(peer.address)["links"]
    assert slot["adopted"] and slot["cookie"] == link.cookie, slot
    assert slot["direction"] == direction and slot["process_id"] == lab.home.worker.pid, slot
    guard.events.wait(address=peer.address, cause="link_adopted", cookie=link.cookie)
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert_knock_refused(watch, peer)
    link.close()
    end = "link_released" if "socket_iterator" in lacks else "link_ended"
    event = watch.event(peer, end, cookie=link.cookie)
    assert event["direction"] == direction and event["until_ns"] is None, event
    link_out(lab, peer)
    watch.counted(dial_linked=1, knock_linked=1, dial_idle=1, link_outbound=1, **{end: 1})


@each("outbound", "inbound")
@core()
def a_link_older_than_the_guard_makes_room_when_they_close(lab, direction):
    """Adopted links end with their socket's state: the service keeps its socket, in CLOSE_WAIT."""
    lab.retire_shared()
    peer = lab.fresh()
    listener = listen_home(lab)
    link = link_out(lab, peer) if direction == "outbound" else link_in(lab, peer, listener)
    guard = own_guard_that_adopts(lab, "adopt_callbacks")
    watch = guard.watch()
    assert_knock_refused(watch, peer)
    peer.host("close", fd=link.there)
    end = "link_released" if "adopt_callbacks" in lacks else "link_ended"
    event = watch.event(peer, end, cookie=link.cookie)
    assert event["direction"] == direction, event
    wait_state(lab.home, link.here, CLOSE_WAIT, "CLOSE_WAIT")
    link_in(lab, peer, listener)


@test
@core()
def only_links_of_the_guard_are_adopted(lab):
    lab.retire_shared()
    outside = os.path.join(lab.cgroups, os.path.dirname(lab.home.cgroup), "outside")
    os.makedirs(outside, exist_ok=True)
    ours, theirs, port = lab.fresh(), lab.fresh(), lab.fresh()
    link_out(lab, ours)
    link_out(lab, theirs, lab.home.add_worker("cgt-stranger", cgroup=outside))
    port.listen(PORT + 1)
    assert_passed(lab.home("dial", address=port.address, port=PORT + 1))
    listen_home(lab)
    assert_passed(lab.home("dial", address="10.77.0.1", port=PORT))
    guard = own_guard_that_adopts(lab, "socket_iterator")
    assert guard.counters()["link_adopted"] == 1, guard.counters()
    assert [peer["address"] for peer in guard.ask("peers")["peers"]] == [ours.address]


@test
@core()
def two_older_links_are_both_left_alone(lab):
    """Never destroy what was there before: the guard refuses, it does not clean up."""
    lab.retire_shared()
    peer = lab.fresh()
    links = [link_out(lab, peer), link_out(lab, peer)]
    guard = own_guard_that_adopts(lab, "socket_iterator")
    first, second = guard.peer(peer.address)["links"]
    assert sorted((first["surplus"], second["surplus"])) == [False, True], (first, second)
    # It is told, by whoever is asked.
    extra = first if first["surplus"] else second
    event = guard.events.wait(address=peer.address, cause="link_surplus", cookie=extra["cookie"])
    assert event["enforced"], event
    counters = guard.counters()
    assert counters["link_adopted"] == counters["link_surplus"] == 1, counters
    note = ("1 peer(s) have more links than they may, older than the guard: "
            f"{peer.address} has 2 where 1 may be. They stay (adopt = keep)")
    assert note in guard.status()["notes"], guard.status()["notes"]
    guard.wait_log(f"{peer.address}: a link that the guard did not see come up is one more than its peer may have")
    assert "older than the guard, then one too many" in guard.cli("explain", peer.address)[1]
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_linked")
    links[0].close()
    watch.event(peer, "link_released" if "socket_iterator" in lacks else "link_ended",
                cookie=links[0].cookie)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert links[1].alive()
    assert not any("more links than they may" in one for one in guard.status()["notes"]), guard.status()["notes"]


def wait_links(guard, peer, count):
    """Until the peer has so many links, none of them doomed. Their cookies."""
    def links():
        slots = guard.peer(peer.address)["links"]
        return len(slots) == count and not any(slot["doomed"] for slot in slots) and \
            {slot["cookie"] for slot in slots}
    return wait_for(links, lambda: f"{count} link(s): {guard.peer(peer.address)['links']}")


@each("at the start", "by a reload", "of two that may be")
def older_links_too_many_are_ended_where_that_is_asked_for(lab, how):
    lab.retire_shared()
    peer, exempt, listener = lab.fresh(), lab.fresh(), listen_home(lab)
    links = [link_out(lab, peer), link_in(lab, peer, listener), link_out(lab, peer), link_in(lab, peer, listener)]
    others = [link_out(lab, exempt), link_out(lab, exempt)]
    may_be = 2 if how == "of two that may be" else 1
    options = {"max_links": may_be, "exempt": exempt.address}
    guard = lab.own_guard(adopt="keep" if how == "by a reload" else "trim", **options)
    if how == "by a reload":
        guard.events.wait(address=peer.address, cause="link_surplus", count=3)
        assert len(guard.peer(peer.address)["links"]) == 4
        guard.write(dict(guard.options, adopt="trim"))
        guard.tell("reload")
    left = wait_links(guard, peer, may_be)
    gone = len(links) - may_be
    alive = {link.cookie for link in links if link.alive()}
    assert alive == left, (alive, left)
    for cause in ("link_surplus", "link_duplicate", "link_destroyed"):
        guard.events.wait(address=peer.address, cause=cause, count=gone)
    counters = guard.counters()
    assert counters["link_surplus"] == counters["link_duplicate"] == counters["link_destroyed"] == gone, counters
    assert counters["link_adopted"] == may_be + len(others), counters
    assert all(link.alive() for link in others)
    assert_dial_refused(lab, guard.watch(), peer, "dial_linked")
    assert not any("more links than they may" in note for note in guard.status()["notes"])


@test
def of_older_links_one_that_nobody_has_accepted_goes_first(lab):
    lab.retire_shared()
    peer, listener = lab.fresh(), listen_home(lab)
    accepted = link_in(lab, peer, listener)
    waiting_one = assert_passed(peer.knock())
    guard = lab.own_guard(adopt="trim")
    assert wait_links(guard, peer, 1) == {accepted.cookie}
    assert accepted.alive()
    wait_for(lambda: peer.host("state", fd=waiting_one["fd"]) != ESTABLISHED, "the other one is reset")


@each("one", "both")
def of_older_links_those_that_show_no_life_cost_no_other(lab, silent):
    """Of a peer that has crashed and is back, the old link's end is nowhere: the new one must not go for it."""
    lab.retire_shared()
    peer = lab.fresh()
    dead, other = link_out(lab, peer), link_out(lab, peer)
    ports = [dead.dial["local"][1]] + [other.dial["local"][1]] * (silent == "both")
    end = peer.host.silence(peer.address, only=f"tcp dport {{ {', '.join(map(str, ports))} }}")
    lab.at_end(end)
    guard = lab.own_guard(adopt="trim", suspect_after="1s")
    for link in [dead] + [other] * (silent == "both"):
        guard.events.wait(address=peer.address, cause="link_unanswered", cookie=link.cookie)
    # Longer than anybody waits for an answer, and another check.
    began = now_ns()
    wait_past(began + 5 * SECOND)
    guard.write(dict(guard.options, check_interval="300ms"))
    guard.tell("reload")
    wait_past(now_ns() + 2 * SECOND)
    assert len(guard.peer(peer.address)["links"]) == 2, guard.peer(peer.address)
    assert "link_duplicate" not in guard.counters(), guard.counters()
    assert dead.alive() and other.alive()


@test
def older_links_too_many_are_only_counted_where_nothing_is_enforced(lab):
    lab.retire_shared()
    peer = lab.fresh()
    links = [link_out(lab, peer) for _ in range(3)]
    guard = lab.own_guard(adopt="trim", mode="observe")
    guard.events.wait(address=peer.address, cause="link_duplicate", enforced=False, count=2)
    assert guard.counters("observed")["link_duplicate"] == 2 and "link_duplicate" not in guard.counters()
    assert f"{peer.address} has 3 where 1 may be. Those too many would be ended (adopt = trim)" in \
        " ".join(guard.status()["notes"]), guard.status()["notes"]
    guard.wait_log(f"{peer.address}: would have been: a link too many|{peer.address}: .*a link too many")
    assert all(link.alive() for link in links) and len(guard.peer(peer.address)["links"]) == 3


WRONG_FILES = {
    "unknown setting": ("[guard]\nport = 24000\ncolour = blue\n", 3, "colour"),
    "unknown section": ("[guard]\nport = 24000\n[garden]\nport = 1\n", 3, "garden"),
    "value out of range": ("[guard]\nport = 24000\nmax_links = 99\n", 3, "99"),
    "no number": ("[guard]\nport = twelve\n", 2, "twelve"),
    "bad errno": ("[guard]\nport = 24000\nrefuse_with = EINPROGRESS\n", 3, "EINPROGRESS"),
    "bad duration": ("[guard]\nport = 24000\n[backoff]\ninitial = soon\n", 4, "soon"),
    "not understood": ("[guard]\nport = 24000\nwhat is this\n", 3, "not understood"),
    "wrong order": ("[guard]\nport = 24000\n[backoff]\ninitial = 60s\nmax = 30s\n", 5, "max"),
    "twice": ("[guard]\nport = 24000\nmode = off\nmode = enforce\n", 4, "twice"),
}


@each(*WRONG_FILES)
def a_wrong_file_is_refused_with_its_place(lab, case):
    text, line, word = WRONG_FILES[case]
    guard = lab.own_guard(start=False)
    guard.write(guard.options, text)
    status, output = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 2, (status, output)
    assert f"{guard.file}:{line}:" in output and word in output, output
    assert not os.path.exists(guard.pins)


@each(*WRONG_FILES)
def a_reload_with_a_wrong_file_keeps_the_policy(lab, case):
    text, line, word = WRONG_FILES[case]
    guard = lab.guard()
    options, peer = guard.options, lab.fresh()
    before = guard.status()["policy"]
    watch = guard.watch()
    link_out(lab, peer)
    lab.at_end(guard.write, options)
    guard.write(options, text)
    mark = os.path.getsize(guard.log_path)
    guard.signal(signal.SIGHUP)

    def told():
        with open(guard.log_path, encoding="utf-8") as log:
            log.seek(mark)
            return log.read()
    wait_for(lambda: re.search(rf"{re.escape(guard.file)}:{line}:.*{re.escape(word)}", told()),
             lambda: f"the log names {guard.file}:{line} and {word}: {told()}")
    assert guard.status()["policy"] == before
    assert_dial_refused(lab, watch, peer, "dial_linked")
    # The same by command, to the person who asks.
    status, output = guard.cli("reload")
    assert status == 1 and f"{guard.file}:{line}:" in output, (status, output)


@test
def a_reload_without_the_file_keeps_the_policy(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    os.unlink(guard.file)
    status, output = guard.cli("reload")
    assert status == 1 and guard.file in output, (status, output)
    assert_dial_refused(lab, watch, peer, "dial_linked")


@each("SIGHUP", "connguard reload")
@core("SIGHUP")
def a_reload_changes_the_policy(lab, way):
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    guard.write(dict(guard.options, max_links=2, refuse_with="EHOSTUNREACH"))
    if way == "SIGHUP":
        guard.signal(signal.SIGHUP)
    else:
        guard.tell("reload")
    wait_for(lambda: guard.status()["policy"]["max_links"] == 2, "the new policy is in force")
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked", errno="EHOSTUNREACH")
    watch.counted(dial_idle=2, link_outbound=2, dial_linked=2)
    assert len(guard.peer(peer.address)["links"]) == 2


@test
def a_start_lets_go_of_links_at_ports_that_have_left(lab):
    """The guard was taken over with other ports than it had."""
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    watch.event(peer, "link_outbound")
    assert guard.end(signal.SIGQUIT) == 0
    guard.write(dict(guard.options, port=OTHER_PORT))
    guard.start()
    assert guard.counters().get("link_unguarded") == 1, guard.counters()
    assert link.alive()


@test
def a_reload_changes_ports_and_exemptions(lab):
    guard, peer, other = lab.own_guard(), lab.fresh(), lab.fresh(host=lab.right)
    watch = guard.watch()
    link_out(lab, other)
    assert_dial_refused(lab, watch, other, "dial_linked")
    guard.write(dict(guard.options, port=f"{PORT}, {PORT + 1}", exempt="10.83.0.0/16"))
    guard.tell("reload")
    assert sorted(guard.status()["ports"]) == [PORT, PORT + 1]
    assert_passed(dial(lab, other))
    peer.listen(PORT + 1)
    assert_passed(lab.home("dial", address=peer.address, port=PORT + 1))
    result = assert_refused(lab.home("dial", address=peer.address, port=PORT + 1))
    watch.event(peer, "dial_linked", cookie=result["cookie"])
    guard.write(dict(guard.options, port=PORT))
    guard.tell("reload")
    assert guard.status()["ports"] == [PORT]


@test
def a_reload_refuses_what_needs_a_restart(lab):
    guard = lab.guard()
    options = guard.options
    lab.at_end(guard.write, options)
    guard.write(dict(options, max_peers=100, max_links=3))
    guard.options = options
    status, output = guard.cli("reload")
    assert status == 1 and "[guard] max_peers = 100" in output and "stop and start" in output, output
    with open(guard.file, encoding="utf-8") as file:
        line = 1 + [text.split(" ")[0] for text in file].index("max_peers")
    assert f"{guard.file}:{line}: " in output, output
    assert guard.status()["policy"]["max_links"] == 1


@test
def observe_becomes_enforce_by_reload(lab):
    guard, peer = lab.own_guard(mode="observe"), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    link_out(lab, peer)
    guard.write(dict(guard.options, mode="enforce"))
    guard.tell("reload")
    assert_dial_refused(lab, watch, peer, "dial_linked")


@test
def a_port_on_the_command_line_is_enough(lab):
    """`connguardd --port 24000` needs no file; here with a cgroup, to guard the test alone."""
    guard, peer = lab.own_guard(start=False), lab.fresh()
    with open(guard.log_path, "ab") as log:
        guard.process = subprocess.Popen(
            lab.home.inside(DAEMON, "--port", str(PORT), "--cgroup", guard.cgroup, guard.name),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_for(guard.is_up, guard.log)
    policy = guard.status()["policy"]
    assert policy["backoff_initial_ns"] == SECOND // 10 and policy["max_links"] == 1, policy
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    guard.stop()


@test
def without_file_and_port_it_says_what_is_missing(lab):
    lab.retire_shared()
    status, output = run(DAEMON, "cgt-no-such-guard", check=False)
    assert status == 2 and "cgt-no-such-guard.conf" in output, (status, output)
    status, output = run(DAEMON, "-c", "/nonexistent/file", "cgt-x", check=False)
    assert status == 2 and "/nonexistent/file" in output, (status, output)
    status, output = run(DAEMON, "bad/name", check=False)
    assert status == 2 and "bad/name" in output, (status, output)


@each("cgroup", "netns")
def a_place_that_cannot_be_entered_is_named(lab, what):
    """A cgroup that is not there is waited for: test_places.py. This is one that will never be."""
    guard = lab.own_guard(start=False)
    if what == "cgroup":
        guard.cgroup += "/cgroup.procs"
        guard.write(guard.options)
    else:
        guard.write(dict(guard.options, netns="/run/netns/cgt-no-such-namespace"))
    status, output = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and re.search(
        rf"{re.escape(guard.file)}:\d+: \[guard\] {what} = \S*cgt-.*expected the path", output), output
    assert not os.path.exists(guard.pins) and not os.path.exists(guard.socket_path)


@test
def a_wrong_peers_file_is_named_at_reload_and_the_last_peers_stay(lab):
    """The directory may be the service's own: what lies there must not stop the daemon either."""
    guard, known = lab.own_guard(start=False), lab.fresh()
    path = os.path.join(guard.directory, "peers")

    def write(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    write(f"{known.address}\n")
    guard.write(dict(guard.options, peers=path))
    guard.start()
    setting = rf"{re.escape(guard.file)}:\d+: \[guard\] peers = {re.escape(path)}: cannot be opened: "
    wrong = [(lambda: None, setting + "No such file or directory"),
             (lambda: os.mkfifo(path), setting + "expected a regular file"),
             (lambda: os.mkdir(path), setting + "Is a directory"),
             (lambda: write("# peers\n10.0.0.1 limit=9\n"), rf"{re.escape(path)}:2: limit=9: not "
              "understood, expected limit=N with N from 1 to 7")]
    for make, expected in wrong:
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.exists(path):
            os.unlink(path)
        make()
        status, output = guard.cli("reload")
        assert status == 1 and re.search(expected, output), (expected, output)
        assert guard.peer(known.address)["known"] is True


@test
def a_claim_that_ends_before_its_dial_is_said(lab):
    guard = lab.own_guard(claim_max="20s")
    guard.wait_log(r"warning: .*:\d+: \[backoff\] claim_max = 20s: less than this host takes")


@test
def the_namespace_can_be_named_in_the_file(lab):
    """The daemon runs outside and guards inside."""
    guard, peer = lab.own_guard(start=False), lab.fresh()
    guard.write(dict(guard.options, netns=f"/run/netns/{lab.home.namespace}"))
    with open(guard.log_path, "ab") as log:
        guard.process = subprocess.Popen([DAEMON, "-c", guard.file, guard.name],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_for(guard.is_up, guard.log)
    listener = listen_home(lab)
    link_in(lab, peer, listener)
    assert_reset(peer.knock())
    wait_not_new()
    assert_refused(dial(lab, peer))
    guard.tell("cut", peer.address)
    wait_for(lambda: guard.peer(peer.address)["links"] == [], "the link is cut")
    guard.stop()


@test
@core()
def a_link_that_the_map_lost_is_repaired_by_the_check(lab):
    """A repair is confirmed twice, counted, logged."""
    guard, peer = lab.own_guard(check_interval="300ms"), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    watch.event(peer, "link_outbound")
    # The address, then the port, which tells services apart, in the byte order of this machine.
    key = bytes([0] * 10 + [255, 255] + [int(byte) for byte in peer.address.split(".")])
    key += struct.pack("=H6x", PORT)
    run(BPFTOOL, "map", "delete", "pinned", f"{guard.pins}/peers", "key", *map(str, key))
    event = watch.event(peer, "link_adopted", cookie=link.cookie)
    assert event["direction"] == "outbound", event
    guard.wait_log(rf"repaired: {re.escape(peer.address)}: a link that no slot showed")
    assert_dial_refused(lab, watch, peer, "dial_linked")
    link.close()
    watch.event(peer, "link_ended", cookie=link.cookie)


@test
@core()
def a_slot_with_no_socket_is_repaired_by_the_check(lab):
    guard, peer = lab.own_guard(check_interval="300ms"), lab.fresh()
    watch = guard.watch()
    link = link_out(lab, peer)
    watch.event(peer, "link_outbound")
    for hook in ("sock_ops", "sock_release"):
        run(BPFTOOL, "link", "detach", "pinned", f"{guard.pins}/links/{hook}")
    lab.home("close", fd=link.here, reset=True)
    watch.event(peer, "link_released")
    guard.wait_log(rf"repaired: {re.escape(peer.address)}: a slot with no socket behind it")
    assert guard.peer(peer.address)["links"] == []
    watch.counted_at_least(link_released=1)


@test
@core()
def the_check_repairs_nothing_in_normal_life(lab):
    guard = lab.own_guard(check_interval="100ms", min_uptime="0s", initial="50ms", max="100ms")
    listener = listen_home(lab)
    watch = guard.watch()
    pending = dial(lab, lab.void(), blocking=False)
    for _ in range(30):
        peer = lab.fresh()
        link = link_out(lab, peer)
        knock = link_in(lab, lab.fresh(), listener)
        dial(lab, lab.fresh())
        link.close()
        knock.close(reset=True)
    began = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - began > 0.8 * SECOND, "some checks more")
    assert "repaired" not in guard.log(1000), guard.log(1000)
    grown = watch.grown()
    assert not {"link_released", "link_adopted", "claim_expired"} & set(grown), grown
    assert lab.home("state", fd=pending["fd"]) == 2


@test
@core()
def learned_peers_are_forgotten_and_known_ones_are_not(lab):
    guard = lab.own_guard(start=False, forget_after="1s", check_interval="200ms",
                          initial="50ms", max="50ms", min_uptime="0s")
    known, learned, linked, limited = (lab.fresh() for _ in range(4))
    peers_file = os.path.join(guard.directory, "peers")
    with open(peers_file, "w", encoding="utf-8") as file:
        file.write(f"{known.address}\n")
    guard.write(dict(guard.options, peers=peers_file))
    guard.start()
    watch = guard.watch()
    guard.tell("limit", limited.address, "2")
    link_out(lab, learned).close()
    link_out(lab, linked)
    watch.event(learned, "link_ended")
    wait_for(lambda: guard.peer(learned.address) is None, "the learned peer is forgotten")
    for peer in (known, linked, limited):
        assert guard.peer(peer.address), f"{peer.address} is forgotten"
    # Met again it is as new.
    link_out(lab, learned)
    watch.event(learned, "link_outbound", count=2)


@test
@core()
def a_full_map_allows_and_counts(lab):
    """A dial without an entry passes, and no other peer loses its own."""
    guard = lab.own_guard(max_peers=16)
    guard.drifts = "there is no room for the last peer"
    watch = guard.watch()
    peers = [lab.void() for _ in range(16)]
    for peer in peers:
        dial(lab, peer, blocking=False)
    watch.counted(dial_idle=16)
    extra = lab.fresh()
    extra.listen()
    for _ in range(2):
        assert_passed(dial(lab, extra))
    event = watch.event(extra, "dial_unheld", count=2)
    assert event["verdict"] == "allow", event
    grown = watch.grown()
    assert grown["dial_unheld"] == 2 and grown["link_unheld"] == 2, grown
    assert guard.peer(extra.address) is None
    # Those it knows are guarded as ever.
    assert_dial_refused(lab, watch, peers[0], "dial_dialing")
    listen_home(lab)
    assert_passed(extra.knock())
    status, document = guard.cli_json("status")
    assert status == 1 and any("full" in text for text in document["problems"]), document


@test
@core()
def a_dead_daemon_leaves_the_ring_to_fill_and_the_next_one_says_so(lab):
    """Events lost are counted, told, and followed by a check."""
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.end(signal.SIGKILL)
    result = Prober(lab, lab.home, peer.address, interval_us=0, limit=12000).stop(at_limit=True)
    assert result["outcomes"] == {refusal(): 12000}, result
    guard.start()
    status = guard.status()
    assert status["events_lost"] > 0, status
    assert status["counters"]["enforced"]["dial_linked"] == 12000, status["counters"]
    assert any("lost" in note for note in status["notes"] + status["problems"]), status
    watch = guard.watch()
    assert_dial_refused(lab, watch, peer, "dial_linked")


@test
def the_log_has_a_line_a_minute_per_peer_and_cause(lab):
    """A service that dials all the time does not fill the disk."""
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    for _ in range(50):
        assert_refused(dial(lab, peer))
    watch.event(peer, "dial_linked", count=50)
    assert watch.grown()["dial_linked"] == 50
    lines = [line for line in guard.log(1000).splitlines()
             if peer.address in line and "the peer is linked" in line]
    assert len(lines) == 1 and "cgt-home" in lines[0], lines
