// The live list of deliveries: selection of rows, announcement of new deliveries and refresh of open rows. The list never
// moves while it is read.
(function () {
  "use strict";
  document.addEventListener("change", function (event) {
    var form = event.target.dataset.chooseAll;
    if (form) document.querySelectorAll("td [form=" + form + "]").forEach(function (box) { box.checked = event.target.checked; });
  });

  var live = document.querySelector("[data-live]");
  if (!live) return;
  var said = live.querySelector("[data-live-said]");
  var pause = Number(live.dataset.liveSeconds) * 1000;
  var failures = 0;
  var seen = {}; // rows as the server sent them; the page adds ages

  function ask() {
    if (document.hidden) return later();
    var open = Array.prototype.map.call(document.querySelectorAll("[data-open]"), function (row) { return row.dataset.open; });
    var address = live.dataset.live + (live.dataset.live.indexOf("?") < 0 ? "?" : "&") + "open=" + open.join(",");
    fetch(address, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
      if (answer.status === 401 || answer.status === 403) return; // The session has ended; the next click leads to the log-in.
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.text().then(function (text) {
        failures = 0;
        show(new DOMParser().parseFromString(text, "text/html"));
        later();
      });
    }).catch(function () {
      failures = Math.min(failures + 1, 5);
      later();
    });
  }

  function later() { setTimeout(ask, pause * Math.pow(2, failures)); }

  function show(answer) {
    var news = answer.querySelector("[data-count]");
    if (said.textContent !== news.textContent) said.replaceChildren.apply(said, news.childNodes);
    answer.querySelectorAll("[data-row]").forEach(function (row) {
      var old = document.getElementById(row.id);
      if (!old || old.contains(document.activeElement) || seen[row.id] === row.outerHTML) return;
      seen[row.id] = row.outerHTML;
      var box = old.querySelector("input"), fresh = row.querySelector("input");
      if (box && fresh) fresh.checked = box.checked;
      old.replaceWith(row);
    });
    window.panelAges();
  }

  later();
})();
