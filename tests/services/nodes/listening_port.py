# SPDX-License-Identifier: BSD-2-Clause
"""The small node, which dials from the port that it listens on, as software does that wants to get through
address translation. Two that start at once meet in one connection that both have opened."""

import asyncio
import socket

from common import main
from mini import Connected


class ListeningPort(Connected):
    def bound(self):
        """A socket with the address and the port of all sockets here."""
        bound = socket.socket(socket.AF_INET6 if ":" in self.me else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind((self.me, self.port))
        return bound

    async def listen(self, accepted):
        async def closing(reader, writer):
            await accepted(reader, writer)
            writer.close()
        await asyncio.start_server(closing, sock=self.bound())

    async def dial(self, seconds):
        dialing = self.bound()
        try:
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(dialing, (self.peer, self.port)), seconds)
            return await asyncio.open_connection(sock=dialing)
        except BaseException:
            dialing.close()
            raise


if __name__ == "__main__":
    main(ListeningPort)
