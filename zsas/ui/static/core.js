// The server is asked by name and answers with the parts of the page that changed; here they are put in their places.
const app = element.querySelector(".zs-app");
const $ = (selector) => app.querySelector(selector);
const $$ = (selector) => [...app.querySelectorAll(selector)];
// As a web component inside somebody else's page the address is theirs: there it is left alone.
const elsewhere = element.closest("gradio-app")?.getAttribute("src");
const here = new URL(elsewhere || window.location.href, window.location.href);
const root = here.origin + here.pathname.replace(/\/?$/, "/");
const embedded = !elsewhere && here.searchParams.get("embed") === "1";
const memory = {
  get: (name) => { try { return sessionStorage.getItem(name) || ""; } catch { return ""; } },
  set: (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } },
};
const page = { token: elsewhere ? "" : memory.get("zsas"), seen: 0, state: {}, settings: { values: {} }, busy: false };
const hooks = {};
$$("a[data-at]").forEach((link) => { link.href = root + link.dataset.at; });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Gradio answers nothing at all where the server cannot be reached or failed.
async function ask(name, data) {
  const answer = await server[name](data);
  if (!answer) throw new Error("no answer");
  return answer;
}

let jobs = [], working = false, listening = false;
function act(name, data = {}, key = "") {
  return new Promise((resolve) => {
    // What is asked for again before it was sent is sent once, as it is wanted now.
    if (key) jobs = jobs.filter((job) => job.key !== key || job.resolve());
    jobs.push({ name, data, key, resolve });
    work();
  });
}
async function work() {
  if (working) return;
  working = true;
  while (jobs.length) {
    const job = jobs.shift();
    let answer = null;
    try {
      answer = await ask("page_act", { token: page.token, name: job.name, data: job.data, seen: page.seen });
      take(answer, job.name);
    } catch (error) {
      tell(`The server did not answer: ${error?.message || error}. What is shown is as it was before.`);
      if (CHANGES.has(job.name)) { lost = job; markOld(true); }
    }
    job.resolve(answer);
  }
  working = false;
}
async function listen() {
  if (listening) return;
  listening = true;
  for (let failed = 0; page.busy && failed < 20;) {
    try { take(await ask("page_updates", { token: page.token, seen: page.seen })); failed = 0; }
    catch { failed += 1; await pause(500); }
  }
  listening = false;
  if (page.busy) tell("The server does not answer any more. Reload the page once it is back.");
}
const CHANGES = new Set(["change", "reset", "click", "reject", "restore", "verdict", "undo", "redo", "preset", "add_parts", "add_this", "drop_part", "region", "scale", "open_profile", "close_profile"]);
function take(answer, name = "") {
  if (!answer || answer.gone) { if (name !== "hello") beginAnew(); return; }
  page.busy = answer.busy;
  if (answer.news >= page.seen) {
    page.seen = answer.news;
    for (const [part, value] of Object.entries(answer.parts)) show(part, value);
    if (name === "hello") hooks.walk?.(page.state);  // its place among many is known now
  }
  if (answer.problem) {
    tell(answer.problem);
    standAsSettings();
    // Settings that were taken and a picture that could not follow.
    if (CHANGES.has(name) && answer.parts.settings) markOld(true);
  } else if (name && name !== "preview" && name !== "look" && !answer.parts.offer && !answer.parts.failure) {
    tell("");
    if (CHANGES.has(name) || name === "rerun") { lost = null; markOld(false); }
  }
  app.classList.toggle("zs-running", page.busy);
  if (page.busy) listen();
}
// The server was started anew, or has not heard of this page for hours: what only it had is gone.
async function beginAnew() {
  const had = (page.state.image && !page.state.example) || $("#zs-parts li"), rows = hooks.forget();
  page.token = ""; page.seen = 0; page.busy = false; lost = null;
  await hello();
  if (had || rows) tell("The server was started anew, or the page rested for too long: your photos are no longer there. Open them again.");
}
let dragged = null, lost = null;
// Controls that were moved to what was refused go back to what is.
function standAsSettings() {
  for (const [name, value] of Object.entries(page.settings.values)) {
    app.querySelectorAll(`[name="${name}"]`).forEach((input) => { if (input.type === "checkbox") input.checked = value; else input.value = value; });
  }
  hooks.settings?.(page.settings);
}
const later = {};
function show(part, value) {
  if (part.startsWith("row-")) { hooks.row(value); return; }
  if (typeof value !== "string" || part === "failure") { hooks[part]?.(value); return; }
  const place = $(`#${part}`);
  if (!place) return;
  if (dragged && place.contains(dragged)) { later[part] = value; return; }
  const active = document.activeElement;
  const held = place.contains(active) && active !== place ? nameOf(active) : "";
  place.innerHTML = value.replaceAll("zsas:/", `${root}zsas/`);
  if (held) place.querySelector(held)?.focus({ preventScroll: true });
  if (part === "zs-viewer") markOld(false);
  hooks[part]?.(value);
}
function nameOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.name) return `[name="${element.name}"][type="${element.type}"]`;
  const place = element.closest("[data-region]");
  const own = ["do", "stage", "name", "verdict", "example"].filter((key) => element.dataset[key] !== undefined)
    .map((key) => `[data-${key}="${CSS.escape(element.dataset[key])}"]`).join("");
  return `${place ? `[data-region="${place.dataset.region}"] ` : ""}${own || (element.className ? `.${element.className.split(" ")[0]}` : "*")}`;
}
app.addEventListener("pointerdown", (event) => { if (event.target.matches("input[type=range]")) dragged = event.target; });
for (const kind of ["pointerup", "pointercancel"]) {
  window.addEventListener(kind, () => {
    dragged = null;
    for (const [part, value] of Object.entries(later)) { delete later[part]; show(part, value); }
  });
}

