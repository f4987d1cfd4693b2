"""One table in three formats, each read back."""

import re

import pandas as pd
import pytest

from capsbench.reports.formats import emphasized, latex, to_html, to_latex, to_markdown

TABLE = pd.DataFrame(
    {
        "Router": ["FM", "Dynamic (3) [arch.vote_gain=0.25]", "a|b & <c>"],
        "Data": ["affNIST"] * 3,
        "Ours %": ["93.50 [92.26, 94.74]", "– (3 seeds missing)", "90.00 (1 of 3 seeds missing)"],
        "Difference": ["−0.35", "–", "+1.00"],
    }
)


def test_markdown() -> None:
    header, rule, *rows = to_markdown(TABLE).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(TABLE.columns)
    assert set(rule) == {"|", "-"}
    assert len(rows) == 3
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == TABLE.loc[0].tolist()
    assert r"a\|b & \<c>" in rows[2]


def test_in_markdown_names_are_no_markup() -> None:
    table = pd.DataFrame({"Router": ["<img src=x>", "*a*", "`b`", "c_d [e=1]"], "p|q": ["< 0.001", "–", "1 < 2", "2"]})
    header, _, *rows = to_markdown(table).splitlines()
    assert r"p\|q" in header
    assert [row.split("|")[1].strip() for row in rows] == [r"\<img src=x>", r"\*a\*", r"\`b\`", "c_d [e=1]"]
    assert [row.split("|")[2].strip() for row in rows] == ["< 0.001", "–", "1 < 2", "2"]
    assert emphasized("a*b <c>") == "*a\\*b \\<c>*\n"


def test_latex_has_booktabs_rules_and_balanced_groups() -> None:
    latex = to_latex(TABLE, "Table 3: affNIST")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llrr}", r"\end{tabular}"):
        assert latex.count(rule) == 1
    assert latex.count("{") == latex.count("}")
    assert r"93.50 [92.26, 94.74] & $-$0.35 \\" in latex
    assert r"arch.vote\_gain" in latex
    assert r"a\textbar{}b \& $<$c$>$" in latex
    assert latex.isascii()
    rows = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")].splitlines()
    assert {row.replace(r"\&", "").count("&") for row in rows if row.endswith(r"\\")} == {3}


def test_html_is_escaped_and_sets_brackets_apart() -> None:
    html = to_html(TABLE)
    assert "<td>93.50 <span>[92.26, 94.74]</span></td>" in html
    assert "<td>90.00 <span>(1 of 3 seeds missing)</span></td>" in html
    assert "<td>a|b &amp; &lt;c&gt;</td>" in html
    assert "<td>Dynamic (3) [arch.vote_gain=0.25]</td>" in html
    assert "<th>a &amp; &lt;b&gt;</th>" in to_html(pd.DataFrame({"a & <b>": ["1"]}))


@pytest.mark.parametrize("character", [chr(code) for code in range(32, 127)] + list("±−–×÷→²°αβγδελμσ"))
def test_no_character_stops_latex(character: str) -> None:
    """Outside mathematics nothing is left that TeX reads as a command, a comment, an alignment or a script."""
    written = latex(f"x{character}y")
    assert written.isascii()
    text = re.sub(r"\$[^$]*\$|\\[a-z]+\{[^{}]*\}|\\[&%$#_{}]", "", written)
    assert not set(text) & set("\\&%$#_{}~^")
    assert text.startswith("x")


def test_a_cell_that_begins_with_a_bracket_is_no_option_of_the_line_before() -> None:
    table = pd.DataFrame({"Router": ["FM", "[1]"], "n": ["1", "2"]})
    assert re.findall(r"\\\\\s*\[", to_latex(table, "Title")) == []


def test_a_caption_is_one_line_of_text() -> None:
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", to_latex(TABLE, "50 % of\n\na_b & {c}"))
    assert caption == r"50 \% of a\_b \& \{c\}"
