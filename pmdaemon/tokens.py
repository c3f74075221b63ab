"""The token file: makes tokens, finds the one that a text is, takes them back; any number of processes may share it.

What a token allows is ``core.access``. No token is in the file, only what it is known by.
"""

import errno
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pmdaemon.core.access import Scope
from pmdaemon.core.fields import shown
from pmdaemon.core.names import NAME_HINT, NAME_PATTERN, pattern_problem
from pmdaemon.private import read_private

__all__ = ["MAX_TOKENS", "Token", "TokenFile", "TokenFileBroken", "TokenFileDenied", "TokenFileError"]

MAX_TOKENS = 1000
_LOCK_WAIT = 5.0
_LOCK_STEP = 0.02

_ID = "^[0-9a-f]{12}$"
_SELECTOR = r"^[A-Za-z0-9._:@*?\[\]!-]{1,128}$"
_Moment = Annotated[int, Meta(ge=0, le=2**40)]


class TokenFileError(Exception):
    """The file or a token cannot be had or changed; the text is one line for the user, ``hint`` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class TokenFileBroken(TokenFileError):
    """What is in the file is not what we write."""


class TokenFileDenied(TokenFileError):
    """The system does not let us, or others could change the file."""


class Token(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a token: unix seconds for ``created``, ``expires`` (None: never) and ``last_used``.

    ``digest`` is the SHA-256 of its text, ``processes`` the selectors of those it is for, None for all.
    """

    id: Annotated[str, Meta(pattern=_ID)]
    name: Annotated[str, Meta(pattern=NAME_PATTERN)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    scope: Scope
    processes: tuple[Annotated[str, Meta(pattern=_SELECTOR)], ...] | None = None
    created: _Moment
    expires: _Moment | None = None
    last_used: _Moment | None = None


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    tokens: list[Token]


class TokenFile:
    """The tokens of one home; ``now`` gives unix seconds.

    What another process writes is seen at the next use. Every method raises TokenFileError where the file is not as
    it must be; it is then left as it is.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self.path = path
        self._now = now
        self._seen: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}
        self._uses: dict[str, int] = {}

    def all(self) -> list[Token]:
        """Every token, in the order they were made."""
        return list(self._current().values())

    def get(self, id_: str) -> Token | None:
        """The token with this id, or None."""
        return self._current().get(id_)

    def find(self, text: str) -> Token | None:
        """The token that ``text`` is, an expired one too; None where it is none of ours."""
        token = self.get(text.removeprefix("pmd_").partition("_")[0])
        return token if token is not None and hmac.compare_digest(token.digest, _digest(text)) else None

    def create(
        self, name: str | None, scope: Scope, processes: tuple[str, ...] | None = None, lifetime: float | None = None
    ) -> tuple[Token, str]:
        """Make a token that lasts ``lifetime`` seconds, None for ever; returns it and its text, which is kept nowhere.

        Without a name it is called after its id. Raises TokenFileError also where the name is taken or not a name.
        """
        id_ = secrets.token_hex(6)
        _check(name, processes)
        text = f"pmd_{id_}_{urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
        now = int(self._now())
        made = Token(
            id=id_,
            name=f"token-{id_}" if name is None else name,
            digest=_digest(text),
            scope=scope,
            processes=processes,
            created=now,
            expires=None if lifetime is None else now + int(lifetime),
        )
        with self._locked(_LOCK_WAIT):
            tokens = self._current()
            self._check_room(tokens, made)
            self._write({**tokens, made.id: made})
        return made, text

    def revoke(self, word: str) -> Token | None:
        """Take back the token with this id or name; returns it, or None where there is none."""
        with self._locked(_LOCK_WAIT):
            tokens = dict(self._current())
            found = tokens.get(word) or next((token for token in tokens.values() if token.name == word), None)
            if found is not None:
                del tokens[found.id]
                self._write(tokens)
        return found

    def used(self, id_: str) -> None:
        """Take note that the token with this id was used now; ``save_uses`` writes it down."""
        self._uses[id_] = int(self._now())

    def save_uses(self) -> None:
        """Write down when tokens were last used; does not wait, but keeps them for the next time."""
        if not self._uses:
            return
        try:
            with self._locked(0):
                tokens = dict(self._current())
                for id_ in self._uses.keys() & tokens.keys():
                    tokens[id_] = msgspec.structs.replace(tokens[id_], last_used=self._uses[id_])
                self._write(tokens)
        except _Busy:
            return
        self._uses.clear()

    # The file

    def _current(self) -> dict[str, Token]:
        """The tokens by id, read anew where the file has changed."""
        try:
            status = self.path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._tokens = self._read()
                self._seen = seen
        except FileNotFoundError:
            self._tokens, self._seen = {}, None
        except OSError as why:
            raise self._failed("read", why) from why
        return self._tokens

    def _read(self) -> dict[str, Token]:
        try:
            content = msgspec.json.decode(read_private(self.path), type=_Content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
            raise TokenFileBroken(
                f"cannot read the token file {self.path}: {_in_words(why)}",
                "it was left as it is; put a copy of it back, or remove it and make new tokens",
            ) from why
        return {token.id: token for token in content.tokens}

    def _write(self, tokens: dict[str, Token]) -> None:
        """Put a whole new file in the place of the old one; call with the lock held."""
        fresh = self.path.with_name(self.path.name + ".new")
        content = msgspec.json.format(msgspec.json.encode(_Content(1, list(tokens.values()))), indent=1)
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content + b"\n")
                file.flush()
                os.fsync(descriptor)
            fresh.rename(self.path)
            _sync(self.path.parent)
        except OSError as why:
            raise self._failed("write", why) from why

    @contextmanager
    def _locked(self, wait: float) -> Iterator[None]:
        """Hold the lock of all who write; raises _Busy where it is not to be had within ``wait`` seconds."""
        try:
            self._prepare()
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as why:
            raise self._failed("write", why) from why
        try:
            self._lock(lock, wait)
            yield
        finally:
            os.close(lock)

    def _lock(self, lock: int, wait: float) -> None:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise _Busy(
                        f"cannot write the token file {self.path}: another process has been writing it all the time",
                        "try again; fuser names who has its .lock open",
                    ) from None
                time.sleep(_LOCK_STEP)
            else:
                return

    def _prepare(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.parent.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "its directory belongs to another user, run this as that user")

    def _check_room(self, tokens: dict[str, Token], made: Token) -> None:
        if any(token.name == made.name for token in tokens.values()):
            raise TokenFileError(
                f"cannot make the token '{made.name}': there is one of that name",
                f"choose another name, or take that one back first: pmdaemon token revoke {made.name}",
            )
        if len(tokens) >= MAX_TOKENS:
            raise TokenFileError(
                f"cannot make the token '{made.name}': there are {MAX_TOKENS} already",
                "take back those that are not used: pmdaemon token list",
            )

    def _failed(self, what: str, why: OSError) -> TokenFileError:
        kind = TokenFileDenied if isinstance(why, PermissionError) else TokenFileError
        reason = why.strerror or str(why)
        return kind(
            f"cannot {what} the token file {self.path}: {reason[:1].lower()}{reason[1:]}",
            "another home can be given with --home or PMDAEMON_HOME",
        )


class _Busy(TokenFileError):
    """Another process has the lock."""


def _check(name: str | None, selectors: tuple[str, ...] | None) -> None:
    """Raise TokenFileError unless a token may have this name and these selectors."""
    problem = None if name is None else pattern_problem(name)
    if name is not None and re.fullmatch(_ID, name):
        problem = "looks like an id"
    if problem is not None:
        raise TokenFileError(f"cannot call a token {shown(name)}: it {problem}", NAME_HINT)
    for each in selectors or ():
        if not re.fullmatch(_SELECTOR, each):
            raise TokenFileError(
                f"cannot make a token for the processes {shown(each)}",
                "write a name, a glob such as 'web-*', or ns:NAME",
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _in_words(why: Exception) -> str:
    if isinstance(why, msgspec.ValidationError):
        return f"it is not one of ours ({why})"
    return "it is not whole"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
