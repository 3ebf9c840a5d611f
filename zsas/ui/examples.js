// The row of examples.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  element.querySelectorAll("[data-example]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  // On a cold first visit the buttons are there before the parts that the answer fills; what came earlier was lost.
  const parts = ["#zs-upload input", "#knob-object_name input, #knob-object_name textarea"];
  const ask = (tries) => {
    if (tries && !parts.every((part) => document.querySelector(part))) return setTimeout(ask, 50, tries - 1);
    trigger("select", { example: button.dataset.example });
  };
  ask(100);
});
