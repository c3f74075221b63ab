"""The token file: what is kept, who may change it, and what never happens to it."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon import tokens
from pmdaemon.tokens import Token, TokenFile, TokenFileDenied, TokenFileError

CREATES = """
import sys, time
from pathlib import Path
from pmdaemon.tokens import TokenFile
file = TokenFile(Path(sys.argv[1]), time.time)
for number in range(int(sys.argv[3])):
    file.create(f"{sys.argv[2]}-{number}", "read")
"""


class Case(SynchronousTestCase):
    """A home with no token yet."""

    def setUp(self) -> None:
        self.now = 1_800_000_000.5
        self.path = Path(self.mktemp()) / "tokens.json"
        self.file = self.another()

    def another(self) -> TokenFile:
        return TokenFile(self.path, lambda: self.now)

    def made(self, name: str | None = "ci") -> tuple[Token, str]:
        return self.file.create(name, "read")


class LifeTests(Case):
    """From its making to its end."""

    def test_made_and_found(self) -> None:
        token, text = self.file.create("ci", "operate", ("web-*", "ns:shop"), 60.0)
        self.assertEqual(
            (token.name, token.scope, token.processes, token.created, token.expires, token.last_used),
            ("ci", "operate", ("web-*", "ns:shop"), 1_800_000_000, 1_800_000_060, None),
        )
        self.assertTrue(re.fullmatch(rf"pmd_{token.id}_[A-Za-z0-9_-]{{43}}", text), text)
        for file in (self.file, self.another()):
            self.assertEqual((file.find(text), file.get(token.id), file.all()), (token, token, [token]))

    def test_no_two_are_alike(self) -> None:
        self.assertEqual(len({self.made(f"t{number}")[1].split("_", 2)[2] for number in range(20)}), 20)

    def test_an_expired_one_is_found_too(self) -> None:
        token, text = self.file.create(None, "read", None, 60.0)
        self.now += 61
        self.assertEqual(self.file.find(text), token)

    def test_it_is_called_after_its_id_where_it_has_no_name(self) -> None:
        token, _ = self.made(None)
        self.assertEqual((token.name, token.expires, token.processes), (f"token-{token.id}", None, None))

    def test_what_is_not_it(self) -> None:
        token, text = self.made()
        other, _ = self.made("other")
        secret = text.split("_", 2)[2]
        for wrong in (
            "",
            "pmd_",
            "pmd__",
            token.id,
            f"pmd_{token.id}",
            f"pmd_{token.id}_",
            f"pmd_{other.id}_{secret}",
            text[:-1],
            text + " ",
            text.upper(),
            text.removeprefix("pmd_"),
            token.digest,
            f"pmd_{token.id}_{token.digest}",
        ):
            self.assertIsNone(self.file.find(wrong), wrong)

    def test_taken_back_by_id_or_name(self) -> None:
        one, one_text = self.made("one")
        two, two_text = self.made("two")
        watching = self.another()
        self.assertEqual(watching.find(one_text), one)
        self.assertEqual(self.file.revoke(one.id), one)
        self.assertIsNone(watching.find(one_text), "seen at once by who holds the file already")
        self.assertEqual(watching.find(two_text), two)
        self.assertEqual(self.file.revoke("two"), two)
        self.assertEqual(watching.all(), [])

    def test_nothing_to_take_back(self) -> None:
        self.assertIsNone(self.file.revoke("ci"))
        self.assertFalse(self.path.exists())

    def test_a_file_that_was_removed(self) -> None:
        _, text = self.made()
        self.path.unlink()
        self.assertIsNone(self.file.find(text))

    def test_last_used(self) -> None:
        token, _ = self.made()
        self.now += 100
        self.file.used(token.id)
        self.assertIsNone(self.another().all()[0].last_used, "not written at each use")
        self.file.save_uses()
        self.assertEqual(self.another().all()[0].last_used, 1_800_000_100)
        written = self.path.stat().st_ino
        self.file.save_uses()
        self.assertEqual(self.path.stat().st_ino, written, "nothing new to write")

    def test_last_used_of_one_that_was_taken_back(self) -> None:
        token, _ = self.made()
        self.file.used(token.id)
        self.another().revoke("ci")
        self.file.save_uses()
        self.assertEqual(self.another().all(), [])


class RefusalTests(Case):
    """What cannot be made."""

    def refused(self, *arguments: object) -> str:
        return str(self.assertRaises(TokenFileError, self.file.create, *arguments))

    def test_names(self) -> None:
        for name in ("", "a b", "<img>", "-x", "x" * 65, "a\n", "\x1b[31m"):
            self.assertTrue(self.refused(name, "read").startswith("cannot call a token "), name)
        self.assertEqual(
            self.refused("0123456789ab", "read"), "cannot call a token '0123456789ab': it looks like an id"
        )
        self.assertFalse(self.path.exists())

    def test_a_name_that_is_taken(self) -> None:
        self.made()
        self.assertEqual(self.refused("ci", "read"), "cannot make the token 'ci': there is one of that name")

    def test_processes(self) -> None:
        for selector in ("", "a b", "web-*\n", "x" * 129):
            self.assertIn("cannot make a token for the processes ", self.refused("ci", "read", (selector,)))

    def test_too_many(self) -> None:
        self.patch(tokens, "MAX_TOKENS", 2)
        self.made("a")
        self.made("b")
        self.assertIn("there are 2 already", self.refused("c", "read"))


class FileTests(Case):
    """The file itself."""

    def test_no_token_is_in_it(self) -> None:
        _, text = self.made()
        content = self.path.read_text()
        self.assertNotIn(text, content)
        self.assertNotIn(text.split("_", 2)[2], content)

    def test_only_we_may_read_it(self) -> None:
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.made()
        modes = {each.name: oct(each.stat().st_mode & 0o777) for each in self.path.parent.iterdir()}
        self.assertEqual(modes, {"tokens.json": "0o600", "tokens.json.lock": "0o600"})
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)

    def test_what_is_not_ours_is_refused_and_left_alone(self) -> None:
        _, text = self.made()
        whole = self.path.read_bytes()
        ours = json.loads(whole)
        foreign = (
            b"",
            whole[:-10],
            b"\xff\xfe",
            b"[" * 100_000,
            b"null",
            b"{}",
            json.dumps({**ours, "version": 2}).encode(),
            json.dumps({**ours, "more": 1}).encode(),
            json.dumps({"version": 1, "tokens": [{**ours["tokens"][0], "scope": "admin"}]}).encode(),
            json.dumps({"version": 1, "tokens": [{**ours["tokens"][0], "digest": ""}]}).encode(),
        )
        for content in foreign:
            self.path.write_bytes(content)
            for attempt in (
                lambda: self.file.find(text),
                lambda: self.file.create("other", "start"),
                lambda: self.file.revoke("ci"),
                self.file.all,
            ):
                why = self.assertRaises(TokenFileError, attempt)
                self.assertTrue(str(why).startswith(f"cannot read the token file {self.path}: it is not "), why)
            self.assertEqual(self.path.read_bytes(), content)
        self.path.write_bytes(whole)
        self.assertIsNotNone(self.file.find(text), "mended")

    def test_one_that_others_may_change_is_refused(self) -> None:
        _, text = self.made()
        for mode in (0o640, 0o602, 0o604):
            self.path.chmod(mode)
            why = self.assertRaises(TokenFileDenied, self.another().find, text)
            self.assertIn("others may read or write it (chmod 600 helps)", str(why))

    @skipUnless(os.geteuid() == 0, "only root can give a file away")
    def test_one_of_another_user_is_refused(self) -> None:
        _, text = self.made()
        os.chown(self.path, 12345, -1)
        self.assertIn("another user", str(self.assertRaises(TokenFileDenied, self.another().find, text)))
        os.chown(self.path.parent, 12345, -1)
        self.assertIn("another user", str(self.assertRaises(TokenFileDenied, self.another().create, "x", "read")))

    def test_what_a_crash_left_behind_is_in_nobodys_way(self) -> None:
        self.made("one")
        fresh = self.path.with_name("tokens.json.new")
        fresh.write_bytes(b"{")
        self.made("two")
        self.assertEqual([token.name for token in self.another().all()], ["one", "two"])
        self.assertFalse(fresh.exists())

    def test_a_link_in_the_place_of_the_new_one_is_not_followed(self) -> None:
        victim = Path(self.mktemp())
        victim.write_bytes(b"precious")
        self.path.parent.mkdir()
        self.path.with_name("tokens.json.new").symlink_to(victim.absolute())
        self.made()
        self.assertEqual(victim.read_bytes(), b"precious")

    def test_a_failed_write_changes_nothing(self) -> None:
        token, _ = self.made()
        self.path.with_name("tokens.json.new").mkdir()
        why = self.assertRaises(TokenFileError, self.file.create, "other", "read")
        self.assertTrue(str(why).startswith(f"cannot write the token file {self.path}: "), why)
        self.assertEqual((self.file.all(), self.another().all()), ([token], [token]))

    def test_it_is_read_only_when_it_has_changed(self) -> None:
        token, text = self.made()
        self.assertEqual(self.file.find(text), token)
        self.patch(tokens, "read_private", lambda path: self.fail("it was read again"))
        self.assertEqual(self.file.find(text), token)

    @given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | st.from_regex(r"pmd_[0-9a-f]{12}_.*"))
    def test_any_text_may_be_asked_about(self, text: str) -> None:
        self.assertIsNone(TokenFile(self.path, lambda: 0.0).find(text))


class LockTests(Case):
    """Several who write."""

    def hold(self) -> int:
        """Take the lock; returns its descriptor."""
        self.path.parent.mkdir(exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def test_none_is_lost(self) -> None:
        names, each = "abc", 20
        writers = [
            subprocess.Popen([sys.executable, "-c", CREATES, str(self.path), name, str(each)], env=_environment())
            for name in names
        ]
        self.assertEqual([writer.wait(60) for writer in writers], [0, 0, 0])
        made = {token.name for token in self.another().all()}
        self.assertEqual(made, {f"{name}-{number}" for name in names for number in range(each)})

    def test_who_waits_too_long_is_told(self) -> None:
        self.hold()
        self.patch(tokens, "_LOCK_WAIT", 0.05)
        self.assertIn("another process", str(self.assertRaises(TokenFileError, self.made)))

    def test_the_daemon_does_not_wait(self) -> None:
        token, _ = self.made()
        self.file.used(token.id)
        lock = self.hold()
        self.patch(tokens.time, "sleep", lambda _: self.fail("it waited"))
        self.file.save_uses()
        self.assertIsNone(self.another().all()[0].last_used)
        fcntl.flock(lock, fcntl.LOCK_UN)
        self.file.save_uses()
        self.assertEqual(self.another().all()[0].last_used, 1_800_000_000)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(tokens.__file__).parent.parent)}
