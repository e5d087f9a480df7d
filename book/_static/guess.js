/* Asks for the reader's guess of a claim's number before prediction, finding and interval show.
 *
 * claims_data.js, loaded before, has a question for each section of a claim. Everything from the
 * prediction on is hidden until the reader has guessed; without scripts, the page is plain text.
 */
(() => {
  "use strict";
  const number = (x) => Number(x.toPrecision(3)).toString().replace("-", "−");

  function make(parent, tag, attributes = {}, text = "") {
    const one = parent.namespaceURI.endsWith("svg") || tag === "svg"
      ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
    one.textContent = text;
    parent.append(one);
    return one;
  }

  function ask(question) {
    const heading = document.getElementById(question.section)?.closest("section")?.querySelector("h3");
    if (!heading) return () => {};
    const said = [...heading.parentElement.children];
    const from = said.findIndex((one) => one.textContent.startsWith("Predicted before"));
    const answer = said.slice(from).filter((one) => one.tagName !== "SCRIPT");
    const [low, high] = question.range;
    const unit = question.unit ? `\u00a0${question.unit}` : "";
    const inWords = (x) => number(x) + unit;

    const form = document.createElement("form");
    form.className = "guess";
    const label = make(form, "label", {}, "Your guess before you look: ");
    make(label, "b", {}, question.asks);
    const slider = make(label, "input",
      { type: "range", min: low, max: high, step: question.step, value: low });
    const output = make(form, "output");
    const say = () => {
      output.textContent = inWords(Number(slider.value));
      slider.setAttribute("aria-valuetext", output.textContent);
    };
    slider.addEventListener("input", say);
    say();
    make(form, "button", { class: "sd-btn sd-btn-primary" }, "Show what was found");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      reveal(Number(slider.value));
    });
    heading.parentElement.insertBefore(form, answer[0]);
    answer.forEach((one) => one.setAttribute("hidden", "until-found")); // the browser's search finds it

    function reveal(guess) {
      answer.forEach((one) => one.removeAttribute("hidden"));
      if (guess === undefined) { form.remove(); return; }
      const [mean, least, most] = question.found;
      const span = least === null ? "" : ` [${number(least)}, ${number(most)}]`;
      form.replaceChildren();
      const words = make(form, "p", { tabindex: -1 });
      words.append("You guessed ", make(words, "b", {}, inWords(guess)), "; found: ",
        make(words, "b", {}, inWords(mean) + span), `, ${question.asks}.`);
      const place = (x) => `${3 + 94 * (x - low) / (high - low)}%`;
      const strip = make(form, "svg", { class: "guess-strip", height: 22, "aria-hidden": "true" });
      make(strip, "line", { class: "guess-axis", x1: "3%", x2: "97%", y1: 11, y2: 11 });
      make(strip, "line", { class: "guess-threshold", x1: "50%", x2: "50%", y1: 0, y2: 22 });
      if (least !== null) {
        make(strip, "line", { class: "guess-found", x1: place(least), x2: place(most), y1: 11, y2: 11 });
      }
      make(strip, "circle", { class: "guess-found", cx: place(mean), cy: 11, r: 4 });
      make(strip, "circle", { class: "guess-yours", cx: place(guess), cy: 11, r: 6 });
      words.focus();
    }
    answer.forEach((one) => one.addEventListener("beforematch", () => reveal()));
    return reveal;
  }

  const reveals = (window.MULTIEPOCH_CLAIMS ?? []).map(ask);
  const all = document.querySelector(".guess-all");
  const button = make(all, "button", { type: "button", class: "sd-btn sd-btn-outline-primary" },
    "Show everything at once");
  button.addEventListener("click", () => {
    reveals.forEach((reveal) => reveal());
    button.remove();
  });
})();
