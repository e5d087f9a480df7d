"""The report: a page that needs no other file, and the same for the terminal.

First the decision, in one sentence, and the line that does it; then the lines side by side, one
figure, the data, and the details.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from multiepoch_compare import plan
from multiepoch_compare.estimates import Estimate
from multiepoch_compare.outlook import COLLAPSE
from multiepoch_compare.run import WORSE

BOOK = "https://the-second-epoch.github.io/the-second-epoch/book"
_PARTS = {"train": "training", "validation": "tuning", "test": "testing"}
# The first use of each on the page leads to the book's glossary.
_TERMS = "logloss", "row-wise Adagrad", "tail rewind", "MEDA", "interplay", "AUC"
Table = tuple[list[str], list[list[str]]]


def text(found: dict) -> str:
    """Renders the record as the terminal shows it."""
    decision, *others = found["headline"]
    lines = [decision, "", *[f"  {line}" for line in code(found)]]
    lines += [""] * (len(lines) > 2) + [*others, *found["warnings"]]
    lines += ["", data_line(found["data"])]
    for header, rows in (methods(found), epochs(found), data(found)):
        table = tabulate(rows, header, tablefmt="simple", disable_numparse=True)
        lines += ["", *map(str.rstrip, table.splitlines())]
    return "\n".join([*lines, "", *notes(found)]) + "\n"


def page(found: dict) -> str:
    """Renders the record as HTML, with style and figure inside."""
    # Matplotlib takes a second to load, and the first lines of progress come before it.
    from multiepoch_compare import figures

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(
        found=found,
        code="\n".join(code(found)),
        data_line=data_line(found["data"]),
        notes=notes(found),
        methods=methods(found),
        epochs=epochs(found),
        data=data(found),
        curves=partial(figures.curves, found),
        linked=_linker(),
        zip=zip,
        book=BOOK,
        collapse=COLLAPSE,
        worse=f"{100 * (WORSE - 1):.0f}",
    )


def code(found: dict) -> list[str]:
    """Returns lines of Python that train as advised; none without advice."""
    if found["advised"] is None:
        return []
    label, epochs = found["advised"]
    trial = next(m["trial"] for m in found["methods"] if m["label"] == label)
    options = f"dense_lr={trial['dense_lr']:.3g}, embedding_lr={trial['embedding_lr']:.3g}"
    options += f', rule="{trial["rule"]}"'
    if trial["eps"] != plan.Trial.eps:
        options += f", eps={trial['eps']:.2g}"
    hyper = trial["hyperparameter"]
    imports, first, second = ["SparseOptimizer"], "", ""
    if trial["method"] == "fal":
        imports, options = ["FrequencyAdaptiveLR", *imports], options + f", row_lr={_fal(hyper)}"
    if trial["model"] == plan.DROPPED:
        first = f"  # of a model {label[label.index('without') :]}"
    if trial["serve"] == "pair":
        first = "  # twice, from two seeds: serve the mean of the two predictions"
    lines = [
        f"from multiepoch.optim import {', '.join(imports)}",
        f"optimizer = SparseOptimizer.from_model(model, {options}){first}",
    ]
    if trial["method"] in ("meda", "tail_rewind"):
        second = f', below={hyper}, to="reinit"' if trial["method"] == "tail_rewind" else ""
        second += ", average=True" if trial["serve"] == "mean" else ""
        lines = [f"from multiepoch.remedies import {trial['method']}", *lines]
        lines.append(f"repeat = {trial['method']}(model, optimizer{second})")
    loop = f"repeat.epochs({epochs})" if "repeat" in lines[-1] else f"range({epochs})"
    return [*lines, f"for epoch in {loop}: ...  # your loop over the data"]


def _fal(scale: str) -> str:
    from multiepoch_lab.methods import FAL_SCALES

    return f"FrequencyAdaptiveLR({', '.join(f'{k}={v!r}' for k, v in FAL_SCALES[scale].items())})"


def methods(found: dict) -> Table:
    """Returns the header and rows of the table that ranks the lines."""
    baseline, advised = found["baseline"][0], found["advised"] and found["advised"][0]
    header = ["line", "epochs", "logloss", "AUC", "against plain", "cost, epochs", "serves", "MB"]
    rows = []
    for m in sorted(found["methods"], key=lambda m: m["against_plain"].mean):
        gain = "(baseline)" if m["label"] == baseline else _worded(m["against_plain"])
        served = {"pair": "two models", "mean": "mean of ends"}.get(
            m["trial"]["serve"], "one model"
        )
        rows.append([m["label"] + " (advised)" * (m["label"] == advised), str(m["epochs"])])
        rows[-1] += [_losses(m["logloss_by_epoch"][m["epochs"] - 1]), _losses(_aucs(found, m), 3)]
        rows[-1] += [gain, str(m["cost"]), served, f"{sum(m['bytes'].values()) / 1e6:.1f}"]
    return header, [*rows, ["constant", "", _losses(found["constant"]), *[""] * 5]]


def epochs(found: dict) -> Table:
    """Returns the header and rows of the table of what is learned, and of a second epoch."""
    header = ["line", "against constant", "a quarter into epoch 2", "epoch 2 against epoch 1"]
    rows = [
        [m["label"], str(m["against_constant"]), str(m["quarter"] or ""), _worded(m["second"])]
        for m in found["methods"]
    ]
    return header, rows


def data(found: dict) -> Table:
    """Returns the header and rows of the table of the labels and the ids, by part."""
    expected, sizes = found["outlook"], found["data"]["sizes"]
    header = ["column", *(f"{_PARTS[part]}, {n:,} rows" for part, n in sizes.items()), "note"]
    rows = []
    for name, shares in expected["rates"].items():
        ones = expected["ones"][name]
        rows.append([name, *(f"{100 * p:.3g} % ({ones[k]:,} ones)" for k, p in shares.items())])
        moved = expected["drift"][name]
        rows[-1].append(f"logit drifts by {moved:+.2g}" if moved else "no drift is shown")
    for name, (never, few) in found["unseen"].items():
        rows.append([name, f"{found['data']['cardinality'][name]:,} ids", ""])
        rows[-1] += [f"{100 * never:.0f} % unseen, {100 * few:.0f} % seen once or twice"]
        missing = found["data"]["missing"].get(name)
        rows[-1].append(f"{missing:,} missing share a row" if missing else "")
    return header, rows


def data_line(data: dict) -> str:
    """Describes the three parts of the log."""
    parts = (f"{n:,} for {_PARTS[k]} ({data['split'][k]})" for k, n in data["sizes"].items())
    return f"{data['source']}: {data['impressions']:,} impressions, {', '.join(parts)}."


def notes(found: dict) -> list[str]:
    """Says how the numbers are to be read, and what limits them."""
    data, (label, best) = found["data"], found["baseline"]
    averaged = "; differences are averaged over them" * (len(found["objectives"]) > 1)
    halves = found["outlook"]["half"], found["half_measured"]
    measured = "expected to be ±{:.2g} %, and measured as ±{:.2g} %".format(*halves)
    lines = [
        f"Logloss on the test days of {', '.join(found['objectives'])}{averaged}; lower is better. "
        f"Against plain: {label} after epoch {best}, which the tuning days chose. Intervals are of "
        f"95 %, over {found['seeds']} seeds and blocks of test impressions: {measured}.",
        "Worse, better: the interval excludes 0. Open: it reaches beyond 0.5 %, on either side.",
        f"An epoch is {found['steps']:,} steps of {found['batch_size']:,} impressions.",
    ]
    if found["steps"] < plan.LEAST_STEPS:
        lines.append("So few steps teach a model little: give a smaller --batch-size.")
    if data["share"] < 1:
        share = f"about one in {1 / data['share']:.3g}" if data["share"] < 0.5 else "a part"
        lines.append(f"Only {share} of the values of {data['user']} were read, with all rows.")
    if edges := [m["label"] for m in found["methods"] if m["at_edge"]]:
        lines.append(f"The last rate that was tried is the best of {', '.join(edges)}.")
    return lines


def _aucs(found: dict, method: dict) -> list[float]:
    ends = (method["curves"]["auc"][name] for name in found["objectives"])
    at = [next(seeds for epoch, *seeds in of if epoch == method["epochs"]) for of in ends]
    return [sum(seeds) / len(seeds) for seeds in at]


def _losses(values: list[float], digits: int = 4) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def _worded(estimate: Estimate | None) -> str:
    """Puts the verdict behind the numbers it is based on."""
    return f"{estimate} {estimate.word}" if estimate else ""


def _linker() -> Callable[[str], Markup]:
    """Returns a function that links the first use of each term to the book's glossary."""
    left = list(_TERMS)

    def linked(text: str) -> Markup:
        html = str(escape(text))
        for term in [one for one in left if one in html]:
            left.remove(term)
            place = f"{BOOK}/glossary.html#term-{term.replace(' ', '-')}"
            html = html.replace(term, f'<a href="{place}">{term}</a>', 1)
        return Markup(html)

    return linked
