# SPDX-License-Identifier: BSD-2-Clause
"""The guard's map against the sockets that there are: the invariant that stands after every test.

Owns the comparison and its own look at the sockets (`ss`), so that it shares nothing with the code
that it judges. The map is read as an operator reads it, by `connguard --json peers`.
"""

import collections
import re

from harness import run, wait_for

# Slots of a peer: PEER_SLOTS of connguard/abi.h. More links than that are allowed, and not tracked.
PEER_SLOTS = 8
# One line of `ss -Htane`: state, queues, both ends, then words of which some are named.
LINE = re.compile(r"(?P<state>\S+)\s+\d+\s+\d+\s+(?P<local>\S+):(?P<local_port>\d+)\s+"
                  r"(?P<remote>\S+):(?P<remote_port>\d+|\*)\s.*\bsk:(?P<cookie>[0-9a-f]+)\s"
                  r".*\bcgroup:(?P<cgroup>\S+)")

Socket = collections.namedtuple("Socket", "state local local_port remote remote_port cookie cgroup")


def plain(address):
    """An address as the guard writes it: without brackets, interface and IPv4 mapping."""
    address = address.strip("[]").partition("%")[0].strip("[]")
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def sockets_of(host):
    """All TCP sockets of a host that have a remote end."""
    _status, text = run(*host.inside("ss", "-Htane"))
    found = []
    for line in text.splitlines():
        # What has no cgroup stands in for a socket: a handshake, or the memory of a connection.
        if line.startswith("LISTEN") or "cgroup:" not in line:
            continue
        match = LINE.match(line)
        assert match, f"ss says what is not understood: {line}"
        found.append(Socket(match["state"], plain(match["local"]), int(match["local_port"]),
                            plain(match["remote"]), int(match["remote_port"]),
                            signed(int(match["cookie"], 16)), match["cgroup"]))
    return found


def signed(cookie):
    """As the guard's documents have it: see user/edge/view.h."""
    return cookie - (cookie >> 63 << 64)


def guarded(sockets, ports, cgroup):
    """Those that are the guard's: its ports and cgroup, and a peer that is not this very host."""
    here = {(one.remote, one.remote_port, one.local, one.local_port) for one in sockets}
    return [one for one in sockets
            if (one.local_port in ports or one.remote_port in ports)
            and one.remote != "::1" and not one.remote.startswith("127.")
            and (one.cgroup == cgroup or one.cgroup.startswith(cgroup.rstrip("/") + "/"))
            and (one.local, one.local_port, one.remote, one.remote_port) not in here]


def compare(peers, sockets, unsent=()):
    """Where the guard's peers (of `connguard --json peers`) and its sockets differ, in words.

    A link is a socket in ESTAB, or one in SYN-RECV that Fast Open gave to the application before
    the last ACK. A claim whose SYN left is a socket that still dials. One whose SYN never left is
    void soon, so it counts as a difference, unless its cookie is in `unsent`.
    """
    found = []
    by_cookie = {one.cookie: one for one in sockets}
    linked = collections.Counter()
    full = {peer["address"] for peer in peers
            if len(peer["links"]) + len(peer["claims"]) == PEER_SLOTS}
    for peer in peers:
        address = peer["address"]
        for slot in peer["links"]:
            socket = by_cookie.get(slot["cookie"])
            linked[slot["cookie"]] += 1
            if socket is None or socket.state not in ("ESTAB", "SYN-RECV"):
                found.append(f"{address}: a link of socket {slot['cookie']}, which is "
                             f"{socket.state if socket else 'not there'}")
            elif socket.remote != address:
                found.append(f"{address}: a link of socket {slot['cookie']}, which is linked "
                             f"with {socket.remote}")
        for slot in peer["claims"]:
            socket = by_cookie.get(slot["cookie"])
            if not slot["sent"] and slot["cookie"] in unsent:
                continue
            if not slot["sent"]:
                found.append(f"{address}: a claim of socket {slot['cookie']} without a SYN")
            elif socket is None or socket.state not in ("SYN-SENT", "SYN-RECV"):
                found.append(f"{address}: a claim of socket {slot['cookie']}, which is "
                             f"{socket.state if socket else 'not there'}")
    for socket in sockets:
        if socket.state != "ESTAB" or not linked[socket.cookie] and socket.remote in full:
            continue
        if linked[socket.cookie] != 1:
            found.append(f"{socket.remote}: socket {socket.cookie} is established, "
                         f"{linked[socket.cookie]} slots show it")
    return found


def claimless(peers, sockets):
    """Cookies of the sockets that dial and have no claim: made before the guard, or without room."""
    claimed = {slot["cookie"] for peer in peers for slot in peer["claims"]}
    return {one.cookie for one in sockets if one.state == "SYN-SENT"} - claimed


def differences(guard):
    """Where a guard's map and the sockets differ now. Each is looked at twice, so that what

    changes meanwhile is seen: then there is one line that says so, and the caller asks again.
    """
    ports = {int(port) for port in str(guard.options["port"]).split(",")}
    before = guarded(sockets_of(guard.host), ports, guard.cgroup)
    peers = guard.peers()
    after = guarded(sockets_of(guard.host), ports, guard.cgroup)
    if sorted(before) != sorted(after):
        return ["the sockets change all the time"]
    return compare(peers, after)


def settle(guard):
    """The invariant: within a few seconds the map is what the sockets are."""
    found = []

    def equal():
        found[:] = differences(guard)
        return not found
    wait_for(equal, lambda: f"the map of {guard.name} equals the sockets; " + "; ".join(found[:5]))


def settle_empty(guard):
    """The same when every socket is closed: nothing holds anything any more."""
    def held():
        return [(peer["address"], slot["kind"], slot["cookie"]) for peer in guard.peers()
                for slot in peer["links"] + peer["claims"]]
    wait_for(lambda: not held(), lambda: f"{guard.name} holds nothing; it holds {held()[:5]}")


def check(lab):
    """After a test: of every guard that is left, with the sockets that are left and without them."""
    for guard in lab.judged():
        settle(guard)
    lab.close_sockets()
    for guard in lab.judged():
        settle_empty(guard)
