r"""Structured data is read by the RFC's grammar, else leniently and flagged, else not at all."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_syslog.structured_data import StructuredData, read_structured_data

Elements = dict[str, dict[str, str]]

EXAMPLE = '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
EXAMPLE_ELEMENT = {"iut": "3", "eventSource": "Application", "eventID": "1011"}
PRIORITY = '[examplePriority@32473 class="high"]'
VMWARE = "[Originator@6876 sub=Vimsvc.ha-eventmgr opID=5c0c-1a user=vpxuser:LOCAL\\admin]"
VMWARE_PARAMS = {
    "sub": "Vimsvc.ha-eventmgr",
    "opID": "5c0c-1a",
    "user": "vpxuser:LOCAL\\admin",
}
HOSTILE_CHARACTERS = 200_000
HOSTILE_SECONDS = 5.0
"""Of CPU time: some hundredths are usual, anything quadratic would take minutes."""

AS_THE_RFC_SAYS: list[tuple[str, Elements | None]] = [
    ("-", None),
    (EXAMPLE, {"exampleSDID@32473": EXAMPLE_ELEMENT}),
    (
        EXAMPLE + PRIORITY,
        {"exampleSDID@32473": EXAMPLE_ELEMENT, "examplePriority@32473": {"class": "high"}},
    ),
    ("[a]", {"a": {}}),
    ("[a][b]", {"a": {}, "b": {}}),
    ('[a b=""]', {"a": {"b": ""}}),
    ('[a b=" "]', {"a": {"b": " "}}),
    ('[a b="c" d="e"]', {"a": {"b": "c", "d": "e"}}),
    ('[a b="c"][d b="e"]', {"a": {"b": "c"}, "d": {"b": "e"}}),
    (r'[a b="\""]', {"a": {"b": '"'}}),
    (r'[a b="\\"]', {"a": {"b": "\\"}}),
    (r'[a b="\]"]', {"a": {"b": "]"}}),
    (r'[a b="\\\""]', {"a": {"b": '\\"'}}),
    (r'[a b="\\\\" c="\]\]"]', {"a": {"b": "\\\\", "c": "]]"}}),
    (r'[a b="\"\] [\"=\\"]', {"a": {"b": '"] ["=\\'}}),
    (r'[a b="c:\dir\a"]', {"a": {"b": "c:\\dir\\a"}}),
    (r'[a b="\\n\n"]', {"a": {"b": "\\n\\n"}}),
    ('[a b="\\\n"]', {"a": {"b": "\\\n"}}),
    ('[a b="[="]', {"a": {"b": "[="}}),
    ('[a b="line\nline\0\t"]', {"a": {"b": "line\nline\0\t"}}),
    ('[a b="é€😀"]', {"a": {"b": "é€😀"}}),
    ('[a.b c.d="e"]', {"a.b": {"c.d": "e"}}),
    ('[a[ [="b"]', {"a[": {"[": "b"}}),
    (f'[{"n" * 255} {"m" * 255}="v"]', {"n" * 255: {"m" * 255: "v"}}),
    ('[ä ö="ü"]', {"ä": {"ö": "ü"}}),
]
DEVIATIONS: list[tuple[str, Elements, str]] = [
    (VMWARE, {"Originator@6876": VMWARE_PARAMS}, ""),
    ("[a b=c]", {"a": {"b": "c"}}, ""),
    ("[a b=c=d e=f]", {"a": {"b": "c=d", "e": "f"}}, ""),
    ('[a b=c"d]', {"a": {"b": 'c"d'}}, ""),
    ('[a b="c" d=e f="g"]', {"a": {"b": "c", "d": "e", "f": "g"}}, ""),
    ("[a b=\\]", {"a": {"b": "\\"}}, ""),
    ("[a b]", {"a": {"b": ""}}, ""),
    ("[a b c d]", {"a": {"b": "", "c": "", "d": ""}}, ""),
    ("[a b=]", {"a": {"b": ""}}, ""),
    ("[a b= c=]", {"a": {"b": "", "c": ""}}, ""),
    ('[a b= c="d"]', {"a": {"b": "", "c": "d"}}, ""),
    ('[a b= "c"]', {"a": {"b": "c"}}, ""),
    ('[a b ="c"]', {"a": {"b": "c"}}, ""),
    ('[a b  =  "c"]', {"a": {"b": "c"}}, ""),
    ("[a b = c]", {"a": {"b": "c"}}, ""),
    ("[a b= c]", {"a": {"b": "c"}}, ""),
    ('[ a b="c"]', {"a": {"b": "c"}}, ""),
    ('[a  b="c"]', {"a": {"b": "c"}}, ""),
    ('[a b="c" ]', {"a": {"b": "c"}}, ""),
    ("[a ]", {"a": {}}, ""),
    ("[ a ]", {"a": {}}, ""),
    ('[a b="c"d="e"]', {"a": {"b": "c", "d": "e"}}, ""),
    ('[a b="]"]', {"a": {"b": "]"}}, ""),
    ('[a b="x] y" c="]]"]', {"a": {"b": "x] y", "c": "]]"}}, ""),
    (r'[a b="]\]\""]', {"a": {"b": ']]"'}}, ""),
    ('[a b="c"][d e=f]', {"a": {"b": "c"}, "d": {"e": "f"}}, ""),
    ('[a b=c][d e="f"]', {"a": {"b": "c"}, "d": {"e": "f"}}, ""),
    ('[a b="c"]text', {"a": {"b": "c"}}, "text"),
    ("[a]: text", {"a": {}}, ": text"),
    ("[a]-", {"a": {}}, "-"),
    ("[a]\ttext", {"a": {}}, "\ttext"),
    ("[a b=[c]]", {"a": {"b": "[c"}}, "]"),
    ("[a b=c b=d][a b=e]", {"a": {"b": "e"}}, ""),
]
"""Text, what is taken of it, and what follows."""
DUPLICATES: list[tuple[str, Elements]] = [
    ('[a b="c" b="d"]', {"a": {"b": "d"}}),
    ('[a b="c" b="c"]', {"a": {"b": "c"}}),
    ('[a b="c"][a d="e"]', {"a": {"b": "c", "d": "e"}}),
    ('[a b="c"][x][a b="d"]', {"a": {"b": "d"}, "x": {}}),
    ("[a][a]", {"a": {}}),
    ('[a b="c" b="d"][x y="z"]', {"a": {"b": "d"}, "x": {"y": "z"}}),
]
UNREADABLE = [
    "",
    " -",
    " [a]",
    "--",
    "-text",
    "-[a]",
    "text",
    "\ufeff[a]",
    "[",
    "[]",
    "[ ]",
    "[[",
    "[=]",
    '["]',
    "[a",
    "[a ",
    "[a b",
    "[a b=",
    "[a b=c",
    '[a b="c',
    '[a b="c"',
    '[a b="c" ',
    '[a b="c]',
    '[a b="c] text',
    '[a b="c:\\"] text',
    '[a b="c\\',
    '[a="b"]',
    '[a"b"]',
    '[a ="b"]',
    '[a "b"]',
    '[a b="c""d"]',
    '[a b=c"d e"]',
    "[a b=c = d]",
    '[a b="c"][',
    '[a b="c"][]',
    '[a b="c"][d e',
]
TAILS = ["", " ", " text", "  text", " [b]", ' "]', " \ufefftext", " \0"]
HOSTILE = {
    "opening": "[",
    "quotes": '"',
    "backslashes": "\\",
    "equals": "=",
    "spaces": " ",
    "elements": "[a]",
    "odd elements": "[a ]",
    "open elements": "[a",
    "open params": '[a b="',
    "params": ' b="c"',
    "escaped params": r' b="\]\"\\"',
    "odd params": ' b = "c"',
    "unquoted": " b=c",
    "no values": " b",
    "empty values": " b=",
    "open values": ' b="',
    "loose": " b = ",
    "escapes": r"\]",
    "closing": "]",
    "brackets in quotes": '[a b="]"]',
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("text", "elements"), AS_THE_RFC_SAYS)
def test_the_grammar_of_the_rfc(text: str, elements: Elements | None, tail: str) -> None:
    """Nothing is lost, so nothing is flagged; what follows a space is not looked at."""
    start = len("<13>1 - - - - - ")
    found = read_structured_data("[" * start + text + tail, start)
    assert found == StructuredData(elements, start + len(text), "")


@pytest.mark.parametrize("tail", ["", " text"])
@pytest.mark.parametrize(("text", "elements", "rest"), DEVIATIONS)
def test_deviations_are_taken_and_flagged(
    text: str, elements: Elements, rest: str, tail: str
) -> None:
    """Where it is clear what is meant, or where the grammar stops being followed."""
    found = read_structured_data(text + tail, 0)
    assert found == StructuredData(elements, len(text) - len(rest), "bad_structured_data")


@pytest.mark.parametrize(("text", "elements"), DUPLICATES)
def test_duplicates_are_merged_and_flagged(text: str, elements: Elements) -> None:
    """The last value wins; also for parameters of elements with the same name."""
    assert read_structured_data(text, 0) == StructuredData(elements, len(text), "duplicate_param")


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_cannot_be_read_is_left_alone(text: str) -> None:
    """All of it, also elements before the one that makes no sense."""
    found = read_structured_data("- " + text, 2)
    assert found == StructuredData(None, 2, "bad_structured_data")


def _escape(value: str) -> str:
    """Escape as RFC 5424 says, section 6.3.3."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("]", r"\]")


