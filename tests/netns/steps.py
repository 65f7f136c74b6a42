# SPDX-License-Identifier: BSD-2-Clause
"""Steps that many tests share: making links, failing, asserting what a refusal looks like."""

import subprocess

from harness import (IPV4, PATIENCE, PORT, SECOND, TIME_SCALE, die_with_parent, first_line, helper, lacks, now_ns, run,
                     wait_end, wait_for, wait_past)

ESTABLISHED = 1
# Of include/connguard/rules.h.
UNHEARD_DIALS = 3
LINK_NEW_S = 0.1
LINK_NEW_ROUND_TRIPS = 4
LINK_NEW_MAX_S = 0.8
# So long a handshake takes at most where the wire takes no time.
HANDSHAKE_S = 0.01 * min(TIME_SCALE, 8)


class Link:
    """Both ends of a connection between the service at home and a peer."""

    def __init__(self, lab, peer, here, there, dial, accepted):
        self.lab = lab
        self.peer = peer
        self.here = here          # descriptor at home
        self.there = there        # descriptor at the peer's host
        self.dial = dial          # what the worker that dialed said
        self.accepted = accepted  # what the worker that accepted said

    @property
    def cookie(self):
        """Of the socket at home."""
        return self.dial["cookie"] if self.outbound else self.accepted["cookie"]

    @property
    def outbound(self):
        return self.dial["fd"] == self.here and self.accepted["fd"] == self.there

    def alive(self):
        return (self.lab.home("state", fd=self.here) == ESTABLISHED
                and self.peer.host("state", fd=self.there) == ESTABLISHED)

    def close(self, reset=False):
        """Close both ends, home first."""
        self.lab.home("close", fd=self.here, reset=reset)
        self.peer.host("close", fd=self.there)


class OutLink(Link):
    outbound = True


class InLink(Link):
    outbound = False


def dial(lab, peer, worker=None, port=PORT, **options):
    """Dial the peer from home."""
    return (worker or lab.home)("dial", address=peer.dial, port=port, **options)


def assert_passed(result):
    assert result["errno"] == "success", f"expected a link, got {result}"
    return result


def refusal(errno="ECONNREFUSED"):
    """What a dial gets that the guard refuses with this errno, on this kernel."""
    return "EPERM" if "refusal_errno" in lacks else errno


def assert_failed_at_once(result, errno):
    """With this errno, and nobody waited for a second SYN."""
    assert result["errno"] == errno, f"expected {errno}, got {result}"
    assert not result["resent"], f"refused, but a SYN was sent again before: {result}"
    return result


def assert_refused(result, errno="ECONNREFUSED"):
    """Of a dial of ours: the guard refused it, with this errno where the kernel lets it."""
    return assert_failed_at_once(result, refusal(errno))


def assert_reset(result):
    """Of a knock: it was answered with RST."""
    return assert_failed_at_once(result, "ECONNREFUSED")


def link_out(lab, peer, worker=None, port=PORT):
    """Our dial becomes a link."""
    if peer.listener is None:
        peer.listen(port)
    result = assert_passed(dial(lab, peer, worker, port))
    accepted = peer.host("accept", fd=peer.listener, timeout=PATIENCE)
    assert accepted, "the peer accepts nothing"
    return OutLink(lab, peer, result["fd"], accepted["fd"], result, accepted)


def wait_adopted(watch, peer, cookie):
    """Until the link is taken under guard: as the peer's first, or as one more than it may have."""
    wait_for(lambda: any(watch.guard.events.find(watch.since, address=peer.address, cookie=cookie, cause=cause)
                         for cause in ("link_adopted", "link_surplus")), f"{peer.address} is adopted")


def listen_home(lab, family=IPV4, port=PORT):
    """The service at home listens."""
    return lab.home("listen", address=family.listen, port=port)


def link_in(lab, peer, listener, port=PORT):
    """Their knock becomes a link."""
    result = assert_passed(peer.knock(port=port))
    accepted = lab.home("accept", fd=listener, timeout=PATIENCE)
    assert accepted, "home accepts nothing"
    return InLink(lab, peer, accepted["fd"], result["fd"], result, accepted)


def link_new_s(round_trip_s):
    """For how long a link is new that the peer has dialed."""
    return min(LINK_NEW_S + LINK_NEW_ROUND_TRIPS * round_trip_s, LINK_NEW_MAX_S)


