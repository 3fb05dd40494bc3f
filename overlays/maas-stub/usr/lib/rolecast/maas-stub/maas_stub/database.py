"""The database behind the local endpoint: few connections, used again, and no question without an end.

psycopg2 waits through a callback of ours, so that a question ends in time also when nothing comes back: a leader that
died, a proxy that has not noticed, a commit that waits for a standby. Such a connection is closed, never cancelled: a
cancelled commit would be told as done while no standby has it.
"""

import select
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions

from .configuration import Regiond

Result = TypeVar("Result")
Cursor = Any

_limits = threading.local()


class Unavailable(Exception):
    """The database is away, or did not answer in time."""


def _wait(connection: Any) -> None:
    """Waits for the server until the calling thread's time is up."""
    until = getattr(_limits, "until", None) or time.monotonic() + 10
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = until - time.monotonic()
        if left <= 0:
            raise psycopg2.OperationalError("the database did not answer in time")
        poller = select.poll()
        poller.register(
            connection.fileno(), select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        )
        poller.poll(left * 1000)


psycopg2.extensions.set_wait_callback(_wait)


def connect(settings: Regiond, seconds: float) -> Any:
    """A connection whose statements are each a transaction. The thread's questions end within `seconds` from now."""
    _limits.until = time.monotonic() + seconds
    connection = psycopg2.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password,
        application_name="maas-stub",
        gssencmode="disable",
        keepalives_idle=15,
        keepalives_interval=15,
        keepalives_count=2,
    )
    connection.autocommit = True
    return connection


class Database:
    """A pool of connections for threads that come and go."""

    def __init__(self, settings: Regiond, patience: int, most: int = 16) -> None:
        """Questions may take `patience` times as long as they say."""
        self._settings = settings
        self._patience = patience
        self._idle: list[Any] = []
        self._slots = threading.BoundedSemaphore(most)

    def run(self, work: Callable[[Cursor], Result], seconds: float = 4.0, transaction: bool = False) -> Result:
        """Does `work` and commits it.

        When a connection that was used before turns out to be broken, `work` is done once more on a new one; so it has
        to be something that may be done twice.
        """
        seconds *= self._patience
        until = time.monotonic() + seconds
        if not self._slots.acquire(timeout=seconds):
            raise Unavailable("all connections are busy")
        try:
            return self._run(work, until, transaction)
        finally:
            self._slots.release()

    def _run(self, work: Callable[[Cursor], Result], until: float, transaction: bool) -> Result:
        while True:
            try:
                connection, reused = self._take(until)
            except psycopg2.Error as error:
                raise Unavailable(_said(error)) from error
            try:
                result = _do(connection, work, transaction)
            except psycopg2.IntegrityError:
                connection.close()
                raise
            except psycopg2.Error as error:
                connection.close()
                # What happened to one connection has happened to those that sat beside it.
                self._idle = []
                if not reused or time.monotonic() >= until:
                    raise Unavailable(_said(error)) from error
            except BaseException:
                # Closing is rolling back.
                connection.close()
                raise
            else:
                self._idle.append(connection)
                return result

    def _take(self, until: float) -> tuple[Any, bool]:
        """A connection, and whether it was used before."""
        _limits.until = until
        try:
            return self._idle.pop(), True
        except IndexError:
            return connect(self._settings, until - time.monotonic()), False


def _do(connection: Any, work: Callable[[Cursor], Result], transaction: bool) -> Result:
    with connection.cursor() as cursor:
        if transaction:
            cursor.execute("BEGIN")
        result = work(cursor)
        if transaction:
            cursor.execute("COMMIT")
    if any("synchronous replication" in notice for notice in connection.notices):
        raise psycopg2.OperationalError("the commit's wait for a standby was cut short")
    return result


def _said(error: psycopg2.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