def _write(elements: Elements) -> str:
    """Write elements as the RFC says, or the nil value."""
    written = (
        f"[{name}" + "".join(f' {key}="{_escape(value)}"' for key, value in params.items()) + "]"
        for name, params in elements.items()
    )
    return "".join(written) or "-"


SD_NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='=]"'),
    min_size=1,
    max_size=32,
)
VALUES = st.text(max_size=20) | st.text('\\"]a[= ', max_size=20)
ELEMENTS = st.dictionaries(SD_NAMES, st.dictionaries(SD_NAMES, VALUES, max_size=4), max_size=4)


@given(ELEMENTS, st.sampled_from(TAILS))
def test_what_is_written_by_the_rfc_is_read_back(elements: Elements, tail: str) -> None:
    """Any names and values, whatever text follows."""
    text = _write(elements)
    found = read_structured_data(text + tail, 0)
    assert found == StructuredData(elements or None, len(text), "")


@given(st.text(max_size=30) | st.text('[]"\\= ab-', max_size=30))
def test_any_text_has_an_answer(text: str) -> None:
    """Elements and an end behind them, or none; only what lost nothing is not flagged."""
    elements, end, reason = read_structured_data(text, 0)
    assert reason in ("", "bad_structured_data", "duplicate_param")
    assert elements != {}
    if elements is None:
        assert end == (0 if reason else 1)
    else:
        assert text[0] == "["
        assert text[end - 1] == "]"
    assert reason or read_structured_data(_write(elements or {}), 0).elements == elements


