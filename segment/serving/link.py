"""Messages between the server and a worker: JSON, since a worker reads what strangers send."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

LARGEST = 1 << 22  # bytes of a message


class Link:
    """One end of a pipe; several threads may send.

    Args:
        connection: From `multiprocessing.Pipe`.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, event: str, **content: Any) -> None:
        """Send a message.

        Raises:
            OSError: When the other end is gone.
        """
        text = json.dumps({"event": event, **content}).encode()
        with self._sending:
            self.connection.send_bytes(text)

    def receive(self) -> Mapping[str, Any]:
        """Wait for a message.

        Raises:
            EOFError: When the other end is gone.
            OSError: When the other end is gone.
        """
        content: Mapping[str, Any] = json.loads(self.connection.recv_bytes(LARGEST))
        return content

    def close(self) -> None:
        """Close this end."""
        self.connection.close()
