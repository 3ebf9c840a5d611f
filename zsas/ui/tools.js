// The choices under the photo. The view is only a matter of style; the rest asks the server.
element.addEventListener("change", (event) => {
  if (event.target.name === "zs-view") document.querySelector("#zs-viewer").dataset.view = event.target.value;
});
element.addEventListener("click", (event) => {
  const wanted = event.target.closest("[data-do]")?.dataset.do;
  if (wanted === "undo") trigger("undo");
  if (wanted === "clear") trigger("clear");
  if (wanted === "new") trigger("delete");
});
