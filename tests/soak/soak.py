#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A soak: random operations on real sockets, and at every quiet point the books are closed.

usage: soak.py [--seconds N] [--seed N]

Three hosts in network namespaces, two of them guarded, with two processes each: they dial (also
each other at once), accept, close, reset, shut down, use sockets again, fork, pass sockets, die.
Wires are cut, daemons are killed, stopped and started, configurations reloaded, commands given.
Every few hundred operations nothing new is begun, and then must hold, for each guard and exactly:
the map is what the sockets are (truth.py), no peer has more links than it may, and the counters
add up (books.py). At the end nothing is held.

The seed repeats the choice of operations, not their timing: sockets are chosen by their place in a
list. Speaks TAP. Needs root.

environment: SOAK_SECONDS, SOAK_SEED   when not given as options (20; the time)
             those of tests/netns/run.py
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "netns")]

import actor  # noqa: E402
import books  # noqa: E402
import harness  # noqa: E402
import truth  # noqa: E402
from harness import OTHER_PORT, PORT, TIME_SCALE, run, wait_for  # noqa: E402

OPERATIONS_BETWEEN_QUIET_POINTS = 250
# What is still under way then ends by itself within some seconds: dials time out after three.
SETTLE_SECONDS = 60
# Addresses of each host and family. Few, so that they meet.
ADDRESSES = 3
ACTORS = 2
TRACE_LENGTH = 40
# An unsent claim is void after two seconds, and then given up without a word (CLAIM_UNSENT_MAX_NS).
VOID_SECONDS = 2
GUARD = {
    "port": PORT, "check_interval": "500ms", "initial": "20ms", "max": "200ms",
    "min_uptime": "10ms", "stable_after": "100ms", "hold_max": "100ms", "forget_after": "1h",
    "suspect_after": "2s", "deny_max": "5s",
}
# What a reload may change, beside the above; what is looser than the first lets more links up.
RELOADS = ({}, {"max_links": 2}, {"initial": "5ms", "max": "50ms"}, {"reject": "drop"},
           {"hold_max": "0s"}, {"tie_break": "none"}, {"liveness": "3s"})
LOOSE = ({"max_links": 2}, {"tie_break": "none"})
# What is worth a look at the end, beside what must hold.
TOLD = ("dial_idle", "link_outbound", "link_inbound", "link_duplicate", "link_destroyed", "link_cut",
        "knock_suspect", "link_replaced", "link_hung_up", "dial_kept", "dial_beside", "link_unheld", "link_adopted",
        "link_surplus", "link_spared", "dial_unheld", "claim_expired")
MODES = ("off", "observe", "enforce")
NO_ROUTE = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}


class Broken(Exception):
    """An invariant does not hold."""


class Process:
    """An actor, from outside."""

    def __init__(self, host, number, on_closed):
        self.host = host
        self.on_closed = on_closed   # of a cookie and this
        self.name = f"cgt-{host.name}{number}"
        self.asked = 0.0
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            actor.run(there, host.cgroup, f"/run/netns/{host.namespace}", self.name,
                      (PORT, OTHER_PORT))
        there.close()
        self.channel = here
        here.settimeout(60 * TIME_SCALE)

    def start(self, what, descriptors=(), **arguments):
        message = json.dumps(dict(arguments, do=what)).encode()
        self.asked = time.monotonic()
        socket.send_fds(self.channel, [message], descriptors)

    def finish(self):
        """The answer to what was started, and its descriptors."""
        message, descriptors, _flags, _address = socket.recv_fds(self.channel, actor.MESSAGE_MAX, 4)
        if not message:
            raise Broken(f"{self.name} has ended")
        answer = json.loads(message)
        answer["descriptors"] = descriptors
        for cookie in answer["closed"]:
            self.on_closed(cookie, self)
        return answer

    def __call__(self, what, descriptors=(), **arguments):
        self.start(what, descriptors, **arguments)
        return self.finish()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.channel.close()


