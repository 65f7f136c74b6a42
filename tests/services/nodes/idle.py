# SPDX-License-Identifier: BSD-2-Clause
"""A client and a server with nothing to say for the first 30 seconds, and not much later. No keepalive. The
server takes a new link for the better one."""

import asyncio

from common import CLOSED, main
from one_way import OneWay

SILENCE_S = 30


class Idle(OneWay):
    current = None

    async def talk(self, reader, writer, how):
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


if __name__ == "__main__":
    main(Idle)
