// The address carries the settings; parameters that are not ours stay.
function show() {
  const ours = new URLSearchParams(props.value || ""), url = new URL(window.location.href);
  const known = new Set((props.names || "").split(","));
  [...url.searchParams.keys()].filter((key) => known.has(key)).forEach((key) => url.searchParams.delete(key));
  ours.forEach((value, key) => url.searchParams.set(key, value));
  window.history.replaceState(window.history.state, "", url);
}
if (new URLSearchParams(window.location.search).get("embed") === "1") document.documentElement.classList.add("zs-embed");
watch("value", show);
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  try { await navigator.clipboard.writeText(window.location.href); button.textContent = "Link copied"; }
  catch { window.prompt("The link to this view", window.location.href); }
  setTimeout(() => { button.textContent = "Copy link"; }, 1600);
});
