# SPDX-License-Identifier: BSD-2-Clause
"""A protocol in which who is called speaks first: without his greeting there is no session."""

import asyncio

from common import CLOSED, Node, main


class ServerFirst(Node):
    greeting = False

    async def accepted(self, reader, writer):
        if self.linked or self.greeting:
            self.say("refuses a duplicate")
            return
        self.greeting = True
        try:
            writer.write(b"220 welcome\n")
            line = await asyncio.wait_for(reader.readline(), 5)
        finally:
            self.greeting = False
        if line and not self.linked:
            await self.talk(reader, writer, "inbound")

    async def run(self):
        await self.listen(self.accepted)
        while True:
            if not self.linked and not self.greeting:
                try:
                    reader, writer = await self.dial(5)
                except CLOSED as error:
                    self.say("dial failed:", error)
                else:
                    await self.greeted(reader, writer)
            await self.pause()

    async def greeted(self, reader, writer):
        try:
            line = await asyncio.wait_for(reader.readline(), 5)
        except CLOSED as error:
            line = b""
            self.say("no greeting:", error)
        if not line or self.linked:
            writer.close()
            return
        writer.write(b"hello\n")
        await self.talk(reader, writer, "outbound")


if __name__ == "__main__":
    main(ServerFirst)
