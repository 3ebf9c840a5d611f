// A finding is shown alone, gone to by a double click, and rejected with its ✕ or Del.
function showAlone() {
  const rows = $$(".zs-finding");
  if (!rows.some((row) => row.dataset.region === alone)) alone = null;
  rows.forEach((row) => {
    row.classList.toggle("zs-on", row.dataset.region === alone);
    row.querySelector(".zs-show").setAttribute("aria-pressed", String(row.dataset.region === alone));
  });
  dress();
}
$("#zs-findings").addEventListener("click", (event) => {
  const row = event.target.closest(".zs-show")?.closest(".zs-finding");
  if (!row) return;
  alone = alone === row.dataset.region ? null : row.dataset.region;
  showAlone();
});
$("#zs-findings").addEventListener("dblclick", (event) => {
  const row = event.target.closest(".zs-finding");
  if (row) zoomOn(row.dataset.box.split(",").map(Number));
});
hooks["zs-findings"] = showAlone;
// The one under the pointer, or that has the focus, is lit in the photo.
function light(event) {
  const region = event.type === "pointerleave" ? null : event.target.closest(".zs-finding")?.dataset.region ?? null;
  main()?.querySelectorAll(".zs-region").forEach((group) => group.classList.toggle("zs-lit", group.dataset.region === region));
}
for (const kind of ["pointerover", "pointerleave", "focusin"]) $("#zs-findings").addEventListener(kind, light);

const ACTIONS = {
  reject: (button) => { alone = null; act("reject", place(button)); },
  restore: (button) => act("restore", place(button)),
  verdict: (button) => act("verdict", { verdict: button.dataset.verdict }),
  set: (button) => act("change", { name: button.dataset.name, value: button.dataset.value }),
  drop_part: (button) => act("drop_part", { key: button.dataset.key }),
  add_this: () => act("add_this"),
  close_profile: () => act("close_profile"),
  run_systems: () => act("systems", { run: true }),
  stop_systems: () => act("stop_systems"),
  take_system: (button) => { setView("marks"); act("change", { name: "system", value: button.dataset.name }); },
  previous: () => walk(-1),
  next: () => walk(1),
  all: () => { setMode("many"); keepMode(); },
  link: copyLink,
  folder: () => $("#zs-folder").click(),
  camera: () => takePicture(),
};
// A click that would mark most of the photo is offered, not taken; the place alone is the other choice.
hooks.offer = (at) => {
  const with_keys = document.activeElement === main();
  tell("This click would mark more than half of the photo. Is only this spot wrong, or the whole object?");
  const choices = [["Only this spot", { action: "spot" }], ["Mark the whole object", { action: "plus", whole: true }]];
  for (const [words, data] of choices) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "zs-button";
    button.textContent = words;
    button.onclick = () => { act("click", { x: at.x, y: at.y, ...data }); if (with_keys) main().focus(); };
    $("#zs-note").insertBefore(button, $("#zs-note").lastChild);
  }
  if (with_keys) $("#zs-note .zs-button").focus();
};
$("#zs-note").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  tell("");
  main()?.focus();
});
const place = (button) => ({ x: Number(button.dataset.x), y: Number(button.dataset.y) });
ACTIONS.rerun = () => lost ? act(lost.name, lost.data) : act("rerun");
for (const name of ["stop", "undo", "redo", "reset", "close"]) ACTIONS[name] = () => act(name);
app.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  event.preventDefault();
  ACTIONS[button.dataset.do]?.(button);
});