@given(st.text('[]"\\= ab', max_size=20), st.text('[]"\\= ab', max_size=8))
def test_what_follows_a_space_changes_nothing(text: str, tail: str) -> None:
    """What could be read is read the same, whatever comes then."""
    text = f"[a {text}]"
    alone = read_structured_data(text, 0)
    if alone.elements is not None and alone.end == len(text):
        assert read_structured_data(f"{text} {tail}", 0) == alone


@pytest.mark.parametrize("head", ["", "[a", '[a b="', "[a b="])
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_time_is_linear(piece: str, head: str) -> None:
    """More than a datagram or a frame of anything is a matter of milliseconds."""
    text = head + piece * (HOSTILE_CHARACTERS // len(piece))
    started = time.thread_time()
    for tail in ("", "]", '"]'):
        read_structured_data(text + tail, 0)
    assert time.thread_time() - started < HOSTILE_SECONDS


def test_time_is_linear_in_names() -> None:
    """Also where there are many of them, the same or others, in one element or in many."""
    numbers = range(1_000)
    started = time.thread_time()
    for separator in ('"]', "]"):
        quote = separator[:-1]
        for text, count in (
            (
                "".join(f"[{number} n={quote}{number}{separator}" for number in numbers),
                len(numbers),
            ),
            ("".join(f"[x n{number}={quote}{number}{separator}" for number in numbers), 1),
            ("[x" + "".join(f" n{number}={quote}{number}{quote}" for number in numbers) + "]", 1),
        ):
            elements = read_structured_data(text, 0).elements
            assert elements is not None
            assert len(elements) == count
            assert sum(map(len, elements.values())) == len(numbers)
    assert time.thread_time() - started < HOSTILE_SECONDS


@pytest.mark.parametrize("unit", ["[a]", '[a b="c"]', "[a b=c]"])
def test_there_are_at_most_a_thousand_elements(unit: str) -> None:
    """No sender has more, and each would cost as much as a message."""
    assert read_structured_data(unit * 1_000, 0).elements is not None
    many = read_structured_data(unit * 1_001, 0)
    assert (many.elements, many.end, many.reason) == (None, 0, "bad_structured_data")
    started = time.thread_time()
    read_structured_data(unit * (HOSTILE_CHARACTERS // len(unit)), 0)
    assert time.thread_time() - started < 0.05


def test_an_element_out_of_the_grammar_has_at_most_a_thousand_parameters() -> None:
    """The same, for the others cost less."""
    assert read_structured_data(f"[a{' b=c' * 1_000}]", 0).elements is not None
    assert read_structured_data(f"[a{' b=c' * 1_002}]", 0).elements is None
