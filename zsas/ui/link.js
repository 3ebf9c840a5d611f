// The address carries the view; parameters that are not ours stay. As a web component inside somebody else's page the
// address is theirs: there it is left alone, and the link goes to the server itself.
const elsewhere = element.closest("gradio-app")?.getAttribute("src");

const known = new Set((props.names || "").split(","));

function address() {
  const url = new URL(elsewhere || window.location.href, window.location.href);
  [...url.searchParams.keys()].filter((key) => known.has(key)).forEach((key) => url.searchParams.delete(key));
  new URLSearchParams(props.value || "").forEach((value, key) => url.searchParams.set(key, value));
  return url;
}

if (!elsewhere) {
  const query = new URLSearchParams(window.location.search);
  if ([...query.keys()].some((key) => known.has(key))) {
    document.body.dataset.linked = "yes";
    trigger("submit");  // not "load": gradio itself fires every event of that name when any page is opened
  }
  if (query.get("embed") === "1") document.documentElement.classList.add("zs-embed");
  watch("value", () => { if (props.value) window.history.replaceState(window.history.state, "", address()); });
}
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  try { await navigator.clipboard.writeText(address().href); button.textContent = "Link copied"; }
  catch { window.prompt("The link to this view", address().href); }
  setTimeout(() => { button.textContent = "Copy link"; }, 1600);
});
