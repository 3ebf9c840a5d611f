// A region of interest: drawn over the large drawing in image pixels; the server says what it changes.
const SVG = "http://www.w3.org/2000/svg";
let shapes = { region: [], ignore: [] }, drawing = "", draft = null;
const HINTS = {
  rectangle: "Drag from corner to corner.",
  polygon: "Click the corners; a double click or Enter closes it, Esc drops it.",
  brush: "Paint; what is painted counts.",
};
hooks.region = (value) => {
  shapes = { region: value?.region || [], ignore: value?.ignore || [], size: value?.size, unit: value?.unit };
  $("[data-draw=whole]").disabled = !value;
};
function setDrawing(kind) {
  drawing = drawing === kind ? "" : kind;
  draft = null;
  showDraft();
  $$("[data-draw]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.draw === drawing)));
  $("#zs-draw-hint").textContent = HINTS[drawing] || "";
  box.classList.toggle("zs-drawing-region", Boolean(drawing));
  if (drawing) setView("marks");
}
app.addEventListener("click", (event) => {
  const kind = event.target.closest?.("[data-draw]")?.dataset.draw;
  if (kind === "whole") { setDrawing(""); act("region", { region: null }); } else if (kind) setDrawing(kind);
});
const within = (value, high) => Math.round(10 * Math.min(Math.max(value, 0), high)) / 10;
function pixelOf(event) {
  const svg = main(), [width, height] = sizeOf(svg);
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [within(point.x, width), within(point.y, height)];
}
const brushWidth = () => Math.max(...sizeOf(main())) / zoom.scale / 25;
function showDraft() {
  const svg = main();
  svg?.querySelector("#zs-draft")?.remove();
  if (!svg || !draft) return;
  const line = document.createElementNS(SVG, "path");
  line.id = "zs-draft";
  let points = draft.points;
  if (drawing === "rectangle" && points.length === 2) {
    const [[x0, y0], [x1, y1]] = points;
    points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]];
  }
  line.setAttribute("d", `M${points.map((point) => point.join(" ")).join("L")}`);
  if (drawing === "brush") line.style.strokeWidth = `${draft.width}px`;
  line.classList.add(drawing === "brush" ? "zs-draft-brush" : "zs-draft-line");
  svg.append(line);
}
function shapeOf() {
  const points = draft.points;
  if (drawing === "rectangle") {
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]).sort((a, b) => a - b));
    return xs[1] - xs[0] >= 2 && ys[1] - ys[0] >= 2 ? { rectangle: [xs[0], ys[0], xs[1], ys[1]] } : null;
  }
  if (drawing === "polygon") return points.length > 2 ? { polygon: points } : null;
  return { brush: points, width: Math.round(draft.width) || 1 };
}
function finish() {
  const shape = draft && shapeOf(), svg = main();
  draft = null;
  showDraft();
  if (!shape || !svg) return;
  const [width, height] = sizeOf(svg), here = shapes.size ? shapes.size.join() === `${width},${height}` : shapes.unit !== "fraction";
  // A region of another image's size, or in fractions, begins anew.
  const old = here ? shapes : { region: [], ignore: [] };
  const kind = $("#zs-ignore").checked ? "ignore" : "region";
  const sent = { size: [width, height], region: old.region, ignore: old.ignore, [kind]: [...old[kind], shape] };
  act("region", { region: sent });
}
const stagebox = $("#zs-stagebox");
function onDrawing(name, listener) {
  stagebox.addEventListener(name, (event) => {
    if (!drawing || !event.target.closest?.("#zs-main")) return;
    event.stopPropagation();
    event.preventDefault();
    listener(event);
  }, true);
}
onDrawing("pointerdown", (event) => {
  if (event.button) return;
  const at = pixelOf(event);
  if (drawing === "polygon") return;
  draft = { points: drawing === "rectangle" ? [at, at] : [at], width: brushWidth() };
  main().setPointerCapture(event.pointerId);
  showDraft();
});
onDrawing("pointermove", (event) => {
  if (!draft) return;
  const at = pixelOf(event), points = draft.points;
  if (drawing === "rectangle") points[1] = at;
  else if (drawing === "brush") {
    const [x, y] = points[points.length - 1];
    if (Math.hypot(at[0] - x, at[1] - y) > draft.width / 6 && points.length < 2000) points.push(at);
  } else return;
  showDraft();
});
onDrawing("pointerup", () => { if (drawing !== "polygon") finish(); });
onDrawing("pointercancel", () => { draft = null; showDraft(); });
onDrawing("click", (event) => {
  if (drawing !== "polygon" || event.detail > 1) return;
  draft = { points: [...(draft?.points || []), pixelOf(event)] };
  showDraft();
});
onDrawing("dblclick", () => { if (drawing === "polygon") finish(); });
onDrawing("contextmenu", () => {});
document.addEventListener("keydown", (event) => {
  if (!drawing || !element.isConnected || /^(input|textarea|select)$/i.test(event.target.tagName)) return;
  if (event.key === "Enter" && drawing === "polygon" && draft) { event.preventDefault(); event.stopPropagation(); finish(); }
  if (event.key === "Escape") { event.stopPropagation(); if (draft) { draft = null; showDraft(); } else setDrawing(""); }
}, true);

// The profile: opened here, saved as a link like every other file.
async function takeProfile(file) {
  if (!file) return;
  try {
    const { path } = await upload(file);
    await act("open_profile", { path });
  } catch (error) { tell(`${file.name} could not be uploaded: ${error.message}`); }
}
for (const id of ["zs-mm", "zs-smallest"]) {
  $(`#${id}`).addEventListener("change", () => act("scale", { mm: $("#zs-mm").value, smallest: $("#zs-smallest").value }));
}
hooks.scale = (texts) => {
  for (const [id, text] of Object.entries(texts)) if (document.activeElement !== $(`#${id}`)) $(`#${id}`).value = text;
};
// What a person's verdicts on a lot propose as its limit; nothing changes before the button is pressed.
hooks.proposal = ({ limit, text }) => {
  const place = $("#zs-proposal"), now = Number(page.settings.values.verdict_threshold);
  place.hidden = !text || Math.abs(limit - now) < 0.005;
  place.textContent = text ? `${text} ` : "";
  if (!text) return;
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "zs-try", textContent: `Try ${limit.toFixed(2)}` });
  Object.assign(button.dataset, { do: "set", name: "verdict_threshold", value: limit.toFixed(3) });
  place.append(button);
};
// Where the window is narrow, the verdict is more needed on the first screen than these.
$("#zs-region-tools").open = window.innerWidth > 640;
