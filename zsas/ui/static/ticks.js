// The marking level and the limit as ticks: what they change is drawn here at once, and the server is asked when they rest.
let grey = null;
hooks["zs-scale"] = async () => {
  const bar = $("#zs-scale .zs-bar");
  showLevel();
  grey = null;
  if (!bar) return;
  const picture = new Image();
  picture.crossOrigin = "anonymous";
  picture.src = bar.dataset.grey;
  await picture.decode();
  if (!bar.isConnected) return;  // another map has come meanwhile
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = new Uint8Array(canvas.width * canvas.height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
  grey = { width: canvas.width, height: canvas.height, values, canvas, context };
};
function readValue(event) {
  const svg = main(), out = $("#zs-scale .zs-at"), at = svg && placeOf(svg, event);
  if (!grey || !out || !at) return;
  const [width, height] = sizeOf(svg);
  const column = Math.floor(at.x / width * grey.width), row = Math.floor(at.y / height * grey.height);
  out.textContent = `anomaly score ${(grey.values[row * grey.width + column] / 255).toFixed(2)}`;
}
function drawLevel(level) {
  const svg = main();
  if (!grey || !svg) return;
  const { width, height, values, canvas, context } = grey, cut = 255 * level;
  const picture = context.createImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < values.length; i++) pixels[i] = values[i] > cut ? 0x8c00b0ff : 0;  // amber, as bytes ABGR
  context.putImageData(picture, 0, 0);
  const [w, h] = sizeOf(svg);
  svg.querySelector("#zs-live").innerHTML = `<image href="${canvas.toDataURL()}" width="${w}" height="${h}" preserveAspectRatio="none"/>`;
  svg.classList.add("zs-moving");
}
const WORDS = { normal: ["Normal", "✓", "zs-good"], unsure: ["Unsure", "?", "zs-unsure"], anomalous: ["Anomalous", "▲", "zs-bad"] };
function verdictOf(score, limit, band) {
  return Math.abs(score - limit) < band ? "unsure" : score >= limit ? "anomalous" : "normal";
}
function drawLimit(limit) {
  const card = $("#zs-verdict .zs-verdict[data-score]");
  if (!card) return;
  const score = Number(card.dataset.score);
  const word = card.dataset.settled || verdictOf(score, limit, Number(card.dataset.band));
  card.classList.remove("zs-good", "zs-unsure", "zs-bad");
  card.classList.add(WORDS[word][2]);
  card.querySelector(".zs-word").textContent = WORDS[word][0];
  card.querySelector("h2 i").textContent = WORDS[word][1];
  card.querySelector(".zs-meter").style.setProperty("--limit", limit);
  card.querySelector(".zs-score").innerHTML = `Score <strong>${score.toFixed(2)}</strong>, ${score >= limit ? "at or above" : "below"} the limit <strong>${limit.toFixed(2)}</strong>${card.querySelector(".zs-score span")?.outerHTML || ""}`;
}
const resting_ticks = {};
// Let go: the server is asked at once.
app.addEventListener("change", (event) => {
  const tick = event.target.closest(".zs-tick");
  if (!tick || !resting_ticks[tick.name]) return;
  clearTimeout(resting_ticks[tick.name]);
  resting_ticks[tick.name] = 0;
  act("change", { name: tick.name, value: Number(tick.value) }, tick.name);
});
app.addEventListener("input", (event) => {
  const tick = event.target.closest(".zs-tick");
  if (!tick) return;
  const value = Number(tick.value);
  if (tick.name === "threshold") { $("#zs-scale .zs-level b").textContent = value.toFixed(2); tick.parentElement.style.setProperty("--level", value); drawLevel(value); }
  else drawLimit(value);
  hooks.limit?.(tick.name, value);
  clearTimeout(resting_ticks[tick.name]);
  resting_ticks[tick.name] = setTimeout(() => { resting_ticks[tick.name] = 0; act("change", { name: tick.name, value }, tick.name); }, 180);
});
