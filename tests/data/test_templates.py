"""Templates: a name in braces is replaced, whatever else stands there."""

import pytest

from dfwe.data.templates import fill
from dfwe.errors import UserError


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("text: {text}", "text: a {joy} {{}}"),
        ("{{text}} {text}{text}", "{text} a {joy} {{}}a {joy} {{}}"),
        ("{two words!}:{a.b[0]}{}", "2:dotted empty"),
        ("", ""),
    ],
)
def test_names_are_replaced_whatever_they_and_their_texts_look_like(template, filled):
    values = {"text": "a {joy} {{}}", "two words!": "2", "a.b[0]": "dotted", "": " empty"}
    assert fill(template, values) == filled


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{", "has a single '{'"),
        ("a } b", "has a single '}'"),
        ("{x{y}}", "has a single '{'"),
        ("{text.upper}", r"names \{text.upper\}; it may name \{text\} and \{label\}"),
        ("{text!r}", r"names \{text!r\}"),
    ],
)
def test_a_template_that_cannot_be_filled_says_why(template, words):
    with pytest.raises(UserError, match=words):
        fill(template, {"text": "x", "label": "y"})
