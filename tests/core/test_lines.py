"""Lines from bytes, whatever the chunks; pieces that can be told again; texts and levels [P13], [S7]."""

import json
from collections.abc import Sequence
from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core import lines
from pmdaemon.core.lines import LEVELS, LIMIT, Line, LineSplitter, level_of, level_rank, replay, text_of

FLUSH, FINAL = "flush", "final"
SHORT = 8

chunks = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"a", b"bcd", "é€😀".encode(), b"\xc3", b"\x80", b"\xf0\x9f", b"\0", b"x" * 8]
    )
    | st.binary(max_size=12),
    max_size=12,
)
steps = st.lists(st.just(FLUSH) | chunks.map(b"".join), max_size=12)
steps_and_exits = st.lists(st.sampled_from([FLUSH, FINAL]) | chunks.map(b"".join), max_size=12)


def run(splitter: LineSplitter, steps: Sequence[bytes | str]) -> list[list[Line]]:
    """Return the batches that *steps* bring forth."""
    batches = []
    for step in steps:
        if isinstance(step, bytes):
            batches.append(splitter.feed(step))
        else:
            piece = splitter.flush(final=step == FINAL)
            batches.append([] if piece is None else [piece])
    return [batch for batch in batches if batch]


def fed(steps: Sequence[bytes | str]) -> bytes:
    return b"".join(step for step in steps if isinstance(step, bytes))


def flat(batches: list[list[Line]]) -> list[Line]:
    return [line for batch in batches for line in batch]


class AnyChunks(SynchronousTestCase):
    """With a small limit, so that it is met often."""

    def setUp(self) -> None:
        self.patch(lines, "LIMIT", SHORT)

    @settings(deadline=None)
    @given(chunks)
    def test_lines_are_those_of_the_whole(self, chunks: list[bytes]) -> None:
        whole = b"".join(chunks)
        expected, offset = [], 0
        for raw in whole.split(b"\n")[:-1]:
            content = raw.removesuffix(b"\r")
            expected.append((offset, content[:SHORT], len(content) > SHORT))
            offset += len(raw) + 1
        got = flat(run(LineSplitter(0), chunks))
        self.assertEqual(got, LineSplitter(0).feed(whole))
        ended = [(line.offset, line.data, line.truncated) for line in got if line.offset < offset]
        self.assertEqual(ended, expected)
        for line in got[len(ended) :]:
            self.assertEqual((line.offset, line.data, line.truncated), (offset, whole[offset:][:SHORT], True))

    @settings(deadline=None)
    @given(steps_and_exits, st.integers(0, 99))
    def test_pieces_cover_all_bytes_in_order(self, steps: list[bytes | str], base: int) -> None:
        whole, splitter = fed(steps), LineSplitter(base)
        pieces = flat(run(splitter, steps))
        self.assertEqual(splitter.position, base + len(whole))
        for piece in pieces:
            self.assertEqual(whole[piece.start - base :][: len(piece.data)], piece.data)
            if not piece.truncated:
                self.assertIn(whole[piece.start - base + len(piece.data) : piece.end - base], (b"", b"\n", b"\r\n"))
            self.assertLessEqual(piece.sent + len(piece.data), SHORT)
        for one, other in pairwise(pieces):
            self.assertTrue(one.end == other.start or (one.truncated and one.end < other.start))
        if pieces and not pieces[-1].truncated:
            self.assertLessEqual(splitter.position - pieces[-1].end, SHORT + 1)

    @settings(deadline=None)
    @given(steps)
    def test_flushed_pieces_and_the_rest_make_the_line(self, steps: list[bytes | str]) -> None:
        pieces = flat(run(LineSplitter(0), steps))
        unflushed = {line.offset: line for line in LineSplitter(0).feed(fed(steps))}
        for offset, group in groupby(pieces, key=lambda piece: piece.offset):
            *partial, last = group
            self.assertTrue(all(piece.partial for piece in partial))
            joined = b"".join(piece.data for piece in [*partial, last])
            if offset in unflushed:
                self.assertFalse(last.partial)
                self.assertEqual(joined, unflushed[offset].data)
                self.assertEqual((last.end, last.truncated), (unflushed[offset].end, unflushed[offset].truncated))
            else:
                self.assertTrue(last.partial)

    @settings(deadline=None)
    @given(steps_and_exits)
    def test_a_batch_is_told_again_from_its_bytes(self, steps: list[bytes | str]) -> None:
        whole = fed(steps)
        for batch in run(LineSplitter(0), steps):
            start = batch[0].start
            self.assertEqual(replay(whole[start : batch[-1].end], start, batch[0].offset), batch)

    @settings(deadline=None)
    @given(st.lists(chunks.map(b"".join), max_size=6))
    def test_a_feed_and_its_flush_are_one_batch_too(self, feeds: list[bytes]) -> None:
        whole, splitter = b"".join(feeds), LineSplitter(0)
        for data in feeds:
            batch = flat(run(splitter, [data, FINAL]))
            if batch:
                start = batch[0].start
                self.assertEqual(replay(whole[start : batch[-1].end], start, batch[0].offset), batch)

    @settings(deadline=None)
    @given(steps, chunks)
    def test_another_splitter_carries_on_after_any_piece(self, steps: list[bytes | str], after: list[bytes]) -> None:
        whole = fed([*steps, *after])
        for piece in flat(run(LineSplitter(0), steps)):
            line_start = whole.rfind(b"\n", 0, piece.end) + 1
            rest = LineSplitter(piece.end, line_start).feed(whole[piece.end :])
            expected = [line for line in LineSplitter(0).feed(whole) if line.end > piece.end]
            self.assertEqual([(line.offset, line.end) for line in rest], [(line.offset, line.end) for line in expected])
            self.assertEqual(
                [line.data for line in rest],
                [line.data[line_.sent :] for line_, line in zip(rest, expected, strict=True)],
            )


