"""The message after DATA: dot-stuffing, its only end, and the attacks on it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.smtp.content import Content, Memory
from node.smtp.limits import SmtpLimits
from tests.unit.smtp.driver import DATA, MAIL, RCPT, Driver

KEEP = SmtpLimits(bare_newlines="keep", nuls="keep")

SMUGGLED = MAIL.replace(b"a@", b"evil@") + RCPT + DATA + b"Subject: smuggled\r\n\r\nx\r\n.\r\n"
"""What an attacker hides in a message, behind something that another server may take for its end."""

FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n.\r\x00\n",
    b"\r\x00\n.\r\n",
    b"\n\n.\r\n",
    b"\r\r\n.\n",
    b"\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"\r\n. \r\n",
    b"\r\n..\r\n",
    b"\r\n.\xc2\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\x0b.\x0b",
    b"\x85.\x85",
]


def stuff(content: bytes) -> bytes:
    """What a right client sends for content with CRLF lines."""
    return b"".join(b"." + line if line.startswith(b".") else line for line in content.splitlines(True)) + (
        b".\r\n"
    )


def read(sent: bytes, pieces: list[int], limits: SmtpLimits = KEEP) -> tuple[Content, bytes]:
    """Feed `sent`, cut at `pieces`; give the content and what was left over."""
    content = Content(limits, Memory(1 << 30))
    cuts = [0, *sorted(piece % (len(sent) + 1) for piece in pieces), len(sent)]
    for start, stop in itertools.pairwise(cuts):
        rest = content.feed(sent[start:stop])
        if rest is not None:
            return content, rest + sent[stop:]
    raise AssertionError("the message has not ended")


_LINE = st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))
_DOTTY = st.lists(st.sampled_from([b".", b"..", b"x", b" "]), max_size=5).map(b"".join)
LINES = st.lists(st.one_of(_LINE, _DOTTY), max_size=8)


@given(lines=LINES, pieces=st.lists(st.integers(0, 200), max_size=6), behind=st.binary(max_size=10))
@example(lines=[b"."], pieces=[1, 2, 3, 4, 5], behind=b".\r\n")
@example(lines=[], pieces=[1, 2], behind=b"\r\n.\r\n")
def test_every_content_arrives_as_it_was_sent(lines: list[bytes], pieces: list[int], behind: bytes) -> None:
    sent = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines) + b".\r\n"
    content, rest = read(stuffed + behind, pieces)
    assert content.fault is None
    assert rest == behind
    assert content.take() == sent


@given(
    raw=st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\r\n", b"\x00"]), max_size=20).map(b"".join),
    pieces=st.lists(st.integers(0, 60), max_size=5),
)
def test_the_faults_found_do_not_depend_on_how_the_bytes_are_cut(raw: bytes, pieces: list[int]) -> None:
    limits = SmtpLimits(line_bytes=8, message_bytes=12)
    sent = raw + b"\r\n.\r\n"
    content, rest = read(sent, pieces, limits)
    once, rest_once = read(sent, [], limits)
    bytewise, rest_bytewise = read(sent, list(range(len(sent))), limits)
    assert content.fault is not None or content.take() == once.take() == bytewise.take()
    assert rest == rest_once == rest_bytewise
    # Which of two faults is named first may depend on the cuts, whether there is one does not.
    assert (content.fault is None) == (once.fault is None) == (bytewise.fault is None)


def test_the_end_is_found_wherever_it_is_cut() -> None:
    sent = b"x\r\n.y\r\n.\r\nNOOP\r\n"
    for cut in range(len(sent)):
        content, rest = read(sent, [cut])
        assert (content.take(), rest) == (b"x\r\ny\r\n", b"NOOP\r\n")


@pytest.mark.parametrize("false_end", FALSE_ENDS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_false_end_never_makes_a_second_mail_wherever_it_is_cut(false_end: bytes, keep: bool) -> None:
    """One message or one refusal; the smuggled commands are content and nothing else."""
    limits = KEEP if keep else SmtpLimits()
    sent = b"Subject: x\r\n\r\nhello" + false_end + SMUGGLED
    first_end = sent.find(b"\r\n.\r\n") + 5
    assert first_end == len(sent), "the variant must not hold a true end"
    for cut in range(len(sent) + 1):
        driver = Driver(limits).begin()
        replies = driver.feed(sent[:cut], sent[cut:])
        assert len(replies) == 1
        assert len(driver.mails) <= 1
        for mail in driver.mails:
            assert mail.sender == "a@client.example"
            assert mail.raw == b"Subject: x\r\n\r\nhello" + unstuffed(false_end + SMUGGLED[:-3])
        assert replies[0][:3] in {"250", "550"}
        assert not driver.closed


def unstuffed(sent: bytes) -> bytes:
    return sent.replace(b"\r\n.", b"\r\n")


@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_a_false_end_byte_by_byte_and_with_a_mail_pipelined_behind(false_end: bytes) -> None:
    sent = b"hello" + false_end + SMUGGLED
    driver = Driver().begin()
    for index in range(len(sent)):
        driver.feed(sent[index : index + 1])
    assert len(driver.replies) == len(Driver().begin().replies) + 1
    driver = Driver().begin()
    replies = driver.feed(sent + MAIL + RCPT + DATA)
    assert len(replies) == 4
    assert [reply[:3] for reply in replies[1:]] == ["250", "250", "354"]
    driver.feed(b"second\r\n.\r\n")
    assert driver.mails[-1].raw == b"second\r\n"
    assert len(driver.mails) <= 2


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"a\nb\r\n.\r\n", "550 5.6.11"),
        (b"a\rb\r\n.\r\n", "550 5.6.11"),
        (b"a\r\r\n.\r\n", "550 5.6.11"),
        (b"\n\r\n.\r\n", "550 5.6.11"),
        (b"\na\r\n.\r\n", "550 5.6.11"),
        (b"a\x00b\r\n.\r\n", "550 5.6.0"),
        (b"caf\xc3\xa9 \xff\r\n.\r\n", "250 2.0.0"),
    ],
)
def test_what_may_not_stand_in_a_message_is_refused_at_its_end(sent: bytes, status: str) -> None:
    driver = Driver().begin()
    assert driver.last(sent).startswith(status)
    assert driver.last(MAIL).startswith("250"), "the session goes on"


def test_bare_newlines_and_nuls_are_kept_unchanged_when_set_so() -> None:
    driver = Driver(KEEP).begin()
    assert driver.last(b"a\nb\rc\x00\n.\n\r\n.\r\n").startswith("250")
    assert driver.raws == [b"a\nb\rc\x00\n.\n\r\n"]


@pytest.mark.parametrize("dots", [b"", b"..\r\n" * 3])
def test_size_counts_the_message_without_transparency_dots(dots: bytes) -> None:
    sent = dots + b"x" * (20 - 2 - dots.count(b"\r\n") * 3) + b"\r\n.\r\n"
    for limit, good in ((20, True), (19, False)):
        limits = SmtpLimits(message_bytes=limit)
        for pieces in ([], list(range(len(sent)))):
            assert (read(sent, pieces, limits)[0].fault is None) is good


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("dot", [b"", b"."])
def test_a_line_may_be_just_as_long_as_the_limit(position: str, dot: bytes) -> None:
    before = b"" if position == "first" else b"ab\r\n" * 5
    after = b"" if position == "last" else b"ab\r\n" * 50
    for extra, good in ((0, True), (1, False)):
        line = dot + b"." * bool(dot) + b"x" * (98 - len(dot) + extra) + b"\r\n"
        sent = before + line + after + b".\r\n"
        for pieces in ([], list(range(len(sent))), [len(before) + 50]):
            content, _ = read(sent, pieces, SmtpLimits(line_bytes=100))
            assert (content.fault is None) is good, (extra, pieces)


def test_memory_is_given_back_in_every_case() -> None:
    for sent in (b"x\r\n.\r\n", b"a\nb\r\n.\r\n", b"y" * 3000 + b"\r\n.\r\n"):
        driver = Driver().begin()
        driver.feed(sent[:3], sent[3:])
        assert driver.memory.held == 0
    driver = Driver().begin()
    driver.feed(b"x" * 100)
    assert driver.memory.held == 100
    driver.session.lost()
    assert driver.memory.held == 0
