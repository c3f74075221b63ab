"""Files handled as an app's user."""

import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pmdaemon.keeper import identity
from pmdaemon.keeper.identity import NoSuchAccount, Owner, acting_as, owner_of, owner_or_nobody, owner_there

SOMEBODY = Owner(12_345, 12_346, [12_347])
ROOT = 0


def rights() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), os.getgroups()


class ActingTests(SynchronousTestCase):
    def setUp(self) -> None:
        if os.geteuid() != ROOT:
            raise SkipTest("only root can act as another user")
        self.before = rights()

    def test_for_this_block_alone(self) -> None:
        with acting_as(SOMEBODY):
            self.assertEqual(rights(), (12_345, 12_346, [12_347]))
        self.assertEqual(rights(), self.before)

    def test_whatever_happens_in_it(self) -> None:
        with self.assertRaises(ZeroDivisionError), acting_as(SOMEBODY):
            raise ZeroDivisionError
        self.assertEqual(rights(), self.before)

    def test_for_this_thread_alone(self) -> None:
        seen = []
        inside, leave = threading.Event(), threading.Event()

        def act() -> None:
            with acting_as(SOMEBODY):
                inside.set()
                leave.wait(20)
                seen.append(rights()[0])

        thread = threading.Thread(target=act)
        thread.start()
        self.assertTrue(inside.wait(20))
        self.assertEqual(rights(), self.before)
        leave.set()
        thread.join(20)
        self.assertEqual(seen, [12_345])

    def test_one_within_another(self) -> None:
        with acting_as(SOMEBODY):
            with acting_as(SOMEBODY):
                pass
            self.assertEqual(rights()[0], 12_345)
        self.assertEqual(rights(), self.before)

    def test_the_file_system_takes_it_for_the_user(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="pmdaemon-"))
        self.addCleanup(place.rmdir)
        with acting_as(SOMEBODY):
            self.assertRaises(PermissionError, os.listdir, place)
            self.assertRaises(PermissionError, (place / "new").touch)
        self.assertEqual(os.listdir(place), [])

    def test_not_where_it_is_not_known_how(self) -> None:
        self.patch(os, "uname", lambda: SimpleNamespace(machine="m68k"))
        identity._library.cache_clear()
        self.addCleanup(identity._library.cache_clear)
        with self.assertRaises(OSError) as caught, acting_as(SOMEBODY):
            self.fail("it does nothing")
        self.assertIn("as the app's user", str(caught.exception))
        self.assertEqual(rights(), self.before)

    def test_as_nobody_else(self) -> None:
        with acting_as(None):
            self.assertEqual(rights(), self.before)


class OwnerTests(SynchronousTestCase):
    def test_by_number(self) -> None:
        self.assertEqual(owner_of(12_345, 12_346, [12_347]), Owner(12_345, 12_346, [12_346, 12_347]))

    def test_who_is_not_there(self) -> None:
        error = self.assertRaises(NoSuchAccount, owner_of, "no-such-user", None)
        self.assertEqual(error.reason, "no such user 'no-such-user'")
        nobody = owner_or_nobody("no-such-user", None)
        self.assertEqual(nobody, Owner(65534, 65534, []))

    def test_none_asked_for(self) -> None:
        self.assertIsNone(owner_of(None, None))

    def test_where(self) -> None:
        self.patch(os, "geteuid", lambda: ROOT)
        for owner, path, expected in (
            (SOMEBODY, "/srv/web.log", SOMEBODY),
            (SOMEBODY, "/home/logs/web.log", None),
            (SOMEBODY, "/home/logs/../web.log", SOMEBODY),
            (SOMEBODY, "/home/logs/sub/web.log", SOMEBODY),
            (Owner(ROOT, 5, []), "/srv/web.log", None),
            (None, "/srv/web.log", None),
        ):
            self.assertEqual(owner_there(owner, path, "/home/logs"), expected, path)
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIsNone(owner_there(SOMEBODY, "/srv/web.log", "/home/logs"))

    def test_on_the_wire(self) -> None:
        self.assertEqual(Owner.from_wire([1, 2, [3]]), Owner(1, 2, [3]))
        self.assertIsNone(Owner.from_wire(None))
        for wrong in ([1, 2], "abc", 5, [1, 2, 3]):
            self.assertRaises((ValueError, TypeError), Owner.from_wire, wrong)