class Splitting(SynchronousTestCase):
    def test_carriage_return_and_newline_in_different_chunks(self) -> None:
        splitter = LineSplitter(10)
        self.assertEqual(splitter.feed(b"one\r"), [])
        self.assertEqual(splitter.feed(b"\ntwo\r\n"), [Line(10, 15, b"one"), Line(15, 20, b"two")])

    def test_flush_keeps_a_carriage_return_back(self) -> None:
        splitter = LineSplitter(0)
        splitter.feed(b"name? \r")
        self.assertEqual(splitter.flush(), Line(0, 6, b"name? ", partial=True))
        self.assertFalse(splitter.pending)
        self.assertIsNone(splitter.flush())
        self.assertEqual(splitter.feed(b"\n"), [Line(0, 8, b"", sent=6)])

    def test_flush_keeps_the_beginning_of_a_character_back(self) -> None:
        for character in ("é", "€", "😀"):
            encoded = character.encode()
            for cut in range(1, len(encoded)):
                splitter = LineSplitter(0)
                splitter.feed(b"x" + encoded[:cut])
                self.assertTrue(splitter.pending)
                self.assertEqual(splitter.flush(), Line(0, 1, b"x", partial=True))
                (rest,) = splitter.feed(encoded[cut:] + b"\n")
                self.assertEqual(text_of(rest), character)

    def test_the_final_flush_keeps_nothing_back(self) -> None:
        splitter = LineSplitter(0)
        splitter.feed(b"caf\xe9")
        self.assertEqual(splitter.flush(final=True), Line(0, 4, b"caf\xe9", partial=True))
        self.assertIsNone(splitter.flush(final=True))
        self.assertEqual(splitter.position, 4)

    def test_the_limit_is_in_bytes_of_the_line_without_its_end(self) -> None:
        for end in (b"\n", b"\r\n"):
            self.assertEqual(
                LineSplitter(0).feed(b"x" * LIMIT + end), [Line(0, LIMIT + len(end), b"x" * LIMIT)], msg=repr(end)
            )

    def test_a_line_past_the_limit_is_told_before_its_end_and_its_rest_is_skipped(self) -> None:
        splitter = LineSplitter(0)
        self.assertEqual(splitter.feed(b"x" * LIMIT), [])
        self.assertEqual(splitter.feed(b"x"), [Line(0, LIMIT + 1, b"x" * LIMIT, truncated=True)])
        self.assertEqual(splitter.feed(b"x" * (3 * LIMIT)), [])
        self.assertFalse(splitter.pending)
        self.assertEqual(splitter.feed(b"x\nnext\n"), [Line(4 * LIMIT + 3, 4 * LIMIT + 8, b"next")])

    def test_a_carriage_return_at_the_limit_waits_for_what_follows(self) -> None:
        splitter = LineSplitter(0)
        self.assertEqual(splitter.feed(b"x" * LIMIT + b"\r"), [])
        (piece,) = pieces = splitter.feed(b"\r\n")
        self.assertEqual(piece, Line(0, LIMIT + 2, b"x" * LIMIT, truncated=True))
        self.assertEqual(replay(b"x" * LIMIT + b"\r\r", 0, 0), pieces)

    def test_a_final_flush_keeps_to_the_limit(self) -> None:
        splitter = LineSplitter(0)
        splitter.feed(b"x" * LIMIT + b"\r")
        self.assertEqual(splitter.flush(final=True), Line(0, LIMIT, b"x" * LIMIT, partial=True))
        self.assertIsNone(splitter.flush(final=True))
        self.assertEqual(splitter.feed(b"\n"), [Line(0, LIMIT + 2, b"", sent=LIMIT)])

    def test_truncation_after_the_limit_was_sent_as_partial(self) -> None:
        splitter = LineSplitter(0)
        splitter.feed(b"x" * LIMIT)
        self.assertEqual(splitter.flush(), Line(0, LIMIT, b"x" * LIMIT, partial=True))
        self.assertEqual(splitter.feed(b"y"), [Line(0, LIMIT + 1, b"", truncated=True, sent=LIMIT)])

    def test_a_line_has_its_start(self) -> None:
        self.assertEqual(Line(7, 12, b"rest", sent=4).start, 11)


