// A row of the table lights up its region on the photo.
let chosen = null;
function show() {
  const svg = document.querySelector("#zs-main");
  const rows = [...element.querySelectorAll("tr[data-region]")];
  if (!rows.some((row) => row.dataset.region === chosen)) chosen = null;
  svg?.classList.toggle("zs-picked", chosen !== null);
  svg?.querySelectorAll(".zs-region").forEach((group) => group.classList.toggle("zs-on", group.dataset.region === chosen));
  rows.forEach((row) => {
    row.classList.toggle("zs-on", row.dataset.region === chosen);
    row.querySelector("button")?.setAttribute("aria-pressed", String(row.dataset.region === chosen));
  });
}
element.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-region]");
  if (!row) return;
  chosen = chosen === row.dataset.region ? null : row.dataset.region;
  show();
});
watch("value", () => { chosen = null; show(); });
