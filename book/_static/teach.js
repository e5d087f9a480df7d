/* Opens a solution only after an attempt, and shows a term's definition on hover and on focus.
 *
 * Without scripts, a solution is folded as usual and a term links to the glossary.
 */
(() => {
  "use strict";

  // Exercises: a box to write into, above each folded solution. Nothing of it is stored.
  document.querySelectorAll("article details > summary").forEach((summary, k) => {
    if (summary.textContent.trim() !== "Solution") return;
    const solution = summary.parentElement;
    const box = document.createElement("div");
    box.className = "attempt";
    box.innerHTML = `<label for="attempt-${k}">Your attempt, which stays on this page:</label>
      <textarea id="attempt-${k}" rows="2"></textarea>
      <button type="button" class="sd-btn sd-btn-outline-primary">Show the solution without one</button>`;
    const open = () => {
      solution.hidden = false;
      box.querySelector("button")?.remove();
    };
    box.querySelector("textarea").addEventListener("input", open);
    box.querySelector("button").addEventListener("click", () => {
      open();
      solution.open = true;
      summary.focus();
    });
    solution.before(box);
    solution.hidden = true;
  });

  // The glossary: one tip for all terms, which stays while the pointer is on it; Escape closes it.
  const tip = document.createElement("div");
  Object.assign(tip, { id: "term-tip", className: "term-tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  let current = null;
  let leaving;
  const hide = () => {
    tip.hidden = true;
    current?.removeAttribute("aria-describedby");
    current = null;
  };
  const later = () => { leaving = setTimeout(hide, 200); };
  const stay = () => clearTimeout(leaving);
  function show(link) {
    stay();
    hide();
    current = link;
    tip.textContent = link.dataset.definition;
    tip.hidden = false;
    link.setAttribute("aria-describedby", tip.id);
    const place = link.getClientRects()[0];
    const width = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(8, Math.min(place.left, width - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${place.bottom + 4 + scrollY}px`;
  }
  document.querySelectorAll("article a.term").forEach((link) => {
    link.addEventListener("pointerenter", () => show(link));
    link.addEventListener("pointerleave", later);
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", hide);
  });
  tip.addEventListener("pointerenter", stay);
  tip.addEventListener("pointerleave", later);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
