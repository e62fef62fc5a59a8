"""Any string, anywhere: what comes out is text, and nothing but text."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reparam import text

NASTY = ["<script>alert(1)</script>", "a\x1b]0;x\x07\x1b[2J", "\u202egnp.exe", "caf\udce9", "\ud83d", "=1+1", "-2", "@x",
         "\t=1", "$x^2$", r"\$", "_hidden", "_em_", "a|b", "`code`", "``", "[a](javascript:x)", "![i](x)", "**b**",
         "<http://a.b>", "http://a.b/c",
         "a\nb\r\n# h", "&lt;", "\\`x`", "\x00", "\u2028", "x" * 300, "' onload='x", '"', "a\\", " lead ", "",
         "~~s~~", "- item"]
SYMBOLS = "<>&'\"`*_[]()!|\\$#=-+@~\n\r\t\x1b \udce9a:/."
anything = st.text(st.characters(), max_size=40) | st.text(st.sampled_from(SYMBOLS), max_size=25)


def any_string(test):
    """Runs a test on strings at random and on those that are known to do harm."""
    for each in NASTY:
        test = example(each)(test)
    return settings(max_examples=150, deadline=None, derandomize=True)(given(anything)(test))


def hidden(string):
    return [c for c in string if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or (
        unicodedata.category(c) == "Cf" and c not in "\u200c\u200d")]


@any_string
def test_a_terminal_gets_one_line_without_control_characters(string):
    shown = text.for_terminal(string)
    assert not hidden(shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(("string", "shown"), [
    ("\x1b[2J", r"\x1b[2J"), ("caf\udce9", r"caf\xe9"), ("\u202e", r"\u202e"), ("\U000e0041", r"\U000e0041"),
    ("a\nb", r"a\nb"),
    ("β-VAE 95 % naïve 中文 👩\u200d🔬", "β-VAE 95 % naïve 中文 👩\u200d🔬")])
def test_what_would_not_show_is_escaped_and_the_rest_stays(string, shown):
    assert text.for_terminal(string) == shown


@any_string
def test_html_parses_to_the_same_text(string):
    page = text.markup("<p title='{0}'>{0}</p>{1}", string, text.markup("<i>{x}</i>", x=string))
    seen, texts = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen.append((tag, attrs))

        def handle_data(self, data):
            texts.append(data)

    parser = Parser()
    parser.feed(page)
    parser.close()
    assert seen == [("p", [("title", text.printable(string))]), ("i", [])]
    assert "".join(texts) == text.printable(string) * 2
    page.encode("utf-8")


def test_numbers_in_markup_are_formatted_before_they_are_escaped():
    assert text.markup("{:,} {x:.1f} {}", 1422, "<", x=0.25) == "1,422 0.2 &lt;"
    assert text.joined(["<", text.Html("<b>"), "a"]) == "&lt;<b>a"


@any_string
def test_json_is_valid_utf8_and_reads_back_the_same(string):
    written = text.for_json({string: [string, 1]}, indent=2)
    assert not hidden(written.replace("\n", ""))
    assert json.loads(written.encode("utf-8")) == {string: [string, 1]}


def test_json_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="Out of range"):
        text.for_json({"a": float("nan")})


@any_string
def test_csv_reads_back_one_cell_that_is_no_formula(string):
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow([text.for_csv(string), text.for_csv(-1.5), text.for_csv(-2)])
    stream.getvalue().encode("utf-8")
    ((cell, *numbers),) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert cell.removeprefix("'") == text.printable(string).removeprefix("'")
    assert not hidden(cell) and cell.lstrip()[:1] not in tuple("=+-@＝＋－＠")
    assert numbers == ["-1.5", "-2"]


@any_string
def test_markdown_holds_text_and_code_and_nothing_active(string):
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    plain, code = text.for_markdown(string), text.code_for_markdown(string)
    in_cell = text.code_for_markdown(string, cell=True)
    lines = [f"# {plain}", "", f"So {plain}, and {code}.", "", "| a | b |", "|---|---|", f"| x {plain} | {in_cell} |"]
    tokens = parser.parse("\n".join(lines))
    allowed = {"heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline"}
    assert {t.type for t in tokens if not t.type.startswith(("table", "thead", "tbody", "tr", "th", "td"))} <= allowed
    inline = [t for t in tokens if t.type == "inline"]
    shown = text.printable(string)
    assert len(inline) == 6  # heading, sentence, two heads, two cells
    for each in inline:
        assert {child.type for child in each.children} <= {"text", "code_inline", "text_special"}, each.content
    spelt = ["".join(c.content for c in each.children) for each in inline]
    assert spelt[0].strip() == shown.strip()
    assert spelt[1] == f"So {shown}, and {shown}."
    assert spelt[4].strip() == f"x {shown}".strip()
    assert spelt[5] == shown


def test_markdown_makes_no_link_of_an_address():
    for address in ("http://a.b/c", "HTTPS://a.b", "www.a.b", "me@a.b"):
        assert address not in text.for_markdown(f"x {address} y")


def test_figures_names_stay_readable_in_markdown():
    assert text.for_markdown("-elbo of iw_nll(100)") == "-elbo of iw_nll(100)"
    assert text.code_for_markdown("mixture(3)") == "`mixture(3)`"


@any_string
def test_a_picture_shows_no_formula(string):
    from matplotlib.text import Text

    label = text.for_plot(string)
    shown, is_math = Text()._preprocess_math(label)
    assert not is_math and not label.startswith("_")
    assert shown.removeprefix(" ") == text.short(string).removeprefix(" ") or shown == label


@any_string
def test_long_names_lose_their_middle(string):
    shown = text.short(string * 5, 30)
    assert len(shown) <= 30 and not hidden(shown)
    assert shown == text.printable(string * 5) or (len(shown) == 30 and "…" in shown)


def test_a_shell_gets_the_same_word():
    words = [os.fsdecode(b"caf\xe9 x"), "it's", "a\nb", "$(touch x)", "-n", "\x1b[2J'\\", "plain", "naïve"]
    for word in words:
        assert not hidden(text.for_shell(word))
    made = " ".join(text.for_shell(word) for word in words)
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {made}"], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


def test_counts_have_their_plural_and_thousands():
    assert [text.counted(n, "image") for n in (0, 1, 2, 1422)] == ["0 images", "1 image", "2 images", "1,422 images"]


def test_a_json_file_takes_any_name(tmp_path):
    from reparam.files.writing import write_json

    write_json(tmp_path / "a.json", {"name": "caf\udce9\x1b\u202e"})
    written = (tmp_path / "a.json").read_bytes()
    assert b"\\udce9" in written and b"\\u001b" in written and b"\\u202e" in written
    assert json.loads(written.decode("utf-8")) == {"name": "caf\udce9\x1b\u202e"}
