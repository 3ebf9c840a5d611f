// Files come in by drop, choice, paste or camera; links and files go out.
const isMany = (files) => files.length > 1 || files.some((file) => /\.zip$/i.test(file.name));
async function takeFiles(list) {
  const files = [...(list || [])];
  if (!files.length) return;
  if (isMany(files)) { takeMany(files.filter((file) => !file.name.startsWith("."))); return; }
  tell("");
  sending(`Sending ${files[0].name}`);
  try {
    const { path } = await upload(files[0]);  // of any type: a browser knows fewer than the server
    setMode("one");
    await act("open_upload", { path });
  } catch (error) {
    tell(`${files[0].name} could not be uploaded: ${error.message}`);
  }
  sending("");
}
// What is on its way is said where it was dropped, and in the head for when something else stands there.
function sending(text) {
  app.classList.toggle("zs-uploading", Boolean(text));
  $("#zs-upload b").textContent = text || "Drop a photo here";
  $("#zs-status").textContent = text || page.status?.text || "";
}
// What is not sent yet would be lost with the page; what was sent comes back.
window.addEventListener("beforeunload", (event) => {
  if (many.sending || app.classList.contains("zs-uploading")) event.preventDefault();
});
app.addEventListener("change", (event) => {
  if (event.target.type !== "file") return;
  if (event.target.id === "zs-parts-file") { takeParts([...event.target.files]); event.target.value = ""; return; }
  if (event.target.id === "zs-truth-file") { takeTruth(event.target.files[0]); return; }
  if (event.target.id === "zs-profile-file") { takeProfile(event.target.files[0]); event.target.value = ""; return; }
  takeFiles(event.target.files);
  event.target.value = "";
});
async function takeTruth(file) {
  try {
    const { path } = await upload(file);
    await act("give_truth", { path });
  } catch (error) { tell(`The mask could not be uploaded: ${error.message}`); }
}
async function takeParts(files) {
  if (!files.length) return;
  sending(files.length > 1 ? `Sending ${files.length} good parts` : `Sending ${files[0]?.name}`);
  const sent = await Promise.allSettled(files.map((file) => upload(file)));
  sending("");
  const paths = sent.filter(({ value }) => value).map(({ value }) => value.path);
  if (paths.length) await act("add_parts", { paths });
  const failed = sent.findIndex(({ reason }) => reason);
  if (failed >= 0) tell(`${files[failed].name} could not be uploaded: ${sent[failed].reason.message}`);
}
// A file is made when it is asked for; where that fails, the sentence is shown and nothing is saved.
const DIRECT = "batch-all.zip";  // may be too large to be held: the browser saves it as it comes
app.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-get]");
  if (!link?.href || link.dataset.get === DIRECT || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.getAttribute("aria-busy")) return;
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error || "it is no longer on the server; open the photo again");
    const name = decodeURIComponent(/filename\*=UTF-8''(.+)$/.exec(answer.headers.get("content-disposition") || "")?.[1] || link.dataset.get);
    const saved = document.createElement("a");
    saved.href = URL.createObjectURL(await answer.blob());
    saved.download = name;
    saved.click();
    setTimeout(() => URL.revokeObjectURL(saved.href), 60000);
  } catch (error) { tell(`The file could not be made: ${error.message}.`.replace("..", ".")); }
  link.removeAttribute("aria-busy");
});
// The menu of files closes as menus do.
const closeMenus = (but) => $$(".zs-menu[open]").forEach((menu) => { if (menu !== but) menu.open = false; });
document.addEventListener("click", (event) => closeMenus(event.target.closest?.(".zs-menu")));
app.addEventListener("dragover", (event) => { event.preventDefault(); app.classList.add("zs-over"); });
app.addEventListener("dragleave", (event) => { if (!app.contains(event.relatedTarget)) app.classList.remove("zs-over"); });
app.addEventListener("drop", async (event) => {
  event.preventDefault();
  app.classList.remove("zs-over");
  if (event.target.closest(".zs-good-parts")) { takeParts([...event.dataTransfer.files]); return; }
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  takeFiles(entries.some((entry) => entry.isDirectory) ? await filesIn(entries) : event.dataTransfer.files);
});
async function filesIn(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push(Object.assign(file, { inside: entry.fullPath.replace(/^\//, "") }));
    } else {
      const reader = entry.createReader();
      for (let some; (some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length;) found.push(...await filesIn(some));
    }
  }
  return found;
}
document.addEventListener("paste", (event) => {
  const at = event.target;
  if (!element.isConnected || at.isContentEditable || /^(input|textarea)$/i.test(at.tagName)) return;
  // Inside somebody's page only what is pasted here, or nowhere in particular, is meant for this one.
  if (at !== document.body && !element.closest(".gradio-container")?.contains(at)) return;
  takeFiles(event.clipboardData?.files);
});
async function takePicture() {
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }); }
  catch (error) { tell(`The camera cannot be used: ${error.message}`); return; }
  const dialog = document.createElement("dialog");
  dialog.className = "zs-camera";
  dialog.innerHTML = '<video autoplay playsinline></video><button type="button" class="zs-button zs-main">Take the photo</button> <button type="button" class="zs-button">Cancel</button>';
  const video = dialog.querySelector("video"), [shoot, cancel] = dialog.querySelectorAll("button");
  const end = () => { stream.getTracks().forEach((track) => track.stop()); dialog.close(); dialog.remove(); };
  video.srcObject = stream;
  cancel.onclick = end;
  shoot.onclick = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => takeFiles([new File([blob], "camera.png", { type: "image/png" })]));
    end();
  };
  app.append(dialog);
  dialog.showModal();
}
$("#zs-examples").addEventListener("click", (event) => {
  const key = event.target.closest("[data-example]")?.dataset.example;
  if (key) { setMode("one"); act("open_example", { key }); }
});
// One stop for the keyboard, and arrows inside it.
$("#zs-examples").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  const all = $$("#zs-examples [data-example]"), now = all.indexOf(document.activeElement);
  if (!step || now < 0) return;
  event.preventDefault();
  const next = all[(now + step + all.length) % all.length];
  all.forEach((button) => { button.tabIndex = button === next ? 0 : -1; });
  next.focus();
});
hooks["zs-examples"] = () => $$("#zs-examples [data-example]").forEach((button, number) => {
  const picture = button.querySelector("img");
  if (!picture.src) picture.src = root + picture.dataset.at;
  button.tabIndex = number ? -1 : 0;
  button.setAttribute("aria-pressed", String(button.dataset.example === page.state.example));
});
hooks["zs-examples"]();
function linkWords() {
  return page.state.image && !page.state.example ? "Copy settings link" : "Copy link";
}
async function copyLink() {
  const own = page.state.image && !page.state.example, url = address(page.state.query || "").href;
  try { await navigator.clipboard.writeText(url); } catch { window.prompt("The link", url); }
  const button = $("[data-do=link]");
  button.textContent = "Link copied";
  if (own) tell("The link carries the settings; your photo is not in it. To pass the result on, take the report.");
  setTimeout(() => { button.textContent = linkWords(); }, 1600);
}
