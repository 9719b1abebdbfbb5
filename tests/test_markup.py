"""Names in Markdown, LaTeX and CSV."""

import pytest

from dfwe.markup import csv_cell, latex, markdown, markdown_code


@pytest.mark.parametrize(
    ("text", "in_markdown", "in_latex"),
    [
        ("a_b*c|d", r"a\_b\*c\|d", r"a\_b*c|d"),
        ("[x](y) <b>", r"\[x\](y) \<b\>", r"{[}x{]}(y) \textless{}b\textgreater{}"),
        (r"50% \n", r"50% \\n", r"50\% \textbackslash{}n"),
        ("~^", r"\~\^", r"\textasciitilde{}\textasciicircum{}"),
        ("https://x :smile: $x$", r"https\://x \:smile\: \$x\$", r"https://x :smile: \$x\$"),
        ("a--b ``c''", r"a--b \`\`c''", r"a-{}-b \textasciigrave{}\textasciigrave{}c'{}'"),
        ("two\nlines", r"two\\nlines", r"two\textbackslash{}nlines"),
    ],
)
def test_a_name_is_read_as_itself(text, in_markdown, in_latex):
    assert markdown(text) == in_markdown
    assert latex(text) == in_latex


def test_a_code_span_has_a_longer_fence_than_the_text():
    assert markdown_code("a_b") == "`a_b`"
    assert markdown_code("a``b`") == "``` a``b` ```"


@pytest.mark.parametrize("text", ["=1+1", "+x", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\tx", "- yes"])
def test_what_a_spreadsheet_would_compute_is_text(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["+1.50", "-3", "+1.20 to +3.40", "-0.5 ± 0.25", "a=b", "", "1-2"]
)
def test_numbers_and_other_texts_are_left(text):
    assert csv_cell(text) == text
