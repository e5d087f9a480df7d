/* Stacks each table that is wider than its page, so that no column is hidden: a row becomes a list of
 * heads and values. Without scripts such a table scrolls sideways.
 */
(() => {
  "use strict";
  const plain = [...document.querySelectorAll("article table")].filter((table) =>
    table.tHead && !table.closest(".board, .touch"));
  for (const table of plain) {
    const heads = [...table.tHead.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
    for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
      for (const [k, cell] of [...row.cells].entries()) {
        const head = heads.findLast((texts) => texts[k])?.[k]; // pandas has a row for the index alone
        if (k > 0 && head) cell.dataset.head = head;
      }
    }
  }
  function fit() {
    for (const table of plain) {
      table.classList.remove("stacked");
      const around = table.parentElement;
      const wide = table.scrollWidth > table.clientWidth + 1
        || table.offsetWidth > around.clientWidth + 1;
      table.classList.toggle("stacked", wide);
    }
  }
  fit();
  addEventListener("resize", fit);
  document.fonts?.ready.then(fit);
})();
