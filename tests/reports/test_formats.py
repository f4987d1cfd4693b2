"""One table in three formats, each read back."""

import pandas as pd

from capsbench.reports.formats import to_html, to_latex, to_markdown

TABLE = pd.DataFrame(
    {
        "Router": ["FM", "Dynamic (3) [arch.vote_gain=0.25]", "a|b & <c>"],
        "Data": ["affNIST"] * 3,
        "Ours %": ["93.50 ± 0.50 [affNIST (generated)]", "– (3 seeds missing)", "90.00"],
        "Difference": ["−0.35", "–", "+1.00"],
    }
)


def test_markdown() -> None:
    header, rule, *rows = to_markdown(TABLE).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == list(TABLE.columns)
    assert set(rule) == {"|", "-"}
    assert len(rows) == 3
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == TABLE.loc[0].tolist()
    assert r"a\|b & <c>" in rows[2]


def test_latex_has_booktabs_rules_and_balanced_groups() -> None:
    latex = to_latex(TABLE, "Table 3: affNIST")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llrr}", r"\end{tabular}"):
        assert latex.count(rule) == 1
    assert latex.count("{") == latex.count("}")
    assert r"93.50 $\pm$ 0.50 [affNIST (generated)] & $-$0.35 \\" in latex
    assert r"arch.vote\_gain" in latex
    assert r"a|b \& $<$c>" in latex
    assert latex.isascii()
    rows = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")].splitlines()
    assert {row.replace(r"\&", "").count("&") for row in rows if row.endswith(r"\\")} == {3}


def test_html_is_escaped_and_sets_brackets_apart() -> None:
    html = to_html(TABLE)
    assert "<td>93.50 ± 0.50 <span>[affNIST (generated)]</span></td>" in html
    assert "<td>a|b &amp; &lt;c&gt;</td>" in html
    assert "<td>Dynamic (3) [arch.vote_gain=0.25]</td>" in html
