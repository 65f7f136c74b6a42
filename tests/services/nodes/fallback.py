# SPDX-License-Identifier: BSD-2-Clause
"""A client that speaks a new protocol and an old one, and a server that knows the old one alone: it hangs up on
the new greeting without a word. The client is back half a second later with the old one, as Bitcoin is."""

import asyncio
import os

from common import CLOSED, Node, main

OLD = b"version\n"


class Fallback(Node):
    async def accepted(self, reader, writer):
        greeting = await reader.readexactly(len(OLD))
        if greeting == OLD:
            writer.write(OLD)
            await self.talk(reader, writer, "inbound")
        else:
            # All is read, so that it is a FIN and no RST.
            await asyncio.wait_for(reader.readexactly(64 - len(OLD)), 5)
            self.say("hangs up on what it does not know")

    async def greet(self, greeting):
        """True: the peer answered, and there was a session. False: it hung up."""
        reader, writer = await self.dial(10)
        try:
            writer.write(greeting)
            line = await asyncio.wait_for(reader.readline(), 10)
            if line:
                await self.talk(reader, writer, "outbound")
            return bool(line)
        finally:
            writer.close()

    async def run(self):
        if not self.dials:
            await self.listen(self.accepted)
            await asyncio.Event().wait()
        while True:
            try:
                if not await self.greet(b"\xff" + os.urandom(63)):
                    self.say("has been hung up on, falls back")
                    await asyncio.sleep(0.5)
                    await self.greet(OLD)
            except CLOSED as error:
                self.say("dial failed:", repr(error))
            await self.pause()


if __name__ == "__main__":
    main(Fallback)
