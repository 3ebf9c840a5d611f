// The large drawing: clicks, keys, dropped and pasted photos. Re-drawn by the server; what is chosen here stays.
const cursor = { x: null, y: null, focused: false };
const main = () => element.querySelector("#zs-main");
const tool = () => document.querySelector("#zs-tools input[name='zs-tool']:checked")?.value || "plus";
const size = (svg) => [Number(svg.dataset.width), Number(svg.dataset.height)];

function place(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [width, height] = size(svg);
  return point.x < 0 || point.y < 0 || point.x >= width || point.y >= height ? null : { x: point.x, y: point.y };
}

function drawCursor() {
  const svg = main(), group = svg && svg.querySelector(".zs-cursor");
  if (!group) return;
  if (cursor.x === null || document.activeElement !== svg) { group.innerHTML = ""; return; }
  const [width, height] = size(svg);
  group.innerHTML = `<line x1="${cursor.x}" x2="${cursor.x}" y1="0" y2="${height}"/><line x1="0" x2="${width}" y1="${cursor.y}" y2="${cursor.y}"/>`;
}

function prepare() {
  document.querySelector("#zs-refused")?.remove();
  const svg = main();
  if (!svg) return;
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-describedby", "zs-hint");
  // Re-drawn while it had the focus, which is nobody's now; what else has it keeps it.
  if (cursor.focused && [null, document.body].includes(document.activeElement)) { svg.focus({ preventScroll: true }); drawCursor(); }
}

element.addEventListener("click", (event) => {
  const svg = event.target.closest && event.target.closest("#zs-main");
  const at = svg && place(svg, event);
  if (at) trigger("select", { ...at, action: event.shiftKey ? "minus" : tool() });
});
element.addEventListener("contextmenu", (event) => {
  const svg = event.target.closest("#zs-main"), at = svg && place(svg, event);
  if (at) { event.preventDefault(); trigger("select", { ...at, action: "minus" }); }
});
element.addEventListener("focusin", (event) => { cursor.focused = event.target.id === "zs-main"; drawCursor(); });
element.addEventListener("focusout", (event) => { if (event.relatedTarget) cursor.focused = false; drawCursor(); });
for (const kind of ["focusin", "pointerdown"]) {
  document.addEventListener(kind, (event) => { if (!element.contains(event.target)) cursor.focused = false; });
}
element.addEventListener("keydown", (event) => {
  const svg = event.target.closest("#zs-main");
  if (!svg) return;
  const [width, height] = size(svg), step = Math.max(width, height) * (event.shiftKey ? 0.005 : 0.025);
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  if (move) {
    event.preventDefault();
    cursor.x = Math.min(width - 1, Math.max(0, (cursor.x ?? width / 2) + move[0]));
    cursor.y = Math.min(height - 1, Math.max(0, (cursor.y ?? height / 2) + move[1]));
    drawCursor();
  } else if (["Enter", "+", "-"].includes(event.key) && cursor.x !== null) {
    event.preventDefault();
    const action = event.key === "-" || (event.key === "Enter" && event.shiftKey) ? "minus" : event.key === "+" ? "plus" : tool();
    trigger("select", { x: cursor.x, y: cursor.y, action });
  } else if (event.key === "Backspace") {
    event.preventDefault();
    document.querySelector("#zs-tools [data-do='undo']")?.click();
  }
});

async function take(files) {
  const photo = files && files[0];  // of any type: a browser knows fewer than the server
  if (!photo) return;
  document.querySelector("#zs-refused")?.remove();
  try {
    const { path } = await upload(photo);
    trigger("upload", { path });
  } catch (error) {
    refuse(`${photo.name} could not be uploaded: ${error.message}`);
  }
}
function refuse(text) {
  const note = document.createElement("div");
  note.id = "zs-refused";
  note.className = "zs-verdict zs-sorry";
  note.setAttribute("role", "alert");
  note.innerHTML = "<h2>That did not work</h2><p></p>";
  note.lastChild.textContent = text;
  document.querySelector("#zs-verdict")?.prepend(note);
}
element.addEventListener("dragover", (event) => { event.preventDefault(); main()?.classList.add("zs-over"); });
element.addEventListener("dragleave", () => main()?.classList.remove("zs-over"));
element.addEventListener("drop", (event) => { event.preventDefault(); main()?.classList.remove("zs-over"); take(event.dataTransfer.files); });
document.addEventListener("paste", (event) => {
  const at = event.target;
  if (!element.isConnected || at.isContentEditable || /^(input|textarea)$/i.test(at.tagName)) return;
  // Inside somebody's page only what is pasted here, or nowhere in particular, is meant for this one.
  if (at !== document.body && !element.closest(".gradio-container")?.contains(at)) return;
  take(event.clipboardData && event.clipboardData.files);
});
watch("value", prepare);
prepare();
