// Preserves a form's input when the session ends: a dialog asks to log in in another tab, then the form can be sent again.
// The promise of `panelSession()` resolves once somebody is logged in and every form has their CSRF token.
(function () {
  "use strict";
  var dialog = document.getElementById("session-ended");
  var said = dialog.querySelector("[data-said]");
  var waiting = [];

  // Resolves to the reason why a form cannot be sent, or an empty string. Gives every form the current session's token.
  function obstacle() {
    return fetch(dialog.dataset.session, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
      if (answer.status === 401) return dialog.dataset.nobody;
      if (!answer.ok) throw new Error(answer.status);
      return answer.json().then(function (session) {
        document.querySelectorAll("[name=csrf]").forEach(function (field) { field.value = session.csrf; });
        var other = session.name !== dialog.dataset.name;
        dialog.dataset.name = session.name;
        return other ? dialog.dataset.other.replace("NAME", session.name) : "";
      });
    });
  }

  window.panelSession = function () {
    return obstacle().then(function (text) {
      if (!text) return undefined;
      said.textContent = text;
      if (!dialog.open) dialog.showModal();
      return new Promise(function (resolve, reject) { waiting.push({ resolve: resolve, reject: reject }); });
    });
  };

  dialog.querySelector("[data-again]").addEventListener("click", function () {
    obstacle().then(function (text) {
      said.textContent = text;
      if (text) return;
      waiting.splice(0).forEach(function (one) { one.resolve(); });
      dialog.close();
    }).catch(function () { said.textContent = dialog.dataset.away; });
  });
  dialog.addEventListener("close", function () {
    waiting.splice(0).forEach(function (one) { one.reject({ givenUp: true }); });
  });

  // Sends the form with the name and value of the pressed button, which `form.submit()` leaves out.
  window.panelSubmit = function (form, button) {
    form.querySelectorAll("[data-pressed]").forEach(function (field) { field.remove(); });
    if (button && button.name) {
      var field = document.createElement("input");
      Object.assign(field, { type: "hidden", name: button.name, value: button.value });
      field.setAttribute("data-pressed", "");
      form.append(field);
    }
    window.panelSent(form);
    form.submit();
  };

  // If the server cannot be reached, the form is submitted unchanged, so that the browser shows the error.
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (event.defaultPrevented || form.method !== "post" || !form.closest("main")) return;
    event.preventDefault();
    if (form.hasAttribute("data-sent")) return; // A second click sends nothing while the first is being answered.
    form.setAttribute("data-sent", "");
    var send = function () { window.panelSubmit(form, event.submitter); };
    window.panelSession().then(send, function (error) {
      if (error.givenUp) form.removeAttribute("data-sent"); else send();
    });
  });
})();
