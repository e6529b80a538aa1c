// The form of a webhook: header rows, bodies of the chosen events, a suggested name, a generated key, draft tests, and the
// API's validation before it is sent. Without this script the form is validated on save, and no header row can be added.
(function () {
  "use strict";

  var TYPING_MS = 400; // Delay after the last key, so that a half-typed URL is not checked.
  var form = document.querySelector(".webhook-form");
  var KEY_BYTES = 32;
  var field = function (name) { return form.elements[name]; };
  var shownField = function (name) { return form.querySelector("[data-path='" + name + "']") || field(name); };

  // With `typing` no button was pressed, so an ended session does not open the log-in dialog.
  function ask(address, into, typing) {
    var token = field("csrf").value;
    return fetch(address, {
      method: "POST",
      headers: { "X-Requested-With": "fetch", "X-CSRF-Token": field("csrf").value },
      body: new URLSearchParams(new FormData(form)),
    }).then(function (response) {
      if (!typing && (response.status === 401 || response.status === 403)) {
        return window.panelSession().then(function () {
          if (field("csrf").value === token) throw new Error(response.status); // The session is the same, so it is not the cause.
          return ask(address, into);
        });
      }
      if (!response.ok) throw new Error(response.status);
      return into === "text" ? response.text() : response.json();
    });
  }

  // Errors, each beside its field.
  function forget(input) {
    input.classList.remove("is-invalid");
    input.removeAttribute("aria-invalid");
    var said = document.getElementById("error-" + (input.dataset.path || input.name));
    if (said) said.remove();
  }

  function complain(input, message) {
    forget(input);
    var said = document.createElement("div");
    said.className = "invalid-feedback d-block";
    said.id = "error-" + (input.dataset.path || input.name);
    said.textContent = message;
    input.classList.add("is-invalid");
    input.setAttribute("aria-invalid", "true");
    var described = (input.getAttribute("aria-describedby") || "").split(" ").filter(Boolean);
    if (described.indexOf(said.id) < 0) input.setAttribute("aria-describedby", described.concat(said.id).join(" "));
    input.closest("label") ? input.closest("label").after(said) : input.after(said);
  }

  function show(errors) {
    var rest = [];
    Array.prototype.forEach.call(form.elements, function (input) { if (input.name || input.dataset.path) forget(input); });
    Object.keys(errors).forEach(function (path) {
      var input = path && shownField(path);
      if (input) complain(input, errors[path]);
      else rest.push(path ? path + " " + errors[path] : errors[path]);
    });
    var above = form.querySelector("[data-form-error]");
    above.hidden = !Object.keys(errors).length;
    above.textContent = rest.join("; ") || form.dataset.wrong;
    if (rest.length) above.scrollIntoView({ block: "center" });
    var first = form.querySelector(".is-invalid");
    if (!first) return;
    if (first.closest("details")) first.closest("details").open = true;
    first.focus();
  }

  var sending = false;
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    if (sending) return;
    sending = true;
    ask(form.dataset.check).then(function (said) {
      if (Object.keys(said.errors).length) { sending = false; show(said.errors); } else window.panelSubmit(form);
    }).catch(function (error) { if (error.givenUp) sending = false; else window.panelSubmit(form); });
  });
  window.addEventListener("pageshow", function () { sending = false; });

  // Check of the URL while it is typed.
  var waiting;
  field("url").addEventListener("input", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      var typed = field("url").value;
      var line = form.querySelector("[data-url-said]");
      if (!typed.trim()) { forget(field("url")); line.textContent = ""; return; }
      ask(form.dataset.check, "json", true).then(function (said) {
        if (field("url").value !== typed) return;
        if (said.errors.url) complain(field("url"), said.errors.url); else forget(field("url"));
        line.textContent = said.errors.url ? "" : said.warning || line.dataset.good;
      }).catch(function () { line.textContent = ""; });
      suggest();
    }, TYPING_MS);
  });

  // Description and bodies of the chosen events; the legacy switch is disabled beside an event without a legacy body.
  function chosen() {
    return Array.prototype.map.call(field("eventName").selectedOptions || [], function (one) { return one.value; });
  }

  function allowLegacy() {
    var none = form.querySelector("[data-no-legacy]") !== null;
    field("legacy").disabled = none;
    if (none) field("legacy").checked = false;
  }

  field("eventName").addEventListener("input", function () {
    var samples = form.querySelector("[data-sample]"), names = chosen();
    if (names.length) forget(shownField("eventName"));
    samples.querySelectorAll("[data-event]").forEach(function (one) { if (names.indexOf(one.dataset.event) < 0) one.remove(); });
    names.forEach(function (name) {
      if (samples.querySelector("[data-event='" + name + "']")) return;
      fetch(form.dataset.samples + encodeURIComponent(name), { headers: { "X-Requested-With": "fetch" } })
        .then(function (response) { return response.ok ? response.text() : ""; })
        .then(function (html) {
          if (chosen().indexOf(name) >= 0 && !samples.querySelector("[data-event='" + name + "']")) samples.insertAdjacentHTML("beforeend", html);
          allowLegacy();
        });
    });
    allowLegacy();
    suggest();
  });

  // A suggested name, until the person enters one.
  var suggested = field("name").value === "" ? "" : null;
  field("name").addEventListener("input", function () { suggested = field("name").value === "" ? "" : null; });

  function suggest() {
    if (suggested === null || field("name").value !== suggested) return;
    var host;
    try { host = new URL(field("url").value).hostname; } catch (error) { return; }
    var names = chosen();
    if (!host || !names.length) return;
    suggested = names.length > 1 ? "" : field("name").dataset.suggestion.replace("EVENT", names[0]).replace("HOST", host);
    field("name").value = suggested;
  }

  // The signing key, of random bytes as the server makes it.
  var key = form.querySelector("[data-signing-key]");
  function allowKey() { if (key) key.hidden = !field("hmacEnabled").checked; }
  field("hmacEnabled").addEventListener("change", allowKey);
  if (key) key.querySelector("[data-generate-key]").addEventListener("click", function () {
    var bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
    field("hmacSecret").value = "whsec_" + btoa(String.fromCharCode.apply(null, bytes));
    field("hmacSecret").dispatchEvent(new Event("input", { bubbles: true }));
  });

  // The draft test.
  var testButton = form.querySelector("[data-draft-test]");
  testButton.addEventListener("click", function () {
    var place = form.querySelector("[data-test-place]");
    place.textContent = place.dataset.waiting;
    testButton.disabled = true;
    ask(testButton.dataset.draftTest, "text").then(function (said) {
      var refused = said.charAt(0) === "{";
      show(refused ? JSON.parse(said).errors : {});
      place.innerHTML = refused ? "" : said;
      var label = testButton.querySelector("[data-again]");
      if (!refused) label.textContent = label.dataset.again;
    }).catch(function (error) { place.textContent = error.givenUp ? "" : place.dataset.away; }).then(function () { testButton.disabled = false; });
  });

  // The fields of the chosen type of authentication.
  function showAuthentication() {
    form.querySelectorAll("[data-authentication]").forEach(function (part) {
      part.hidden = part.dataset.authentication !== field("authentication.type").value;
    });
  }
  field("authentication.type").addEventListener("change", showAuthentication);
  showAuthentication();

  // Header rows.
  var rows = form.querySelector("[data-headers]");
  form.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) return;
    if (button.hasAttribute("data-add-header")) {
      var row = form.querySelector("[data-header-row]").content.firstElementChild.cloneNode(true);
      var places = Array.prototype.map.call(rows.querySelectorAll("[name]"), function (one) { return +one.name.split(".")[1] + 1; });
      var place = Math.max.apply(null, [0].concat(places));
      row.querySelectorAll("[name]").forEach(function (one) { one.name = one.name.replace("N", place); });
      rows.append(row);
      row.querySelector("input").focus();
    } else if (button.hasAttribute("data-remove-header")) {
      button.closest("[data-row]").remove();
      form.querySelector("[data-add-header]").focus();
    }
  });

  allowLegacy();
  allowKey();
})();
