"""The home directory: its modes, its lock, and the pid file left in it."""

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.home import Home, HomeError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class HomeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.addCleanup(os.umask, os.umask(0o022))

    def test_directories_are_for_the_user_alone(self) -> None:
        home = Home.claim(str(self.root / "deep/home"))
        self.assertEqual(home.path, self.root / "deep/home")
        for path in (home.path, home.logs, home.run):
            self.assertEqual(mode(path), 0o700, path)
        self.assertEqual(mode(home.path / "daemon.lock"), 0o600)

    def test_a_home_that_was_open_is_closed(self) -> None:
        self.root.mkdir(mode=0o755)
        Home.claim(str(self.root))
        self.assertEqual(mode(self.root), 0o700)

    def test_relative_paths_and_tildes(self) -> None:
        self.patch(os, "environ", {**os.environ, "HOME": str(self.root)})
        self.assertEqual(Home.claim("~/x").path, self.root / "x")
        self.assertTrue(Home.claim(os.path.relpath(self.root / "y")).path.is_absolute())

    def test_a_second_claim_names_the_holder_and_harms_nothing(self) -> None:
        home = Home.claim(str(self.root))
        home.pidfile.write_text("1")
        with self.assertRaises(HomeError) as caught:
            Home.claim(str(self.root))
        self.assertIn(f"a daemon runs on it already (pid {os.getpid()})", str(caught.exception))
        self.assertTrue(home.pidfile.exists())
        self.assertEqual((self.root / "daemon.lock").read_text(), f"{os.getpid()}\n")

    def test_a_holder_that_has_not_signed_yet(self) -> None:
        Home.claim(str(self.root))
        os.truncate(self.root / "daemon.lock", 0)
        with self.assertRaisesRegex(HomeError, "pid not yet known"):
            Home.claim(str(self.root))

    def test_a_shorter_pid_leaves_nothing_of_a_longer_one(self) -> None:
        self.root.mkdir()
        (self.root / "daemon.lock").write_text("4194303\n4194303\n")
        Home.claim(str(self.root))
        self.assertEqual((self.root / "daemon.lock").read_text(), f"{os.getpid()}\n")

    def test_a_pid_file_without_its_daemon_goes(self) -> None:
        """Whether its pid is dead or, as here, alive and another's."""
        self.root.mkdir()
        (self.root / "twistd.pid").write_text(str(os.getppid()))
        self.assertFalse(Home.claim(str(self.root)).pidfile.exists())

    def test_a_lock_that_is_a_link_is_not_followed(self) -> None:
        self.root.mkdir()
        other = self.root.with_name(f"{self.root.name}-other")
        other.write_text("precious")
        (self.root / "daemon.lock").symlink_to(other)
        with self.assertRaisesRegex(HomeError, "daemon.lock: "):
            Home.claim(str(self.root))
        self.assertEqual(other.read_text(), "precious")
