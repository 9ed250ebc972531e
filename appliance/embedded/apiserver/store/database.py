"""The SQLite file behind the store: opening it with suspicion, reading it whole, and committing batches.

Everything here blocks and runs in the store's one worker thread. Durability: WAL with ``synchronous=FULL``, so an
acknowledged write survives a kill and a power cut. A batch is all or nothing; a failed one leaves the file as before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

APPLICATION_ID = 0x41_50_4B_38
"""Marks our files in the SQLite header ("APK8")."""
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (resource, namespace, name));
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT INTO head VALUES (1, 1);
"""
Row = tuple[str, str, str, int, bytes | None]
"""(resource, namespace, name, version, body); body None deletes."""


class StoreError(RuntimeError):
    """The store's file cannot be used; the message says which file, why and what to do."""


class WriteFailed(Exception):
    """A batch was not written and nothing changed. ``full``: the disk (or quota) has no room."""

    def __init__(self, message: str, *, full: bool) -> None:
        super().__init__(message)
        self.full = full


class Database:
    """One open file. Use from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Opens or creates the file; StoreError when it is damaged, foreign, newer, in use or not writable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open the store {self.path}: {error}") from error
        try:
            self._prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(self._unusable(str(error))) from error
        except StoreError:
            connection.close()
            raise
        self._connection = connection

    def _unusable(self, why: str) -> str:
        return (
            f"the store {self.path} cannot be used: {why}. It was left untouched: restore it from a backup, "
            f"or move it away to start with an empty cluster"
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        def one(sql: str) -> object:
            return connection.execute(sql).fetchone()[0]

        tables = one("SELECT count(*) FROM sqlite_master")
        application, version = one("PRAGMA application_id"), one("PRAGMA user_version")
        if tables and application != APPLICATION_ID:
            raise StoreError(self._unusable("it is an SQLite file of another program"))
        if tables and version != SCHEMA_VERSION:
            raise StoreError(self._unusable(f"its format is {version}, this program reads format {SCHEMA_VERSION}"))
        if tables and (verdict := one("PRAGMA quick_check(1)")) != "ok":
            raise StoreError(self._unusable(f"it is damaged ({verdict})"))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=2000")
        if not tables:
            script = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION};"
            connection.executescript(f"BEGIN; {_SCHEMA} {script} COMMIT;")
        self.path.chmod(0o600)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"the store {self.path} is not open")
        return self._connection

    def head(self) -> int:
        """The last committed resourceVersion."""
        return int(self._open().execute("SELECT version FROM head").fetchone()[0])

    def rows(self) -> Iterator[Row]:
        """Every object, by resource, namespace and name."""
        yield from self._open().execute("SELECT resource, namespace, name, version, body FROM objects ORDER BY 1, 2, 3")

    def commit(self, rows: Sequence[Row], head: int) -> None:
        """Writes one batch in one transaction; WriteFailed when it could not be made durable."""
        connection = self._open()
        puts = [row for row in rows if row[4] is not None]
        cuts = [row[:3] for row in rows if row[4] is None]
        try:
            connection.execute("BEGIN IMMEDIATE")
            if cuts:
                connection.executemany("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", cuts)
            if puts:
                connection.executemany("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", puts)
            connection.execute("UPDATE head SET version=?", (head,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            name = getattr(error, "sqlite_errorname", "") or ""
            full = name == "SQLITE_FULL"
            raise WriteFailed(f"{error} ({name})" if name else str(error), full=full) from error

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                return  # SQLite already rolled back; the connection stays usable

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
