"""A server that answers every POST with the same bytes: what the load generator costs by itself is measured with it.

python -m benchmarks.nothing prints the port that it listens on.
"""

import asyncio
from typing import Any

import uvloop

BODY = b'{"label":"7","model_version":"none","decision":1}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


class Answering(asyncio.Protocol):
    """Knows of HTTP only how long a request is."""

    transport: Any
    missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to do."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        if not self.missing:
            head, _, _ = data.partition(b"\r\n\r\n")
            self.missing = len(head) + 4 + int(head.rpartition(b"Content-Length: ")[2])
        self.missing -= len(data)
        if not self.missing:
            self.transport.write(ANSWER)


async def main() -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main())
