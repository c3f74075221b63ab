"""What is known without the state: of each child that the keeper runs, whose it is and how that was declared.

A daemon leaves a note with each child. Where its state is gone, the notes of those that run are the state.
"""

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.store import Store, StoredApp, StoredProcess
from pmdaemon.keeper.journal import read_journal
from pmdaemon.keeper.kids import Kid, remember
from pmdaemon.keeper.table import boot

__all__ = ["Note", "Owner", "note_of", "rebuild"]


class Note(Struct, frozen=True):
    """A process as it was when its child was started; ``created_at`` is in unix seconds."""

    app: AppSpec
    name: str
    instance: int
    created_at: float
    restarts: int


class Owner(Protocol):
    """Whose child it is: a process."""

    spec: AppSpec
    name: str
    instance: int
    created_at: float
    restarts: int


def note_of(owner: Owner) -> str:
    """Return the note to leave with a child."""
    note = Note(owner.spec, owner.name, owner.instance, owner.created_at, owner.restarts)
    return msgspec.json.encode(note).decode()


def rebuild(store: Store, journal: Path) -> None:
    """Put into a new *store* what a keeper's *journal* says of children that run; what else is in there, stays.

    Numbers that it names are not given out again. A journal that cannot be read is an empty one.
    """
    try:
        records, _ = read_journal(str(journal))
        written = journal.stat().st_mtime
    except OSError:
        return
    if records and store.set_aside is None:
        store.rise(written)
    newest: dict[int, Kid] = {}
    for (id_, incarnation), kid in remember(records).items():
        if id_.isdecimal():
            store.reserve(int(id_), incarnation)
            if kid.boot == boot() and not (kid.acked and kid.gone):
                newest[int(id_)] = max(kid, newest.get(int(id_), kid), key=lambda each: each.key[1])
    for number, kid in newest.items():
        with suppress(msgspec.MsgspecError):
            _take_up(store, number, kid, msgspec.json.decode(kid.note or "", type=Note))


def _take_up(store: Store, number: int, kid: Kid, note: Note) -> None:
    process = StoredProcess(
        id=number,
        app=note.app.name,
        instance=note.instance,
        name=note.name,
        wanted=True,
        restarts=note.restarts,
        created_at=note.created_at,
        incarnation=kid.key[1],
        ready=True,
    )
    store.save_app(StoredApp(note.app, None))
    store.save_process(process)
