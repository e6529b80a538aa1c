// Sets the theme before the page is drawn. A chosen theme is in a cookie, which the server has applied already; otherwise
// the system's preference applies.
(function () {
  var root = document.documentElement;
  if (!root.hasAttribute("data-bs-theme")) {
    root.setAttribute("data-bs-theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  }
})();
