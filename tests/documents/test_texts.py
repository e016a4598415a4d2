"""Charsets, kinds and HTML (src/antiphon/documents/{text,kinds,markup}.py): R-96, R-123."""

import pytest

from antiphon.documents.base import Unreadable
from antiphon.documents.kinds import HEAD, kind_of, markup_of
from antiphon.documents.markup import html_text
from antiphon.documents.text import decoded


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("café", "latin-1"),
        ("Grüße aus Köln. Die Straße ist schön.", "latin-1"),
        ("Le café est fermé à Noël, où êtes-vous ? Ça va.", "latin-1"),
        ("El niño comió. ¿Dónde está la biblioteca? ¡Aquí!", "latin-1"),
        ("På svenska: åäö, og på dansk: æøå", "latin-1"),
        ("12 m³, 20 km², 5 °C, ½ l, £3, § 5", "cp1252"),
        ("“Hello” – it’s 5 €…", "cp1252"),
        ("今日は天気がいいですね。散歩に行きましょう。", "shift_jis"),
        ("今日は天気がいいですね。散歩に行きましょう。" * 9, "euc_jp"),
        ("我们今天去公园散步，天气很好。", "gb18030"),
        ("我們今天去公園散步，天氣很好。", "big5"),
        ("오늘은 날씨가 좋네요. 산책하러 갑시다.", "euc_kr"),
        ("Сегодня хорошая погода. Пойдём гулять в парк.", "cp1251"),
        ("Сегодня хорошая погода. Пойдём гулять в парк.", "koi8-r"),
        ("Dziś jest ładna pogoda. Chodźmy na spacer, żeby się przewietrzyć.", "cp1250"),
        ("Σήμερα έχει καλό καιρό. Πάμε μια βόλτα. " * 9, "cp1253"),
        ("Grüße", "utf-8"),
        ("Grüße", "utf-8-sig"),
        ("Grüße", "utf-16"),
    ],
)
def test_charsets(text: str, charset: str) -> None:
    assert decoded(text.encode(charset)) == text


@pytest.mark.parametrize("ascii_before", [10, 70_000, 3_000_000])
def test_a_charset_is_found_behind_much_ascii(ascii_before: int) -> None:
    text = "words " * (ascii_before // 6) + "Grüße aus Köln"
    assert decoded(text.encode("latin-1")) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('<?xml version="1.0" encoding="koi8-r"?><a>Привет</a>'.encode("koi8-r"), "Привет"),
        ('<meta charset="big5"><p>天氣'.encode("big5"), "天氣"),
        # What it says cannot be.
        ('<meta charset="utf-8"><p>Grüße aus Köln'.encode("latin-1"), "Grüße"),
        ('<meta charset="utf-16"><p>Grüße'.encode(), "Grüße"),
        ('<meta charset="rot13"><p>Grüße'.encode(), "Grüße"),
        # It is about a charset, and has another one.
        ("print('<meta charset=\"shift_jis\">') # Grüße".encode(), "Grüße"),
    ],
)
def test_what_a_text_says_of_its_charset(body: bytes, text: str) -> None:
    assert text in decoded(body)


@pytest.mark.parametrize("body", [b"a\0b", b"\xff\xfea\0\0\0", bytes(range(1, 9)) * 3])
def test_what_is_no_text(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded(body)


def test_colours_of_a_terminal_are_text() -> None:
    assert decoded(b"\x1b[31mred\x1b[0m and \x0c a page") == "\x1b[31mred\x1b[0m and \x0c a page"


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"%PDF-1.7", "a", "pdf"),
        (b"\xef\xbb\xbf\r\n%PDF-1.7", "a.txt", "pdf"),
        (b"From: me\n%PDF-1.7", "a.pdf", "pdf"),
        (b"From: me\n%PDF-1.7", "a.txt", "text"),
        (b"PK\x03\x04", "a.txt", "zip"),
        (b"PK says the text", "a.docx", "text"),
        (b"BM, GIF and MZ are words", "a.png", "text"),
        (b"ID3 tags are how MP3 files say who sings.", "a.txt", "text"),
        ("ID3 für alle".encode("latin-1"), "a.txt", "text"),
        (b"The ftyp box of an MP4 comes first.", "a.txt", "text"),
        (b"OggS and fLaC are what such files begin with.", "a.txt", "text"),
        (b"fLaC", "a.txt", "text"),
        (b"RIFF or WAVE?", "a.txt", "text"),
        (b"GIF89a is older than PNG.", "a.txt", "text"),
        (("GIF89a " + "ü" * HEAD).encode()[:HEAD], "a.txt", "text"),
        (b"BZh91AY is how bzip2 begins.\x1b[0m\n", "a.txt", "text"),
        (b"{\\rtfm} is no Rich Text", "a.tex", "text"),
    ],
)
def test_kinds(head: bytes, name: str, kind: str) -> None:
    assert kind_of(head, name) == kind


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"ID3\x03\0\0\0\0\x0fvTALB", "audio"),
        (b"fLaC\0\0\0\x22", "audio"),
        (b"OggS\0\x02", "audio"),
        (b"RIFF\x24\x08\x01\0WAVEfmt ", "audio"),
        (b"\0\0\0\x20ftypisom", "a film"),
        (b"\x1aE\xdf\xa3\x42\x86", "a film"),
        (b"GIF89a\x01\0\x01\0", "an image"),
        (b"BZh91AY&SY\xe2A", "an archive"),
        (b"Rar!\x1a\x07\x01", "an archive"),
        (b"{\\rtf1\\ansi Text}", "in Rich Text"),
    ],
)
def test_what_is_not_read(head: bytes, what: str) -> None:
    with pytest.raises(Unreadable, match=what):
        kind_of(head, "a.txt")


