// A session that ends while a form is filled in takes nothing of it away: whoever fills it in is told, logs in in another
// tab, and sends it again. What `panelSession()` promises is kept once they are logged in and every form has their token.
(function () {
  "use strict";
  var dialog = document.getElementById("session-ended");
  var said = dialog.querySelector("[data-said]");
  var waiting = [];

  // What keeps a form from being sent, or nothing; every form takes the token of whoever is logged in now.
  function hindrance() {
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
    return hindrance().then(function (text) {
      if (!text) return undefined;
      said.textContent = text;
      if (!dialog.open) dialog.showModal();
      return new Promise(function (keep, drop) { waiting.push({ keep: keep, drop: drop }); });
    });
  };

  dialog.querySelector("[data-again]").addEventListener("click", function () {
    hindrance().then(function (text) {
      said.textContent = text;
      if (text) return;
      waiting.splice(0).forEach(function (one) { one.keep(); });
      dialog.close();
    }).catch(function () { said.textContent = dialog.dataset.away; });
  });
  dialog.addEventListener("close", function () {
    waiting.splice(0).forEach(function (one) { one.drop({ givenUp: true }); });
  });

  // Where the server cannot be asked, a form is sent as it is.
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (event.defaultPrevented || form.method !== "post" || !form.closest("main")) return;
    event.preventDefault();
    if (form.hasAttribute("data-sent")) return; // a second click sends nothing more while the first is answered
    form.setAttribute("data-sent", "");
    window.panelSession().then(function () { form.submit(); }, function (error) {
      if (error.givenUp) form.removeAttribute("data-sent"); else form.submit();
    });
  });
})();
