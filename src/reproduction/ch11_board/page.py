"""The board as one sortable HTML table, which needs no other file and works on a phone.

Without scripts it shows AdsWorld against one plain epoch. Its script offers the other views and
sorts by the column whose head is pressed.
"""

from __future__ import annotations

import html
import json
import math

import pandas as pd

from multiepoch.stats import interval
from reproduction.ch11_board import experiment
from reproduction.remedies.board import BOARD
from reproduction.tuning import chosen, on_board

HEADS = ("¼ of epoch 2", "end of 2", "¼ of epoch 4", "end of 4")
COST = ("time", "memory")
VIEWS = {
    "against one plain epoch": lambda rows, data: experiment.against_one_epoch(rows, data),
    "against MEDA": lambda rows, data: experiment.against(rows, data),
    "against one plain epoch, known ids": lambda rows, data: experiment.against_one_epoch(
        rows, data, "0"
    ),
    "against one plain epoch, new ids": lambda rows, data: experiment.against_one_epoch(
        rows, data, "1"
    ),
}


def views(rows: pd.DataFrame) -> dict[str, dict[str, list]]:
    """Returns [mean, half width] at each point, by view and remedy; a half width may be None."""
    found: dict[str, dict[str, list]] = {}
    for data, name in experiment.DATA.items():
        if data not in set(rows["data"]):
            continue
        for words, measure in VIEWS.items():
            table = measure(rows, data)
            points = [epoch for epoch in experiment.POINTS if epoch in table]
            found[f"{name}, {words}"] = {
                remedy: [_pair(of[epoch]) for epoch in points]
                for remedy, of in table.groupby("remedy", sort=False)
            }
    return found


def _pair(values: pd.Series) -> list:
    mean, _, high = interval(list(values))
    half = round(high - mean, 2) if math.isfinite(high) else None
    return [round(mean, 2), half]


def board(rows: pd.DataFrame) -> str:
    """Returns the table as HTML."""
    every, cost = views(rows), experiment.cost(rows)
    first = next(iter(every))
    left = {}
    doses: list[str] = []
    if (rows["dose"] > 0).any():
        table = experiment.jump_left(rows)
        doses = [f"left of a jump of {dose:.0f} %" for dose in table.columns]
        left = {name: [_pair(of[d]) for d in table] for name, of in table.groupby("remedy")}
    heads = ["remedy", *HEADS, *doses, "CPU time, plain = 1", "memory, plain = 1"]
    body = []
    for name in [name for name in BOARD if name in every[first]]:
        cells = [_details(name, rows, every)]
        cells += [_cell(*pair, "%") for pair in every[first][name]]
        cells += [_cell(*pair, "%", 0) for pair in left.get(name, [[math.nan, None]] * len(doses))]
        cells += [_cell(round(cost.loc[name, kind], 2), None, "") for kind in COST]
        body.append(f'<tr data-name="{name}">{"".join(cells)}</tr>')
    options = "".join(f"<option>{html.escape(one)}</option>" for one in every)
    columns = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{html.escape(head)}</button></th>'
        for head in heads
    )
    return (
        f'<div class="board">{STYLE}<label>Show the loss on <select>{options}</select></label>'
        f'<div class="board-scroll" tabindex="0"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f"<script>{SCRIPT.replace('DATA', json.dumps(every))}</script></div>"
    )


def _cell(mean: float, half: float | None, unit: str, digits: int = 2) -> str:
    if math.isnan(mean):
        return '<td data-value="Infinity">–</td>'
    sign = f"{mean:+.{digits}f}" if unit and digits else f"{mean:.{digits}f}"
    width = f"<small> ±&nbsp;{half:.{digits}f}</small>" if half is not None else ""
    return f'<td data-value="{mean}">{sign.replace("-", "−")}{width}</td>'


def _details(name: str, rows: pd.DataFrame, every: dict) -> str:
    remedy = BOARD[name]
    best = chosen(on_board(name))
    value = best.hyperparameter
    symbol = {"tau": "τ", "alpha": "α"}.get(remedy.hyperparameter, remedy.hyperparameter)
    tuned = f"tables' rate {best.embedding_lr / remedy.scale(value):.2g}"
    tuned += f", {symbol} = {value}" if value is not None else ""
    tuned += f", dense rate × {best.dense_factor:g} from epoch 2"
    lines = {
        "Formula": f'<span class="math notranslate nohighlight">\\({remedy.formula}\\)</span>',
        "Source": html.escape(remedy.source),
        "Needs": html.escape(remedy.needs),
        "Search chose": html.escape(tuned) + " (AdsWorld)",
    }
    inner = "".join(f"<p><b>{head}.</b> {words}</p>" for head, words in lines.items())
    return (
        f'<th scope="row" data-value="{html.escape(remedy.label)}"><details>'
        f"<summary>{html.escape(remedy.label)}</summary>{inner}{_curve(name, rows)}</details></th>"
    )