class Guarded:
    """A guard in the soak, and what may be looser at it than its policy says."""

    def __init__(self, lab, host, random_numbers):
        self.guard = lab.new_guard(host, GUARD)
        self.guard.start_only()
        wait_for(self.guard.is_up, self.guard.log)
        self.random = random_numbers
        self.stopped = False
        self.mode = "enforce"
        self.extra = {}
        # Peers that may have more links than their limit: it was looser when these came up.
        self.loose = set()
        self.all_loose = False
        # Claims made while the guard is off are not counted; nor is the end of void ones.
        self.claims_uncounted = False
        self.claims_base = self.claims_most = 0
        self.account = None   # the last one
        self.exempt = set()
        self.was_exempt = False
        self.expired = 0
        # Dials and links that found no slot, and the sockets that dial without a claim for it.
        self.no_room = 0
        self.dials_without_room = 0
        self.claimless = set()

    @property
    def host(self):
        return self.guard.host

    def answers(self):
        """There is a daemon, and it has started."""
        if not self.guard.running() or self.stopped:
            return False
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self.guard.socket_path)
            return True
        return False

    def start(self):
        if not self.guard.running():
            self.guard.process = None
            self.guard.start_only()

    def documents(self):
        """Counters and peers: by the daemon, or from the maps."""
        if self.answers():
            return (lambda: self.guard.ask("status")["counters"],
                    lambda: self.guard.ask("peers")["peers"])
        return (lambda: self.guard.cli_json("status")[1]["counters"],
                lambda: self.guard.cli_json("peers")[1]["peers"])

    def ask(self, request, **arguments):
        """A command to the daemon; that it knows no such peer is an answer."""
        try:
            return self.guard.ask(request, **arguments)
        except AssertionError:
            return None
        except OSError:
            # It has just been started and does not listen yet.
            return None


class Unsent:
    """A socket whose dial failed before its SYN: its claim lasts while it is open, or two seconds."""

    def __init__(self, owner, asked, address):
        self.address = address
        # The dial was made between these two.
        self.asked = asked
        self.since = time.monotonic()
        self.owner = owner    # None: more than one process may have it

    def old(self):
        return time.monotonic() - self.asked > VOID_SECONDS - 0.5

    def void(self):
        return time.monotonic() - self.since > VOID_SECONDS + 0.5


