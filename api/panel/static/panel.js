// Script of every page: theme switch, confirmation dialogs, copying, and filters without empty fields.
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
