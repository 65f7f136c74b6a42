# SPDX-License-Identifier: BSD-2-Clause
"""The small node, which refuses an inbound link while its own dial is under way, too."""

from common import main
from mini import Connected


class Connecting(Connected):
    def refuses(self):
        return self.linked or self.dialing


if __name__ == "__main__":
    main(Connecting)
