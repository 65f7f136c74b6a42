# SPDX-License-Identifier: BSD-2-Clause
"""What connguard is for: two tasks dial the same peer, and neither knows of the other, nor of the links that
the peer made. Whoever is called refuses what is a duplicate to him."""

import asyncio

from common import CLOSED, Node, main


class TwoTasks(Node):
    async def accepted(self, reader, writer):
        if self.linked:
            self.say("refuses a duplicate")
            return
        await self.talk(reader, writer, "inbound")

    async def task(self, name, seconds):
        """Without a session of its own it takes the peer for not connected, and dials."""
        while True:
            try:
                reader, writer = await self.dial(5)
            except CLOSED as error:
                self.say(f"{name}: dial failed:", error)
            else:
                if self.linked:
                    self.say(f"{name}: closes its duplicate")
                    writer.close()
                else:
                    await self.talk(reader, writer, f"outbound, {name}")
            await self.pause(seconds)

    async def run(self):
        await self.listen(self.accepted)
        await asyncio.gather(self.task("reconnection", 1), self.task("periodic check", 1.7))


if __name__ == "__main__":
    main(TwoTasks)
