# SPDX-License-Identifier: BSD-2-Clause
"""No room in the map, in the ring, in a socket's memory: allowed, counted, told, and made up for.

"Told" is an entry under `problems`, and exit status 1, for as long as it lasts.
"""

import json
import os
import signal

from harness import BPFTOOL, CLI, DAEMON, IPV6, PATIENCE, PORT, PREFIX, SECOND, Skip, run, wait_for
from prober import Prober
from registry import each, test
from steps import (assert_dial_refused, assert_knock_refused, assert_passed, assert_refused, dial,
                   link_in, link_out, listen_home, wait_adopted)


def problems(guard):
    """(exit status, problems in one text) of `connguard status`."""
    status, document = guard.cli_json("status")
    return status, "; ".join(document["problems"])


def wait_problem(guard, words):
    """Until status exits 1 and says so."""
    wait_for(lambda: problems(guard)[0] == 1 and words in problems(guard)[1],
             lambda: f"status says '{words}': {problems(guard)}")


def wait_whole(guard):
    wait_for(lambda: guard.cli("status")[0] == 0, lambda: f"it is whole: {problems(guard)}")


# ---- the peers map ------------------------------------------------------------------------------------


@test
def a_link_that_the_full_map_had_no_room_for_is_guarded_when_there_is_some(lab):
    guard = lab.own_guard(max_peers=16, check_interval="300ms", initial="50ms", max="50ms",
                          min_uptime="0s", forget_after="1s")
    watch = guard.watch()
    voids = [dial(lab, lab.void(), blocking=False) for _ in range(16)]
    watch.counted(dial_idle=16)
    extra, listener = lab.fresh(), listen_home(lab)
    link = link_out(lab, extra)
    watch.event(extra, "dial_unheld")
    watch.event(extra, "link_unheld")
    assert_passed(dial(lab, extra))
    assert_passed(extra.knock())
    assert lab.home("accept", fd=listener, timeout=PATIENCE)
    wait_problem(guard, "3 link(s) are not guarded")
    assert "map is full" in problems(guard)[1]
    before = watch.grown()
    assert before["dial_unheld"] == 2 and before["link_unheld"] == 3, before
    # To try again is not to count again.
    checks = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - checks > SECOND, "some checks more")
    assert watch.grown()["link_unheld"] == 3, watch.grown()
    for one in voids:
        lab.home("close", fd=one["fd"], reset=True)
    wait_adopted(watch, extra, link.cookie)
    wait_whole(guard)
    assert len(guard.peer(extra.address)["links"]) == 3
    assert_dial_refused(lab, watch, extra, "dial_linked")
    guard.wait_log("over: .* not guarded")


def fill(lab, watch, count):
    """So many peers with a dial that nobody answers: they stay. The dials."""
    dials = [dial(lab, lab.void(), blocking=False) for _ in range(count)]
    watch.counted(dial_idle=count)
    return dials


def write_peers(guard, peers, limit=None, **options):
    """A peers file, and the configuration that names it."""
    path = os.path.join(guard.directory, "peers")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{peer.address}{f' limit={limit}' if limit else ''}\n" for peer in peers)
    guard.write(dict(guard.options, peers=path, **options))
    return path


@test
def a_reload_without_room_for_the_known_peers_changes_nothing(lab):
    guard = lab.own_guard(max_peers=16)
    watch = guard.watch()
    dials, before = fill(lab, watch, 12), guard.status()
    known = [lab.fresh() for _ in range(8)]
    path = write_peers(guard, known, max_links=3, exempt="10.83.0.0/16")
    status, output = guard.cli("reload")
    assert status == 1 and f"{path}: 4 of its 8 peers find no room among the 16" in output, output
    after = guard.status()
    for part in ("policy", "ports"):
        assert after[part] == before[part], (part, before[part], after[part])
    assert len(guard.peers()) == 12 and guard.peer(known[0].address) is None
    known[0].listen()
    assert_passed(dial(lab, known[0]))
    assert_dial_refused(lab, watch, known[0], "dial_linked")
    # There is room when nobody needs it any more: an idle peer goes before one that is named.
    for one in dials:
        lab.home("close", fd=one["fd"], reset=True)
    guard.tell("reload")
    assert all(guard.peer(peer.address)["known"] for peer in known), guard.peers()
    assert guard.status()["policy"]["max_links"] == 3


def in_the_kernel(guard):
    """Of the guard, with a daemon or without: its place, its programs, and what is pinned for them."""
    document = guard.cli_json("status")[1]
    return {"cgroup": document["cgroup"],
            "hooks": {hook["name"]: (hook["program_id"], hook["pinned"]) for hook in document["hooks"]},
            "links": sorted(os.listdir(f"{guard.pins}/links")),
            "programs": {name: run(BPFTOOL, "prog", "show", "pinned", f"{guard.pins}/programs/{name}")[1].split(":")[0]
                         for name in os.listdir(f"{guard.pins}/programs")}}


