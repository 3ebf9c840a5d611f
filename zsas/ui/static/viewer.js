// The large drawing: zoom, points, keys, stages. Redrawn by the server; what is chosen here stays.
const cursor = { x: null, y: null, focused: false };
const main = () => $("#zs-main");
const tool = () => $("input[name='zs-tool']:checked")?.value || "plus";
const sizeOf = (svg) => [Number(svg.dataset.width), Number(svg.dataset.height)];
const zoom = { scale: 1, x: 0, y: 0 };
let stage = null, alone = null;

function placeOf(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [width, height] = sizeOf(svg);
  return point.x < 0 || point.y < 0 || point.x >= width || point.y >= height ? null : { x: point.x, y: point.y };
}

// Zoom: the drawing's viewBox is what is seen of the image.
// A long part fills its place as well as it can: zoomed, more of its narrow side is seen than of its long one.
function seen(svg) {
  const [width, height] = sizeOf(svg), wide = (svg.clientWidth || width) / (svg.clientHeight || height);
  const w = width / zoom.scale, h = height / zoom.scale;
  return w / h > wide ? [w, Math.min(height, w / wide)] : [Math.min(width, h * wide), h];
}
// Pixels of the image in one of the screen.
function unitOf(svg) {
  const [w, h] = seen(svg);
  return Math.max(w / svg.clientWidth, h / svg.clientHeight);
}
function applyZoom() {
  const svg = main();
  if (!svg) return;
  const [width, height] = sizeOf(svg), [w, h] = seen(svg);
  zoom.x = Math.min(Math.max(zoom.x, 0), width - w);
  zoom.y = Math.min(Math.max(zoom.y, 0), height - h);
  svg.setAttribute("viewBox", `${zoom.x} ${zoom.y} ${w} ${h}`);
  svg.style.setProperty("--z", 1 / zoom.scale);
  svg.style.touchAction = zoom.scale > 1 ? "none" : "pan-y";
  $("#zs-zoom").textContent = `${Math.round(100 * zoom.scale)} %`;
  clearTimeout(applyZoom.timer);
  applyZoom.timer = setTimeout(sharpen, 120);
}
function resetZoom() { Object.assign(zoom, { scale: 1, x: 0, y: 0 }); applyZoom(); }
function zoomTo(scale, at = null) {
  const svg = main();
  if (!svg) return;
  const [width, height] = sizeOf(svg);
  scale = Math.min(Math.max(scale, 1), Math.max(8, Math.max(width, height) / 100));
  const [w, h] = seen(svg), centre = at || { x: zoom.x + w / 2, y: zoom.y + h / 2 };
  zoom.scale = scale;
  const now = seen(svg);
  zoom.x = centre.x - (centre.x - zoom.x) * (now[0] / w);
  zoom.y = centre.y - (centre.y - zoom.y) * (now[1] / h);
  applyZoom();
}
function zoomOn(box) {
  const svg = main();
  if (!svg) return;
  const [width, height] = sizeOf(svg), [x0, y0, x1, y1] = box;
  const side = Math.max(2.5 * (x1 - x0), 2.5 * (y1 - y0) * (width / height), width / 40);
  zoom.scale = Math.max(1, width / side);
  const [w, h] = seen(svg);
  zoom.x = (x0 + x1) / 2 - w / 2;
  zoom.y = (y0 + y1) / 2 - h / 2;
  applyZoom();
}
// Beyond what the first picture shows, tiles of the image itself are laid over it.
function sharpen() {
  const svg = main(), group = svg?.querySelector("#zs-tiles");
  if (!group) return;
  const [width, height] = sizeOf(svg), [w, h] = seen(svg), base = Math.max(width, height) / 1280;
  const density = unitOf(svg) / (window.devicePixelRatio || 1);
  const level = Math.max(0, Math.floor(Math.log2(Math.max(density, 1e-6))));
  if (base <= 1 || 2 ** level >= base) { group.innerHTML = ""; return; }
  const side = 512 * 2 ** level, wanted = new Map();
  for (let row = Math.floor(zoom.y / side); row * side < zoom.y + h && row * side < height; row++) {
    for (let column = Math.floor(zoom.x / side); column * side < zoom.x + w && column * side < width; column++) {
      wanted.set(`${level}/${column}/${row}`, [column * side, row * side]);
    }
  }
  if (wanted.size > 80) return;
  [...group.children].forEach((tile) => { if (!wanted.delete(tile.dataset.tile)) tile.remove(); });
  for (const [name, [x, y]] of wanted) {
    const tile = document.createElementNS("http://www.w3.org/2000/svg", "image");
    const size = { x, y, width: Math.min(side, width - x), height: Math.min(side, height - y), preserveAspectRatio: "none" };
    Object.entries(size).forEach(([key, value]) => tile.setAttribute(key, value));
    tile.dataset.tile = name;
    tile.setAttribute("href", `${root}zsas/tile/${page.state.image}/${name}.jpg`);
    group.append(tile);
  }
}
const box = $("#zs-viewer");
box.addEventListener("wheel", (event) => {
  const svg = main();
  if (!svg || (event.deltaY > 0 && zoom.scale <= 1)) return;  // the page scrolls on where nothing is left to zoom out
  event.preventDefault();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  zoomTo(zoom.scale * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), at);
}, { passive: false });
const pointers = new Map();
let moved = false, gap = 0;
box.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#zs-main")) return;
  if (!pointers.size) moved = false;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, x0: event.clientX, y0: event.clientY });
  if (pointers.size === 2) gap = 0;
});
box.addEventListener("pointermove", (event) => {
  const svg = main(), before = pointers.get(event.pointerId);
  if (!svg) return;
  readValue(event);
  if (!before) { rest(event); return; }
  const now = { ...before, x: event.clientX, y: event.clientY };
  pointers.set(event.pointerId, now);
  if (Math.hypot(now.x - now.x0, now.y - now.y0) > 5) moved = true;
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()], wide = Math.hypot(a.x - b.x, a.y - b.y);
    const at = new DOMPoint((a.x + b.x) / 2, (a.y + b.y) / 2).matrixTransform(svg.getScreenCTM().inverse());
    if (gap) zoomTo(zoom.scale * wide / gap, at);
    gap = wide;
    moved = true;
  } else if (moved && zoom.scale > 1) {
    const unit = unitOf(svg);
    zoom.x -= (now.x - before.x) * unit;
    zoom.y -= (now.y - before.y) * unit;
    applyZoom();
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  window.addEventListener(kind, (event) => { pointers.delete(event.pointerId); gap = 0; });
}
let single = 0;
box.addEventListener("click", (event) => {
  const svg = event.target.closest?.("#zs-main"), at = svg && placeOf(svg, event);
  clearTimeout(single);
  if (!at || moved) return;
  const finding = event.target.closest(".zs-region, .zs-tag");
  if (event.detail > 1 && finding) {
    const row = $(`.zs-finding[data-region="${finding.dataset.region}"]`);
    if (row) zoomOn(row.dataset.box.split(",").map(Number));
    return;
  }
  const click = () => act("click", { ...at, action: event.shiftKey ? "minus" : tool() });
  if (finding && event.detail) single = setTimeout(click, 260); else click();
});
box.addEventListener("contextmenu", (event) => {
  const svg = event.target.closest("#zs-main"), at = svg && placeOf(svg, event);
  if (at) { event.preventDefault(); act("click", { ...at, action: "minus" }); }
});

