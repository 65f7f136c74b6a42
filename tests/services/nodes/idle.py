# SPDX-License-Identifier: BSD-2-Clause
"""A client and a server with nothing to say for the first 30 seconds, and not much later. No keepalive. The
server takes a new link for the better one."""

import asyncio

from common import CLOSED, Node, main

SILENCE_S = 30


class Idle(Node):
    current = None

    async def session(self, reader, writer, how):
        if self.current:
            self.current.close()
        self.current = writer
        session, why = self.up(how), "closed"

        async def speak():
            while True:
                await asyncio.sleep(SILENCE_S)
                writer.write(b"still here\n")
                await writer.drain()
        speech = asyncio.ensure_future(speak())
        try:
            while await reader.readline():
                self.heard()
        except CLOSED as error:
            why = f"{type(error).__name__} {error}"
        finally:
            speech.cancel()
            writer.close()
            self.down(session, why)

    async def accepted(self, reader, writer):
        await self.session(reader, writer, "inbound")

    async def run(self):
        if not self.dials:
            await self.listen(self.accepted)
            await asyncio.Event().wait()
        while True:
            try:
                reader, writer = await self.dial(10)
            except CLOSED as error:
                self.say("dial failed:", error)
            else:
                await self.session(reader, writer, "outbound")
            await self.pause()


if __name__ == "__main__":
    main(Idle)
