// Many photos as a mode: small pictures worst first, chips, a filter, a histogram whose tick is the limit.
const many = { rows: new Map(), batch: null, filter: "all", words: "", order: [], sending: "" };
const CELL = { width: 168, height: 170 };
const limitNow = () => many.limit ?? Number(page.settings.values.verdict_threshold ?? 0.7);
const bandNow = () => Number(page.settings.values.unsure_band ?? 0);
const wordOf = (row) => row.error ? "failed" : row.settled || verdictOf(row.score, limitNow(), bandNow());

function setMode(mode) {
  app.dataset.mode = mode;
  $$(".zs-switch [data-mode]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
  $("#zs-many").hidden = mode !== "many";
  $(".zs-work").hidden = mode === "many";
  if (mode === "many") drawMany();
}
$(".zs-switch").addEventListener("click", (event) => {
  const mode = event.target.closest("[data-mode]")?.dataset.mode;
  if (mode) { setMode(mode); keepMode(); }
});
// Back and a reload come to the mode that was left.
function keepMode() {
  if (!elsewhere) window.history.replaceState({ ...window.history.state, mode: app.dataset.mode }, "");
}
hooks.mode = (mode) => setMode(mode === "many" && many.rows.size ? "many" : "one");

// Uploads, three at a time.
async function takeMany(given) {
  // In the order of their names: a browser hands them out as it finds them.
  const nameIn = (file) => file.inside || file.webkitRelativePath || file.name;
  const files = [...given].sort((a, b) => nameIn(a).localeCompare(nameIn(b), undefined, { numeric: true }));
  setMode("many");
  tell("");
  const sent = new Array(files.length), failed = [];
  let next = 0, done = 0;
  const send = () => {
    many.sending = `Sending ${files.length > 1 ? `${done} of ${files.length}` : files[0].name}`;
    drawMany();
  };
  send();
  const carry = async () => {
    while (next < files.length) {
      const number = next++, file = files[number];
      try {
        const { path } = await upload(file);
        sent[number] = { name: nameIn(file), path };
      } catch (error) { failed.push(`${file.name} could not be uploaded: ${error.message}`); }
      done++;
      send();
    }
  };
  await Promise.all([carry(), carry(), carry()]);
  many.sending = "";
  many.rows.clear();
  many.batch = null;
  keepMode();
  await act("begin_batch", { files: sent.filter(Boolean), mutual: $("#zs-mutual").checked });
  if (failed.length) tell(failed.slice(0, 5).join(" "));
}
hooks["zs-parts"] = () => {
  const count = $$("#zs-parts li").length;
  $("#zs-many-parts").textContent = count ? `They are compared with your ${count === 1 ? "good part" : `${count} good parts`}.` : "";
};
hooks["batch-old"] = (old) => { many.old = old; drawMany(); };
hooks.batch = (batch) => {
  if (many.batch?.key !== batch.key) many.rows.clear();
  many.batch = batch;
  drawMany();
};
// Whether there were any, that are no more.
hooks.forget = () => {
  const had = many.rows.size > 0;
  many.rows.clear();
  many.batch = null;
  drawMany();
  return had;
};
hooks.failure = tell;
hooks.row = (row) => { many.rows.set(row.number, row); drawMany(); };

function orderRows() {
  const rows = [...many.rows.values()];
  const counts = { all: rows.length, anomalous: 0, unsure: 0, normal: 0, failed: 0 };
  rows.forEach((row) => { counts[wordOf(row)] += 1; });
  const words = many.words.toLowerCase();
  many.order = rows.filter((row) => (many.filter === "all" || wordOf(row) === many.filter) && row.name.toLowerCase().includes(words))
    .sort((a, b) => (b.score ?? -1) - (a.score ?? -1) || a.number - b.number);
  return counts;
}
const CHIPS = [["all", "All", ""], ["anomalous", "Anomalous", "▲"], ["unsure", "Unsure", "?"], ["normal", "Normal", "✓"], ["failed", "Failed", "✕"]];
let drawing_many = 0;
function drawMany() {
  cancelAnimationFrame(drawing_many);
  drawing_many = requestAnimationFrame(() => {
    if ($("#zs-many").hidden) return;
    const counts = orderRows(), batch = many.batch;
    $("#zs-drop-many").hidden = Boolean(batch || many.sending);
    $("#zs-lot").hidden = !(batch || many.sending);
    $("#zs-chips").innerHTML = CHIPS.map(([key, word, icon]) =>
      `<button type="button" data-filter="${key}" aria-pressed="${many.filter === key}">${icon} ${word} <b>${counts[key]}</b></button>`).join("");
    let words = many.sending;
    if (batch && !words) {
      words = batch.running && batch.compared ? `Comparing: ${batch.compared} of ${batch.total} read` : batch.running ? `${batch.done} of ${batch.total}${batch.done ? ` · ${timeWords(batch.left)} left` : ""}`
        : `${batch.stopped ? `Stopped: ${batch.done} of ${batch.total}` : `${batch.total} done`}`;
    }
    $("#zs-progress").textContent = words;
    $("#zs-progressbar").value = batch ? batch.done / Math.max(1, batch.total) : 0;
    $("#zs-lot-old").hidden = !batch || batch.running || !(many.old || batch.stopped);
    $("#zs-lot-old button").textContent = many.old ? "Look again with the present ones" : "Look at all of them";
    $("#zs-lot-old span").textContent = many.old ? "These belong to earlier settings." : "Not all were looked at.";
    $("#zs-many [data-do=stop_batch]").hidden = !batch?.running;
    $$("#zs-many [data-get]").forEach((link) => {
      const there = Boolean(batch?.done);
      if (there) link.removeAttribute("aria-disabled"); else link.setAttribute("aria-disabled", "true");
      if (there) link.href = `${root}zsas/get/${page.token}/${link.dataset.get}`; else link.removeAttribute("href");
    });
    drawHistogram();
    drawCells();
  });
}
const timeWords = (seconds) => seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;

const safe = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

// Only the cells in sight exist.
const sight = () => $("#zs-cells");
function drawCells() {
  const view = sight(), inner = view.firstElementChild;
  const columns = Math.max(1, Math.floor((view.clientWidth - 12) / CELL.width)), wide = Math.floor((view.clientWidth - 12) / columns);
  inner.style.height = `${Math.ceil(many.order.length / columns) * CELL.height}px`;
  const first = Math.max(0, Math.floor(view.scrollTop / CELL.height) - 1) * columns;
  const last = Math.min(many.order.length, (Math.ceil((view.scrollTop + view.clientHeight) / CELL.height) + 1) * columns);
  const held = inner.contains(document.activeElement) ? document.activeElement.dataset.row : null;
  const html = [];
  for (let at = first; at < last; at++) {
    const row = many.order[at], word = wordOf(row);
    const style = `width:${wide - 8}px;left:${(at % columns) * wide}px;top:${Math.floor(at / columns) * CELL.height}px`;
    const whole = safe(row.name), name = whole.split("/").pop();
    if (row.error) {
      const why = safe(row.error);
      html.push(`<div class="zs-cell zs-failed" role="listitem" style="${style}" title="${whole}: ${why}"><span class="zs-thumb">✕</span><b>${name}</b><em>${why}</em></div>`);
      continue;
    }
    const by = (row.person || row.corrected ? " · you" : "") + (row.closely ? " · closer" : "");
    const closer = row.looking ? '<span class="zs-closer"><i class="zs-spin" aria-hidden="true"></i><span class="zs-sr">Looking closer</span></span>'
      : row.closer ? `<button type="button" class="zs-closer" data-do="closer" data-row="${row.number}" title="Look closer: ${row.closer}" aria-label="Look closer at ${name}: ${row.closer}">⌕</button>` : "";
    html.push(`<div class="zs-cell ${WORDS[word][2]}" role="listitem" style="${style}"><button type="button" data-open-row data-row="${row.number}" title="${whole}">`
      + `<img src="${root}zsas/thumb/${page.token}/${row.number}.jpg?${many.batch?.key}${row.closely ? "c" : ""}" alt="" loading="lazy" decoding="async">`
      + `<b>${name}</b><em><span class="zs-sr">${WORDS[word][0]}, score </span>${WORDS[word][1]} ${row.score.toFixed(2)}${by}</em></button>${closer}</div>`);
  }
  const now = html.join("");
  if (drawCells.last !== now) { inner.innerHTML = now; drawCells.last = now; }
  if (held) inner.querySelector(`[data-open-row][data-row="${held}"]`)?.focus({ preventScroll: true });
}
const BINS = 50;
function drawHistogram() {
  const scores = [...many.rows.values()].filter((row) => !row.error).map((row) => row.score).sort((a, b) => a - b);
  const bins = new Array(BINS).fill(0);
  scores.forEach((score) => { bins[Math.min(BINS - 1, Math.floor(score * BINS))] += 1; });
  const top = Math.max(1, ...bins), limit = limitNow(), band = bandNow();
  $("#zs-bars").innerHTML = bins.map((count, at) => {
    const middle = (at + 0.5) / BINS;
    return `<i class="${WORDS[verdictOf(middle, limit, band)][2]}" style="height:${100 * count / top}%"></i>`;
  }).join("");
  const box = $("#zs-histogram");
  box.style.setProperty("--limit", limit);
  box.style.setProperty("--band", band);
  const tick = box.querySelector(".zs-tick");
  if (document.activeElement !== tick || !dragged) tick.value = limit;
  $("#zs-limit").textContent = limit.toFixed(2);
  // The widest gap between neighbours in the middle of the scores is where a limit divides the lot best.
  let gap = null;
  for (let at = Math.floor(scores.length * 0.1); at < Math.floor(scores.length * 0.9); at++) {
    const wide = scores[at + 1] - scores[at];
    if (wide > (gap?.wide ?? 0.015)) gap = { wide, middle: (scores[at] + scores[at + 1]) / 2 };
  }
  const place = $("#zs-gap");
  place.hidden = scores.length < 5 || !gap || Math.abs(gap.middle - limit) < 0.01;
  if (gap) place.innerHTML = `Widest gap at ${gap.middle.toFixed(2)} <button type="button" class="zs-try" data-do="set" data-name="verdict_threshold" data-value="${gap.middle.toFixed(2)}">Use it</button>`;
}
hooks.limit = (name, value) => { if (name === "verdict_threshold") { many.limit = value; drawMany(); } };
const settings_before = hooks.settings;
hooks.settings = (settings) => { many.limit = undefined; settings_before(settings); drawMany(); };

$("#zs-many").addEventListener("click", (event) => {
  const filter = event.target.closest("[data-filter]")?.dataset.filter;
  if (filter) { many.filter = filter; sight().scrollTop = 0; drawMany(); return; }
  const row = event.target.closest("[data-open-row]")?.dataset.row;
  if (row !== undefined) openRow(Number(row));
});
$("#zs-words").addEventListener("input", (event) => { many.words = event.target.value; sight().scrollTop = 0; drawMany(); });
sight().addEventListener("scroll", () => { cancelAnimationFrame(drawing_many); drawing_many = requestAnimationFrame(drawCells); }, { passive: true });
new ResizeObserver(() => drawMany()).observe(sight());
ACTIONS.again_batch = () => act("again_batch");
ACTIONS.closer = (button) => act("closer", { number: Number(button.dataset.row) });
ACTIONS.stop_batch = () => act("stop_batch");
ACTIONS.new_batch = () => { many.batch = null; many.rows.clear(); drawMany(); };
// One by one most of these good capsules look anomalous: they show what comparing is for.
ACTIONS.example_batch = () => { many.rows.clear(); many.batch = null; act("begin_batch", { example: true, files: [], mutual: true }); };
ACTIONS.choose_many = () => $("#zs-upload input[type=file]").click();

async function openRow(number) {
  keepMode();
  const before = app.dataset.mode;
  setMode("one");
  const answer = await act("open_row", { number });
  if (answer && !answer.problem) $("#zs-verdict").focus({ preventScroll: true });
  else setMode(before);
}
function walk(step) {
  orderRows();
  const rows = many.order.filter((row) => !row.error), at = rows.findIndex((row) => row.number === page.state.row);
  const next = rows[at + step];
  if (next) openRow(next.number);
}
hooks.walk = (state) => {
  if (!(state.row >= 0)) return;
  orderRows();
  const rows = many.order.filter((row) => !row.error), at = rows.findIndex((row) => row.number === state.row);
  $("#zs-walk span").textContent = at < 0 ? state.name : `${at + 1} of ${rows.length} · ${many.rows.get(state.row).name}`;
  $("[data-do=previous]").disabled = at <= 0;
  $("[data-do=next]").disabled = at < 0 || at >= rows.length - 1;
};
hello();
