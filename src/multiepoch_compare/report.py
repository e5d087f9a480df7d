"""The report: a table of text for the terminal, and one page that needs nothing beside itself."""

from __future__ import annotations

import html

from multiepoch_compare import figures
from multiepoch_compare.verdict import COLLAPSE, Estimate


def text(found: dict) -> str:
    """What the terminal shows."""
    lines = [_data_line(found), ""]
    header = ["method", "epochs", "against plain", "second epoch", "what more epochs do"]
    rows = [
        [m["label"], str(m["epochs"]), _against(m, found["baseline"]),
         str(Estimate(**m["second"])), m["words"]]
        for m in found["methods"]
    ]  # fmt: skip
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        lines.append("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())
    lines += ["", *_notes(found), "", found["recommendation"]]
    if found["ties"]:
        lines.append(f"Not to be told apart from it: {', '.join(found['ties'])}.")
    return "\n".join(lines) + "\n"


def _against(method: dict, baseline: str) -> str:
    if method["label"] == baseline:
        return "the baseline"
    return str(Estimate(**method["against_plain"]))


def _data_line(found: dict) -> str:
    d, s = found["data"], found["data"]["sizes"]
    return (f"{d['source']}: {s['train']:,} impressions to train on ({d['split']['train']}), "
            f"{s['validation']:,} to tune on ({d['split']['validation']}), "
            f"{s['test']:,} to test on ({d['split']['test']}).")  # fmt: skip


def _notes(found: dict) -> list[str]:
    notes = [
        f"Test logloss in % of change, mean over {', '.join(found['objectives'])}; 95 % intervals "
        f"over {found['seeds']} seeds and over blocks of the test impressions. "
        "Lower is better.",
        f"epochs: the best number by the validation day, 1 to {found['epochs']}. against plain: "
        f"each at its best number of epochs, against {found['baseline']} at its own.",
        "second epoch: after it against before it.",
    ]
    d = found["data"]
    if d["quick"]:
        notes.append(f"A look: only the first {d['rows_read']:,} rows at most were read, and "
                     "fewer trials run.")  # fmt: skip
    if d["by_rows"]:
        notes.append("Those rows hold fewer than 3 days, so they were split by position, not day.")
    if d["cut"]:
        parts = [{"train": "training days", "validation": "day to tune on", "test": "test day"}[one]
                 for one in d["cut"]]  # fmt: skip
        notes.append(f"Cut to the latest impressions: {', '.join(parts)}.")
    return notes


# The page -----------------------------------------------------------------------------------------

_STYLE = """
:root { --ink: #1c2024; --soft: #59636e; --paper: #fbfbf9; --card: #ffffff; --line: #dfe2e6;
        --bad: #a3262c; --good: #0b6b4f; --accent: #0b5c8f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e9ec; --soft: #a4adb6; --paper: #15181b; --card: #1e2226; --line: #343a41;
          --bad: #ff9a94; --good: #7fd6b5; --accent: #8cc8f2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
       font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .92rem; }
.verdict { background: var(--card); border: 1px solid var(--line);
           border-left: 5px solid var(--accent); border-radius: 6px;
           padding: 1rem 1.25rem; margin: 1.4rem 0; font-size: 1.12rem; }
.verdict p { margin: .2rem 0; max-width: none; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
        border-radius: 6px; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .5rem .8rem; border-bottom: 1px solid var(--line);
         white-space: nowrap; font-variant-numeric: tabular-nums; }
td.words { white-space: normal; min-width: 12rem; }
tr:last-child td { border-bottom: 0; }
th { font-weight: 600; color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
.figures { display: grid; gap: 1rem;
           grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; background: #ffffff; border: 1px solid var(--line); border-radius: 6px;
         padding: .8rem; min-width: 0; }
figure.narrow { max-width: 44rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: #59636e; margin-top: .4rem; }
code, pre { font: .88rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
      padding: .7rem .9rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def page(found: dict) -> str:
    """The whole page as HTML: style and pictures inside, nothing fetched."""
    source = html.escape(found["data"]["source"])
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Beyond one epoch: {source}</title>", f"<style>{_STYLE}</style></head><body><main>",
        "<h1>Does this log collapse after one epoch?</h1>",
        f'<p class="soft">{html.escape(_data_line(found))}</p>',
        _verdict(found), _table(found), _curves(found), _why(found), _costs(found),
        _settings(found), _how_to_read(found), "</main></body></html>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _verdict(found: dict) -> str:
    ties = ""
    if found["ties"]:
        ties = f'<p class="soft">Not to be told apart from it: {", ".join(found["ties"])}.</p>'
    notes = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in _notes(found)[3:])
    return f'<div class="verdict"><p>{html.escape(found["recommendation"])}</p>{ties}{notes}</div>'


def _table(found: dict) -> str:
    rows = []
    for m in found["methods"]:
        good = m["label"] != found["baseline"] and m["against_plain"]["high"] < 0
        look = {True: "bad", False: "good", None: ""}[m["collapses"]]
        rows.append(
            f"<tr><td>{m['label']}</td>"
            f'<td class="words"><span class="{look}">{m["words"]}</span></td>'
            f"<td>{m['epochs']}</td>"
            f'<td class="{"good" if good else ""}">{_against(m, found["baseline"])}</td>'
            f"<td>{Estimate(**m['second'])}</td></tr>"
        )
    return (
        "<h2>Who collapses, and who does not</h2>"
        '<div class="wide"><table><thead><tr><th>method</th><th>what more epochs do</th>'
        "<th>best number of epochs</th><th>logloss against plain</th><th>the second epoch</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="soft">{" ".join(html.escape(note) for note in _notes(found)[:3])}</p>'
    )


def _figure(svg: str, caption: str, narrow: bool = False) -> str:
    look = ' class="narrow"' if narrow else ""
    return f"<figure{look}>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _curves(found: dict) -> str:
    blocks = []
    for objective in found["objectives"]:
        rate = 100 * found["data"]["positives"][objective]
        blocks.append(_figure(
            figures.curves(found, objective),
            f"{objective} ({rate:.2g} % positive on the test day): test logloss a quarter, half "
            "and the whole of each epoch. A rise right after a dashed line is the collapse.",
        ))  # fmt: skip
        if "auc" in found["methods"][0]["curves"]:
            blocks.append(
                _figure(
                    figures.curves(found, objective, "auc"),
                    f"{objective}: AUC, which does not see calibration.",
                )
            )
    return f'<h2>By epoch and objective</h2><div class="figures">{"".join(blocks)}</div>'


def _why(found: dict) -> str:
    worst = max(found["methods"], key=lambda m: m["second"]["mean"])
    by_objective = {k: e["mean"] for k, e in worst["second_by_objective"].items()}
    objective = max(by_objective, key=by_objective.get)
    column = found["group_column"]
    seldom = 100 * sum(found["frequencies"][column][:3])
    pictures = [
        _figure(figures.frequencies(found),
                "How often the rows that the test impressions look up were trained on. A row seen "
                "a few times has room for the labels of just those impressions."),
        _figure(figures.groups(found, worst["label"], found["objectives"].index(objective)),
                f"{worst['label']}, {objective}: the change of test logloss from the first to the "
                f"last epoch, by how often the row of {column} was trained on."),
    ]  # fmt: skip
    lines = "; ".join(f"{k} {Estimate(**e)}" for k, e in worst["second_by_objective"].items())
    return (
        "<h2>Why</h2><p>In the first epoch a row has not yet seen the impression it is trained on. "
        "In the second it has: an infrequent row then carries the label of that very impression, "
        "and the dense layers learn to trust it. On new impressions that trust is misplaced. So "
        "look at how many rows are infrequent, and at which impressions lose. Here "
        f"{seldom:.0f} % of the test impressions look up a row of {html.escape(column)} that was "
        "trained on at most 10 times.</p>"
        f"<p>The second epoch of {worst['label']}, by objective: {html.escape(lines)}.</p>"
        f'<div class="figures">{"".join(pictures)}</div>'
    )


def _costs(found: dict) -> str:
    base = next(m for m in found["methods"] if m["label"] == "plain")["seconds_an_epoch"]
    rows = "".join(
        f"<tr><td>{m['label']}</td><td>{m['seconds_an_epoch']:.2f}</td>"
        f"<td>{m['seconds_an_epoch'] / base:.2f}</td><td>{m['bytes']['tables'] / 1e6:.1f}</td>"
        f"<td>{m['bytes']['row state'] / 1e6:.1f}</td></tr>" for m in found["methods"]
    )  # fmt: skip
    return (
        '<h2>What it costs</h2><div class="wide"><table><thead><tr><th>method</th>'
        "<th>CPU seconds an epoch</th><th>against plain</th><th>tables, MB</th><th>row state, MB</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="soft">Seconds of processor time, evaluation included, the median over seeds: '
        "good for an order of size, not for a benchmark.</p>"
    )


def _settings(found: dict) -> str:
    items = "".join(f"<li>{html.escape(m['setting'])}</li>" for m in found["methods"])
    cardinality = ", ".join(f"{k} {n:,}" for k, n in found["data"]["cardinality"].items())
    return (
        f"<h2>What was run</h2><p>{found['trials_a_method']} trials a method on the validation day "
        "with seed 0, scored by the lowest normalized entropy at the end of an epoch. Chosen were:"
        f"</p><ul>{items}</ul><p>Rows of the tables: {html.escape(cardinality)}.</p>"
        f"<pre>{html.escape(found['call'])}</pre>"
        f'<p class="soft">{html.escape(found["machine"])}, torch {found["torch"]}, '
        f"{found['date']}, {found['seconds']:.0f} s.</p>"
    )


def _how_to_read(found: dict) -> str:
    e = found["epochs"]
    return (
        "<h2>How to read it</h2><ul>"
        "<li><b>Plain</b> is one learning rate for everything, the best for one epoch: training as "
        "most do it today. <b>Plain (retuned)</b> is the same with the rate that is best when the "
        "number of epochs is free too, often a slower one; it is only there where it is another "
        "rate. The others are held against the better of the two, so that a gain is not the gain "
        "over a bad setting.</li>"
        f"<li>A method <b>collapses</b> where its test logloss at the end of epoch {e} is at least "
        f"{COLLAPSE} % above that at its best epoch, with an interval above 0.</li>"
        "<li>An <b>interval</b> holds two doubts: another seed, and another sample of impressions "
        "of that day. It does not hold a third: another day. Where much hangs on it, run it again "
        "when new days have come.</li>"
        "<li>The recommended method is the best of several, and the best of several looks a little "
        "better than it is. Those named as not to be told apart from it are as good a choice.</li>"
        "<li>The model is a small one (tables of 16 floats, a cross layer, two dense layers): the "
        "direction carries over to larger models more surely than the size.</li></ul>"
    )
