"""The stub's own: numbered rows that the lab's client writes, to count afterwards which of them are gone."""

from typing import Any


def insert(cursor: Any, client: str, n: int) -> None:
    """Keeps a row. May be done again.

    A repeated row is written anew, not skipped: skipping writes nothing, so its commit would wait for no standby, and
    a row that no standby has would be told as kept.
    """
    cursor.execute(
        "INSERT INTO stub_rows (client, n) VALUES (%s, %s) "
        "ON CONFLICT (client, n) DO UPDATE SET tries = stub_rows.tries + 1",
        [client, n],
    )


def ranges(cursor: Any, client: str) -> list[list[int]]:
    """A client's rows as ranges without gaps, first and last included."""
    cursor.execute(
        "SELECT min(n), max(n) FROM (SELECT n, n - row_number() OVER (ORDER BY n) AS island FROM stub_rows "
        "WHERE client = %s) AS numbered GROUP BY island ORDER BY 1",
        [client],
    )
    return [list(row) for row in cursor.fetchall()]


def count(cursor: Any) -> int:
    """How many rows there are."""
    cursor.execute("SELECT count(*) FROM stub_rows")
    return int(cursor.fetchone()[0])
