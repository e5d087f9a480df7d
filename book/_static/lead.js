/* Shows the picture of the lead figure whose text is in the middle of the screen.
 *
 * Loaded right after the figure, so that it takes its form before the page is first painted. Where
 * motion is unwelcome, the style sheet keeps the sequence of pictures, whatever happens here.
 */
(() => {
  "use strict";
  const lead = document.querySelector(".story");
  const steps = [...lead.querySelectorAll(".story-step")];
  const show = (step) => steps.forEach((one) => one.classList.toggle("story-now", one === step));
  lead.classList.add("story-live");
  show(steps[0]);
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) show(entry.target.parentElement);
  }, { rootMargin: "-50% 0px -50% 0px" });
  steps.forEach((step) => seen.observe(step.querySelector("p")));
})();
