# SPDX-License-Identifier: BSD-2-Clause
"""A small peer-to-peer node. It dials its peer once a second while it has no session, and refuses an inbound
link while it has one."""

from common import CLOSED, Node, main


class Connected(Node):
    """Refuses a second link."""

    dialing = False
    timeout_s = 5

    def refuses(self):
        return self.linked

    async def accepted(self, reader, writer):
        if self.refuses():
            self.say("refuses a duplicate")
            return
        await self.talk(reader, writer, "inbound")

    async def run(self):
        await self.listen(self.accepted)
        while True:
            if not self.linked:
                self.dialing = True
                try:
                    reader, writer = await self.dial(self.timeout_s)
                except CLOSED as error:
                    self.dialing = False
                    self.say("dial failed:", error)
                else:
                    self.dialing = False
                    if self.linked:
                        self.say("closes its duplicate")
                        writer.close()
                    else:
                        await self.talk(reader, writer, "outbound")
            await self.pause()


if __name__ == "__main__":
    main(Connected)