// A stage of the strip is shown in the large drawing, and the one that is alone among the findings is lit.
function dress() {
  const svg = main();
  if (!svg) return;
  applyZoom();
  const button = stage && $(`#zs-strip [data-stage="${stage}"]`);
  if (!button) stage = null;
  $$("#zs-strip .zs-why").forEach((other) => other.setAttribute?.("aria-pressed", String(other === button)));
  svg.classList.toggle("zs-staged", Boolean(button));
  svg.querySelector("#zs-layer").innerHTML = button ? [...button.querySelector("svg").children].slice(1).map((part) => part.outerHTML).join("") : "";
  svg.classList.toggle("zs-picked", alone !== null);
  svg.querySelectorAll(".zs-region, .zs-tag").forEach((group) => group.classList.toggle("zs-on", group.dataset.region === alone));
  // Redrawn while it had the focus, which is nobody's now; what else has it keeps it.
  if (cursor.focused && [null, document.body].includes(document.activeElement)) svg.focus({ preventScroll: true });
  drawCursor();
}
hooks["zs-viewer"] = dress;
hooks["zs-strip"] = dress;
app.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-stage]");
  if (!button) return;
  stage = stage === button.dataset.stage ? null : button.dataset.stage;
  dress();
  // In one column the large drawing may be out of sight.
  if (stage && box.getBoundingClientRect().bottom < 80) box.scrollIntoView({ block: "center" });
});
app.addEventListener("change", (event) => {
  if (event.target.name !== "zs-view") return;
  setView(event.target.value);
});
// The bare photo for as long as P, or the button Photo, is held.
let peeked = "", pressed_at = 0;
function peek(on) {
  if (on && !peeked && !["photo", "systems"].includes(box.dataset.view)) { peeked = box.dataset.view; box.dataset.view = "photo"; }
  if (!on && peeked) { box.dataset.view = peeked; peeked = ""; }
}
const photo_button = $("input[name=zs-view][value=photo]").parentElement;
photo_button.addEventListener("pointerdown", () => { pressed_at = performance.now(); peek(true); });
for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => peek(false));
photo_button.addEventListener("click", (event) => { if (event.detail && performance.now() - pressed_at > 350) event.preventDefault(); });
function setView(view) {
  box.dataset.view = view;
  $(`input[name="zs-view"][value="${view}"]`).checked = true;
  $("#zs-systems").hidden = view !== "systems";
  box.hidden = $("#zs-scale").hidden = view === "systems";
  stage = null;
  dress();
  if (view === "systems") { $("#zs-systems").innerHTML = '<p class="zs-systems-head">Looking which systems know this photo</p>'; act("systems", {}); }
}
$("#zs-opacity").addEventListener("input", (event) => box.style.setProperty("--opacity", event.target.value));
app.addEventListener("click", (event) => {
  const way = event.target.closest("[data-zoom]")?.dataset.zoom;
  if (way === "in") zoomTo(zoom.scale * 1.5);
  if (way === "out") zoomTo(zoom.scale / 1.5);
  if (way === "fit") resetZoom();
  if (way === "full") fill();
});
function fill(on = !$("#zs-stagebox").classList.contains("zs-full")) {
  $("#zs-stagebox").classList.toggle("zs-full", on);
  $("[data-zoom=full]").setAttribute("aria-pressed", String(on));
  applyZoom();
}