class Text(SynchronousTestCase):
    def test_invalid_utf8_is_replaced_and_nul_kept(self) -> None:
        self.assertEqual(text_of(Line(0, 9, b"a\0\xff\xc3\xa9")), "a\0\ufffdé")


class Levels(SynchronousTestCase):
    def assert_levels(self, expected: str | None, *texts: str) -> None:
        """None stands for the stream's own level."""
        for text in texts:
            for stream, default in (("stdout", "info"), ("stderr", "error")):
                self.assertEqual(level_of(text, stream), expected or default, msg=f"{stream}: {text}")

    def test_order(self) -> None:
        self.assertEqual([level_rank(level) for level in LEVELS], [0, 1, 2, 3, 4, 5])
        self.assertRaises(KeyError, level_rank, "loud")

    def test_json_line(self) -> None:
        for number, level in zip(range(10, 70, 10), LEVELS, strict=True):
            self.assert_levels(level, json.dumps({"time": 1, "level": number, "msg": "x"}))
        self.assert_levels("error", '{"msg": {"level": "info"}, "level": "ERROR"}')
        self.assert_levels(
            "warn",
            '{"severity": "WARNING"}',
            '{"lvl":"warn"}',
            '{"level": 49.5, "severity": "error"}',
        )
        self.assert_levels("fatal", '{"level": {"no": 1}, "severity": "CRITICAL"}')

    def test_json_line_without_a_level(self) -> None:
        deep = '{"a": ' + "[" * 60_000
        for text in ('{"msg": "x"}', '{"level": null}', '{"level": true}', '{"level": 7}', '{"level": 1e99}'):
            self.assert_levels(None, text)
        self.assert_levels(
            None, "{", '{"level": "error"', '{"level": "loud"}', "{error}", deep, deep + "]" * 60_000 + "}"
        )

    def test_leading_word(self) -> None:
        self.assert_levels("trace", "TRACE x", "silly: x")
        self.assert_levels("debug", "debug x", "[DBG] x", "verbose: x")
        self.assert_levels("info", "INFO", "Notice: x", "inf x")
        self.assert_levels("warn", "WARNING:root:x", "  warn - x", "<WRN> x", "(warning) x")
        self.assert_levels("error", "Error: cannot find it", "ERR! x", "error, x")
        self.assert_levels("fatal", "CRITICAL x", "panic: runtime error", "FATAL|x")

    def test_leading_word_after_a_time(self) -> None:
        for time in (
            "2026-03-01T10:11:12.123Z",
            "2026-03-01 10:11:12,123",
            "[2026-03-01T10:11:12+02:00]",
            "2026/03/01 10:11:12",
            "2026-03-01T10:11:12 -0500 |",
            "10:11:12.5",
            "2026-03-01",
        ):
            self.assert_levels(
                "warn", f"{time} WARN x", f"{time} [warn] x", f"{time} - WARNING - x", f"{time}   warn: x"
            )
            self.assert_levels("trace", f"{time} TRACE x")
            self.assert_levels(None, f"{time} hello", time)

    def test_env_logger(self) -> None:
        self.assert_levels("debug", "[2026-03-01T10:11:12Z DEBUG app] x")

    def test_no_leading_word(self) -> None:
        self.assert_levels(
            None, "", "errors: 0", "error-free", "info@example.org", "error.log opened", "an error", "3 error", "warned"
        )

    def test_time_taken_is_linear(self) -> None:
        for text in (" " * LIMIT, "[" * LIMIT, "2026-01-01 00:00:00" + "-" * LIMIT, "1" * LIMIT, "x" * LIMIT):
            self.assert_levels(None, text)
