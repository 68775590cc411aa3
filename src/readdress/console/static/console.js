// What pages can't do without a script, and do without when there is none.
"use strict";

// A key brings the field that names it: "/" for the search.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector(`[data-shortcut="${CSS.escape(event.key)}"]`);
  if (field) {
    event.preventDefault();
    field.focus();
  }
});

// New mail: the server says that there is some, and htmx fetches the list.
for (const list of document.querySelectorAll("[data-stream]")) {
  const stream = new EventSource(list.dataset.stream);
  stream.addEventListener("mail", (event) => {
    htmx.trigger(list, "mail");
    if (event.data) document.getElementById("news").textContent = "New mail has come.";
  });
  addEventListener("pagehide", () => stream.close());
}
