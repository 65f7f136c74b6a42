# SPDX-License-Identifier: BSD-2-Clause
"""What the nodes of this directory have in common: how they are started, and how they tell what they know.

usage: NODE.py FILE    a JSON file: where the board is, the cgroup to enter, the instances

A process has several instances, each with one peer. It waits until its standard input ends, and
begins. On the board, a file of fixed size that the tests read, each instance says since when it has a session
and when it last heard its peer, in nanoseconds of CLOCK_BOOTTIME; 0 is never.
"""

import asyncio
import json
import mmap
import os
import random
import sys
import time

ENTRY = 2     # numbers; the first has the process id, then comes one for each instance
ENTRIES = 64
NUMBER = 8    # bytes
CLOSED = (OSError, EOFError, asyncio.TimeoutError)


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Board:
    """Who reads sees each number as it was or as it is: it is written in one go, and only where it changes."""

    def __init__(self, path, writes=False):
        with open(path, "r+b" if writes else "rb") as file:
            memory = mmap.mmap(file.fileno(), NUMBER * ENTRY * ENTRIES,
                               access=mmap.ACCESS_WRITE if writes else mmap.ACCESS_READ)
        self.numbers = memoryview(memory).cast("q")

    @staticmethod
    def make(path):
        with open(path, "wb") as file:
            file.write(bytes(NUMBER * ENTRY * ENTRIES))

    def read(self, number):
        return tuple(self.numbers[number * ENTRY:(number + 1) * ENTRY])

    def write(self, number, *, first=None, second=None):
        for place, value in enumerate((first, second)):
            if value is not None:
                self.numbers[number * ENTRY + place] = value


class Node:
    """One instance. A subclass says how it lives: `run`."""

    def __init__(self, settings, board):
        self.number = settings["number"]
        self.me, self.peer = settings["me"], settings["peer"]
        self.port = settings["port"]
        self.dials = settings["dials"]   # of a pair where one end dials: this one
        self.after = settings["after"]   # seconds, from the start of the process
        self.board = board
        # Equal ones in equal lanes.
        self.random = random.Random(f"{self.me} {self.peer}")
        self.sessions = []

    @property
    def linked(self):
        return bool(self.sessions)

    def say(self, *words):
        print(f"{now_ns() / 1e9:.3f} pair {self.number}:", *words, flush=True)

    def up(self, how):
        """A session is up. It is ended with what this returns."""
        session = object()
        if not self.sessions:
            self.board.write(self.number, first=now_ns())
        self.sessions.append(session)
        self.say("session up,", how)
        return session

    def down(self, session, why=""):
        self.sessions.remove(session)
        if not self.sessions:
            self.board.write(self.number, first=0)
        self.say("session down", why)

    def heard(self):
        self.board.write(self.number, second=now_ns())

    async def listen(self, accepted):
        async def guarded(reader, writer):
            try:
                await accepted(reader, writer)
            except CLOSED:
                pass
            finally:
                writer.close()
        await asyncio.start_server(guarded, self.me, self.port, reuse_address=True)

    async def dial(self, seconds):
        """A connection to the peer. Raises one of CLOSED."""
        return await asyncio.wait_for(
            asyncio.open_connection(self.peer, self.port, local_addr=(self.me, 0)), seconds)

    async def talk(self, reader, writer, how, every=0.5, silence=14):
        """A session, until it ends: each end says something now and then, and wants to hear something. It
        outlives a cut of 6 seconds, with what TCP needs afterwards."""
        session, why = self.up(how), "closed"

        async def ping():
            while True:
                writer.write(b"ping\n")
                await writer.drain()
                await asyncio.sleep(every)
        pings = asyncio.ensure_future(ping())
        try:
            while await asyncio.wait_for(reader.readline(), silence):
                self.heard()
        except CLOSED as error:
            why = f"{type(error).__name__} {error}"
        finally:
            pings.cancel()
            writer.close()
            self.down(session, why)

    async def pause(self, seconds=1.0):
        """Before the next dial: about so long, so that two ends that turned each other away do not do it for
        ever."""
        await asyncio.sleep(seconds * self.random.uniform(0.8, 1.2))

    async def live(self):
        await asyncio.sleep(self.after)
        try:
            await self.run()
        except Exception as error:
            self.say("fails:", repr(error))
            raise

    async def run(self):
        raise NotImplementedError


def main(kind):
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    board = Board(settings["board"], writes=True)
    board.write(0, first=os.getpid())
    sys.stdin.read()
    with open(settings["cgroup"] + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")

    async def all_of_them():
        await asyncio.gather(*(kind(instance, board).live() for instance in settings["instances"]))
    asyncio.run(all_of_them())
