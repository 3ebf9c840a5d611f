// Where gradio's own names do not fit: an upload area has another name than the words on it, so that what one reads is
// not what one can say; and an empty picture has a name but no role.
const page = element.closest(".gradio-container");
function mend() {
  page.querySelectorAll(".upload-container[aria-label]").forEach((area) => area.removeAttribute("aria-label"));
  page.querySelectorAll("div.empty[aria-label]:not([role])").forEach((empty) => empty.setAttribute("role", "img"));
}
new MutationObserver(mend).observe(page, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-label"] });
mend();