class Soak:
    """The state of one run."""

    def __init__(self, lab, seed):
        self.lab = lab
        self.seed = seed
        self.random = random.Random(seed)
        self.actors = {}
        self.holders = []
        self.trace = collections.deque(maxlen=TRACE_LENGTH)
        self.operations = collections.Counter()
        self.outcomes = collections.Counter()
        self.quiet_points = 0
        self.checked = collections.Counter()
        self.longest = (0, "")
        self.unsent = {}      # cookie: Unsent
        self.shared = set()   # cookies
        self.voided = 0       # claims that may have been given up as void
        self.late = 0         # of these, those whose sockets may end later, and be counted then
        self.asked_again = 0  # dials of one claim, which each may be told as kept
        self.cut = {}         # name of a host: how to mend its wire

    # -- setting up --

    def set_up(self):
        lab = self.lab
        # left and right reach every address of home; left is a guarded host, right is not.
        for host in (lab.left, lab.right):
            host.ip("route add 10.86.0.0/16 via 10.77.0.1", "route add fd86::/64 via fd77::1")
        for host in (lab.home, lab.left, lab.right):
            host.sysctl("net.ipv4.tcp_fastopen", 3)
            host.sysctl("net.ipv4.tcp_syn_retries", 1)
        self.hosts = (lab.home, lab.left, lab.right)
        self.addresses = {host.name: {
            4: [lab.fresh_address(number, harness.IPV4) for _ in range(ADDRESSES)],
            6: [lab.fresh_address(number, harness.IPV6) for _ in range(ADDRESSES)]}
            for host, number in zip(self.hosts, (86, 82, 83))}
        self.void = {4: [lab.fresh_address(85, harness.IPV4) for _ in range(2)],
                     6: [lab.fresh_address(85, harness.IPV6) for _ in range(2)]}
        self.guards = [Guarded(lab, host, self.random) for host in (lab.home, lab.left)]
        for host in self.hosts:
            self.actors[host.name] = [Process(host, number, self.ended) for number in range(ACTORS)]
            for process in self.actors[host.name]:
                process("listen")

    def guard_of(self, host):
        return next((one for one in self.guards if one.host is host), None)

    def all_actors(self):
        return [process for some in self.actors.values() for process in some]

    # -- choices: the same numbers are drawn whatever has come of the operations before --

    def any_actor(self, host=None):
        host = host or self.random.choice(self.hosts)
        return self.random.choice(self.actors[host.name])

    def pair(self, version):
        """A host, an address of it, and an address to dial from it: mostly one that exists."""
        here = self.random.choice(self.hosts)
        if here is self.lab.home:
            there = self.random.choice((self.lab.left, self.lab.right))
        else:
            there = self.lab.home
        source = self.random.choice(self.addresses[here.name][version])
        target = self.random.choice(self.addresses[there.name][version])
        kind = self.random.random()
        odd = self.random.randrange(2)
        if here is self.lab.home and kind < 0.12:
            target = self.void[version][odd]
        elif here is self.lab.home and kind < 0.2:
            target = NO_ROUTE[version][odd]
        return here, source, there, target

    # -- operations on sockets --

    def noted(self, process, answer, address):
        """What a dial to an address came to, for those whose SYN never left."""
        outcome = answer.get("errno")
        before = self.unsent.get(answer.get("cookie"))
        self.asked_again += bool(before) and before.address == address
        self.ended(answer.get("cookie"))
        self.outcomes[outcome] += 1
        if answer.get("cookie") not in answer["closed"] and \
                outcome in ("ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "ENETDOWN"):
            cookie = answer["cookie"]
            self.unsent[cookie] = Unsent(None if cookie in self.shared else process, process.asked,
                                         address)

    def ended(self, cookie, owner=None):
        """A socket dials again or is closed: so ends a claim whose SYN never left."""
        unsent = self.unsent.get(cookie)
        if unsent and (owner is None or unsent.owner is owner):
            self.voided += unsent.old()
            del self.unsent[cookie]

    def share(self, cookie):
        """More than one process has, or has had, the socket: a close() need not be its end."""
        self.shared.add(cookie)
        if cookie in self.unsent:
            self.unsent[cookie].owner = None

    def op_dial(self):
        version = self.random.choice((4, 4, 6))
        here, source, _there, target = self.pair(version)
        way = self.random.choice(("plain",) * 8 + ("mptcp", "fast open", "mapped"))
        keep = self.random.random() < 0.3
        bound = self.random.random() < 0.8
        process = self.any_actor(here)
        if way == "mptcp" and target in NO_ROUTE[version]:
            # The claim of its subflow is void after two seconds, and ends with no hook.
            way = "plain"
        if way == "mapped" and version == 4:
            source, target = f"::ffff:{source}", f"::ffff:{target}"
        answer = process("dial", address=target, source=source if bound else None, way=way,
                         keep=keep)
        self.noted(process, answer, target)
        if way == "mptcp" and answer.get("errno") not in ("EINPROGRESS", "ECONNREFUSED"):
            self.voided += 1
            self.late += 1
            self.note_uncounted_claims()
        return f"{process.name} {way} {source if bound else ''}>{target}: {answer.get('errno')}"

    def op_cross(self):
        """Both ends dial at once, the guarded and the other."""
        version = self.random.choice((4, 6))
        there = self.random.choice((self.lab.left, self.lab.right))
        here_address = self.random.choice(self.addresses["home"][version])
        there_address = self.random.choice(self.addresses[there.name][version])
        first, second = self.any_actor(self.lab.home), self.any_actor(there)
        first.start("dial", address=there_address, source=here_address, way="plain", keep=False)
        second.start("dial", address=here_address, source=there_address, way="plain", keep=False)
        answers = [process.finish() for process in (first, second)]
        for process, answer, address in zip((first, second), answers, (there_address, here_address)):
            self.noted(process, answer, address)
        return f"{first.name}, {second.name} {here_address}<>{there_address}: " + \
            " ".join(str(answer.get("errno")) for answer in answers)

    def op_redial(self):
        version = self.random.choice((4, 6))
        here, _source, _there, target = self.pair(version)
        process = self.any_actor(here)
        answer = process("redial", which=self.random.random(), address=target)
        if "cookie" in answer:
            self.noted(process, answer, target)
        return f"{process.name} again >{target}: {answer.get('errno')}"

    def op_change_of_mind(self):
        """A dial finds no route, and its socket dials another, or what is none of the guard's."""
        version = self.random.choice((4, 6))
        process = self.any_actor(self.lab.home)
        nowhere = self.random.choice(NO_ROUTE[version])
        there = self.random.choice((self.lab.left, self.lab.right))
        target = self.random.choice(self.addresses[there.name][version])
        way = self.random.choice(("peer", "peer, disconnected", "other port", "loopback"))
        first = process("dial", address=nowhere, source=None, way="plain", keep=True)
        self.noted(process, first, nowhere)
        if way == "loopback":
            target = "127.0.0.1" if version == 4 else "::1"
        answer = process("redial", cookie=first["cookie"], address=target,
                         disconnect="disconnected" in way,
                         port=OTHER_PORT if way == "other port" else PORT)
        self.noted(process, answer, target)
        return f"{process.name} {nowhere}, then {way} {target}: {answer.get('errno')}"

    def simple(self, what, **arguments):
        process = self.any_actor()
        answer = process(what, which=self.random.random(), **arguments)
        return f"{process.name} {what} {arguments or ''} {answer.get('cookie')}"

    def op_accept(self):
        process = self.any_actor()
        return f"{process.name} accepts {process('accept')['accepted']}"

    def op_close(self, reset=False):
        process = self.any_actor()
        answer = process("close", which=self.random.random(), reset=reset)
        return f"{process.name} {'resets' if reset else 'closes'} {answer.get('cookie')}"

    def op_reset(self):
        return self.op_close(True)

    def op_shutdown(self):
        return self.simple("shutdown", whole=self.random.random() < 0.3)

    def op_disconnect(self):
        return self.simple("disconnect")

    def op_talk(self):
        return self.simple("talk")

    def op_listen(self):
        process = self.any_actor()
        deaf = self.random.random() < 0.3
        process("deaf" if deaf else "listen")
        return f"{process.name} {'is deaf' if deaf else 'listens'}"

    def op_hold(self):
        process = self.any_actor()
        answer = process("hold", which=self.random.random())
        self.holders += answer["descriptors"]
        self.share(answer.get("cookie"))
        return f"{process.name} forks: {answer.get('process')} holds {answer.get('cookie')}"

    def op_unhold(self):
        which = self.random.random()
        if not self.holders:
            return "no holder"
        os.close(self.holders.pop(int(which * len(self.holders))))
        return "a holder ends"

    def op_pass(self):
        host = self.random.choice(self.hosts)
        giver, taker = self.random.sample(self.actors[host.name], 2)
        answer = giver("give", which=self.random.random())
        for descriptor in answer["descriptors"]:
            taken = taker("take", [descriptor])
            os.close(descriptor)
            self.share(taken["cookie"])
            return f"{giver.name} gives {taken['cookie']} to {taker.name}"
        return f"{giver.name} has nothing to give"

    def op_kill(self):
        host = self.random.choice(self.hosts)
        number = self.random.randrange(ACTORS)
        killed = self.actors[host.name][number]
        killed.kill()
        for cookie in list(self.unsent):
            self.ended(cookie, killed)
        self.actors[host.name][number] = Process(host, number, self.ended)
        self.actors[host.name][number]("listen")
        return f"{self.actors[host.name][number].name} is killed and starts again"

    # -- operations on the world around --

    def op_wire(self):
        """Cut a host off, in one of two ways, or mend what was cut."""
        number = self.random.randrange(3)
        host, way = self.hosts[number], self.random.choice(("port", "filter"))
        if host.name in self.cut:
            self.mend(host)
            return f"{host.name} is back"
        if way == "port":
            switch = next(one for one in self.lab.hosts if one.name == "switch")
            switch.ip(f"link set port{number + 1} down")
            self.cut[host.name] = lambda: switch.ip(f"link set port{number + 1} up")
        else:
            self.cut[host.name] = host.eat("output", f"meta l4proto tcp tcp dport {PORT}")
        return f"{host.name} is cut off by its {way}"

    def mend(self, host):
        self.cut.pop(host.name)()

    def op_daemon(self):
        """Kill it, let it leave, stop it, wake it, start it: while everything goes on."""
        one = self.random.choice(self.guards)
        way = self.random.choice(("kill", "kill", "leave", "stop"))
        guard = one.guard
        if one.stopped:
            one.stopped = False
            guard.signal(signal.SIGCONT)
            return f"{guard.name} goes on"
        if not guard.running():
            one.start()
            return f"{guard.name} is started"
        if way == "stop":
            guard.signal(signal.SIGSTOP)
            one.stopped = True
        else:
            # It may be at any point of its own start.
            guard.end(signal.SIGKILL if way == "kill" else signal.SIGQUIT)
        return f"{guard.name}: {way}"

    def op_reload(self):
        one = self.random.choice(self.guards)
        extra = self.random.choice(RELOADS)
        if not one.answers():
            return f"{one.guard.name} cannot reload"
        one.guard.write(dict(GUARD, **extra))
        if one.extra in LOOSE or extra in LOOSE:
            # What was looser lasts in the links that came up under it. From when on must be known.
            one.all_loose = True
            one.ask("reload")
        else:
            one.guard.signal(signal.SIGHUP)
        one.extra = extra
        return f"{one.guard.name} reloads with {extra}"

    def op_command(self):
        one = self.random.choice(self.guards)
        version = self.random.choice((4, 6))
        there = self.random.choice((self.lab.left, self.lab.right)) if one.host is self.lab.home \
            else self.lab.home
        address = self.random.choice(self.addresses[there.name][version])
        what = self.random.choice(("kick", "cut", "cut", "limit", "allow", "explain"))
        number = self.random.randrange(4)
        if not one.answers():
            return f"{one.guard.name} cannot be asked to {what}"
        if what == "limit":
            one.loose.add(address)
            one.ask("limit", address=address, limit=number)
        elif what == "allow":
            one.loose.add(address)
            one.was_exempt = True
            seconds = 3600 if number < 2 else 0
            if one.ask("allow", address=address, seconds=seconds) is not None:
                (one.exempt.add if seconds else one.exempt.discard)(address)
        else:
            one.ask(what, address=address)
        return f"{one.guard.name} {what} {address} {number}"

    @staticmethod
    def set_mode(one, mode):
        """As panic and resume do it: no daemon is needed."""
        one.all_loose = True
        one.mode = mode
        one.claims_uncounted |= mode == "off"
        run(harness.BPFTOOL, "map", "update", "pinned", f"{one.guard.pins}/mode",
            "key", "0", "0", "0", "0", "value", str(MODES.index(mode)), "0", "0", "0")

    def op_mode(self):
        one = self.random.choice(self.guards)
        mode = self.random.choice(MODES[:2])
        self.set_mode(one, mode if one.mode == "enforce" else "enforce")
        return f"{one.guard.name} is in mode {one.mode}"

    def op_kick_all(self):
        for one in self.guards:
            if one.answers():
                one.ask("kick")
        return "everybody is kicked"

    WEIGHTS = {
        op_dial: 300, op_cross: 60, op_redial: 30, op_change_of_mind: 10, op_accept: 150, op_close: 100, op_reset: 60,
        op_shutdown: 40, op_disconnect: 30, op_talk: 60, op_listen: 12, op_hold: 20, op_unhold: 20,
        op_pass: 30, op_kill: 6, op_wire: 8, op_daemon: 5, op_reload: 4, op_command: 24,
        op_mode: 1, op_kick_all: 10,
    }

    def step(self):
        operation = self.random.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))[0]
        self.operations[operation.__name__[3:]] += 1
        self.trace.append(f"{operation.__name__[3:]}: {operation(self)}")

    def note_uncounted_claims(self):
        for one in self.guards:
            one.claims_uncounted = True

    # -- quiet points --

    def settle_claims(self):
        """What was not seen to be closed is void in time."""
        for cookie, unsent in list(self.unsent.items()):
            if unsent.old():
                self.note_uncounted_claims()
            if unsent.void():
                self.ended(cookie)
                self.late += 1

    def quiet(self, everything_up=False):
        for host in self.hosts:
            if host.name in self.cut:
                self.mend(host)
        for one in self.guards:
            start, strict = self.random.random() < 0.7, self.random.random() < 0.8
            guard = one.guard
            if one.stopped:
                one.stopped = False
                guard.signal(signal.SIGCONT)
            if start or everything_up:
                one.start()
            if everything_up:
                wait_for(guard.is_up, lambda guard=guard: f"{guard.name} is up\n"
                         f"{guard.cli('status')[1]}\n{guard.log()}", 20)
            if strict and one.mode != "enforce":
                self.set_mode(one, "enforce")
            if strict and one.extra in LOOSE and one.answers():
                one.extra = {}
                guard.write(GUARD)
                one.ask("reload")
        for process in self.all_actors():
            process("sweep")
        self.settle_claims()
        for one in self.guards:
            self.close_books(one)
        self.quiet_points += 1

    def snapshot(self, one):
        """Books of one moment and the differences; None if something has moved meanwhile."""
        counters, peers_of = one.documents()
        before, sockets = books.relevant(counters()), self.sockets_of(one.guard)
        peers = peers_of()
        if self.sockets_of(one.guard) != sockets or books.relevant(counters()) != before:
            return None
        self.settle_claims()
        account = books.Books(before, peers)
        found = truth.compare(peers, sockets, unsent=self.unsent)
        claimless = truth.claimless(peers, sockets)
        if account.no_room("dial_unheld") > one.dials_without_room and one.was_exempt:
            one.dials_without_room = account.no_room("dial_unheld")
        if one.all_loose or account.no_room() > one.no_room:
            # In observe mode a dial that would be refused and finds no slot is told as refused.
            if one.all_loose:
                one.dials_without_room = account.no_room("dial_unheld")
            one.no_room = account.no_room()
            one.claims_uncounted = True
            one.claimless = claimless
        # What dials without a claim may become a link, as if it had had one.
        one.claims_uncounted |= bool(one.claimless)
        one.claimless &= claimless
        found += [f"socket {cookie} dials without a claim" for cookie in claimless - one.claimless]
        return account, found

    @staticmethod
    def sockets_of(guard):
        return sorted(truth.guarded(truth.sockets_of(guard.host), {PORT}, guard.cgroup))

    @staticmethod
    def over_limit(one, peers):
        """Peers with more links or claims than they may have: (at no moment, not for long).

        For a link too many that found no slot the daemon must care: it may be adopted before it is
        destroyed.
        """
        never, not_long = [], []
        for peer in peers:
            if one.all_loose or peer["address"] in one.loose | one.exempt:
                continue
            kept = [slot for slot in peer["links"] if not slot["doomed"]]
            adopted = any(slot["adopted"] for slot in kept)
            for held, what in ((kept, "links"), (peer["claims"], "claims")):
                if len(held) > peer["limit"]:
                    (not_long if adopted else never).append(
                        f"{peer['address']} has {len(held)} {what}, {peer['limit']} may be")
        if one.answers() and one.mode == "enforce":
            not_long += [f"{peer['address']} has a link too many, which nobody destroys"
                         for peer in peers if any(slot["doomed"] for slot in peer["links"])]
        return never, not_long

    def close_books(self, one):
        state = {}
        began = time.monotonic()

        def closed():
            taken = self.snapshot(one)
            state["wrong"] = ["everything moves"]
            if taken is None:
                return False
            account, found = taken
            state["books"] = account
            # Without a daemon nobody takes in what has found no slot.
            if one.no_room:
                one.start()
            never, not_long = self.over_limit(one, account.peers)
            never += self.sums(one, account)
            if never:
                raise Broken(f"{one.guard.name}: " + "; ".join(never[:8]))
            state["wrong"] = found + not_long
            if state["wrong"]:
                state["last"] = state["wrong"][0]
            return not state["wrong"]
        wait_for(closed, lambda: f"{one.guard.name}: " + "; ".join(state["wrong"][:8]),
                 SETTLE_SECONDS)
        account = one.account = state["books"]
        lasted = time.monotonic() - began
        if lasted > self.longest[0]:
            self.longest = (lasted, f"{one.guard.name}: {state.get('last', 'everything moves')}")
        if one.claims_uncounted:
            one.claims_base = account.claims_open()
            one.claims_most = account.claims_open_most()
        self.checked["claims"] += not one.claims_uncounted
        self.checked["limits"] += not one.all_loose
        self.checked["books"] += 1
        one.claims_uncounted = one.mode == "off"
        # From here on nobody may have more than his limit, but those that have.
        one.loose = {peer["address"] for peer in account.peers
                     if sum(not slot["doomed"] for slot in peer["links"]) > peer["limit"]
                     or len(peer["claims"]) > peer["limit"]}
        one.all_loose = one.mode != "enforce" or one.extra in LOOSE
        one.was_exempt = bool(one.exempt)
        if "repaired" in one.guard.log(100000):
            repairs = [line for line in one.guard.log(100000).splitlines() if "repaired" in line
                       and "is the last one" not in line and not one.no_room]
            if repairs:
                raise Broken(f"{one.guard.name}: {repairs[0]}")

    def sums(self, one, account):
        wrong = []
        if account.links_open():
            wrong.append(f"{account.links_open()} links too few or too many by the counters")
        if account.refusals_open() != (0, 0):
            wrong.append(f"refusals counted and noted differ by {account.refusals_open()}")
        if account.no_room("dial_unheld") > one.dials_without_room:
            wrong.append(f"{account.no_room('dial_unheld')} dials found no room, "
                         f"{one.dials_without_room} may")
        if account.never():
            wrong.append(f"this happened: {account.never()}")
        may_be_void = self.voided + sum(unsent.old() for unsent in self.unsent.values())
        if account.expired() > may_be_void:
            wrong.append(f"{account.expired()} claims expired, {may_be_void} may")
        if account.expired() > one.expired:
            one.expired = account.expired()
            one.claims_uncounted = True
        if not one.claims_uncounted:
            more = account.claims_open() - one.claims_base
            most = account.claims_open_most() - one.claims_most
            # What is void is neither held nor ended, and may be ended later.
            most += self.late + self.asked_again
            if not -self.late <= more <= most:
                wrong.append(f"{more} claims are open by the counters, {-self.late} to {most} may be")
        return wrong

    # -- the end --

    def end(self):
        """Nothing is held when everything is closed."""
        for one in self.guards:
            if one.mode != "enforce":
                one.guard.cli("resume")
        while self.holders:
            os.close(self.holders.pop())
        for process in self.all_actors():
            process("clear")
        self.unsent.clear()
        self.note_uncounted_claims()
        for one in self.guards:
            truth.settle_empty(one.guard)
            self.close_books(one)

    def tear_down(self):
        for descriptor in self.holders:
            os.close(descriptor)
        for process in self.all_actors():
            with contextlib.suppress(OSError):
                process.kill()
        for one in self.guards if hasattr(self, "guards") else []:
            if one.stopped:
                one.guard.signal(signal.SIGCONT)


