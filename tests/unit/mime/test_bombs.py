"""Messages that are made to cost more than they weigh: time grows with bytes, limits are named."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from node.mime.html import is_too_complex, sanitise
from node.mime.limits import Code, MimeLimits, Violation
from node.mime.parser import parse
from node.mime.reading import distinct_names
from node.mime.structure import inspect

WIDE = MimeLimits(
    header_block=1 << 30,
    headers=1 << 30,
    header_length=1 << 30,
    parts=1 << 30,
    nesting=1 << 30,
    line_length=1 << 30,
    received=1 << 30,
)
HEAD = b"From: a@b.example\n"


def many_parts(count: int) -> bytes:
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * count + b"--b--\n"


def deep(count: int) -> bytes:
    levels = (b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(count))
    return HEAD + b"".join(levels) + b"\ntext\n" * count


def many_headers(count: int) -> bytes:
    return HEAD + b"X-H: y\n" * count + b"\nbody"


def long_header(count: int) -> bytes:
    return HEAD + b"Subject: " + b"=?x?q?a " * count + b"\n\n"


def folded_header(count: int) -> bytes:
    return HEAD + b"Subject: a\n" + b" b\n" * count + b"\n"


def prefix_storm(count: int) -> bytes:
    boundary = b"b" * 60
    return (
        HEAD
        + b"Content-Type: multipart/mixed; boundary="
        + boundary
        + b"\n\n"
        + b"--"
        + boundary[1:]
        + b"\n" * count
    )


def hyphen_storm(count: int) -> bytes:
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--\n--b-\n--bb\n" * count


def one_boundary_for_all(count: int) -> bytes:
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * count


def many_addresses(count: int) -> bytes:
    return b"From: " + b"a <a@b.example>, " * count + b"\nTo: " + b"((((<a" * count + b"\n\n"


def many_parameters(count: int) -> bytes:
    return HEAD + b"Content-Type: text/plain" + b'; a="b' * count + b"\n\n"


def many_typed_parts(count: int) -> bytes:
    part = b"--b\nContent-Type: text/plain" + b';"=' * 4000 + b"\n\n"
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + part * (count // 4000)


def base64_pieces(count: int) -> bytes:
    return HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"YQ==" * count


def html(piece: bytes) -> Callable[[int], bytes]:
    return lambda count: HEAD + b"Content-Type: text/html\n\n" + piece * count


BOMBS = {
    "many parts": (many_parts, 10_000),
    "deep": (deep, 1_000),
    "many headers": (many_headers, 100_000),
    "long header": (long_header, 100_000),
    "folded header": (folded_header, 200_000),
    "prefix storm": (prefix_storm, 500_000),
    "hyphen storm": (hyphen_storm, 50_000),
    "one boundary for all": (one_boundary_for_all, 5_000),
    "many addresses": (many_addresses, 10_000),
    "many parameters": (many_parameters, 100_000),
    "many typed parts": (many_typed_parts, 400_000),
    "base64 pieces": (base64_pieces, 100_000),
    "nested blocks": (html(b"<div>"), 100_000),
    "nested formatting": (html(b"<b><p>"), 100_000),
    "comments": (html(b"<!--"), 200_000),
    "quotes": (html(b"<a b='"), 100_000),
    "declarations": (html(b"<!a"), 100_000),
    "styles": (html(b"<style><!--"), 50_000),
    "entities": (html(b"&amp"), 200_000),
    "brackets": (html(b"<"), 400_000),
}


def best_time(work: Callable[[bytes], object], raw: bytes) -> float:
    """The collector is off: how long it takes depends on all that other tests have left behind."""
    times = []
    gc.disable()
    try:
        for _ in range(3):
            begin = time.process_time()
            work(raw)
            times.append(time.process_time() - begin)
    finally:
        gc.enable()
    return min(times)


@pytest.mark.parametrize("name", BOMBS)
def test_four_times_the_bytes_take_about_four_times_the_time(name: str) -> None:
    bomb, count = BOMBS[name]
    for work in (lambda raw: inspect(raw, WIDE), lambda raw: parse(raw, WIDE)):
        small, large = best_time(work, bomb(count // 4)), best_time(work, bomb(count))
        # Four times is linear, sixteen times quadratic; what takes no time at all can't be compared.
        assert large < max(small, 0.005) * 10, f"{small:.4f} s, {large:.4f} s"


@pytest.mark.parametrize(
    ("raw", "violation"),
    [
        (many_parts(10_000), Violation.TOO_MANY_PARTS),
        (deep(1_000), Violation.NESTED_TOO_DEEP),
        (HEAD + b"X: y\n" * 1_000 + b"\n", Violation.TOO_MANY_HEADERS),
        (many_headers(100_000), Violation.HEADER_BLOCK_TOO_LARGE),
        (HEAD + b"X: " + b"y" * 70_000 + b"\n\n", Violation.HEADER_TOO_LONG),
        (HEAD + b"X: " + b"y" * 1_000_000, Violation.HEADER_BLOCK_TOO_LARGE),
        (HEAD + b"Received: by x\n" * 51 + b"\n", Violation.LOOP),
        (HEAD + b"\n" + b"z" * 1_048_577, Violation.LINE_TOO_LONG),
        (HEAD + b"\nshort\n" + b"z" * 1_048_577 + b"\n", Violation.LINE_TOO_LONG),
        (HEAD + b"\n" + b"z" * 1_048_576 + b"\nshort\n", None),
        (HEAD + b"Received: by x\n" * 50 + b"\n", None),
        (many_parts(999), None),
        (deep(100), None),
    ],
    ids=range(13),
)
def test_a_limit_that_is_passed_is_named(raw: bytes, violation: Violation | None) -> None:
    assert inspect(raw).violation is violation


def test_beyond_the_limits_nothing_is_lost() -> None:
    mail = parse(many_parts(3_000))
    assert Code.PARTS_TRUNCATED in {defect.code for defect in mail.mail.defects}
    assert mail.mail.body_text.count("x") == 3_000
    mail = parse(deep(1_000))
    assert Code.NESTING_TRUNCATED in {defect.code for defect in mail.mail.defects}
    assert mail.mail.body_text.count("text") >= 1_000


@pytest.mark.parametrize(
    "html_bomb",
    [
        "<div>" * 100_000,
        "<p>" + "".join(f"<b id={n}>" for n in range(1_000)) + "</p>" + "<p>x</p>" * 2_000,
        "<a " + " ".join(f"a{n}" for n in range(80_000)) + ">x</a>",
        "&" * 200_000,
        "<div><!--</div>-->" * 50_000,
        '<div title="</div>">' * 50_000,
        "<div a=b'></div>" * 5 + "<div '" * 50_000,
        "<title><!--</title>" + "<div>" * 50_000 + "-->",
        "<div>" * 5_000 + "<marquee></div>" * 5_000 + "<div></div>" * 5_000,
        "<select>" + "<div></div>" * 5 + "</select>" + "<x-a><div></x-a>" * 20_000,
    ],
    ids=range(10),
)
def test_html_that_would_cost_too_much_is_not_parsed(html_bomb: str) -> None:
    assert is_too_complex(html_bomb)
    parsed = parse(HEAD + b"Content-Type: text/html\n\n" + html_bomb.encode())
    assert Code.HTML_UNSAFE in {defect.code for defect in parsed.mail.defects}
    assert parsed.mail.attachments[0].content_type == "text/html"
    assert parsed.blobs[0] == html_bomb.encode()
    assert not parsed.mail.body_html


def test_long_honest_html_is_not_refused() -> None:
    table = (
        "<table>" + "<tr><td><p>text<br><b>bold</b><td><font color=red>x</font></tr>\n" * 3_000 + "</table>"
    )
    assert not is_too_complex(table)
    assert not is_too_complex("<p>paragraph<br>" * 2_500)
    assert sanitise(table).count("<td>") == 6_000


@pytest.mark.parametrize("prefix", ["", "2-"])
def test_many_files_of_one_name_get_names_of_their_own_in_no_time(prefix: str) -> None:
    wanted = ["a.pdf", f"{prefix}a.pdf"] * 1_500
    began = time.perf_counter()
    names = distinct_names(wanted)
    assert time.perf_counter() - began < 1
    assert len(set(names)) == len(wanted)
    assert names[:3] == ["a.pdf", "2-a.pdf", "3-a.pdf"]
