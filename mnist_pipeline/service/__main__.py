"""`make serve`: the service, until it is told to stop. Then nothing new is taken, what is at work is answered."""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from mnist_pipeline.process import collect_seldom, read_dotenv
from mnist_pipeline.service.app import build
from mnist_pipeline.service.settings import Settings, doors
from mnist_pipeline.service.wire import Wire

GRACE_S = 30  # that requests at work have, once it is told to stop
DESCRIPTORS = 4_096  # of files and connections; many systems begin with 1,024 or 256
LOOPBACK = ("127.", "localhost", "::1")
log = logging.getLogger("mnist_pipeline.service")


class Announcing(uvicorn.Server):
    """Says where it listens, once it answers."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is there now stays: no collection has to look at it again
        print(f"serving on {self._address}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when it was told to stop, 2 for settings with which it cannot start."""
    collect_seldom()
    raise_limit()
    read_dotenv()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = _settings(arguments)
        app = build(settings, doors(settings))
        taken = _listening(settings.host, settings.port)
    except (ValueError, OSError) as error:
        print(f"the service cannot start: {error}", file=sys.stderr)
        return 2
    if not settings.token and not settings.host.startswith(LOOPBACK):
        log.warning("anyone who reaches %s may use this service: set MNIST_SERVE_TOKEN", settings.host)
    host, port = taken.getsockname()[:2]
    # uvicorn stops in good order and then raises the signal once more, which would look as if it had been killed
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    Announcing(configured(app), f"http://{f'[{host}]' if ':' in host else host}:{port}").run([taken])
    return 0


def raise_limit() -> None:
    """Room for all connections that are taken, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def configured(app: ASGIApp) -> uvicorn.Config:
    """uvicorn as it serves this application."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here goes by the caller's address
        timeout_graceful_shutdown=GRACE_S,
        http=Wire,
        loop="uvloop",
        ws="none",
    )


def _settings(arguments: list[str] | None) -> Settings:
    from dataclasses import replace

    settings = Settings.of()
    parser = argparse.ArgumentParser("python -m mnist_pipeline.service", description=__doc__)
    parser.add_argument("--host", default=settings.host, help="to listen on; MNIST_SERVE_HOST")
    parser.add_argument("--port", type=int, default=settings.port, help="0: a free one; MNIST_SERVE_PORT")
    options = parser.parse_args(arguments)
    return replace(settings, host=options.host, port=options.port)


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()  # here, for uvloop says nothing where another process has begun to listen since
    except (OSError, OverflowError) as error:
        taken.close()
        raise OSError(
            f"{host}:{port} cannot be listened on ({error}): choose another MNIST_SERVE_PORT or MNIST_SERVE_HOST"
        ) from error
    return taken


if __name__ == "__main__":
    sys.exit(main())