@pytest.mark.parametrize(
    ("text", "name", "markup"),
    [
        ("<!doctype HTML><p>x", "a.txt", "html"),
        ("\n<!-- c -->\n<html lang=de>", "file", "html"),
        ('<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">', "a.xml", "html"),
        ("<p>x", "a.HTM", "html"),
        ("<p>x", "a.txt", "plain"),
        ("about <html>", "a.txt", "plain"),
        ("# a", "README.md", "markdown"),
        ("# a", "a.py", "plain"),
    ],
)
def test_markups(text: str, name: str, markup: str) -> None:
    assert markup_of(text, name) == markup


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("", ""),
        ("<!-- only -->", ""),
        ("just <b>te</b>xt &lt;&eacute;&#8364;", "just text <é€"),
        ("<title>T</title><h2>A\n b</h2><p>c<br>d</p>e", "# T\n\n## A b\n\nc\nd\n\ne"),
        ("<ul><li>a<ol><li>b</ol><li>c</ul>d", "- a\n  - b\n- c\nd"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<p>a<script>b</script><style>c</style><template>d</template>", "a"),
        ("<svg><title>a</title><text>b</text></svg>c", "c"),
        ("<pre>a\n  b\n\nc</pre>d", "a\n  b\n\nc\n\nd"),
        ("<table><tr><th>a<th>b<tr><td><p>c</p><p>d</p><td></table>", "a | b\nc d |"),
        ("<table><tr><td>a<table><tr><td>b<td>c</table><td>d</table>", "a\n\nb | c\n\n| d"),
        ("</div></ul></table></pre><p>a", "a"),
        # What its author has not ended.
        ("<p>a</p><svg><p>rest</p>b", "a\n\nrest\n\nb"),
        ("<p>a<object data=x>b<div>rest</div>", "a\nrest"),
        ("<h1>a</h1><select><option>b<table><tr><td>c</table>", "# a\n\nc"),
        ("<p>a</p><template><p>rest", "a\n\nrest"),
        ("<template><p>b</p><div>c</div></template><p>a", "a"),
        ("a<svg><g><p>b</g></svg><p>c<script>d", "a\n\nb\n\nc"),
        ("<p>a</svg></select><p>b", "a\n\nb"),
        ("<p>a</p><iframe src=x /><p>b", "a\n\nb"),
        # What nobody sees.
        ("<p hidden>a</p><p>b", "b"),
        ("<div HIDDEN=''><p>a<div>b</div></p></div><p>c", "c"),
        ("a<span style='color: red; DISPLAY : none'>b<b>c</b></span> d<br hidden>e", "a de"),
        ("<p style='--display:none'>a</p><p style='display:nonesuch'>b", "a\n\nb"),
        ("<svg><p hidden>a</p><p>b", "b"),
        ("<table><tr><td>a<td hidden>b<td>c</table>", "a | c"),
        ("<ul><li>a<li hidden>b<li>c</ul>", "- a\n- c"),
        ("<body style='display:none'><p>a<p hidden='until-found'>b", "a\n\nb"),
    ],
)
def test_html(markup: str, text: str) -> None:
    assert html_text(markup) == text


def test_html_in_pieces_is_the_same() -> None:
    """The parser gets it in pieces; a character of several bytes is not cut."""
    markup = "".join(f"<p>Ünïcödé {number} 😀</p>" for number in range(40_000))
    lines = html_text(markup).split("\n\n")
    assert lines == [f"Ünïcödé {number} 😀" for number in range(40_000)]


def test_too_much_html_is_noticed_early() -> None:
    with pytest.raises(Unreadable, match="more than 10 MiB"):
        html_text("<p>" + "word " * 3_000_000)
