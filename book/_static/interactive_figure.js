/* Replaces each static figure whose name ends in "-interactive" by an interactive one.
 *
 * interactive_figure_data.js, loaded before, holds means and intervals (written by
 * tools/interactive_figure.py). All controls are native, so mouse,
 * touch and keyboard work; the table gives every number.
 */
(() => {
  "use strict";
  const data = window.MULTIEPOCH_FIGURE;
  const SVG = "http://www.w3.org/2000/svg";
  const MARGIN = { left: 58, right: 10, top: 22, bottom: 38 };
  const PARTS = { 0.25: "a quarter into", 0.5: "half of", 0.75: "three quarters into", 1: "end of" };

  function make(parent, tag, attributes = {}, text = "") {
    const one = parent.namespaceURI === SVG || tag === "svg"
      ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
    if (text) one.textContent = text;
    parent.append(one);
    return one;
  }

  const capital = (words) => words[0].toUpperCase() + words.slice(1);
  const named = (objective) => objective.replaceAll("_", "-");
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x * data.units.change).toFixed(1);
  const point = (epoch) => `${PARTS[epoch - Math.ceil(epoch) + 1]} epoch ${Math.ceil(epoch)}`;

  /** Round numbers between two ends, about four of them, and how many digits they need. */
  function ticks(low, high) {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  }

  /** A group of radio buttons; `choose` gets the value. */
  function radios(parent, id, title, values, chosen, words, choose) {
    const group = make(parent, "fieldset");
    make(group, "legend", {}, title);
    for (const value of values) {
      const label = make(group, "label");
      const input = make(label, "input", { type: "radio", name: `${id}-${title}`, value });
      input.checked = value === chosen;
      input.addEventListener("change", () => choose(value));
      label.append(words(value));
    }
  }

  /** A range with a title and a text for its value; `choose` gets the place, from 0 on. */
  function slider(parent, kind, title, places, chosen, choose) {
    const label = make(parent, "label", { class: `touch-slider ${kind}` });
    make(label, "b", {}, title);
    const range = make(label, "input", { type: "range", min: 0, max: places - 1 });
    range.value = chosen;
    range.addEventListener("input", () => choose(Number(range.value)));
    return [range, make(label, "output")];
  }

  function build(image) {
    const figure = image.closest("figure");
    const state = { ...data.shown, methods: new Set(data.shown.methods), at: data.epochs.indexOf(1.25) };
    const host = document.createElement("div");
    host.className = "touch";
    const controls = make(host, "div", { class: "touch-controls" });
    const source = () => data.sources[state.source];
    const settings = Object.keys(source().doses).sort((a, b) => a - b);
    const quarter = data.epochs.indexOf(1.25);
    const doseOf = (setting) => {
      const [change] = source().series[setting].plain[state.objective].change;
      const own = (change[quarter] * data.units.change).toFixed(1);
      return `plain jumps by ${own}\u00a0% for ${named(state.objective)}, by ${source().doses[setting].toFixed(1)}\u00a0% on average`;
    };
    const lossOf = () => `${source().loss} of ${named(state.objective)}`;
    radios(controls, figure.id, "Data", Object.keys(data.sources), state.source, String,
      (value) => { state.source = value; objectives(); draw(); });
    objectives();

    function objectives() {
      const [method] = data.methods;
      const names = Object.keys(source().series[state.setting][method.name]);
      if (!names.includes(state.objective)) state.objective = names[0];
      controls.children[1]?.remove();
      radios(controls, figure.id, "Objective", names, state.objective, named,
        (value) => { state.objective = value; draw(); });
    }

    const body = make(host, "div", { class: "touch-body" });
    const left = make(body, "div");
    const chart = make(left, "svg", { class: "touch-chart", role: "img" });
    const [dose, doseOutput] = slider(left, "touch-dose", "Rate of the tables", settings.length,
      settings.indexOf(state.setting), (value) => { state.setting = settings[value]; draw(); });
    const [range, output] = slider(left, "touch-point", "Point of training", data.epochs.length,
      state.at, (value) => { state.at = value; draw(); });

    const right = make(body, "div");
    const table = make(right, "table");
    const head = make(make(table, "thead"), "tr");
    make(head, "th", { scope: "col" }, "Method");
    const lossHead = make(head, "th", { scope: "col" });
    const changeHead = make(head, "th", { scope: "col" });
    const tbody = make(table, "tbody");
    const cells = data.methods.map((method) => methodRow(tbody, method));
    make(right, "p", { class: "touch-note" },
      "The change is against the same method's end of epoch 1; a quarter into epoch 2, it is the jump. In brackets: 95\u00a0% intervals.");
    const said = make(host, "p", { class: "touch-hidden", "aria-live": "polite" });

    function methodRow(parent, method) {
      const row = make(parent, "tr");
      const label = make(make(row, "th", { scope: "row" }), "label");
      const box = make(label, "input", { type: "checkbox" });
      box.checked = state.methods.has(method.name);
      box.addEventListener("change", () => {
        state.methods[box.checked ? "add" : "delete"](method.name);
        draw();
      });
      const sample = make(label, "svg", { width: 34, height: 10, "aria-hidden": "true" });
      line(sample, method, "M0,5H34");
      label.append(method.name);
      return { loss: make(row, "td"), change: make(row, "td") };
    }

    function line(parent, method, d) {
      make(parent, "path", { class: "touch-line", style: `--method: ${method.color}`,
        "stroke-dasharray": method.dashes, d });
    }

    const seriesOf = (method) => source().series[state.setting][method.name]?.[state.objective];

    /** Writes a mean and its interval, or a dash if there is none; returns the text. */
    function write(cell, pair, words) {
      cell.replaceChildren();
      const [mean, half] = pair ?? [];
      make(cell, "span", {}, pair ? words(mean) : "–");
      if (pair && half !== null) {
        cell.append(" ");
        make(cell, "span", {}, `[${words(mean - half)}, ${words(mean + half)}]`);
      }
      return cell.textContent;
    }

    function numbers() {
      const where = point(data.epochs[state.at]);
      const heard = [];
      lossHead.textContent = `${capital(source().loss)}, ${where}`;
      changeHead.textContent = `Change, ${where}, %`;
      data.methods.forEach((method, k) => {
        const one = seriesOf(method);
        const loss = write(cells[k].loss, one?.loss.map((values) => values[state.at]),
          (x) => (x * data.units.loss).toFixed(4));
        write(cells[k].change, one?.change.map((values) => values[state.at]), signed);
        if (state.methods.has(method.name)) heard.push(`${method.name} ${loss}`);
      });
      output.textContent = where;
      range.setAttribute("aria-valuetext", where);
      doseOutput.textContent = `${state.setting}: ${doseOf(state.setting)}`;
      dose.setAttribute("aria-valuetext", doseOutput.textContent);
      const title = `${capital(lossOf())}, ${state.source}, ${doseOf(state.setting)}. `;
      chart.setAttribute("aria-label", `${title}${where}: ${heard.join("; ")}.`);
      said.textContent = chart.getAttribute("aria-label");
    }

    let toX = (epoch) => epoch;
    function curves() {
      const width = Math.max(260, chart.parentNode.clientWidth);
      const height = Math.round(Math.min(300, Math.max(230, 0.46 * width)));
      const { left, right, top, bottom } = MARGIN;
      const shown = data.methods.filter((m) => state.methods.has(m.name) && seriesOf(m));
      // Cuts off the first steps of training at the top, as the static figure does.
      const later = shown.flatMap((m) => {
        const [mean, half] = seriesOf(m).loss;
        return mean.flatMap((x, k) => (data.epochs[k] < 1 ? []
          : [(x - (half[k] ?? 0)) * data.units.loss, (x + (half[k] ?? 0)) * data.units.loss]));
      });
      const ends = later.length ? [Math.min(...later), Math.max(...later)] : [0, 1];
      const room = 0.06 * (ends[1] - ends[0]) || 0.01;
      const [low, high] = [ends[0] - room, ends[1] + room];
      const last = data.epochs.at(-1);
      toX = (epoch) => left + ((width - left - right) * epoch) / last;
      const toY = (y) => height - bottom - ((height - top - bottom) * (y - low)) / (high - low);

      chart.replaceChildren();
      for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
        chart.setAttribute(name, value);
      }
      const clip = make(make(chart, "clipPath", { id: `${figure.id}-clip` }), "rect",
        { x: left, y: top, width: width - left - right, height: height - top - bottom });
      make(chart, "text", { x: 0, y: 12 }, lossOf());
      const [grid, digits] = ticks(low, high);
      for (const y of grid) {
        make(chart, "path", { class: "touch-grid", d: `M${left},${toY(y)}H${width - right}` });
        make(chart, "text", { x: left - 6, y: toY(y) + 4, "text-anchor": "end" }, y.toFixed(digits));
      }
      for (let epoch = 0; epoch <= last; epoch++) {
        make(chart, "path", { class: "touch-boundary", d: `M${toX(epoch)},${top}V${height - bottom}` });
        make(chart, "text", { x: toX(epoch), y: height - bottom + 15, "text-anchor": "middle" }, `${epoch}`);
      }
      make(chart, "text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
        "epochs over the training window");

      const inside = make(chart, "g", { "clip-path": `url(#${figure.id}-clip)` });
      const at = data.epochs[state.at];
      make(inside, "path", { class: "touch-cursor", d: `M${toX(at)},${top}V${height - bottom}` });
      for (const method of shown) {
        const [mean, half] = seriesOf(method).loss;
        const place = (sign) => mean.map((x, k) =>
          `${toX(data.epochs[k]).toFixed(1)},${toY((x + sign * (half[k] ?? 0)) * data.units.loss).toFixed(1)}`);
        make(inside, "path", { class: "touch-band", style: `--method: ${method.color}`,
          d: `M${place(1).join("L")}L${place(-1).reverse().join("L")}Z` });
        line(inside, method, `M${place(0).join("L")}`);
        make(inside, "circle", { class: "touch-dot", style: `--method: ${method.color}`, r: 4,
          cx: toX(at), cy: toY(mean[state.at] * data.units.loss) });
      }
    }

    function draw() { numbers(); curves(); }

    function nearest(event) {
      if (event.type === "pointermove" && event.pointerType !== "mouse" && !event.buttons) return;
      const x = event.clientX - chart.getBoundingClientRect().left;
      const far = data.epochs.map((epoch) => Math.abs(toX(epoch) - x));
      const at = far.indexOf(Math.min(...far));
      if (at === state.at) return;
      state.at = at;
      range.value = at;
      draw();
    }
    chart.addEventListener("pointerdown", nearest);
    chart.addEventListener("pointermove", nearest);

    image.closest("figure > *").replaceWith(host);
    draw();
    said.textContent = ""; // nothing has changed yet
    new ResizeObserver(curves).observe(left);
  }

  if (data) document.querySelectorAll('figure[id$="-interactive"] img').forEach(build);
})();