// Keys
function drawCursor() {
  const svg = main(), group = svg?.querySelector(".zs-cursor");
  if (!group) return;
  if (cursor.x === null || document.activeElement !== svg) { group.innerHTML = ""; return; }
  const [width, height] = sizeOf(svg);
  group.innerHTML = `<line x1="${cursor.x}" x2="${cursor.x}" y1="0" y2="${height}"/><line x1="0" x2="${width}" y1="${cursor.y}" y2="${cursor.y}"/>`;
}
box.addEventListener("focusin", (event) => { cursor.focused = event.target.id === "zs-main"; drawCursor(); });
box.addEventListener("focusout", (event) => { if (event.relatedTarget) cursor.focused = false; drawCursor(); });
for (const kind of ["focusin", "pointerdown"]) {
  document.addEventListener(kind, (event) => { if (!box.contains(event.target)) cursor.focused = false; });
}
box.addEventListener("keydown", (event) => {
  const svg = event.target.closest("#zs-main");
  if (!svg || event.ctrlKey || event.metaKey || event.altKey) return;
  const [width, height] = sizeOf(svg), step = Math.max(width, height) / zoom.scale * (event.shiftKey ? 0.005 : 0.025);
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  const at = cursor.x === null ? null : { x: cursor.x, y: cursor.y };
  if (move) {
    cursor.x = Math.min(width - 1, Math.max(0, (cursor.x ?? zoom.x + width / zoom.scale / 2) + move[0]));
    cursor.y = Math.min(height - 1, Math.max(0, (cursor.y ?? zoom.y + height / zoom.scale / 2) + move[1]));
    drawCursor();
  } else if (["Enter", "+", "-"].includes(event.key) && at) {
    const action = event.key === "-" || (event.key === "Enter" && event.shiftKey) ? "minus" : event.key === "+" ? "plus" : tool();
    act("click", { ...at, action });
  } else if (event.key === "PageUp") zoomTo(zoom.scale * 1.5, at);
  else if (event.key === "PageDown") zoomTo(zoom.scale / 1.5, at);
  else if (event.key === "Backspace") act("undo");
  else return;
  event.preventDefault();
});
const typing = (event) => event.target.isContentEditable || /^(textarea|select)$/i.test(event.target.tagName)
  || (event.target.tagName === "INPUT" && !/^(radio|checkbox|range)$/.test(event.target.type));
document.addEventListener("keydown", (event) => {
  if (!element.isConnected || typing(event) || !(app.contains(event.target) || event.target === document.body)) return;
  const key = event.key.toLowerCase(), ctrl = event.ctrlKey || event.metaKey;
  if (ctrl && key === "z" && !event.shiftKey) act("undo");
  else if (ctrl && (key === "y" || (key === "z" && event.shiftKey))) act("redo");
  else if (!ctrl && key === "f" && page.state.image) fill();
  else if (!ctrl && key === "p" && page.state.image) peek(true);
  else if (key === "delete" && alone !== null) $(`.zs-finding[data-region="${alone}"] [data-do=reject]`)?.click();
  else if (key === "escape") {
    const menu = event.target.closest?.(".zs-menu[open]");
    closeSheets(); closeMenus(); fill(false);
    menu?.querySelector("summary").focus();
    return;
  }
  else return;
  event.preventDefault();
});

document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "p") peek(false); });

// What a click would mark is shown once the pointer rests, where the server is quick enough for it.
let resting = 0, slow = 0;
function rest(event) {
  clearTimeout(resting);
  const layer = main().querySelector("#zs-preview");
  if (layer.innerHTML) layer.innerHTML = "";
  if (event.pointerType !== "mouse" || !page.state.done || page.busy || slow > 3 || tool() !== "plus" || event.target.closest(".zs-point, .zs-region")) return;
  const at = placeOf(main(), event);
  if (!at) return;
  resting = setTimeout(async () => {
    const began = performance.now();
    await act("preview", at, "preview");
    slow = performance.now() - began > 800 ? slow + 1 : 0;
  }, 100);
}
box.addEventListener("pointerleave", () => { clearTimeout(resting); const layer = main()?.querySelector("#zs-preview"); if (layer) layer.innerHTML = ""; });
hooks.preview = (found) => {
  const layer = main()?.querySelector("#zs-preview");
  if (layer && found.path) layer.innerHTML = `<path d="${found.path}" fill-rule="evenodd"/>`;
};
