"""A sender in a process of its own: numbered signals, to flows in turn, without waiting for answers."""

from __future__ import annotations

import os
import sys

from persistasaurus.actors.remote.client import RemoteClient

if __name__ == "__main__":
    path, count, flows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with RemoteClient(path) as client:
        for number in range(count):
            flow_id = f"hears-{number % flows}"
            client.signal(flow_id, "word", b"[%d,%d]" % (os.getpid(), number))
