/* Shows the picture of the lead figure whose text has reached the middle of the screen, or, in a
 * tall window, a line near its top, since the figure itself is near the top of the page.
 *
 * Loaded right after the figure, so that it takes its form before the page is first painted. Where
 * motion is unwelcome, the style sheet keeps the sequence of pictures, whatever happens here.
 */
(() => {
  "use strict";
  const story = document.querySelector(".story");
  const steps = [...story.querySelectorAll(".story-step")];
  const texts = steps.map((step) => step.querySelector("p"));
  function show() {
    const line = Math.min(innerHeight / 2, 440);
    const passed = texts.filter((text) => text.getBoundingClientRect().top < line);
    const now = Math.max(0, passed.length - 1);
    steps.forEach((step, k) => step.classList.toggle("story-now", k === now));
  }
  story.classList.add("story-live");
  show();
  addEventListener("scroll", show, { passive: true });
})();