// What went wrong is said in one place and stays until something goes right; a picture that it leaves behind is marked.
function tell(text) {
  const note = $("#zs-note");
  note.hidden = !text;
  note.textContent = text;
  if (text) {
    const close = document.createElement("button");
    close.type = "button"; close.textContent = "✕"; close.setAttribute("aria-label", "Close the message");
    close.onclick = () => tell("");
    note.append(close);
  }
}
function markOld(old) {
  app.classList.toggle("zs-stale", old && Boolean(page.state.image));
  $("#zs-old")?.remove();
  if (!old || !page.state.image) return;
  const mark = document.createElement("div");
  mark.id = "zs-old";
  mark.innerHTML = '<b>Old</b> This picture belongs to earlier settings. <button type="button" class="zs-button" data-do="rerun">Update</button>';
  $("#zs-stagebox").prepend(mark);
}

const ours = new Set(["example", "preset", "points", "rejected"]);
function address(query) {
  const url = new URL(here.href);
  [...url.searchParams.keys()].filter((key) => ours.has(key) || key in page.settings.values).forEach((key) => url.searchParams.delete(key));
  new URLSearchParams(query).forEach((value, key) => url.searchParams.set(key, value));
  return url;
}
let returning = false, arrived = false;
hooks.state = (state) => {
  const before = page.state;
  page.state = state;
  app.dataset.state = !state.image ? "empty" : state.done ? "result" : "busy";
  $("#zs-upload").hidden = Boolean(state.image);
  $("#zs-stagebox").hidden = !state.image;
  for (const name of ["undo", "redo"]) $(`.zs-tools [data-do=${name}]`).disabled = !state[name];
  $$("[data-get]").forEach((link) => {
    const there = state.done || link.dataset.get.startsWith("batch-");
    if (there) link.removeAttribute("aria-disabled"); else link.setAttribute("aria-disabled", "true");
    if (there) link.href = `${root}zsas/get/${page.token}/${link.dataset.get}`; else link.removeAttribute("href");
  });
  $$("#zs-examples [data-example]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.example === state.example)));
  $("[data-do=link]").textContent = linkWords();
  $("#zs-walk").hidden = !(state.row >= 0);
  // Cards of systems that are in sight belong to the settings that stand now.
  if (state.done && state.image === before.image && state.query !== before.query && box.dataset.view === "systems") act("systems", {}, "systems");
  if (state.image !== before.image) { resetZoom(); if (box.dataset.view === "systems") setView("marks"); }
  if (!elsewhere && arrived) {
    const kept = { ...window.history.state, zsas: state.image, mode: app.dataset.mode };
    const url = address(state.query);
    if (state.image !== before.image && !returning) window.history.pushState(kept, "", url);
    else window.history.replaceState(kept, "", url);
  }
  hooks.walk?.(state);
  const whole = address(state.query);
  whole.searchParams.delete("embed");
  $("#zs-frame-foot a").href = whole.href;
  report();
};
window.addEventListener("popstate", async (event) => {
  if (elsewhere || !element.isConnected) return;
  hooks.mode?.(event.state?.mode);
  if ((event.state?.zsas || "") === (page.state.image || "")) return;
  returning = true;
  await act("come_back", { image: event.state?.zsas || "" });
  returning = false;
});
let looking = false;
hooks.status = async (status) => {
  page.status = status;
  for (const option of $("#zs-preset").options) option.textContent = status.presets[option.value] || option.value;
  $("#zs-status").innerHTML = status.waiting ? '<i class="zs-spin" aria-hidden="true"></i> ' : "";
  $("#zs-status").append(status.text);
  if (looking) return;
  looking = true;
  while (page.status.again) { await pause(1000); await act("look", {}, "look"); }
  looking = false;
};
// An embedding page may give the frame the height that is needed.
function report() {
  if (embedded && window.parent !== window) window.parent.postMessage({ zsas: { height: Math.ceil(app.getBoundingClientRect().height) + 24 } }, "*");
}
if (embedded) { document.documentElement.classList.add("zs-embed"); app.classList.add("zs-framed"); new ResizeObserver(report).observe(app); }

async function hello() {
  // A typed address or a link is a new visit; only a reload, or coming back, is the old one.
  const way = performance.getEntriesByType("navigation")[0]?.type;
  const token = way === "reload" || way === "back_forward" ? page.token : "";
  const query = elsewhere ? here.search : window.location.search;
  try {
    const answer = await ask("page_hello", { token, query });
    page.token = answer.token;
    page.seen = 0;
    memory.set("zsas", answer.token);
    take(answer, "hello");
  } catch (error) {
    tell(`The page could not begin: ${error?.message || error}. Reload it.`);
  }
  arrived = true;
  if (!elsewhere && page.token === token) hooks.mode?.(window.history.state?.mode);
  if (!elsewhere) window.history.replaceState({ ...window.history.state, zsas: page.state.image }, "", page.state.query === undefined ? window.location.href : address(page.state.query));
  document.body.dataset.arrived = "yes";
}
