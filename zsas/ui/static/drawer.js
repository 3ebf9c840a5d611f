// Settings: values out of range are refused before they are sent, and the sheets at the side open and close.
function clamp(input) {
  if (input.type !== "number" && input.type !== "range") return true;
  const value = input.value === "" ? NaN : Number(input.value);
  const good = Number.isFinite(value) && value >= Number(input.min) && value <= Number(input.max);
  input.setAttribute("aria-invalid", String(!good));
  const row = input.closest(".zs-set");
  row?.querySelector(".zs-range")?.remove();
  if (!good && row) {
    const words = document.createElement("p");
    words.className = "zs-range";
    words.setAttribute("role", "alert");
    words.textContent = `${input.title || `${input.min} to ${input.max}`}; ${page.settings.values[input.name]} stays.`;
    row.append(words);
  }
  return good;
}
function send(input, wait) {
  if (!clamp(input)) { clearTimeout(send[input.name]); return; }
  const value = input.type === "checkbox" ? input.checked : input.type === "text" || input.tagName === "SELECT" ? input.value : Number(input.value);
  app.querySelectorAll(`[name="${input.name}"][data-set]`).forEach((other) => { if (other !== input && other.type !== "checkbox") other.value = input.value; });
  if (input.name === "threshold") drawLevel(Number(value));
  if (input.name === "verdict_threshold") drawLimit(Number(value));
  clearTimeout(send[input.name]);
  send[input.name] = setTimeout(() => act("change", { name: input.name, value }, input.name), wait);
}
app.addEventListener("input", (event) => {
  const input = event.target.closest("[data-set]");
  if (input && /^(range|number)$/.test(input.type)) send(input, input.type === "number" ? 500 : 150);
});
app.addEventListener("change", (event) => {
  const input = event.target.closest("[data-set]");
  if (!input) return;
  if (input.type === "number" && !clamp(input)) return;
  if (input.value !== String(page.settings.values[input.name])) send(input, 0);
});
app.addEventListener("focusout", (event) => {
  const input = event.target.closest("input[type=number][data-set]");
  if (input && input.getAttribute("aria-invalid") === "true") { input.value = page.settings.values[input.name]; clamp(input); }
});
hooks.settings = (settings) => {
  page.settings = settings;
  for (const option of $("#zs-system").options) {
    const lacking = settings.lacking?.[option.value] || "";
    option.disabled = Boolean(lacking);
    option.textContent = option.dataset.words + (lacking ? ` (${lacking})` : "");
  }
  $("#zs-system").value = settings.values.system;
  $("#zs-changed").textContent = settings.changed || "";
  $("[data-open=zs-drawer]").setAttribute("aria-label", settings.changed ? `Settings, ${settings.changed} changed` : "Settings");
  $("#zs-preset").value = settings.preset;
  $("#zs-scaled").checked = settings.scaled;
  if (document.activeElement !== $("#zs-object")) $("#zs-object").value = settings.values.object_name;
};
$("#zs-preset").addEventListener("change", (event) => act("preset", { name: event.target.value }));
// The drawer is drawn anew with each change; what is open in it stays open.
const open_groups = new Set();
app.addEventListener("toggle", (event) => {
  const name = event.target.closest("#zs-drawer-body details")?.querySelector("summary")?.textContent;
  if (name) open_groups[event.target.open ? "add" : "delete"](name);
}, true);
hooks["zs-drawer-body"] = () => {
  $$("#zs-drawer-body details").forEach((group) => { group.open = open_groups.has(group.querySelector("summary").textContent); });
  showLevel();
};
// A level that was found for the photo stands in the drawer as beside the colours; moved, it holds for all photos.
function showLevel() {
  const tick = $("#zs-scale .zs-tick");
  if (!tick || page.settings.values.threshold_mode !== "adaptive") return;
  $$("#zs-drawer-body [name=threshold]").forEach((input) => { if (input !== document.activeElement) input.value = Number(tick.value).toFixed(2); });
}

// The address is the view's; a fragment in it would load the page anew.
$(".zs-skip").addEventListener("click", (event) => { event.preventDefault(); $("#zs-verdict").focus(); });

let opener = null;
function closeSheets() {
  $$(".zs-sheet").forEach((sheet) => { sheet.hidden = true; });
  $$("[data-open]").forEach((button) => button.setAttribute("aria-expanded", "false"));
  opener?.focus();
  opener = null;
}
app.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) { closeSheets(); return; }
  const button = event.target.closest("[data-open]");
  if (!button) return;
  const sheet = $(`#${button.dataset.open}`), show_it = sheet.hidden;
  closeSheets();
  if (!show_it) return;
  sheet.hidden = false;
  button.setAttribute("aria-expanded", "true");
  opener = button;
  if (sheet.id === "zs-code") act("code", { url: root });
  sheet.querySelector("[data-close]").focus();
});
hooks.code = (texts) => $$("#zs-code [data-code]").forEach((place) => { place.textContent = texts[place.dataset.code] || ""; });
