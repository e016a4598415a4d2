"""The folder of what is not in the database, and whose it is.

Rules
1. A folder is that of one database, whose id is in it: what this one does not know would be removed
   as orphans. Where they differ, or nobody can tell, nothing is started (R-104).
2. A file that says it is made before anything else is in the folder. A folder that was claimed has
   it: where it is missing the folder is away (a disk that is not mounted), and what is in it must
   not be taken for lost.
"""

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from antiphon.settings import Settings
from antiphon.store.base import StoreError
from antiphon.store.checkup import Identity, identity

#: The file with the id of the database.
MARK: Final = "database-id"
#: What a folder has that was used.
_CONTENTS: Final = ("files", "vector_stores")


@dataclass(frozen=True, slots=True)
class Folder:
    """It is made by who needs it. Without a `database_url` it is a temporary one, which goes with
    the server: `forget`. `has_blobs`: the bytes of files are in it."""

    path: Path
    database_url: str | None
    has_blobs: bool = True

    @property
    def indexes(self) -> Path:
        """The folder of the indexes of vector stores."""
        return self.path / "vector_stores"

    def claim(self) -> str | None:
        """It is this database's from now on, which has this id. Raises `StoreError`."""
        database = self.check()
        if database is None:
            return None
        if not (self.path / MARK).exists():
            try:
                self._mark(database.id)
            except OSError as error:
                raise self._trouble(error) from error
            self.check()  # somebody else may have been faster
        return database.id

    def check(self, *, claimed: bool = False) -> Identity | None:
        """The database, if there is one. Raises `StoreError` when the folder is not its own, or
        when it was `claimed` and is not there now."""
        if self.database_url is None:
            return None
        database = identity(self.database_url)
        is_used = False
        try:
            is_used = any((self.path / name).exists() for name in _CONTENTS)
            said = (self.path / MARK).read_text(errors="replace").strip()
        except FileNotFoundError:
            has_files = database is not None and database.has_files and self.has_blobs
            if has_files or is_used or claimed:
                raise self._unknown(database) from None
        except OSError as error:
            raise self._trouble(error) from error
        else:
            if database is None or said != database.id:
                raise self._foreign(said, database)
        return database

    def forget(self) -> None:
        """The server has ended."""
        if self.database_url is None:
            shutil.rmtree(self.path, ignore_errors=True)

    def _mark(self, id_: str) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path / f".{MARK}.{secrets.token_hex(8)}"
        try:
            with draft.open("x") as file:
                file.write(f"{id_}\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, self.path / MARK)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _foreign(self, said: str, database: Identity | None) -> StoreError:
        ours = f"this one is {database.id}" if database else "this one is not made yet"
        return StoreError(
            f"The folder {self.path} is that of another database: {MARK} has {said[:64]}, {ours}."
            " Each database needs a folder of its own: set ANTIPHON_DATA_DIR."
        )

    def _unknown(self, database: Identity | None) -> StoreError:
        mark = self.path / MARK
        way = f"`echo {database.id} > {mark}`" if database else "move it away"
        return StoreError(
            f"There are files, but no {mark}: the folder may not be that of this database. Set"
            f" ANTIPHON_DATA_DIR, or bring the folder back; if this is all that is left: {way}."
        )

    def _trouble(self, error: OSError) -> StoreError:
        return StoreError(f"The folder {self.path} cannot be used ({error.strerror}).")


def folder_of(settings: Settings) -> Folder:
    """A memory store forgets its files, so nobody else must find them."""
    if not settings.database_url.startswith("memory:"):
        return Folder(settings.data_dir.absolute(), settings.database_url, not settings.blobs)
    name = f"antiphon-{secrets.token_hex(16)}"
    return Folder(Path(tempfile.gettempdir()) / name, None)
