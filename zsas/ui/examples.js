// The row of examples.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  element.querySelectorAll("[data-example]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  trigger("select", { example: button.dataset.example });
});
