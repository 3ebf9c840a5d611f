// A stage grows to the full width and back, and stays so when the server draws it anew.
const wide = new Set();
function show() {
  element.querySelectorAll(".zs-stage[data-stage]").forEach((figure) => {
    const on = wide.has(figure.dataset.stage);
    figure.classList.toggle("zs-wide", on);
    figure.querySelector(".zs-zoom")?.setAttribute("aria-expanded", String(on));
  });
}
element.addEventListener("click", (event) => {
  const figure = event.target.closest(".zs-zoom")?.parentElement;
  if (!figure) return;
  wide.has(figure.dataset.stage) ? wide.delete(figure.dataset.stage) : wide.add(figure.dataset.stage);
  show();
});
watch("value", show);
