"""The requirement language: what it accepts, what it means, what it says when it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labd.config.derived import BoardFacts
from labd.errors import RequestError
from labd.schedule.expression import ExpressionError, check_names, holds, names_in, why_not
from labd.schedule.grammar import DEPTH_MAX, LENGTH_MAX, canonical, parse

FACTS: BoardFacts = {
    "memory_kb": 512,
    "fpu": True,
    "psram": False,
    "target": "l4r5zi",
    "tags": ("m4", "fast"),
    "analyzer.rate_hz": 100_000.0,
}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ('memory_kb >= 256 and fpu and analyzer.rate_hz >= 100000 and (tag("m4") or not psram)', True),
        ("256 < memory_kb <= 512", True),
        ("256 < memory_kb < 512", False),
        ('target == "l4r5zi"', True),
        ("target in ['l4r5zi', 'g474']", True),
        ('"m4" in tags', True),
        ('"m7" not in tags', True),
        ('"r5" in target', True),
        ("tag('m7')", False),
        ("memory_kb > 1e2 and memory_kb > -5 and memory_kb < 1_000", True),
        ("not not fpu", True),
        ("(memory_kb) >= (256)", True),
        ("fpu == true and psram != true", True),
        ("fpu == 1", False),  # yes is not a number
        ("psram", False),
        ("radio or fpu", True),
        ("radio", False),
        ("radio == 3", False),
        ("radio != 3", False),  # nothing is known of it, so no comparison holds
        ('memory_kb < "abc"', False),
        ('memory_kb in "512"', False),
        ("true", True),
        ("memory_kb in []", False),
    ],
)
def test_an_expression_means_what_it_says(text: str, met: bool) -> None:
    assert holds(parse(text), FACTS) is met


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("memory_kb >= 1024", "says memory_kb = 512, not >= 1024"),
        ("radio.ble", "does not say radio.ble"),
        ("radio.channels > 2", "does not say radio.channels"),
        ("psram and memory_kb > 600", "says psram = false and says memory_kb = 512, not > 600"),
        ("psram or memory_kb > 600", "says psram = false and says memory_kb = 512, not > 600"),
        ("not fpu", "says fpu = true"),
        ('not tag("m4")', "has the tag m4"),
        ('tag("m7")', "lacks the tag m7"),
        ("1024 <= memory_kb", "says memory_kb = 512: 1024 <= memory_kb does not hold"),
    ],
)
def test_a_board_that_does_not_do_says_why(text: str, reason: str) -> None:
    assert why_not(parse(text), FACTS) == reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "column 1: the text ends"),
        ("memory_kb = 3", "write == to compare"),
        ("fpu && psram", "column 5"),
        ("!fpu", "write not"),
        ("(fpu", "a ')' is missing"),
        ("fpu psram", "column 5: 'psram' does not belong here"),
        ("3", "3 is a value, where a condition should be"),
        ("fpu and 'm4'", "is a value, where a condition should be"),
        ("(fpu and psram) == true", "fpu and psram is a condition"),
        ("__import__('os')", "there is no function __import__"),
        ("tag(m4)", 'write such as tag("m4")'),
        ("a in [b]", "a list holds numbers and texts only"),
        ('target == "l4', "close the quotes"),
        ("a < 1e999", "too large"),
        ("(" * (DEPTH_MAX + 1) + "a" + ")" * (DEPTH_MAX + 1), "write it flatter"),
        ("not " * (DEPTH_MAX + 1) + "a", "write it flatter"),
        ("a or " * LENGTH_MAX + "a", "may have 1000"),
        ("a and", "the text ends where a value should be"),
        ("a not 3", "column 3"),
        ("lambda: 3", "column 7"),
    ],
)
def test_a_bad_text_is_refused_with_its_column_and_a_remedy(text: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert told in str(caught.value)
    assert caught.value.where == "params.require"
    assert caught.value.remedy
    assert isinstance(caught.value, RequestError)
    assert caught.value.kind == "bad_request"


def test_a_name_that_no_board_has_is_refused_with_those_there_are() -> None:
    check_names(parse('fpu and tag("new") and memory_kb > 3'), FACTS)
    with pytest.raises(ExpressionError, match=r"no board says `fpux`; boards say: .*memory_kb") as caught:
        check_names(parse("fpux or memory_kb > 3"), FACTS)
    assert caught.value.remedy == "did you mean fpu?"


def test_texts_that_differ_in_dress_only_have_one_form() -> None:
    forms = {
        canonical(text)
        for text in (
            "memory_kb>=256 and(fpu or psram)",
            " ((memory_kb) >= 256.0)  and (fpu or (psram)) ",
            "memory_kb >= 2.56e2 and ((fpu) or psram)",
        )
    }
    assert forms == {"memory_kb >= 256 and (fpu or psram)"}


NAMES = ("a", "b", "x.y")
TEXTS = st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\"'\\"), max_size=4)
NUMBERS = st.integers(-5, 5) | st.floats(-5, 5).map(lambda value: round(value, 2))
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
comparisons = st.builds(
    lambda first, links: " ".join([first, *(f"{op} {value}" for op, value in links)]),
    st.sampled_from(NAMES),
    st.lists(st.tuples(OPERATORS, NUMBERS.map(repr) | st.sampled_from(NAMES)), min_size=1, max_size=3),
)
memberships = st.builds(
    "{} {} {}".format,
    st.sampled_from(NAMES),
    st.sampled_from(["in", "not in"]),
    st.lists(NUMBERS | TEXTS, max_size=3).map(repr),
)
grammar = st.recursive(
    comparisons | memberships | st.sampled_from(NAMES),
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=12,
)


class _Dotted:
    def __init__(self, y: Any) -> None:
        self.y = y


@given(text=grammar, values=st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_it_agrees_with_python(text: str, values: tuple[float, float, float]) -> None:
    facts: BoardFacts = dict(zip(NAMES, values, strict=True))
    expected = bool(eval(text, {"__builtins__": {}}, {"a": values[0], "b": values[1], "x": _Dotted(values[2])}))
    if len(text) > LENGTH_MAX:
        return
    expression = parse(text)
    assert holds(expression, facts) is expected
    assert names_in(expression) <= set(NAMES)
    if not expected:
        assert why_not(expression, facts)
    again = canonical(text)
    assert canonical(again) == again
    assert holds(parse(again), facts) is expected


@given(text=grammar)
def test_a_board_that_says_nothing_never_raises(text: str) -> None:
    if len(text) <= LENGTH_MAX and not holds(parse(text), {}):
        assert why_not(parse(text), {})


ALPHABET = "ab1.0 ()[]<>=!,\"'-_e\n\t&|\x00é"


@example("\x1f")  # a space to str.lstrip, and none to the tokens
@given(
    text=st.text(ALPHABET, max_size=30)
    | st.text(max_size=30)
    | st.lists(
        st.sampled_from(["a", "and", "or", "not", "in", "(", ")", "[", "]", ",", "<", "==", "3", '"t"', "tag", "true"]),
        max_size=14,
    ).map(" ".join)
)
@example("1" * 900)
@example("-" * 900)
@example("a in " * 190 + "a")
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    try:
        expression = parse(text)
    except ExpressionError:
        return
    holds(expression, FACTS)
    assert canonical(str(expression)) == str(expression)
