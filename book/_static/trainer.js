/* The program of chapter 1, in the page: tables, dense layers and the loop, in a worker.
 *
 * `program` is the training alone; src/reproduction/trainer.py computes the same losses. The rest
 * draws. The world is loaded when the button is first pressed. */
"use strict";

function program({ rows, n, batch, seed }, bytes) {
  const DIM = 16, DENSE_RATE = 1e-3, BELOW = 100, OBJECTIVES = 3;
  let at = 0;
  const [log, test] = n.map((size) => {
    const take = (Kind, k) => new Kind(bytes, at, k * size, at += k * size * Kind.BYTES_PER_ELEMENT);
    const ids = take(Uint16Array, rows.length);
    const [numbers, labels, truth] = [5, OBJECTIVES, OBJECTIVES].map((k) => take(Uint8Array, k));
    return { size, ids, labels, numbers: Float64Array.from(numbers, (v) => (v - 128) / 16),
      truth: Float64Array.from(truth, (v) => Math.exp(-v / 16)) };
  });
  const N_NUMBERS = log.numbers.length / log.size, WIDTH = DIM * rows.length + N_NUMBERS;

  function twister(start) {  // MT19937, from which torch and numpy draw, too
    const state = new Uint32Array(624);
    let next = 624;
    state[0] = start;
    for (let k = 1; k < 624; k++) {
      state[k] = Math.imul(1812433253, state[k - 1] ^ (state[k - 1] >>> 30)) + k;
    }
    return () => {
      for (let k = 0; next === 624 && k < 624; k++) {
        const y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
        state[k] = state[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      if (next === 624) next = 0;
      let y = state[next++];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      return (y ^ (y >>> 18)) >>> 0;
    };
  }

  // The dense layers. All their weights lie in one array, for Adam.
  const shapes = [[WIDTH, WIDTH], [WIDTH, 32], [32, 16], [16, OBJECTIVES]];
  const total = shapes.reduce((sum, [a, b]) => sum + (a + 1) * b, 0);
  const [theta, grad, moment, square] = [0, 0, 0, 0].map(() => new Float64Array(total));
  let used = 0;
  const layers = shapes.map(([inputs, outputs]) => {
    const [from, bias] = [used, used + inputs * outputs];
    used = bias + outputs;
    const [[w, b], [dw, db]] = [theta, grad].map((of) => [of.subarray(from, bias), of.subarray(bias, used)]);
    return { inputs, outputs, w, b, dw, db };
  });

  function linear({ inputs, outputs, w, b }, size, x, y, relu) {
    for (let i = 0; i < size; i++) {
      for (let o = 0; o < outputs; o++) {
        let sum = b[o];
        for (let k = 0, u = o * inputs, v = i * inputs; k < inputs; k++) sum += w[u + k] * x[v + k];
        y[i * outputs + o] = relu && sum < 0 ? 0 : sum;
      }
    }
  }

  function backward({ inputs, outputs, w, dw, db }, size, x, dy, dx) {
    for (let i = 0; i < size; i++) {
      for (let o = 0; o < outputs; o++) {
        const d = dy[i * outputs + o];
        if (d === 0) continue;
        db[o] += d;
        for (let k = 0, u = o * inputs, v = i * inputs; k < inputs; k++) {
          dw[u + k] += d * x[v + k];
          dx[v + k] += d * w[u + k];
        }
      }
    }
  }

  const buffer = (width) => new Float64Array(batch * width);
  const [x0, cross, x1, dx0, dcross, dx1] = [0, 0, 0, 0, 0, 0].map(() => buffer(WIDTH));
  const [h1, h2, z, dh1, dh2, dz] = [32, 16, OBJECTIVES, 32, 16, OBJECTIVES].map(buffer);

  /** Looks rows up and predicts; `without` is a column whose row counts as zero. */
  function forward(of, picked, weights, without = -1) {
    const size = picked.length;
    picked.forEach((impression, i) => {
      for (let t = 0; t < rows.length; t++) {
        const row = of.ids[t * of.size + impression] * DIM, to = i * WIDTH + t * DIM;
        for (let d = 0; d < DIM; d++) x0[to + d] = t === without ? 0 : weights[t][row + d];
      }
      for (let k = 0; k < N_NUMBERS; k++) {
        x0[(i + 1) * WIDTH - N_NUMBERS + k] = of.numbers[k * of.size + impression];
      }
    });
    linear(layers[0], size, x0, cross, false);
    for (let j = 0; j < size * WIDTH; j++) x1[j] = x0[j] * cross[j] + x0[j];
    linear(layers[1], size, x1, h1, true);
    linear(layers[2], size, h1, h2, true);
    linear(layers[3], size, h2, z, false);
  }

  function heldOutLoss(weights) {
    let sum = 0;
    for (let from = 0; from < test.size; from += batch) {
      const size = Math.min(batch, test.size - from);
      forward(test, Uint32Array.from({ length: size }, (_, i) => from + i), weights);
      for (let j = 0; j < size * OBJECTIVES; j++) {
        const p = test.truth[(j % OBJECTIVES) * test.size + from + Math.floor(j / OBJECTIVES)];
        sum += Math.max(z[j], 0) - z[j] * p + Math.log1p(Math.exp(-Math.abs(z[j])));
      }
    }
    return sum / test.size;
  }

  let tables, random, epoch, step, settings, ends;

  function begin(chosen) {
    settings = chosen;  // rate: of the tables; fal: whether; below: lookups of rows that start again
    tables = rows.map((size) => ({ weight: new Float64Array(size * DIM), count: new Float64Array(size),
      square: new Float64Array(size), sum: new Float64Array(batch * DIM), of: new Int32Array(size) }));
    const draw = twister(seed);
    for (const { inputs, w, b } of layers) {
      const drawn = () => (2 * draw() / 2 ** 32 - 1) / Math.sqrt(inputs);
      for (const weights of [w, b]) weights.set(Array.from(weights, drawn));
    }
    for (const of of [moment, square]) of.fill(0);
    [random, epoch, step, ends] = [twister(seed), 0, 0, { n: 0 }];
  }

  function adam() {
    step++;
    const first = 1 - 0.9 ** step, second = Math.sqrt(1 - 0.999 ** step);
    for (let k = 0; k < total; k++) {
      moment[k] += 0.1 * (grad[k] - moment[k]);
      square[k] = 0.999 * square[k] + 0.001 * grad[k] * grad[k];
      theta[k] -= DENSE_RATE / first * moment[k] / (Math.sqrt(square[k]) / second + 1e-8);
    }
  }

  /** Row-wise Adagrad on the rows that the batch has: grad is dx0. */
  function update(table, t, picked) {
    const touched = [];
    picked.forEach((impression, i) => {
      const row = log.ids[t * log.size + impression];
      if (touched[table.of[row]] !== row) {
        table.of[row] = touched.push(row) - 1;
        table.sum.fill(0, table.of[row] * DIM, (table.of[row] + 1) * DIM);
      }
      table.count[row]++;
      const to = table.of[row] * DIM, from = i * WIDTH + t * DIM;
      for (let d = 0; d < DIM; d++) table.sum[to + d] += dx0[from + d];
    });
    const most = settings.fal ? Math.log(table.count.reduce((a, b) => Math.max(a, b)) + 1) : 1;
    touched.forEach((row, k) => {
      const share = settings.fal ? Math.log(table.count[row] + 1) / most : 1;
      let squares = 0;
      for (let d = k * DIM; d < (k + 1) * DIM; d++) squares += table.sum[d] * table.sum[d];
      table.square[row] += squares / DIM;
      const rate = settings.rate * share / (Math.sqrt(table.square[row]) + 1e-8);
      for (let d = 0; d < DIM; d++) table.weight[row * DIM + d] -= rate * table.sum[k * DIM + d];
    });
  }

  function train(picked) {
    const size = picked.length;
    forward(log, picked, tables.map((table) => table.weight));
    for (let j = 0; j < size * OBJECTIVES; j++) {
      const label = log.labels[(j % OBJECTIVES) * log.size + picked[Math.floor(j / OBJECTIVES)]];
      dz[j] = (1 / (1 + Math.exp(-z[j])) - label) / size;
    }
    for (const of of [grad, dh2, dh1, dx1, dx0]) of.fill(0);
    backward(layers[3], size, h2, dz, dh2);
    for (let j = 0; j < size * 16; j++) if (h2[j] === 0) dh2[j] = 0;
    backward(layers[2], size, h1, dh2, dh1);
    for (let j = 0; j < size * 32; j++) if (h1[j] === 0) dh1[j] = 0;
    backward(layers[1], size, x1, dh1, dx1);
    for (let j = 0; j < size * WIDTH; j++) {
      dcross[j] = dx1[j] * x0[j];
      dx0[j] = dx1[j] * (cross[j] + 1);
    }
    backward(layers[0], size, x0, dcross, dx0);
    adam();
    tables.forEach((table, t) => update(table, t, picked));
  }

  /** Before a repeated epoch, rows with fewer lookups than `below` in the first start again. */
  function reset(table) {
    if (epoch === 1) table.lookups = table.count.slice();
    table.lookups.forEach((lookups, row) => {
      if (lookups >= settings.below) return;
      table.weight.fill(0, row * DIM, (row + 1) * DIM);
      table.square[row] = table.count[row] = 0;
    });
  }

  /** Returns the loss of the mean of all weights at the ends of epochs 2 and later. */
  function meanOfEnds() {
    const now = [theta, ...tables.map((table) => table.weight)];
    ends.sums = now.map((of, k) => (ends.n ? ends.sums[k].map((sum, i) => sum + of[i]) : of.slice()));
    ends.n++;
    const kept = theta.slice();
    const [dense, ...weights] = ends.sums.map((sums) => sums.map((sum) => sum / ends.n));
    theta.set(dense);
    const loss = heldOutLoss(weights);
    theta.set(kept);
    return loss;
  }

  /** Trains one epoch; calls `quarter` with the epochs done, the loss, and what rows say. */
  function oneEpoch(quarter) {
    if (epoch > 0) tables.forEach(reset);
    const order = Uint32Array.from({ length: log.size }, (_, k) => k);
    for (let k = 0; k < log.size - 1; k++) {  // as torch.randperm shuffles
      const other = k + random() % (log.size - k);
      [order[k], order[other]] = [order[other], order[k]];
    }
    const batches = Math.ceil(log.size / batch);
    for (let k = 1, done = 0; k <= 4; k++) {
      for (; done < Math.floor(k * batches / 4); done++) {
        train(order.subarray(done * batch, (done + 1) * batch));
      }
      const loss = heldOutLoss(tables.map((table) => table.weight));
      const mean = k === 4 && epoch > 0 ? meanOfEnds() : undefined;
      quarter({ at: epoch + k / 4, loss, mean, said: examples.map(said) });
    }
    epoch++;
  }

  // Impressions to look at: alone in their cross's row, and their outcome was not to be expected.
  const CROSS = rows.length - 1, seen = new Uint16Array(rows[CROSS]);
  const crosses = log.ids.subarray(CROSS * log.size);
  crosses.forEach((row) => { seen[row]++; });
  const alone = [...crosses.keys()].filter((i) => seen[crosses[i]] === 1);
  const surprise = (i) => (log.labels[i] ? log.truth[i] < 0.2 : log.truth[i] > 0.2);
  const examples = [1, 0].flatMap((click) => alone.filter((i) => log.labels[i] === click && surprise(i))
    .slice(0, 3)).map((i) => ({ i, user: log.ids[i], clicked: log.labels[i], truth: log.truth[i] }));

  /** Returns the probability of a click that the model gives an impression, and without its row. */
  function said({ i }) {
    return [-1, CROSS].map((without) => {
      forward(log, [i], tables.map((table) => table.weight), without);
      return 1 / (1 + Math.exp(-z[0]));
    });
  }

  return { begin, oneEpoch, examples };
}

function trainer(place, folder) {
  const METHODS = { plain: {}, FAL: { fal: true }, MEDA: { below: Infinity }, "tail rewind": { below: 100 } };
  const [form, status, chart, table, shown] = ["form", "[role=status]", ".trainer-loss", "table",
    ".trainer-shown"].map((of) => place.querySelector(of));
  const [buttons, row, words] = ["[role=group]", "svg", "p:last-child"].map((of) => shown.querySelector(of));
  const { rate, mean, more, again } = form.elements, runs = [];
  let worker, examples = [], picked = 0, busy = false;

  const tableRate = () => [0.03, 0.1, 0.3, 1][rate.value];
  const look = (name) => `trainer-${name.replace(" ", "-")}`;
  const whole = (p) => `${Math.round(100 * p)} %`;
  const change = (x) => `${x <= -0.0005 ? "−" : "+"}${Math.abs(100 * x).toFixed(1)}\u00a0%`;

  /** Draws lines of [epochs done, value]; `also` are values that must be in sight. */
  function plot(svg, lines, last, text, also = []) {
    const width = Math.max(280, place.clientWidth), height = 260, left = 48, right = width - 12;
    const values = [...lines.flatMap(({ points }) => points.map((point) => point[1])), ...also];
    const low = Math.min(...values), span = Math.max(...values) - low || 0.1;
    const x = (at) => (left + (right - left) * at / last).toFixed(1);
    const y = (value) => (height - 42 - (height - 60) * (value - low) / span).toFixed(1);
    const parts = [0, 1, 2, 3].map((k) => low + span * k / 3).map((v) =>
      `<path class="trainer-grid" d="M${left} ${y(v)}H${right}"/>
       <text x="${left - 6}" y="${+y(v) + 4}" text-anchor="end">${text(v)}</text>`);
    for (let k = 0; k <= last; k++) {
      parts.push(`<path class="trainer-boundary" d="M${x(k)} 12V${height - 42}"/>
        <text x="${x(k)}" y="${height - 24}" text-anchor="middle">${k}</text>`);
    }
    parts.push(`<text x="${(left + right) / 2}" y="${height - 6}" text-anchor="middle">epochs done</text>`);
    for (const { name, points, dots } of lines) {
      const at = points.map(([epochs, value]) => [x(epochs), y(value)]);
      if (!dots) parts.push(`<polyline class="trainer-line ${name}" points="${at.join(" ")}"/>`);
      parts.push(...(dots || at.length === 1 ? at : []).map(([cx, cy]) =>
        `<circle class="trainer-dot ${name}" cx="${cx}" cy="${cy}" r="5"/>`));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.innerHTML = parts.join("");
  }

  function draw() {
    const last = Math.max(2, ...runs.map(({ points }) => Math.ceil(points.length / 4)));
    const lines = runs.map(({ name, points }) => ({ name: look(name), points: points.map((p) => [p.at, p.loss]) }));
    const means = runs.map(({ name, points }) => ({ name: look(name), dots: true,
      points: points.filter((p) => p.at > 2 && p.mean).map((p) => [p.at, p.mean]) }));
    plot(chart, mean.checked ? [...lines, ...means] : lines, last, (v) => v.toFixed(2), runs.at(-1)?.points.length ? [] : [0.48, 0.58]);
    table.tBodies[0].innerHTML = runs.map(({ name, rate: of, points }) => {
      const one = points.find((p) => p.at === 1)?.loss;
      const cells = [1, 1.25, 2, 0].map((at) => {  // 0: the latest
        const point = at ? points.find((p) => p.at === at) : points.at(-1);
        if (!point) return "";
        const loss = !at && mean.checked && point.at > 2 && point.mean || point.loss;
        return at === 1 || !one ? loss.toFixed(3) : change(loss / one - 1);
      });
      return `<tr class="${look(name)}"><th scope="row">${name}, ${of}</th><td>${cells.join("</td><td>")}</td></tr>`;
    }).join("");
    shown.hidden = !runs.at(-1)?.points.length;
    if (!shown.hidden) drawRow(runs.at(-1), last);
  }

  function drawRow({ name, points }, last) {
    const { truth, clicked } = examples[picked], [now, without] = points.at(-1).said[picked];
    [...buttons.children].forEach((button, k) => button.setAttribute("aria-pressed", k === picked));
    const lines = [0, 1].map((k) => points.map((p) => [p.at, p.said[picked][k]]));
    plot(row, [{ name: look(name), points: lines[0] }, { name: "trainer-without", points: lines[1] },
      { name: "trainer-truth", points: [[0, truth], [last, truth]] }], last, whole, [0]);
    words.textContent = `The true probability of a click was ${whole(truth)}. The model now says ${whole(now)}; without `
      + `this row it would say ${whole(without)}. The impression was ${clicked ? "" : "not "}clicked.`;
  }

  async function load() {
    const script = document.createElement("script");
    script.src = `${folder}trainer_world.js`;
    await new Promise((loaded, failed) => {
      [script.onload, script.onerror] = [loaded, () => failed(new Error("its world does not load"))];
      document.head.append(script);
    });
    const { zipped, ...world } = trainerWorld, bytes = Uint8Array.from(atob(zipped), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const unzipped = await new Response(stream).arrayBuffer();
    const source = `${program}
      let made;
      onmessage = ({ data: { world, unzipped, settings } }) => {
        if (world) return postMessage({ examples: (made = program(world, unzipped)).examples });
        if (settings) made.begin(settings);
        const start = performance.now();
        made.oneEpoch((point) => postMessage({ point }));
        postMessage({ seconds: (performance.now() - start) / 1000 });
      };`;
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onerror = (event) => fail(event.message);
    worker.onmessage = ({ data }) => {
      if (data.examples) list(data.examples);
      if (data.point) runs.at(-1).points.push(data.point);
      if (data.seconds) finish(data.seconds);
      draw();
    };
    worker.postMessage({ world, unzipped }, [unzipped]);
  }

  function list(found) {
    examples = found;
    buttons.innerHTML = found.map(({ user, clicked }) =>
      `<button type="button">user ${user}: ${clicked ? "click" : "no click"}</button>`).join("");
    [...buttons.children].forEach((button, k) => button.addEventListener("click", () => { picked = k; draw(); }));
  }

  function finish(seconds) {
    const { name, points } = runs.at(-1), one = points[3].loss, n = points.length / 4;
    const [quarter, end] = [points.at(-4), points.at(-1)].map(({ loss }) => change(loss / one - 1));
    status.textContent = `${name}, epoch ${n}, in ${seconds.toFixed(1)} s. ` + (n === 1
      ? `The loss on new data has fallen to ${one.toFixed(3)}. Press again: the same impressions come once more.`
      : `Against epoch 1, the loss is at ${quarter} a quarter into this epoch and at ${end} at its end.`);
    more.setAttribute("aria-disabled", busy = false);
  }

  function fail(reason) {
    status.textContent = `This browser cannot train here: ${reason}. Chapter 1 has the same program.`;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    more.setAttribute("aria-disabled", busy = true);
    const name = form.elements.method.value, of = tableRate(), now = runs.at(-1);
    let settings;
    if (now?.name !== name || now.rate !== of) {  // a new run, in place of an older one like it
      const same = runs.findIndex((run) => run.name === name && run.rate === of);
      if (same >= 0) runs.splice(same, 1);
      runs.push({ name, rate: of, points: [] });
      settings = { rate: of, fal: false, below: 0, ...METHODS[name] };
    }
    status.textContent = `${name}, epoch ${runs.at(-1).points.length / 4 + 1} …`;
    try {
      if (!worker) await load();
      worker.postMessage({ settings });
    } catch (error) {
      fail(error.message);
    }
  });
  again.addEventListener("click", () => {
    if (busy) return;
    [runs.length, status.textContent] = [0, "Press the button: the next epoch is a first one."];
    draw();
  });
  rate.addEventListener("input", () => {
    rate.ariaValueText = rate.nextElementSibling.textContent = tableRate();
  });
  mean.addEventListener("change", draw);
  window.addEventListener("resize", draw);
  place.classList.add("trainer-live");
  draw();
}

if (typeof document !== "undefined") {
  trainer(document.querySelector("#trainer"), document.currentScript.src.replace(/[^/]*$/, ""));
}
