// Material puts a table into an element that scrolls where it is too wide; here the keyboard gets there, too.
document$.subscribe(() => {
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) {
        target.setAttribute("tabindex", "0");
        target.setAttribute("role", "group");
        target.setAttribute("aria-label", "Table, wider than the page");
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
      }
    }
  });
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) sizes.observe(table);
});