@test
def a_load_without_room_for_the_known_peers_changes_nothing(lab):
    """Nor the mode: what the new file says of it is nobody's decision later. Nor the programs."""
    guard = lab.own_guard(max_peers=16)
    dials, before, kernel = fill(lab, guard.watch(), 12), guard.status(), in_the_kernel(guard)
    guard.end(signal.SIGKILL)
    known = [lab.fresh() for _ in range(8)]
    write_peers(guard, known, limit=2, max_links=3, mode="observe")
    load = lab.home.inside(CLI, "-n", guard.name, "--config", guard.file, "load")
    status, output = run(*load, check=False)
    assert status == 1 and "4 of its 8 peers find no room among the 16" in output, output
    after = guard.cli_json("status")[1]
    for part in ("mode", "policy", "ports"):
        assert after[part] == before[part], (part, before[part], after[part])
    assert after["decided"]["mode"] is None and len(guard.peers()) == 12
    assert in_the_kernel(guard) == kernel
    for one in dials:
        lab.home("close", fd=one["fd"], reset=True)
    run(*load)
    now = in_the_kernel(guard)
    assert now["links"] == kernel["links"] and now["programs"].keys() == kernel["programs"].keys(), now
    assert all(now["hooks"][name][0] != program for name, (program, _pinned) in kernel["hooks"].items()), (kernel, now)
    after = guard.cli_json("status")[1]
    assert after["mode"] == "observe" and after["decided"]["mode"] is None, after
    limits = {peer["address"]: peer["named_limit"] for peer in guard.peers()}
    assert all(limits[peer.address] == 2 for peer in known), limits


@test
def a_start_without_room_for_the_known_peers_says_so_until_there_is(lab):
    """The guard was taken over: without its daemon it would be worse off."""
    guard = lab.own_guard(max_peers=16, check_interval="300ms")
    dials, known = fill(lab, guard.watch(), 16), [lab.fresh() for _ in range(3)]
    guard.end(signal.SIGKILL)
    write_peers(guard, known, max_links=3)
    guard.start_only()
    guard.wait_answers()
    wait_problem(guard, "3 of the known peers have no entry")
    assert guard.status()["policy"]["max_links"] == 3
    assert guard.running()
    for one in dials:
        lab.home("close", fd=one["fd"], reset=True)
    wait_whole(guard)
    assert all(guard.peer(peer.address)["known"] for peer in known), guard.peers()
    guard.wait_log("over: 3 of the known peers")


@test
def more_known_peers_than_the_ports_have_room_for_are_refused(lab):
    guard = lab.own_guard(start=False, max_peers=16)
    path = write_peers(guard, [lab.fresh() for _ in range(9)], port=f"{PORT}, {PORT + 1}")
    status, output = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and f"{path}: 9 peers at 2 ports each, expected at most 16 in all" in output, output
    status, output = run(*lab.home.inside(DAEMON, "--check-config", "-c", guard.file, guard.name), check=False)
    assert status == 2 and f"{path}: 9 peers at 2 ports each" in output, output
    assert not os.path.exists(guard.pins)


@each("in its place", "in another cgroup")
def a_start_that_fails_changes_nothing_of_the_guard_that_is_there(lab, where):
    guard = lab.own_guard()
    before, kernel, place = guard.status(), in_the_kernel(guard), guard.cgroup
    guard.end(signal.SIGKILL)
    if where == "in another cgroup":
        guard.cgroup = f"/{PREFIX}/elsewhere"
        os.makedirs(os.path.join(lab.cgroups, PREFIX, "elsewhere"), exist_ok=True)
    os.unlink(guard.socket_path)
    os.mkdir(guard.socket_path)
    lab.at_end(lambda: os.path.isdir(guard.socket_path) and os.rmdir(guard.socket_path))
    known = lab.fresh()
    write_peers(guard, [known], max_links=3, port=f"{PORT}, {PORT + 1}")
    status, output = run(*lab.home.inside(DAEMON, "-c", guard.file, guard.name), check=False)
    assert status == 1 and guard.socket_path in output, (status, output)
    os.rmdir(guard.socket_path)
    after = guard.cli_json("status")[1]
    for part in ("policy", "ports"):
        assert after[part] == before[part], (part, before[part], after[part])
    assert in_the_kernel(guard) == kernel
    if where == "in another cgroup":
        assert guard.attached() == []
    assert known.address not in guard.cli("peers")[1]
    guard.start()
    assert guard.status()["policy"]["max_links"] == 3 and guard.peer(known.address)["known"]
    now = in_the_kernel(guard)
    assert (now["cgroup"] == kernel["cgroup"]) == (guard.cgroup == place), (kernel, now)
    assert all(now["hooks"][name][0] != program for name, (program, _pinned) in kernel["hooks"].items()), (kernel, now)