def explain(soak, lab):
    for line in traceback.format_exc().splitlines():
        print(f"# {line}")
    for line in soak.trace:
        print(f"# {line}")
    for guard in lab.guards:
        print(f"# -- log of {guard.name} --")
        for line in guard.log(25).splitlines():
            print(f"# {line}")
    print(f"# again: tests/soak/soak.py --seed {soak.seed}", flush=True)


def attempt(number, name, soak, lab, function):
    try:
        function()
    except (Broken, AssertionError, OSError) as error:
        print(f"not ok {number} - {name}: {str(error).splitlines()[0]}")
        explain(soak, lab)
        return False
    print(f"ok {number} - {name}", flush=True)
    return True


def interrupt(number, _frame):
    raise KeyboardInterrupt(f"signal {number}")


def main():
    parser = argparse.ArgumentParser(description="soak on real sockets")
    parser.add_argument("--seconds", type=float,
                        default=float(os.environ.get("SOAK_SECONDS") or 20))
    parser.add_argument("--seed", type=int,
                        default=int(os.environ.get("SOAK_SEED") or time.time() * 1000 % 1e9))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("1..0 # SKIP making network namespaces needs root")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    print("1..2", flush=True)
    lab = harness.Lab()
    soak = Soak(lab, options.seed)
    passed = False
    try:
        lab.set_up()
        soak.set_up()
        began = time.monotonic()

        def go():
            while time.monotonic() - began < options.seconds:
                for _ in range(OPERATIONS_BETWEEN_QUIET_POINTS):
                    soak.step()
                soak.quiet()
            soak.quiet(everything_up=True)
        passed = attempt(1, f"{options.seconds:g} s with seed {options.seed}: at every quiet point "
                            "the map equals the sockets and the counters add up", soak, lab, go)
        lasted = time.monotonic() - began
        count = sum(soak.operations.values())
        print(f"# {count} operations in {lasted:.1f} s, {count / lasted:.0f} a second, "
              f"{soak.quiet_points} quiet points")
        print(f"# the longest way to the truth: {soak.longest[0]:.1f} s, {soak.longest[1]}")
        print("# " + ", ".join(f"{name} {number}" for name, number in
                               soak.operations.most_common()))
        for one in soak.guards:
            if one.account:
                print(f"# {one.guard.name}: " + ", ".join(
                    f"{name} {one.account.count((name,))}" for name in TOLD))
        print(f"# {soak.voided} claims may have been void, {soak.late} of them may end late")
        print("# checked: " + ", ".join(f"{name} {number}" for name, number in
                                        soak.checked.most_common()))
        print("# dials: " + ", ".join(f"{name} {number}" for name, number in
                                      soak.outcomes.most_common()))
        if passed:
            passed = attempt(2, "nothing is held when everything is closed", soak, lab, soak.end)
    except KeyboardInterrupt as reason:
        print(f"Bail out! {reason}", flush=True)
    finally:
        soak.tear_down()
        lab.tear_down()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
