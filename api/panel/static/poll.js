// Refreshes a page in parts: `data-poll` is the address of the next state of its element, `data-poll-seconds` the interval.
// Elements with an id and `data-refreshed` are refreshed with it. Without an address nothing is under way any more.
(function () {
  "use strict";
  document.querySelectorAll("[data-poll]").forEach(function (part) { watch(part, 0, ""); });

  function watch(part, failures, before) {
    if (!part.dataset.poll) return;
    setTimeout(function () {
      if (document.hidden || part.contains(document.activeElement)) return watch(part, 0, before);
      fetch(part.dataset.poll, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
        if (answer.status === 401 || answer.status === 403) return null; // The session has ended; the next click leads to the log-in.
        if (!answer.ok) throw new Error(String(answer.status));
        return answer.text();
      }).then(function (text) {
        if (text === null) return;
        var fresh = new DOMParser().parseFromString(text, "text/html");
        var next = fresh.querySelector("[data-poll]");
        if (!next) return;
        var others = Array.from(fresh.querySelectorAll("[data-refreshed]"));
        var now = [next].concat(others).map(function (one) { return one.outerHTML; }).join();
        if (now === before) return watch(part, 0, before);
        others.forEach(function (one) { replace(document.getElementById(one.id), one); });
        replace(part, next);
        window.panelAges();
        watch(next, 0, now);
      }).catch(function () { watch(part, Math.min(failures + 1, 5), before); });
    }, Number(part.dataset.pollSeconds) * 1000 * Math.pow(2, failures));
  }

  // What was opened stays open.
  function replace(old, fresh) {
    if (!old || old.contains(document.activeElement)) return;
    var folds = fresh.querySelectorAll("details");
    old.querySelectorAll("details").forEach(function (one, place) { if (folds[place]) folds[place].open = one.open; });
    old.replaceWith(fresh);
  }
})();