def _curve(name: str, rows: pd.DataFrame) -> str:
    """Draws the remedy's loss against one plain epoch's, from the end of epoch 1 on, as SVG."""
    lines, low, high = [], -2.0, 2.0
    for data, words, dash in (("world", "AdsWorld", ""), ("kuairand", "KuaiRand", "4 3")):
        if data not in set(rows["data"]):
            continue
        means = experiment.against_one_epoch(rows, data).xs(name, level="remedy").mean()
        means = means[means.index >= 1]
        lines.append((words, dash, means))
        low, high = min(low, means.min()), max(high, means.max())
    high = min(high, 40.0)
    last = max(max(means.index) for *_, means in lines)

    def place(epoch: float, value: float) -> str:
        x = 34 + 190 * (epoch - 1) / (last - 1)
        return f"{x:.0f},{8 + 84 * (high - min(value, high)) / (high - low):.0f}"

    parts = []
    for words, dash, means in lines:
        path = " ".join(place(epoch, value) for epoch, value in means.items())
        title = f"<title>{words}</title>"
        parts.append(f'<polyline points="{path}" stroke-dasharray="{dash}">{title}</polyline>')
    zero = place(1, 0).split(",")[1]
    ticks = "".join(
        f'<text x="30" y="{float(place(1, v).split(",")[1]) + 4:.0f}" text-anchor="end">'
        f"{v:+.0f}</text>"
        for v in (low, high)
    )
    axis = f'<line x1="34" x2="224" y1="{zero}" y2="{zero}"/>'
    epochs = "".join(
        f'<text x="{place(e, 0).split(",")[0]}" y="108" text-anchor="middle">{e:.0f}</text>'
        for e in range(1, int(last) + 1)
    )
    return (
        f'<svg viewBox="0 0 230 112" role="img" aria-label="loss in % above one plain epoch, '
        f'by epochs; solid AdsWorld, dashed KuaiRand">{axis}{ticks}{epochs}{"".join(parts)}</svg>'
        "<p>Loss in % above one plain epoch, by epochs. Solid: AdsWorld. Dashed: KuaiRand.</p>"
    )


STYLE = """<style>
.board-scroll { overflow-x: auto; max-height: 80vh; margin-top: .5rem; }
.board table { border-collapse: separate; border-spacing: 0; width: max-content; margin: 0; }
.board th, .board td { padding: .3rem .6rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent);
  min-width: 0 !important; white-space: nowrap; }
.board thead th { position: sticky; top: 0; z-index: 2; vertical-align: bottom; }
.board th:first-child { position: sticky; left: 0; z-index: 1; text-align: left; width: 11rem;
  min-width: 9.5rem !important; max-width: 40vw; white-space: normal; font-weight: normal; }
.board thead th:first-child { z-index: 3; }
.board thead th, .board th:first-child {
  background: var(--pst-color-background, Canvas); color: var(--pst-color-text-base, CanvasText); }
.board thead button { all: unset; cursor: pointer; font-weight: 600; max-width: 6rem;
  white-space: normal; display: inline-block; }
.board thead button:focus-visible { outline: 2px solid currentColor; }
.board th[aria-sort="ascending"] button::after { content: " ▲"; }
.board th[aria-sort="descending"] button::after { content: " ▼"; }
.board small { opacity: .8; }
.board summary { cursor: pointer; }
.board details p { margin: .3rem 0; font-size: .85em; overflow-wrap: anywhere; }
.board details[open] { min-width: 14rem; }
.board svg { width: 100%; max-width: 16rem; fill: currentColor; font-size: 10px; }
.board polyline { fill: none; stroke: currentColor; stroke-width: 2; }
.board line { stroke: currentColor; opacity: .4; }
.board select { max-width: 100%; }
</style>"""

SCRIPT = """
(() => {
  const views = DATA;
  const box = document.currentScript.closest(".board");
  const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("thead th")];
  const value = (cell) => cell.dataset.value;
  const text = (x, digits) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
  box.querySelector("select").addEventListener("change", (event) => {
    const view = views[event.target.value];
    for (const row of body.rows) {
      view[row.dataset.name].forEach(([mean, half], k) => {
        const cell = row.cells[k + 1];
        cell.dataset.value = mean;
        cell.textContent = text(mean, 2);
        if (half === null) return;
        const small = document.createElement("small");
        small.textContent = " ±\\u00a0" + half.toFixed(2);
        cell.append(small);
      });
    }
    const sorted = heads.findIndex((head) => head.ariaSort !== "none");
    if (sorted >= 0) sort(sorted, heads[sorted].ariaSort);
  });
  function sort(k, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a.cells[k]), value(b.cells[k])];
      return sign * (k === 0 ? x.localeCompare(y) : x - y);
    });
    body.append(...rows);
    heads.forEach((head, place) => { head.ariaSort = place === k ? direction : "none"; });
  }
  heads.forEach((head, k) => head.querySelector("button").addEventListener("click", () => {
    sort(k, head.ariaSort === "ascending" ? "descending" : "ascending");
  }));
})();
"""


def show(rows: pd.DataFrame) -> None:
    """Displays the board in a notebook."""
    from IPython.display import HTML, display

    display(HTML(board(rows)))
