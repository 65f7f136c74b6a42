# SPDX-License-Identifier: BSD-2-Clause
"""A node that tries three times, for 5 seconds each, and then rests for a minute. Both ends do."""

import asyncio

from common import CLOSED, Node, main, now_ns

TRIES, TRY_S, REST_S = 3, 5, 60
# Then the third try of who was cut off goes on when a cut of 20 s is over.
SILENCE_S = 8


class Budget(Node):
    async def accepted(self, reader, writer):
        if self.linked:
            self.say("refuses a duplicate")
            return
        await self.talk(reader, writer, "inbound", silence=SILENCE_S)
        self.ended.set()

    async def attempt(self):
        """True: there was a session."""
        try:
            reader, writer = await self.dial(TRY_S)
        except CLOSED as error:
            self.say("dial failed:", error)
            return False
        if self.linked:
            self.say("closes its duplicate")
            writer.close()
            return False
        await self.talk(reader, writer, "outbound", silence=SILENCE_S)
        return True

    async def rest(self, seconds):
        """Until then, or until a session ends: that is a reason to try."""
        try:
            await asyncio.wait_for(self.ended.wait(), seconds)
            return True
        except asyncio.TimeoutError:
            return False

    async def run(self):
        self.ended = asyncio.Event()
        await self.listen(self.accepted)
        tries = 0
        while True:
            self.ended.clear()
            began = now_ns()
            if self.linked:
                await self.ended.wait()
                tries = 0
                continue
            if await self.attempt():
                tries = 0
                await asyncio.sleep(self.random.uniform(0.2, 0.8))
                continue
            tries += 1
            left = TRY_S - (now_ns() - began) / 1e9
            if tries == TRIES:
                self.say("rests")
                left += REST_S
            if await self.rest(max(left, 0)) or tries == TRIES:
                tries = 0


if __name__ == "__main__":
    main(Budget)
