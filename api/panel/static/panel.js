// Script of every page: theme switch, confirmation dialogs, copying, ages of instants, a question before a filled form is
// left, and filters without empty fields.
(function () {
  "use strict";

  document.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) return;
    if (button.hasAttribute("data-theme-switch")) {
      var theme = document.documentElement.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
      document.documentElement.setAttribute("data-bs-theme", theme);
      document.cookie = "loyalty_webhooks_theme=" + theme + "; path=/admin; max-age=31536000; samesite=lax";
    } else if (button.dataset.dialog) {
      document.getElementById(button.dataset.dialog).showModal();
    } else if (button.hasAttribute("data-close")) {
      button.closest("dialog").close();
    } else if (button.hasAttribute("data-copy")) {
      copy(button);
    }
  });

  function copy(button) {
    var field = button.parentNode.querySelector("input, textarea");
    field.select();
    var done = function () { button.textContent = field.dataset.copied; };
    if (navigator.clipboard) {
      navigator.clipboard.writeText(field.value).then(done, function () { document.execCommand("copy") && done(); });
    } else if (document.execCommand("copy")) {
      done();
    }
  }

  // Adds its age to each instant. The server's clock counts, as the page tells it.
  var AGES_MS = 30000;
  var UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  var ahead = Date.parse(document.documentElement.dataset.now) - Date.now();

  function age(instant) {
    var seconds = (Date.now() + ahead - Date.parse(instant)) / 1000, size = Math.floor(Math.abs(seconds));
    var unit = UNITS.find(function (one) { return size >= one[0]; });
    if (!unit) return "now";
    var text = Math.floor(size / unit[0]) + " " + unit[1];
    return seconds < 0 ? "in " + text : text + " ago";
  }

  window.panelAges = function () {
    document.querySelectorAll("time.instant").forEach(function (instant) {
      var place = instant.nextElementSibling;
      if (!place || !place.classList.contains("age")) {
        place = document.createElement("span");
        place.className = "age";
        instant.after(place);
      }
      place.textContent = age(instant.dateTime);
    });
  };
  window.panelAges();
  setInterval(window.panelAges, AGES_MS);

  // Asks before a form is left that somebody has filled in. `panelSent(form)` says that it is being sent.
  var filled = new Set();
  window.panelSent = function (form) { filled.delete(form); };
  document.addEventListener("input", function (event) {
    var form = event.target.form;
    if (form && form.method === "post" && form.contains(event.target) && form.closest("main")) filled.add(form);
  });
  document.addEventListener("close", function (event) {
    event.target.querySelectorAll("form").forEach(window.panelSent);
  }, true); // a dialog that is given up
  window.addEventListener("beforeunload", function (event) {
    if (Array.from(filled).some(function (form) { return form.isConnected; })) event.preventDefault();
  });
  document.querySelectorAll("main form [aria-invalid]").forEach(function (field) { filled.add(field.form || field.closest("form")); });

  // Shows the full text of the chosen option below a select box, which cuts it off.
  function tell(choice) {
    var chosen = choice.selectedOptions[0];
    document.getElementById(choice.dataset.told).textContent = chosen && chosen.dataset.told || "";
  }

  // Copies the complete id when a shortened one is selected.
  document.addEventListener("copy", function (event) {
    var selection = getSelection(), place = selection.anchorNode;
    if (place && place.nodeType !== Node.ELEMENT_NODE) place = place.parentElement;
    var id = place && place.closest(".id[title]");
    if (!id || selection.toString().trim() !== id.textContent.trim()) return;
    event.clipboardData.setData("text/plain", id.title);
    event.preventDefault();
  });

  // Disables empty filters, so that they are not part of the address.
  document.addEventListener("submit", function (event) {
    if (!event.target.hasAttribute("data-filters")) return;
    Array.prototype.forEach.call(event.target.elements, function (field) {
      if (field.name && field.value === "") field.disabled = true;
    });
  });

  window.addEventListener("pageshow", function () {
    document.querySelectorAll("[data-sent]").forEach(function (form) { form.removeAttribute("data-sent"); });
    document.querySelectorAll("[form=filters]").forEach(function (field) { field.disabled = false; });
    document.querySelectorAll("select[data-told]").forEach(tell);
  });
  document.addEventListener("change", function (event) {
    if (event.target.hasAttribute("data-submit")) event.target.form.requestSubmit();
    if (event.target.matches("select[data-told]")) tell(event.target);
  });
})();
