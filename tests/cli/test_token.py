"""``pmdaemon token`` as it is typed: what it prints where, and what it ends with."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import pmdaemon
from pmdaemon.cli.main import main
from pmdaemon.tokens import TokenFile

TEXT = re.compile(r"pmd_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


class Ended(NamedTuple):
    """What became of a command."""

    code: int | str | None
    out: str
    err: str


class Case(SynchronousTestCase):
    """A home of its own, named by the environment."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.patch(os, "environ", {**os.environ, "PMDAEMON_HOME": str(self.home)})
        self.file = TokenFile(self.home / "tokens.json", time.time)

    def run_main(self, *arguments: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            code: int | str | None = main(arguments)
        except SystemExit as why:
            code = why.code
        return Ended(code, out.getvalue(), err.getvalue())

    def token(self, *arguments: str) -> Ended:
        return self.run_main("token", *arguments)


class CreateTests(Case):
    """``create``"""

    def test_the_token_alone_is_on_stdout(self) -> None:
        ended = self.token("create", "ci")
        self.assertEqual(ended.code, 0)
        text = ended.out.removesuffix("\n")
        self.assertTrue(TEXT.fullmatch(text), ended.out)
        found = self.file.find(text)
        assert found is not None and found.expires is not None
        self.assertEqual((found.name, found.scope, found.processes), ("ci", "read", None))
        self.assertEqual(found.expires - found.created, 90 * 86400)
        self.assertTrue(ended.err.startswith("made the token 'ci': scope read, until "), ended.err)
        self.assertIsNone(TEXT.search(ended.err))

    def test_all_that_can_be_said(self) -> None:
        ended = self.token(
            "create", "ci", "--scope", "start", "--process", "web-*", "--process", "ns:a", "--expires", "2w", "--json"
        )
        told = json.loads(ended.out)
        found = self.file.find(told["token"])
        assert found is not None and found.expires is not None
        self.assertEqual(
            (found.scope, found.processes, found.expires - found.created), ("start", ("web-*", "ns:a"), 1209600)
        )
        self.assertEqual(
            {key: told[key] for key in ("schema", "id", "name", "scope", "processes", "last_used", "expired")},
            {
                "schema": 1,
                "id": found.id,
                "name": "ci",
                "scope": "start",
                "processes": ["web-*", "ns:a"],
                "last_used": None,
                "expired": False,
            },
        )
        self.assertIn("who has it can run anything as you", ended.err)

    def test_for_ever(self) -> None:
        ended = self.token("create", "--expires", "never")
        self.assertIn("until it is revoked", ended.err)
        self.assertIsNone(self.file.all()[0].expires)

    def test_wrong_usage(self) -> None:
        for arguments in (
            ("create", "ci", "--expires", "0d"),
            ("create", "ci", "--expires", "5"),
            ("create", "ci", "--expires", "999999w"),
            ("create", "ci", "--scope", "admin"),
            ("create", "ci", "--sco", "read"),
            ("create", "a", "b"),
            ("revoke",),
            ("nonsense",),
            (),
        ):
            ended = self.token(*arguments)
            self.assertEqual((ended.code, ended.out), (2, ""), arguments)
            self.assertIn("error: ", ended.err)
        self.assertFalse(self.home.exists())

    def test_what_cannot_be_made(self) -> None:
        self.token("create", "ci")
        ended = self.token("create", "ci")
        self.assertEqual((ended.code, ended.out), (1, ""))
        self.assertEqual(
            ended.err,
            "error: cannot make the token 'ci': there is one of that name (exit 1)\n"
            "  choose another name, or take that one back first: pmdaemon token revoke ci\n",
        )
        self.assertIn("cannot call a token '<b>'", self.token("create", "<b>").err)


class ListTests(Case):
    """``list``"""

    def test_none(self) -> None:
        ended = self.token("list")
        self.assertEqual((ended.code, ended.out), (0, ""))
        self.assertIn("pmdaemon token create", ended.err)
        self.assertEqual(json.loads(self.token("list", "--json").out), {"schema": 1, "tokens": []})
        self.assertFalse(self.home.exists())

    def test_columns(self) -> None:
        self.token("create", "ci", "--process", "web-*", "--expires", "never")
        self.token("create", "a-longer-name", "--scope", "operate")
        ended = self.token("list")
        header, *rows = ended.out.splitlines()
        ids = [token.id for token in self.file.all()]
        self.assertEqual([row.split("  ")[0] for row in rows], ids)
        for column, cells in (
            ("NAME", ("ci", "a-longer-name")),
            ("SCOPE", ("read", "operate")),
            ("PROCESSES", ("web-*", "all")),
        ):
            at = header.index(column)
            self.assertEqual(tuple(row[at:].split()[0] for row in rows), cells)
        self.assertEqual(ended.err, "")

    def test_one_that_is_over(self) -> None:
        TokenFile(self.file.path, lambda: 1_600_000_000.0).create("old", "read", None, 60.0)
        self.assertIn(" (over)  never", self.token("list").out)
        told = json.loads(self.token("list", "--json").out)["tokens"][0]
        self.assertEqual((told["expired"], told["expires"]), (True, "2020-09-13T12:27:40.000Z"))

    def test_no_token_is_told_twice(self) -> None:
        text = self.token("create", "ci").out.strip()
        digest = self.file.all()[0].digest
        for arguments in (("list",), ("list", "--json"), ("revoke", text, "--json"), ("revoke", text)):
            ended = self.token(*arguments)
            for secret in (text, text.split("_", 2)[2], digest):
                self.assertNotIn(secret, ended.out + ended.err, arguments)


class RevokeTests(Case):
    """``revoke``"""

    def test_by_name_by_id_and_by_text(self) -> None:
        texts = [self.token("create", name).out.strip() for name in "abcd"]
        ids = [token.id for token in self.file.all()]
        ended = self.token("revoke", "a", ids[1], texts[2])
        self.assertEqual((ended.code, ended.out), (0, ""))
        self.assertEqual(
            ended.err, "".join(f"revoked the token '{name}' ({id_})\n" for name, id_ in zip("abc", ids, strict=False))
        )
        self.assertEqual([token.name for token in self.file.all()], ["d"])

    def test_what_is_not_there(self) -> None:
        self.token("create", "a")
        ended = self.token("revoke", "b", "a", "\x1b[2J")
        self.assertEqual(ended.code, 1)
        self.assertIn("error: cannot revoke 'b', '\\x1b[2J': no such token (exit 1)\n  see: ", ended.err)
        self.assertEqual(self.file.all(), [])

    def test_json(self) -> None:
        self.token("create", "a")
        revoked = json.loads(self.token("revoke", "a", "--json").out)["revoked"]
        self.assertEqual([each["name"] for each in revoked], ["a"])


class FileTests(Case):
    """What may be wrong with the file."""

    def test_a_file_that_is_not_ours(self) -> None:
        self.home.mkdir()
        self.file.path.write_text("{")
        self.file.path.chmod(0o600)
        for arguments in (("create",), ("list",), ("revoke", "a")):
            ended = self.token(*arguments)
            self.assertEqual((ended.code, ended.out), (22, ""))
            self.assertTrue(
                ended.err.startswith(f"error: cannot read the token file {self.file.path}: it is not whole")
            )
        self.assertEqual(self.file.path.read_text(), "{")

    def test_a_file_that_others_may_read(self) -> None:
        self.token("create", "a")
        self.file.path.chmod(0o644)
        self.assertEqual(self.token("list").code, 60)

    def test_a_home_that_cannot_be(self) -> None:
        Path(self.mktemp()).write_text("")
        ended = self.token("create", "--home", "/dev/null/home")
        self.assertEqual(ended.code, 1)
        self.assertIn("cannot write the token file /dev/null/home/tokens.json: not a directory", ended.err)
        self.assertEqual(self.token("list", "--home", "~nobody-of-this-name").code, 2)

    def test_the_option_wins(self) -> None:
        other = Path(self.mktemp()).absolute()
        self.token("create", "a", "--home", str(other))
        self.assertTrue((other / "tokens.json").exists())
        self.assertFalse(self.home.exists())


class ScriptTests(Case):
    """As a program of its own."""

    def start(self, code: str, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(pmdaemon.__file__).parent.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def test_neither_twisted_nor_autobahn_is_loaded(self) -> None:
        code = "import sys, pmdaemon.cli.main; print({'twisted', 'autobahn'}.intersection(sys.modules))"
        self.assertEqual(self.start(code).communicate(timeout=30), (b"set()\n", b""))

    def test_nobody_reads(self) -> None:
        self.file.create("a", "read")
        program = self.start("import sys; from pmdaemon.cli.main import main; sys.exit(main())", "token", "list")
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        with program.stderr:
            self.assertEqual(program.stderr.read(), b"")
        program.wait(30)