@test
def another_max_peers_after_a_restart_is_a_problem_that_names_the_step(lab):
    guard, listener = lab.own_guard(max_peers=16), listen_home(lab)
    link = link_in(lab, lab.fresh(), listener)
    assert guard.end(signal.SIGQUIT) == 0
    guard.write(dict(guard.options, max_peers=64))
    guard.start_only()
    guard.wait_answers()
    wait_problem(guard, "max_peers = 64: not in force, the guard that was there has room for 16 peers")
    assert "stop connguardd, which removes the guard, then start it" in problems(guard)[1]
    assert guard.status()["peers"]["max"] == 16 and guard.peer(link.peer.address)["state"] == "linked"
    # What the guard has is in force without a load, and another number is refused.
    guard.write(dict(guard.options, max_peers=16))
    guard.tell("reload")
    wait_whole(guard)
    guard.write(dict(guard.options, max_peers=64))
    status, output = guard.cli("reload")
    assert status == 1 and "[guard] max_peers = 64" in output and "stop and start" in output, output
    # The step.
    guard.stop()
    guard.start()
    assert guard.status()["peers"]["max"] == 64


@test
def a_reload_without_room_for_the_exempt_prefixes_changes_nothing(lab):
    guard = lab.own_guard(exempt="10.200.0.0/24")
    room = 1024 - 1
    for number in range(room):
        guard.ask("allow", address=f"10.{201 + number // 256}.{number % 256}.0/24", seconds=3600)
    before = guard.status()
    known = lab.fresh()
    write_peers(guard, [known], exempt="10.100.0.0/24, 10.101.0.0/24", max_links=3)
    status, output = guard.cli("reload")
    assert status == 1 and "writing the exempt addresses: No space left on device" in output, output
    after = guard.status()
    for part in ("policy", "exempt_prefixes"):
        assert [{**one, "left_ns": None} for one in after[part]] == [{**one, "left_ns": None} for one in before[part]] \
            if part == "exempt_prefixes" else after[part] == before[part], part
    assert guard.peer(known.address) is None


# Of include/connguard/rules.h.
NETWORK_PEERS_LEAST = 16


def of_network(guard, network):
    return [peer for peer in guard.peers() if peer["address"].startswith(network)]


def elements(guard, name):
    """Of the pinned map, as bpftool shows them."""
    return json.loads(run(BPFTOOL, "-j", "map", "dump", "pinned", f"{guard.pins}/{name}")[1])


@test
def a_visitor_with_a_network_of_its_own_keeps_nobody_out(lab):
    """It has more addresses than the map has room for, and a link with each."""
    guard, named = lab.own_guard(max_peers=64, check_interval="300ms"), [lab.fresh(IPV6) for _ in range(2)]
    write_peers(guard, named)
    guard.tell("reload")
    watch, listener = guard.watch(), listen_home(lab, IPV6)
    links = [link_in(lab, lab.fresh(IPV6), listener) for _ in range(64 + NETWORK_PEERS_LEAST)]
    watch.counted(knock_idle=len(links), link_inbound=NETWORK_PEERS_LEAST, link_unheld=64, service_started=1)
    knocked, dialed = lab.fresh(IPV6, lab.right), lab.fresh(IPV6, lab.right)
    others = [link_in(lab, knocked, listener), link_out(lab, dialed)]
    assert_knock_refused(watch, knocked)
    assert_dial_refused(lab, watch, dialed, "dial_linked")
    # Its named neighbours have places of their own.
    for peer in named:
        others.append(link_in(lab, peer, listener))
        assert_knock_refused(watch, peer)
    assert len(of_network(guard, "fd82::")) == NETWORK_PEERS_LEAST + len(named), guard.peers()
    wait_problem(guard, f"fd82::/64 has {NETWORK_PEERS_LEAST} learned peers")
    wait_problem(guard, "64 link(s) are not guarded")
    # To try again is not to count again.
    checks = guard.status()["now_ns"]
    wait_for(lambda: guard.status()["now_ns"] - checks > SECOND, "some checks more")
    assert watch.grown()["link_unheld"] == 64, watch.grown()
    # Those who wait get the places that become free, and nobody keeps one for nothing.
    for link in links[:NETWORK_PEERS_LEAST]:
        link.close(reset=True)
    late = [link.peer.address for link in links[NETWORK_PEERS_LEAST:]]
    wait_for(lambda: sum(guard.state(address) == "linked" for address in late) == NETWORK_PEERS_LEAST,
             lambda: guard.peers())
    assert problems(guard)[0] == 1
    for link in links[NETWORK_PEERS_LEAST:]:
        link.close(reset=True)
    wait_whole(guard)
    assert all(link.alive() for link in others)
    newcomer = lab.fresh(IPV6)
    link_in(lab, newcomer, listener)
    wait_for(lambda: guard.state(newcomer.address) == "linked", "it has a place")
    assert_knock_refused(watch, newcomer)


