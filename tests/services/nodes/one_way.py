# SPDX-License-Identifier: BSD-2-Clause
"""A client that only dials, once a second, and a server that only listens."""

import asyncio

from common import CLOSED, Node, main


class OneWay(Node):
    async def accepted(self, reader, writer):
        await self.talk(reader, writer, "inbound")

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
                await self.talk(reader, writer, "outbound")
            await self.pause()


if __name__ == "__main__":
    main(OneWay)
