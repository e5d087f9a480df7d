"""Writes the paper from the records and sets it with LaTeX: `make paper`.

paper/paper.tex.j2 has the sentences, which a person wrote about the committed records. The numbers
in them are interpolated, and paper/asserted.toml lists what they assert. The pages are
_build/paper/paper.pdf, its source beside them. The references are the book's, without the notes
that repeat their addresses.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from multiepoch_lab.files import write_text
from multiepoch_lab.stats import interval
from reproduction import judge, records, sentences, style
from reproduction.ch08_fal_versus_meda.figures import SHOWN
from reproduction.ch10_board import experiment as board
from reproduction.dose_response import experiment as dose_response
from reproduction.dose_response import figures as dose_figures
from reproduction.dose_response import production
from reproduction.first_step import compute, headlines
from reproduction.first_step import experiment as first_step
from reproduction.first_step import figures as step_figures
from reproduction.interplay import experiment as interplay
from reproduction.measure import intervals
from reproduction.remedies.board import BOARD, METHODS
from reproduction.runs import profile
from tools import ledger

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "paper"
ASSERTED = SOURCE / "asserted.toml"
OUT = ROOT / "_build" / "paper"
NAME = "paper"
WIDTH = 6.3  # inches, of a line of text
STRATA = ("AdsWorld", "AdsWorld, row-wise Adagrad", "AdsWorld, no cross", "KuaiRand")
ON_THE_BOARD = (  # of the paper's table, in its order
    "plain",
    "fal",
    "meda",
    "tail_rewind",
    "tail_rewind_blend",
    "leave_one_out_votes",
    "two_fold",
    "adamar",
    "whole_l2",
    "low_rate",
)
TEXT = {"%": r"\%", "−": r"\ensuremath{-}", "¼": "a quarter", "½": "half", "&": r"\&"}


class PaperFailed(RuntimeError):
    """The paper could not be written or set; the message says why."""


def latex(text: str) -> str:
    """Returns words of ours as LaTeX."""
    text = re.sub("|".join(TEXT), lambda found: TEXT[found[0]], text)
    return re.sub(r"(?<![\w.])-(?=\d)", r"\\ensuremath{-}", text)


def number(value: float, digits: int, sign: bool) -> str:
    shown = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(shown) == 0:
        shown = f"{0:.{digits}f}"  # neither "+0.0" nor "-0.0"
    return shown.replace("-", r"\ensuremath{-}").replace("+", r"\ensuremath{+}")


def estimate(values: Iterable[float], digits: int = 1, sign: bool = False, unit: str = r"\,\%"):
    """Formats the mean and the 95 % interval over seeds; `sign` for a change."""
    mean, low, high = (number(one, digits, sign) for one in interval(list(values)))
    return rf"\est{{{mean}{unit}}}{{{low}}}{{{high}}}"


def verdicts(evidence: ledger.Ledger) -> list[dict]:
    """Returns a line for each claim that was run: its title, whose it is, verdict and measures."""
    lines = []
    for one in judge.CLAIMS:
        if found := judge.preferred(one, evidence):
            points = [judge.status(p) for q in judge.by_quantity(found) for p in judge.by_point(q)]
            lines.append(
                {
                    "id": one.id,
                    "title": latex(one.title),
                    "source": one.source,
                    "verdict": judge.verdict(one, found),
                    "points": {word: points.count(word) for word in ("holds", "open", "fails")},
                    "seeds": seeds(found),
                }
            )
    return lines


def seeds(found: Iterable[judge.Evidence]) -> str:
    """Returns how many seeds the points have, such as "8" or "3--8"."""
    few, *_, many = sorted([len(one.seeds) for one in found] * 2)
    return f"{few}" if few == many else f"{few}--{many}"


def measured(claim: judge.Claim, evidence: ledger.Ledger) -> list[dict]:
    """Returns a line for each quantity of a claim: what it is, was predicted, and was found."""
    lines = []
    for points in judge.by_quantity(judge.preferred(claim, evidence)):
        found, status = judge.found(points)
        said = (points[0].measure.text, judge.predicted(points), found, status)
        lines.append(dict(zip(("text", "predicted", "found", "status"), map(latex, said))))
    return lines


def source(results: Path) -> str:
    """Returns the paper in LaTeX.

    Raises:
        KeyError: If a sentence names a value that there is not.
    """
    evidence, known = records.ledger(results), sentences.values(results)
    environment = Environment(
        loader=FileSystemLoader(SOURCE),
        undefined=StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def mean(name: str, digits: int = 1, sign: bool = False) -> str:
        value = known[name]
        return number(value.mean() if isinstance(value, pd.Series) else value, digits, sign)

    def points(id: str, *names: str) -> list[judge.Evidence]:
        there = [e for e in judge.preferred(judge.claim(id), evidence) if e.measure.name in names]
        if not there:
            raise KeyError(f"{id} has no evidence for {', '.join(names)}")
        return there

    def tally(status: str, id: str, *names: str) -> int:
        return [one.status for one in points(id, *names)].count(status)

    lines = (first_step, compute, headlines)
    rows = [records.read(line.NAME, "long", results).rows for line in lines]
    first = step_figures.facts(*rows)  # in words, over searches and seeds
    one = judge.claim("C18")
    window = profile("long")
    return environment.get_template("paper.tex.j2").render(
        est=lambda name, digits=1, unit=r"\,\%": estimate(known[name], digits, unit=unit),
        chg=lambda name, digits=1, unit=r"\,\%": estimate(known[name], digits, True, unit),
        mean=mean,
        two=lambda name, data: latex(str(first[f"{name}.{data}"])).replace(r" \%", r"\,\%"),
        tally=tally,
        n_points=lambda id, *names: len(points(id, *names)),
        span=lambda id, name: latex(judge.found(points(id, name))[0]),
        n_seeds=lambda name: len(known[name]),
        window=window,
        rates=[f"{rate:.3g}" for rate in dose_response.RATES],
        board=[(name, latex(BOARD[name].label)) for name in ON_THE_BOARD],
        n_methods=len(BOARD),
        n_leaky=len(board.LEAKY),
        n_trials=known["tuning.most"],
        verdicts=verdicts(evidence),
        interplay=records.read(interplay.NAME, "long", results) is not None,
        c18={
            "text": latex(one.text),
            "prediction": latex(one.prediction),
            "verdict": judge.verdict(one, judge.preferred(one, evidence)),
            "measures": measured(one, evidence),
        },
    )


def curves(results: Path) -> Figure:
    """Draws the losses of four methods over three epochs."""
    fig, axes = panels(1, height=2.2)
    rows = records.read(production.NAME, "long", results).rows
    change = dose_response.to_one_epoch(rows, "AdsWorld").xs(production.BEST, level="rate")
    found = intervals(change, ["method", "epoch"]).sort_index()
    shown = found[found.index.get_level_values("epoch") >= 0.5].loc[list(SHOWN)]
    for name, line in shown.groupby("method", sort=False):
        style.band(axes[0], line.droplevel("method"), METHODS[name].label)
    style.boundaries(axes[0], 3)
    axes[0].axhline(0, color=style.REFERENCE, linewidth=0.8, zorder=0)
    axes[0].set(xlabel="epochs", ylabel="loss against one epoch, %", ylim=(-6, 35))
    axes[0].grid(axis="x", visible=False)
    fig.legend(loc="outside upper center", ncols=4, frameon=False)
    return fig


def doses(results: Path) -> Figure:
    """Draws plain training's jump along the tables' rate, and what FAL leaves of it."""
    rows = records.read(dose_response.NAME, "long", results).rows
    fig, axes = panels(2, height=2.5)
    for stratum in STRATA:
        colour, marker = dose_figures.STRATA[stratum]
        dose = intervals(dose_response.dose(rows, stratum), ["rate"])
        left = intervals(dose_response.share_left(rows, stratum), ["rate"])
        look = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1, "capsize": 0}
        for panel, x, y in ((axes[0], dose.index, dose), (axes[1], dose["mean"], left)):
            bars = [y["mean"] - y["low"], y["high"] - y["mean"]]
            panel.errorbar(x, y["mean"], bars, label=stratum if y is dose else None, **look)
    axes[0].set(xscale="log", xlabel="learning rate of the tables", ylabel="jump of plain, %")
    axes[1].set(xscale="log", xlabel="jump of plain, %", ylabel="share that FAL leaves, %")
    axes[1].set_ylim(-100, 120)
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[1].axhline(50, color=style.REFERENCE, linewidth=0.8, zorder=0)
    fig.legend(loc="outside upper center", ncols=4, frameon=False)
    return fig


def panels(columns: int, height: float):
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    return fig, fig.subplots(1, columns, squeeze=False)[0]


LOOK = style.STYLE | {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "lines.linewidth": 1.2,
}


def write(results: Path, out: Path) -> None:
    """Writes the paper's source, class, references and figures.

    Raises:
        PaperFailed: If a record contradicts a sentence; the message has all that do not hold.
    """
    if wrong := sentences.contradicted(ASSERTED, sentences.values(results)):
        raise PaperFailed("\n  ".join(["The records contradict the paper:", *wrong]))
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{NAME}.tex", source(results))
    shutil.copy(SOURCE / "secondepoch.cls", out)
    references = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    write_text(out / "references.bib", re.sub(r"\n *note *= \{arXiv .*\},", "", references))
    with rc_context(LOOK):
        for name, draw in {"curves": curves, "doses": doses}.items():
            draw(results).savefig(out / f"{name}.pdf", metadata={"CreationDate": None})


def typeset(out: Path) -> Path:
    """Sets the paper; returns the path of its pages.

    Raises:
        PaperFailed: If LaTeX is not installed or fails.
    """
    if shutil.which("pdflatex") is None:
        raise PaperFailed(
            "pdflatex is not installed; on Debian: apt-get install texlive-latex-recommended "
            "texlive-latex-extra texlive-fonts-recommended lmodern."
        )
    set_it = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", NAME]
    for call in (set_it, ["bibtex", NAME], set_it, set_it, set_it):  # until references settle
        done = subprocess.run(call, cwd=out, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise PaperFailed(f"{call[0]} failed:\n{done.stdout[-2500:]}")
    return out / f"{NAME}.pdf"


def main() -> int:
    """Returns 1 if the paper contradicts a record or could not be set."""
    argparse.ArgumentParser("python -m tools.paper", description=__doc__).parse_args()
    try:
        write(ROOT / "results", OUT)
        pages = typeset(OUT)
    except PaperFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The paper: {pages}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
