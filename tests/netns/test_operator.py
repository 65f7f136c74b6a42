# SPDX-License-Identifier: BSD-2-Clause
"""The CLI: what an operator types, its exit codes, and what it does to real sockets."""

import fcntl
import json
import os
import re
import signal
import subprocess
import unicodedata

from harness import (ALL_BUT_SYNS, BPFTOOL, CLI, DAEMON, OTHER_PORT, PATIENCE, PORT, RUN, SECOND, TIME_SCALE, now_ns,
                     paced, run, wait_for, wait_past, waiting)
from prober import Prober
from registry import core, each, each_family, needs, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   fail_dial, link_in, link_out, listen_home)


@each_family
@core("IPv4")
def panic_and_resume(lab, family):
    guard, peer = lab.guard(), lab.fresh(family)
    listener = listen_home(lab, family)
    watch = guard.watch()
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    guard.tell("panic")
    assert guard.status()["mode"] == "off"
    link_out(lab, peer)
    link_in(lab, peer, listener)
    guard.tell("resume")
    assert guard.status()["mode"] == "enforce"
    assert_dial_refused(lab, watch, peer, "dial_linked")
    assert_knock_refused(watch, peer)
    assert watch.grown()["dial_linked"] == 2, watch.grown()


@test
def resume_to_observe(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    guard.tell("panic")
    guard.tell("resume", "--observe")
    assert guard.status()["mode"] == "observe"
    link_out(lab, peer)
    link_out(lab, peer)
    event = watch.event(peer, "dial_linked")
    assert event["enforced"] is False, event
    watch.counted_at_least("observed", dial_linked=1)


@test
@core()
def panic_with_one_line_of_bpftool(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    run(BPFTOOL, "map", "update", "pinned", f"{guard.pins}/mode",
        "key", "0", "0", "0", "0", "value", "0", "0", "0", "0")
    link_out(lab, peer)


@each_family
@core("IPv4")
def kick_ends_a_backoff(lab, family):
    guard, peer = lab.guard(initial="30s", max="60s"), lab.fresh(family)
    watch = guard.watch()
    fail_dial(lab, watch, peer)
    assert_dial_refused(lab, watch, peer, "dial_backoff")
    guard.tell("kick", peer.dial)
    watch.event(peer, "peer_kicked")
    document = guard.peer(peer.address)
    assert document["attempts"] == 0 and document["next_attempt_ns"] is None, document
    link_out(lab, peer)
    watch.counted_at_least(peer_kicked=1, dial_idle=2, link_outbound=1)


@test
def kick_all(lab):
    guard = lab.guard(initial="30s", max="60s")
    peers = [lab.fresh() for _ in range(3)]
    watch = guard.watch()
    for peer in peers:
        fail_dial(lab, watch, peer)
    guard.tell("kick", "--all")
    for peer in peers:
        watch.event(peer, "peer_kicked")
        link_out(lab, peer)
    assert watch.grown()["peer_kicked"] >= 3, watch.grown()


@each("with a daemon", "without one")
@core("with a daemon")
def forget_drops_an_idle_peer_and_no_other(lab, way):
    guard = lab.own_guard(initial="60s", max="60s", min_uptime="0s")
    idle, linked, failed, limited = (lab.fresh() for _ in range(4))
    others = [lab.fresh() for _ in range(3)]
    watch = guard.watch()
    listen_home(lab)
    guard.tell("limit", limited.address, "2")
    link_out(lab, linked)
    fail_dial(lab, watch, failed)
    for peer in (idle, *others):
        link_out(lab, peer).close()
        watch.event(peer, "link_ended")
    if way == "without one":
        guard.end(signal.SIGQUIT)
    guard.tell("forget", idle.address)
    for peer in (linked, failed, limited):
        status, text = guard.cli("forget", peer.address)
        assert status == 1 and "has a link" in text, (status, text)
    assert {peer["address"] for peer in guard.peers()} == {
        peer.address for peer in (linked, failed, limited, *others)}
    assert guard.tell("forget", "--idle").strip() == "forgot 3 peer(s)"
    assert {peer["address"] for peer in guard.peers()} == {
        peer.address for peer in (linked, failed, limited)}
    # Met again it is as new.
    link_out(lab, idle)


@each_family
@core("IPv6")
def cut_destroys_the_link_and_is_no_failure(lab, family):
    guard, peer = lab.guard(min_uptime="30s", stable_after="60s"), lab.fresh(family)
    watch = guard.watch()
    link = link_out(lab, peer)
    guard.tell("cut", peer.dial)
    assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "ECONNABORTED"
    assert peer.host("receive", fd=link.there, timeout=PATIENCE) == "ECONNRESET"
    watch.event(peer, "link_cut")
    document = guard.peer(peer.address)
    assert document["links"] == [] and document["attempts"] == 0, document
    link_out(lab, peer)
    watch.counted_at_least(link_cut=1, link_outbound=2)
    assert "link_short" not in watch.grown(), watch.grown()


@test
@core()
def cut_of_a_link_that_came_in(lab):
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link = link_in(lab, peer, listen_home(lab))
    guard.tell("cut", peer.address)
    assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "ECONNABORTED"
    assert peer.host("receive", fd=link.there, timeout=PATIENCE) == "ECONNRESET"
    watch.event(peer, "link_cut")
    link_out(lab, peer)


@each_family
@core("IPv4")
def limit_of_one_peer(lab, family):
    guard, peer, other = lab.guard(), lab.fresh(family), lab.fresh(family)
    watch = guard.watch()
    guard.tell("limit", peer.dial, "2")
    first, _second = link_out(lab, peer), link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    link_out(lab, other)
    assert_dial_refused(lab, watch, other, "dial_linked")
    document = guard.peer(peer.address)
    assert document["limit"] == 2 and document["own_limit"] == 2, document
    guard.tell("limit", peer.address, "0")
    assert guard.peer(peer.address)["own_limit"] is None
    first.close()
    assert_dial_refused(lab, watch, peer, "dial_linked")
    watch.counted_at_least(dial_linked=3, dial_idle=3, link_outbound=3)


@test
def limit_set_before_the_peer_is_known(lab):
    guard, peer = lab.guard(), lab.fresh()
    listener = listen_home(lab)
    guard.tell("limit", peer.address, "3")
    watch = guard.watch()
    for _ in range(3):
        link_in(lab, peer, listener)
    assert_knock_refused(watch, peer)
    watch.counted(knock_idle=3, link_inbound=3, knock_linked=1)


@test
def explain_says_who_holds_the_link_until_when_and_what_happened(lab):
    guard, peer = lab.guard(initial="30s", max="60s"), lab.fresh()
    watch = guard.watch()
    status, document = guard.explain(peer.address)
    assert status == 0 and document["known_to_guard"] is False, (status, document)
    assert document["dial"]["passes"] and document["knock"]["passes"], document
    failure = fail_dial(lab, watch, peer)
    status, document = guard.explain(peer.address)
    assert status == 3 and document["refused"] is True, (status, document)
    assert document["dial"]["cause"] == "dial_backoff", document
    assert document["dial"]["until_ns"] == failure["until_ns"], document
    assert document["knock"]["passes"] and document["peer"]["attempts"] == 1, document
    causes = [event["cause"] for event in document["events"]]
    assert causes == ["dial_idle", "dial_failed"], document
    status, text = guard.cli("explain", peer.address)
    assert status == 3 and "is REFUSED" in text and peer.address in text, text
    assert "after 1 failure in a row, the last: reset by the peer" in text, text
    assert "dial_failed: the dial failed: backoff (reset by the peer, failure 1 in a row)" in text, text
    guard.wait_log(f"{peer.address}: the dial failed: backoff \\(reset by the peer, failure 1 in a row\\), for")


@test
def explain_says_that_a_dial_is_kept(lab):
    """The last failure was silence: the dial waits as it would have waited."""
    guard, peer = lab.guard(initial="60s", max="60s"), lab.void()
    watch = guard.watch()
    first = dial(lab, peer, blocking=False)

    def claim(peer_document):
        return peer_document and peer_document["claims"] and peer_document["claims"][0]
    wait_for(lambda: (claim(guard.peer(peer.address)) or {}).get("syns") == 2, "two SYNs have left", 10)
    assert "2 SYN(s) of it have left, no answer yet" in guard.cli("explain", peer.address)[1]
    lab.home("close", fd=first["fd"])
    failed = watch.event(peer, "dial_failed")
    assert failed["detail"] == "no answer, failure 1 in a row" and failed["ending"] == "closed", failed
    status, text = guard.cli("explain", peer.address)
    assert status == 3 and "our dial      is KEPT" in text, text
    assert re.search(r"its SYN leaves in \d+s, at \d\d:", text), text
    # One that is kept is told by its claim, and the next one is refused for it.
    second = dial(lab, peer, blocking=False)
    event = watch.event(peer, "dial_kept", cookie=second["cookie"])
    assert event["outcome"] == "kept" and "after 1 failure in a row" in event["detail"], event
    status, text = guard.cli("explain", peer.address)
    assert status == 3 and "is REFUSED: another dial to the peer is under way" in text, text
    assert "KEPT: its SYN waits for the end of the backoff" in text, text
    assert "expire" not in text and " more at most" not in text, text
    row, = [line for line in guard.tell("peers").splitlines() if line.startswith(peer.address + " ")]
    assert ", kept" in row and "left, 1 failed: " in row, row
    guard.wait_log(f"{peer.address}: dial by .* kept: .*after 1 failure in a row")


@test
@needs("socket_options")
def explain_says_that_a_silent_link_is_quiet(lab):
    """And being asked for three seconds at most, not refused for as long as the doubt may last."""
    guard, peer = lab.own_guard(suspect_after="1s"), lab.fresh()
    watch = guard.watch()
    link_in(lab, peer, listen_home(lab))
    wait_for(lambda: guard.peer(peer.address)["links"][0]["life"] == "quiet", "the link is quiet")
    status, text = guard.cli("explain", peer.address)
    assert status == 3 and "their knock   is HELD: the peer's link is quiet" in text, text
    assert re.search(r"for [23]s more at most", text), text
    assert "quiet, will be asked when its peer knocks; last sign of life" in text, text
    revive = peer.host.silence(peer.address, only=ALL_BUT_SYNS)
    peer.knock(blocking=False)
    watch.event(peer, "knock_suspect")
    link = guard.peer(peer.address)["links"][0]
    assert link["life"] in ("asked", "unanswered"), link
    if link["life"] == "asked":
        assert link["life_until_ns"] - link["doubted_ns"] == 3 * SECOND, link
        assert link["life_until_ns"] < now_ns() + 3 * SECOND, link
    wait_for(lambda: guard.peer(peer.address)["links"][0]["life"] == "unanswered", "it was asked in vain", 10)
    watch.event(peer, "link_unanswered", seconds=10)
    assert "was asked in vain" in guard.cli("explain", peer.address)[1]
    revive()


@test
def several_services_are_told_apart(lab):
    guard, peer = lab.own_guard(port=f"{PORT}, {OTHER_PORT}", initial="60s", max="60s"), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    refused = lab.home("dial", address=peer.dial, port=OTHER_PORT)
    assert refused["errno"] == "ECONNREFUSED", refused
    watch.event(peer, "dial_failed", service=OTHER_PORT)
    lines = guard.tell("peers").splitlines()
    assert lines[0].startswith("PORT "), lines
    states = {line.split()[0]: line.split()[2] for line in lines[1:] if peer.address in line.split()}
    assert states == {str(PORT): "linked", str(OTHER_PORT): "backoff"}, lines
    status, document = guard.cli_json("explain", peer.address, str(OTHER_PORT))
    assert status == 3 and document["service"] == OTHER_PORT, document
    assert document["peer"]["state"] == "backoff", document
    assert [(one["service"], one["state"]) for one in document["services"]] == [
        (PORT, "linked"), (OTHER_PORT, "backoff")], document
    assert {event["service"] for event in document["events"]} == {OTHER_PORT}, document
    status, text = guard.cli("explain", peer.address, str(PORT))
    assert status == 3 and f"{peer.address} port {PORT}: linked" in text, text
    assert f"{OTHER_PORT}: backoff" in text, text
    status, text = guard.cli("explain", peer.address, "24999")
    assert status == 1 and "no such port" in text, (status, text)
    assert any(line.split()[1:3] == [peer.address, str(OTHER_PORT)] for line in guard.tell("events").splitlines())
    guard.wait_log(f"{peer.address} port {OTHER_PORT}: the dial failed")
    # A command is about the address, at each of them.
    guard.tell("limit", peer.address, "3")
    for port in (PORT, OTHER_PORT):
        assert guard.ask("explain", address=peer.address, port=port)["peer"]["own_limit"] == 3
    guard.end(signal.SIGKILL)
    status, document = guard.cli_json("explain", peer.address, str(OTHER_PORT))
    assert status == 3 and document["service"] == OTHER_PORT and document["source"] == "maps", document
    status, text = guard.cli("explain", peer.address, "24999")
    assert status == 1 and "no port 24999" in text, (status, text)


@test
def ports_that_share_their_limits_are_one_service(lab):
    guard, peer = lab.own_guard(port=f"{PORT}, {OTHER_PORT}", share_limit="yes"), lab.fresh()
    link_out(lab, peer)
    assert guard.tell("peers").startswith("PEER "), guard.tell("peers")
    for arguments in ((), (str(OTHER_PORT),)):
        status, document = guard.cli_json("explain", peer.address, *arguments)
        assert status == 3 and document["service"] is None and document["peer"]["state"] == "linked", document
    assert "they share their limits" in guard.cli("status")[1]


@test
@core()
def events_say_who_closed_a_short_link(lab):
    guard, peer, other = lab.own_guard(min_uptime="30s", stable_after="60s"), lab.fresh(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer).close()
    event = watch.event(peer, "link_ended")
    assert event["detail"] == "closed by us", event
    for cause in ("link_short", "link_hung_up"):
        link = link_out(lab, other)
        other.host("close", fd=link.there)
        event = watch.event(other, cause)
        assert event["detail"].startswith("closed by the peer"), event
        lab.home("close", fd=link.here)
    text = guard.cli("explain", other.address)[1]
    assert "(closed by the peer, failure 1 in a row)" in text, text
    guard.wait_log(f"{other.address}: the peer ended a young link of ours without a byte: no failure, the first "
                   "time \\(closed by the peer\\)")


@test
@core()
def explain_finds_the_process_behind_an_inbound_link(lab):
    guard, peer = lab.guard(), lab.fresh()
    link_in(lab, peer, listen_home(lab))

    def holder():
        slot, = guard.explain(peer.address)[1]["peer"]["links"]
        return slot["process_id"], slot["command"]
    # Where a walk over all processes takes long it is not made for each question.
    wait_for(lambda: holder() == (lab.home.worker.pid, "cgt-home"), lambda: f"{holder()}")


def shown(*arguments):
    """What a program writes on a terminal, which is lines of UTF-8 without a control character."""
    with waiting(f"the end of: {' '.join(arguments)}"):
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=2 * PATIENCE * TIME_SCALE, check=False)
    return printable(done.stdout, " ".join(arguments))


def printable(data, what):
    text = data.decode()
    found = [letter for letter in text if unicodedata.category(letter) == "Cc" and letter != "\n"]
    assert not found, f"{what}: {found} in {text!r}"
    return text


@test
def names_that_others_chose_are_no_commands_for_a_terminal(lab):
    """CSI and OSC (ISO 6429) in the names of a process and of a cgroup, in values and in files."""
    controls = "\x1b[2J\u009b2J"
    cgroup = os.path.join(lab.home.cgroup, controls)
    os.makedirs(cgroup, exist_ok=True)
    guard = lab.own_guard(start=False, cgroup=f"{lab.home.cgroup_below}/{controls}")
    path = os.path.join(guard.directory, "peers\u009d")

    def write_peers(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    write_peers("")
    guard.write(dict(guard.options, peers=path))
    guard.start()
    # The kernel leaves raw bytes in a name as they are.
    dialer = lab.home.add_worker(os.fsdecode(b"\x9b2J\x9d\xc2\x9b1m\xc3"), cgroup=cgroup)
    peer = lab.fresh()
    peer.listen()
    for expected in ("success", "ECONNREFUSED"):
        assert dialer("dial", address=peer.dial, port=PORT)["errno"] == expected
    guard.wait_log(rf"{re.escape(peer.address)}: dial by \?2J\?\?\?1m\?\[")
    ask = [CLI, "-n", guard.name]
    for way in (["status"], ["peers"], ["explain", peer.address], ["events"]):
        text = shown(*ask, *way)
        assert ("?[2J??2J" if way == ["status"] else "?2J???1m?") in text, text
        shown(*ask, "--json", *way)
    write_peers("peer\u009b2J\n")
    text = shown(*ask, "reload")
    assert "peers??:1: peer??2J: not an address" in text, text
    guard.signal(signal.SIGHUP)
    guard.wait_log(r"not reloaded.*peer\?\?2J: not an address")
    for line, expected in (("", "peer??2J: not an address"), (f"mode = {controls}", "mode = ?[2J??2J: ")):
        guard.write(guard.options, f"[guard]\nport = {PORT}\npeers = {path}\n{line}\n")
        text = shown(DAEMON, "--check-config", "-c", guard.file)
        assert expected in text, text
    # From the maps alone.
    guard.end(signal.SIGKILL)
    assert "?[2J??2J" in shown(*ask, "status")
    assert "?2J???1m?" in shown(*ask, "peers")
    with open(guard.log_path, "rb") as file:
        printable(file.read(), "the log")


@test
def peers_and_status_as_text_and_json(lab):
    guard, peer = lab.guard(), lab.fresh()
    link_out(lab, peer)
    status, document = guard.cli_json("peers")
    assert status == 0
    entry, = [one for one in document["peers"] if one["address"] == peer.address]
    assert entry["state"] == "linked" and len(entry["links"]) == 1, entry
    status, text = guard.cli("peers")
    assert status == 0 and peer.address in text and "linked" in text, text
    status, document = guard.cli_json("status")
    assert status == 0 and document["healthy"] is True and document["source"] == "daemon", document
    assert {hook["name"] for hook in document["hooks"]} == {
        "sock_ops", "sock_release", "ingress", "egress", "sk_lookup", "connect4", "connect6"}, document
    assert all(hook["attached"] and hook["pinned"] for hook in document["hooks"]), document
    assert document["daemon"]["running"] and document["daemon"]["process_id"] == guard.process.pid
    assert document["peers"]["linked"] >= 1 and document["ports"] == [PORT], document
    status, text = guard.cli("status")
    assert status == 0 and guard.name in text and "enforce" in text, text
    status, text = guard.cli("events")
    assert status == 0 and peer.address in text, text
    status, document = guard.cli_json("events")
    assert any(event["address"] == peer.address for event in document["events"]), document


@test
def all_events_that_wait_are_shown_without_a_daemon(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.end(signal.SIGQUIT)
    prober = Prober(lab, lab.home, peer.address, interval_us=0, limit=200)
    assert prober.stop(at_limit=True)["outcomes"] == {"ECONNREFUSED": 200}
    events = guard.cli_json("events")[1]["events"]
    assert sum(event["cause"] == "dial_linked" for event in events) == 200, events


@test
@core()
def status_fails_when_a_hook_was_detached(lab):
    guard = lab.own_guard()
    assert guard.cli("status")[0] == 0
    for hook in ("connect4", "connect6", "ingress", "egress", "sock_ops", "sock_release", "sk_lookup"):
        run(BPFTOOL, "link", "detach", "pinned", f"{guard.pins}/links/{hook}")
        status, document = guard.cli_json("status")
        assert status == 1 and document["healthy"] is False, (status, document)
        entry, = [entry for entry in document["hooks"] if entry["name"] == hook]
        assert entry["attached"] is False, entry
        assert any(hook in problem for problem in document["problems"]), document["problems"]
        status, text = guard.cli("status")
        assert status == 1 and hook in text, text


@test
@core()
def a_foreign_detach_does_not_take_the_programs_away(lab):
    """`bpftool cgroup detach` does not touch what hangs on a link."""
    guard, peer = lab.own_guard(), lab.fresh()
    watch = guard.watch()
    programs = {hook["name"]: hook["program_id"] for hook in guard.status()["hooks"]}
    status, _text = run(BPFTOOL, "cgroup", "detach", lab.home.cgroup, "connect4",
                        "id", str(programs["connect4"]), check=False)
    assert status != 0, "it was detached"
    assert guard.cli("status")[0] == 0
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")


@each("", "no-such-command", "explain", "explain not-an-address", "explain 10.0.0.1 10.0.0.2",
      "explain 10.0.0.1 0", "explain 10.0.0.1 70000", "explain 10.0.0.1 24000 24001", "status --follow", "kick", "forget", "forget --all", "limit 10.0.0.1", "limit 10.0.0.1 many", "limit 10.0.0.1 9",
      "allow 10.0.0.1", "allow 10.0.0.1 --for never", "allow 10.0.0.0/99 --for 1h", "cut",
      "--no-such-option status")
def wrong_usage_exits_2(lab, line):
    guard = lab.guard()
    status, text = guard.cli(*line.split())
    assert status == 2, f"connguard {line} exits {status}: {text}"
    assert text.strip(), "without a word"


@each("status", "peers", "explain 10.0.0.1", "events", "due", "kick 10.0.0.1", "forget --idle", "panic", "resume",
      "unload", "cut 10.0.0.1", "limit 10.0.0.1 2", "allow 10.0.0.1 --for 1h")
def without_any_guard_exits_1(lab, line):
    status, text = run(CLI, "-n", "cgt-no-such-guard", *line.split(), check=False)
    assert status == 1, f"connguard {line} exits {status}: {text}"
    assert "cgt-no-such-guard" in text, text


@each("kick", "forget", "cut")
def of_an_unknown_peer_exits_1(lab, command):
    guard = lab.guard()
    status, text = guard.cli(command, "192.0.2.123")
    assert status == 1 and "no such peer" in text, (status, text)


@test
def help_and_version(lab):
    status, text = run(CLI, "help", check=False)
    assert status == 0 and "explain ADDRESS" in text, text
    status, text = run(CLI, "version", check=False)
    assert status == 0 and text.startswith("connguard "), text


@test
def events_follow_is_a_stream_of_lines(lab):
    guard, peer = lab.guard(), lab.fresh()
    process = subprocess.Popen([CLI, "-n", guard.name, "events", "--follow"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    lab.at_end(process.stdout.close)
    lab.at_end(process.wait)
    lab.at_end(process.kill)
    link_out(lab, peer)
    with waiting("a line that tells of the link"):
        for line in process.stdout:
            if peer.address in line.decode() and "dial became a link" in line.decode():
                break
        else:
            raise AssertionError("the link is not told")


@test
def reading_works_from_the_maps_when_the_daemon_is_dead(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.end(signal.SIGKILL)
    for what in (["status"], ["peers"], ["explain", peer.address], ["due"]):
        _status, text = guard.cli(*what)
        assert "daemon" in text, text
        assert guard.cli_json(*what)[1]["source"] == "maps"
    status, document = guard.cli_json("status")
    assert status == 1 and document["daemon"]["running"] is False, (status, document)
    assert any("daemon" in problem for problem in document["problems"]), document
    assert all(hook["attached"] for hook in document["hooks"]), document
    status, document = guard.cli_json("explain", peer.address)
    assert status == 3 and document["dial"]["cause"] == "dial_linked", (status, document)
    assert guard.cli("peers")[0] == 0 and guard.cli("due")[0] == 0


@test
@core()
def commands_without_a_daemon(lab):
    guard, peer, linked = lab.own_guard(initial="60s", max="60s"), lab.fresh(), lab.fresh()
    fail_dial(lab, guard.watch(), peer)
    link = link_out(lab, linked)
    guard.end(signal.SIGKILL)
    guard.tell("kick", peer.address)
    link_out(lab, peer)
    assert_refused(dial(lab, linked))
    guard.tell("limit", linked.address, "2")
    assert_passed(dial(lab, linked))
    assert_refused(dial(lab, linked))
    guard.tell("allow", linked.address, "--for", "1h")
    assert_passed(dial(lab, linked))
    guard.tell("allow", linked.address, "--end")
    guard.tell("panic")
    assert_passed(dial(lab, peer))
    guard.tell("resume")
    assert_refused(dial(lab, peer))
    assert lab.home("state", fd=link.here) == 1
    guard.tell("unload")
    assert not guard.attached()
    assert_passed(dial(lab, peer))


@test
@core()
def cut_without_a_daemon(lab):
    """The CLI runs in the guarded namespace then: sock_diag sees only its own."""
    guard, peer = lab.own_guard(), lab.fresh()
    link = link_out(lab, peer)
    guard.end(signal.SIGKILL)
    run(*lab.home.inside(CLI, "-n", guard.name, "cut", peer.address))
    assert lab.home("receive", fd=link.here, timeout=PATIENCE) == "ECONNABORTED"
    assert_passed(dial(lab, peer))


@test
@core()
def load_and_unload_without_a_daemon(lab):
    guard, peer = lab.own_guard(start=False), lab.fresh()
    old = link_out(lab, lab.fresh())
    _status, text = run(*lab.home.inside(CLI, "-n", guard.name, "--config", guard.file, "load"))
    assert "loaded" in text, text
    status, document = guard.cli_json("status")
    assert status == 0 and document["source"] == "maps", (status, document)
    assert all(hook["attached"] and hook["pinned"] for hook in document["hooks"]), document
    link_out(lab, peer)
    assert_refused(dial(lab, peer))
    # Own addresses and older links are known, as with a daemon.
    assert_refused(dial(lab, old.peer))
    listen_home(lab)
    assert_passed(lab.home("dial", address="10.77.0.1", port=PORT))
    assert_passed(lab.home("dial", address="10.77.0.1", port=PORT))
    counters = document["counters"]["enforced"]
    assert counters.get("link_adopted") == 1, counters
    guard.tell("unload")
    assert not guard.attached()
    assert_passed(dial(lab, peer))


@test
def load_refuses_what_a_daemon_holds(lab):
    guard = lab.own_guard()
    status, text = run(*lab.home.inside(CLI, "-n", guard.name, "--config", guard.file, "load"),
                       check=False)
    assert status == 1 and "connguardd runs" in text, (status, text)
    status, text = guard.cli("unload")
    assert status == 1 and "connguardd runs" in text, (status, text)
    assert guard.cli("status")[0] == 0


@test
def load_and_unload_wait_for_nobody_who_does_the_same(lab):
    """A daemon that starts, or another load, has the guard's lock before it can be asked."""
    guard = lab.own_guard(start=False)
    os.makedirs(RUN, exist_ok=True)
    with open(os.path.join(RUN, guard.name + ".lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in (["--config", guard.file, "load"], ["unload"]):
            status, text = run(*lab.home.inside(CLI, "-n", guard.name, *command), check=False)
            assert status == 1 and f"{guard.name}.lock" in text, (status, text)
        assert not os.path.exists(guard.pins)
    run(*lab.home.inside(CLI, "-n", guard.name, "--config", guard.file, "load"))
    guard.tell("unload")
    assert not os.path.exists(os.path.join(RUN, guard.name + ".lock"))


@test
def a_panic_outlives_a_restart_and_a_reload(lab):
    guard, peer = lab.own_guard(), lab.fresh()
    link_out(lab, peer)
    guard.tell("panic")
    guard.tell("reload")
    assert guard.status()["mode"] == "off"
    assert guard.end(signal.SIGQUIT) == 0
    guard.start()
    assert guard.status()["mode"] == "off"
    assert_passed(dial(lab, peer))


@test
@core()
def counters_are_readable_with_bpftool(lab):
    guard, peer = lab.guard(), lab.fresh()
    watch = guard.watch()
    link_out(lab, peer)
    assert_dial_refused(lab, watch, peer, "dial_linked")
    _status, text = run(BPFTOOL, "-j", "map", "dump", "pinned", f"{guard.pins}/peers")
    formatted = [entry["formatted"]["value"] for entry in json.loads(text)]
    slots = [slot for value in formatted for slot in value["slots"] if slot["kind"] == "SLOT_LINK"]
    assert any(slot["process_id"] == lab.home.worker.pid for slot in slots), slots
    _status, text = run(BPFTOOL, "map", "dump", "pinned", f"{guard.pins}/counters")
    assert "dial_linked" in text, text


@test
def the_last_refusal_is_remembered_with_its_cause(lab):
    guard, peer = lab.guard(initial=paced(2000), max=paced(2000)), lab.fresh()
    watch = guard.watch()
    failure = fail_dial(lab, watch, peer)
    event = assert_dial_refused(lab, watch, peer, "dial_backoff")
    wait_past(failure["until_ns"])
    refusal = guard.peer(peer.address)["last_refusal"]
    assert refusal["cause"] == "dial_backoff" and refusal["time_ns"] == event["time_ns"], refusal
    wait_for(lambda: guard.explain(peer.address)[0] == 0, "a dial passes again")
