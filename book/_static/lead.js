/* Shows the picture of the lead figure whose text has reached the middle of the screen, or, in a
 * tall window, a line near its top, since the figure itself is near the top of the page.
 *
 * The page marks itself as live before the figure, so that it has its form when it is first painted.
 * Where motion is unwelcome, the style sheet keeps the sequence of pictures, whatever happens here.
 */
(() => {
  "use strict";
  const steps = [...document.querySelectorAll(".story-step")];
  const texts = steps.map((step) => step.querySelector("p"));
  function show() {
    const line = Math.min(innerHeight / 2, 440);
    const passed = texts.filter((text) => text.getBoundingClientRect().top < line);
    const now = Math.max(0, passed.length - 1);
    steps.forEach((step, k) => step.classList.toggle("story-now", k === now));
  }
  show();
  addEventListener("scroll", show, { passive: true });
})();
