// Runs before the page is drawn: what was chosen stands in a cookie, and the server has set it already; else as the
// system has it.
(function () {
  var root = document.documentElement;
  if (!root.hasAttribute("data-bs-theme")) {
    root.setAttribute("data-bs-theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  }
})();