def wait_not_new(round_trip_s=0):
    """Until a dial beside links that are there now is refused at once, and not kept for a moment."""
    wait_past(now_ns() + round(link_new_s(round_trip_s + HANDSHAKE_S) * SECOND))


def assert_dial_refused(lab, watch, peer, cause, errno="ECONNREFUSED", port=PORT, **options):
    """A dial is refused at once and for this cause: errno, no SYN, event. The event."""
    if cause == "dial_linked":
        wait_not_new()
    before = lab.home.snmp("Tcp", "ActiveOpens")
    result = assert_refused(dial(lab, peer, port=port, **options), errno)
    assert lab.home.snmp("Tcp", "ActiveOpens") == before, "the refused dial left a SYN"
    event = watch.event(peer, cause, cookie=result["cookie"])
    assert event["subject"] == "dial" and event["verdict"] == "refuse", event
    assert event["enforced"] is True and event["direction"] == "outbound", event
    assert event["process_id"] == result["process"], (event, result)
    assert event["thread_id"] == result["thread"], (event, result)
    assert event["remote_port"] == port and event["sentence"], event
    return event


def assert_knock_refused(watch, peer, cause="knock_linked", port=PORT, **options):
    """A knock is answered with RST at once. The event."""
    return assert_knock_told(watch, peer, assert_reset(peer.knock(port=port, **options)), cause, port)


def assert_knock_told(watch, peer, result, cause="knock_linked", port=PORT):
    """That this knock was refused. The event."""
    event = watch.event(peer, cause, remote_port=result["local"][1])
    assert event["subject"] == "knock" and event["verdict"] == "refuse", event
    assert event["enforced"] is True and event["direction"] == "inbound", event
    assert event["local_port"] == port, event
    return event


def fail_dial(lab, watch, peer):
    """A real failure: the peer's host answers with RST. The event, with the backoff's deadline."""
    result = dial(lab, peer)
    assert result["errno"] == "ECONNREFUSED", result
    event = watch.event(peer, "dial_failed", cookie=result["cookie"])
    assert event["until_ns"] and event["until_ns"] > event["time_ns"], event
    return event


def fail_silently(lab, watch, peer, port=PORT):
    """A failure by silence, at a peer that does not answer: the third dial in a row that is given up before
    its second SYN counts as one. The event, with the backoff's deadline."""
    for _ in range(UNHEARD_DIALS):
        pending = dial(lab, peer, port=port, blocking=False)
        assert pending["errno"] == "EINPROGRESS", pending
        lab.home("close", fd=pending["fd"])
    event = watch.event(peer, "dial_failed", cookie=pending["cookie"])
    assert event["until_ns"] and event["until_ns"] > event["time_ns"], event
    return event


def connections_of(syns):
    """Of a witness's SYNs: those that begin a connection, not the repeated ones."""
    first = {}
    for syn in syns:
        first.setdefault((syn["source_port"], syn["number"]), syn)
    return list(first.values())


def wait_state(host, fd, state, what):
    """Until a socket is in a TCP state."""
    wait_for(lambda: host("state", fd=fd) == state, what)


def resent_within(host, seconds):
    """How often a SYN is sent again until one leaves that long after the first, or longer."""
    status, text = run(*host.inside("sysctl", "-n", "net.ipv4.tcp_syn_linear_timeouts"), check=False)
    # Since Linux 6.5 the first ones have a second each; then, and before, twice as long each time.
    linear = 0 if status else int(text)
    count, moment, pause = 0, 0, 1
    while moment < seconds:
        moment += pause
        count += 1
        if count > linear:
            pause *= 2
    return count


class Foreign:
    """Programs of somebody else (foreign.c), in a process of theirs. To be called: it ends them."""

    def __init__(self, process):
        self.process = process

    def __call__(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
            wait_end(self.process, "foreign ends")
            self.process.stdout.close()

    def counted(self):
        """Of how many round trips they have been told."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return int(first_line(self.process, "foreign counts"))


def start_foreign(lab, *what, cgroup=None):
    """Programs of somebody else at home's cgroup (foreign.c says which)."""
    foreign = Foreign(subprocess.Popen([helper("foreign"), cgroup or lab.home.cgroup, *what],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, preexec_fn=die_with_parent))
    lab.at_end(foreign)
    line = first_line(foreign.process, "foreign is ready")
    assert line == b"ready\n", f"foreign does not start: {line}"
    return foreign