@test
def a_network_keeps_its_places_through_a_restart_until_they_are_given_back(lab):
    guard, listener = lab.own_guard(max_peers=64), listen_home(lab, IPV6)
    links = [link_in(lab, lab.fresh(IPV6), listener) for _ in range(NETWORK_PEERS_LEAST)]
    guard.end(signal.SIGKILL)
    guard.start()
    watch = guard.watch()
    passing = link_in(lab, lab.fresh(IPV6), listener)
    watch.event(passing.peer, "link_unheld")
    passing.close(reset=True)
    for link in links:
        link.close(reset=True)
        watch.event(link.peer, "link_ended")
    # The last one that is left by then.
    guard.tell("forget", "--idle")
    assert not of_network(guard, "fd82::") and not elements(guard, "networks"), elements(guard, "networks")


# ---- a socket's memory --------------------------------------------------------------------------------


@each("outbound", "inbound")
def a_link_whose_socket_had_no_memory_is_guarded_when_it_has(lab, direction):
    """net.core.optmem_max bounds what may hang on a socket, the guard's storage included."""
    setting = "net.core.optmem_max"
    _status, text = run("ip", "netns", "exec", lab.home.namespace, "sysctl", "-n", setting)
    lab.home.sysctl(setting, 16)
    lab.at_end(lab.home.sysctl, setting, int(text))
    if int(run("sysctl", "-n", setting)[1]) == 16:
        lab.home.sysctl(setting, int(text))
        raise Skip("net.core.optmem_max is one for all network namespaces here (before Linux 6.8)")
    guard, peer = lab.own_guard(check_interval="300ms"), lab.fresh()
    watch = guard.watch()
    if direction == "outbound":
        link = link_out(lab, peer)
        watch.event(peer, "dial_unheld")
        assert_passed(dial(lab, peer))
        watch.counted(dial_unheld=2, link_unheld=2)
    else:
        listener = listen_home(lab)
        link = link_in(lab, peer, listener)
        assert_passed(peer.knock())
        watch.counted_at_least(link_unheld=2)
    wait_problem(guard, "2 link(s) are not guarded")
    text = guard.cli("status")[1]
    assert "NOT WHOLE" in text and "link_unheld" in text, text
    assert guard.log(1000).count("not guarded") == 1 and "repaired" not in guard.log(1000)
    lab.home.sysctl(setting, 131072)
    wait_adopted(watch, peer, link.cookie)
    wait_whole(guard)
    if direction == "outbound":
        assert_dial_refused(lab, watch, peer, "dial_linked")
    else:
        assert_knock_refused(watch, peer)
    lab.home("close", fd=link.here)
    watch.event(peer, "link_ended", cookie=link.cookie)


# ---- the ring -----------------------------------------------------------------------------------------


@test
def what_lost_events_would_have_told_is_found_out(lab):
    """The daemon stands still while more happens than the ring holds."""
    guard = lab.own_guard(initial="4s", max="4s")
    exempt, failed, linked = lab.fresh(), lab.fresh(), lab.fresh()
    guard.ask("allow", address=exempt.address, seconds=3600)
    guard.signal(signal.SIGSTOP)
    lab.at_end(guard.signal, signal.SIGCONT)
    # None of them is refused, and each is told with its end.
    prober = Prober(lab, lab.home, exempt.address, interval_us=0, limit=15000)
    assert prober.stop(at_limit=True)["outcomes"] == {"ECONNREFUSED": 15000}
    wait_for(lambda: guard.counters_in_kernel()["events_lost"] > 0, "events are lost")
    # Nobody will tell the daemon of this backoff, nor of this link.
    assert dial(lab, failed)["errno"] == "ECONNREFUSED"
    link = link_out(lab, linked)
    lost = guard.counters_in_kernel()["events_lost"]
    guard.signal(signal.SIGCONT)
    wait_problem(guard, "event(s) were lost")
    guard.wait_log("event\\(s\\) were lost")
    assert guard.status()["events_lost"] >= lost
    # The next check is two minutes away; the end of the backoff is not.
    document = guard.ask("explain", address=failed.address)
    assert document["events"] == [] and document["peer"]["attempts"] == 1, "it was not lost"
    wait_for(lambda: guard.peer(failed.address)["announced_ns"], "the peer is announced")
    assert guard.peer(linked.address)["links"][0]["cookie"] == link.cookie
    assert_refused(dial(lab, linked))
    wait_whole(guard)
