"""What a later keeper knows: whole records only, each fact once, whatever a kill or a full disk has left."""

import errno
import json
import os

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import journal as journals
from pmdaemon.keeper.journal import Journal
from pmdaemon.keeper.kids import Kid, remember
from pmdaemon.keeper.wire import LogOrder

EXIT = {"pid": 12, "status": 256, "how": "child", "at": 1.0, "end": {"1": 5}}


def kid(inc: int = 1) -> Kid:
    born = Kid(
        ("web", inc),
        logs={1: LogOrder("/l/out", {"max_size": 5}), 2: LogOrder("/l/err", {})},
        copy="/l/both",
        on_full="drop",
        cookie=("C", "v"),
        brand=7,
        cgroup="/sys/fs/cgroup/x",
    )
    born.pid, born.start, born.boot, born.at = 12, 34, "b", 1.5
    return born


class JournalFile(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()

    def open(self) -> Journal:
        opened = Journal(self.path)
        self.addCleanup(opened.close)
        return opened

    def content(self) -> list[bytes]:
        with open(self.path, "rb") as file:
            return file.read().splitlines()

    def test_is_private(self) -> None:
        self.open()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_records_come_back_in_order(self) -> None:
        written = self.open()
        written.replay()
        written.append({"a": 1}, {"b": 2})
        written.append({"c": "é"})
        self.assertEqual(self.open().replay(), [{"a": 1}, {"b": 2}, {"c": "é"}])

    def test_torn_last_line_is_left_out_and_cut_off(self) -> None:
        with open(self.path, "wb") as file:
            file.write(b'{"a":1}\n{"b":')
        torn = self.open()
        self.assertEqual(torn.replay(), [{"a": 1}])
        torn.append({"c": 3})
        self.assertEqual(self.content(), [b'{"a":1}', b'{"c":3}'])

    def test_a_line_without_its_end_was_never_promised(self) -> None:
        """Whole as it looks: the next record would be appended to it."""
        with open(self.path, "wb") as file:
            file.write(b'{"a":1}\n{"b":2}')
        torn = self.open()
        torn.replay()
        torn.append({"c": 3})
        self.assertNotIn(b'{"b":2}{"c":3}', self.content())

    def test_damage_in_the_middle_costs_one_record(self) -> None:
        with open(self.path, "wb") as file:
            file.write(b'{"a":1}\n\xff\x00{\n[1]\n{"b":2}\n')
        self.assertEqual(self.open().replay(), [{"a": 1}, {"b": 2}])

    def test_full_disk_leaves_no_part_of_a_record(self) -> None:
        full = self.open()
        full.replay()
        full.append({"a": 1})
        write = os.write
        self.patch(journals.os, "write", lambda fd, data: write(fd, data[:4]))
        error = self.assertRaises(OSError, full.append, {"b": 2})
        self.assertEqual(error.errno, errno.ENOSPC)
        self.patch(journals.os, "write", write)
        full.append({"c": 3})
        self.assertEqual(self.content(), [b'{"a":1}', b'{"c":3}'])

    def test_written_anew(self) -> None:
        old = self.open()
        old.replay()
        for number in range(1002):
            self.assertFalse(old.overdue and number < 1000)
            old.append({"n": number})
        self.assertTrue(old.overdue)
        old.rewrite([{"only": True}])
        self.assertFalse(old.overdue)
        old.append({"more": True})
        self.assertEqual(self.content(), [b'{"only":true}', b'{"more":true}'])

    def test_full_disk_leaves_the_old_one(self) -> None:
        old = self.open()
        old.replay()
        old.append({"a": 1})
        write = os.write
        self.patch(journals.os, "write", lambda fd, data: write(fd, data[:4]))
        self.assertRaises(OSError, old.rewrite, [{"b": 2}])
        self.patch(journals.os, "write", write)
        old.append({"c": 3})
        self.assertEqual(self.content(), [b'{"a":1}', b'{"c":3}'])


class Remembering(SynchronousTestCase):
    def test_all_that_matters_comes_back(self) -> None:
        before = kid()
        before.asked, before.known = 15, {(13, 99): True}
        before.exit, before.acked = dict(EXIT), True
        (after,) = remember(json.loads(json.dumps(list(before.records())))).values()
        for name in vars(before):
            self.assertEqual(getattr(after, name), getattr(before, name), name)

    def test_told_twice_counts_once(self) -> None:
        other = {**EXIT, "status": 0}
        records = [kid().birth(), kid().about("exit", **EXIT), kid().about("exit", **other), kid().about("acked")]
        (after,) = remember([*records, *records]).values()
        self.assertEqual((after.exit, after.acked, after.gone), (EXIT, True, False))

    def test_incarnations_are_different_children(self) -> None:
        kids = remember([kid(1).birth(), kid(2).birth(), kid(1).about("gone")])
        self.assertEqual([(key, each.gone) for key, each in kids.items()], [(("web", 1), True), (("web", 2), False)])

    def test_stillborn_is_forgotten(self) -> None:
        self.assertEqual(remember([kid().birth(), kid().about("forgotten")]), {})

    def test_new_limits(self) -> None:
        (after,) = remember([kid().birth(), kid().about("limits", fd=2, limits={"max_size": 9})]).values()
        self.assertEqual(after.logs[2], LogOrder("/l/err", {"max_size": 9}))

    def test_what_is_not_understood_counts_nothing(self) -> None:
        strange = [{}, {"op": "exit", "id": "no", "inc": 1}, {"op": "spawn", "id": "x", "inc": 1}, kid().about("later")]
        self.assertEqual(list(remember([*strange, kid().birth()])), [("web", 1)])
