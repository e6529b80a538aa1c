// Refreshes a part of a page: `data-poll` is the address of its next state, `data-poll-seconds` the interval.
(function () {
  "use strict";
  document.querySelectorAll("[data-poll]").forEach(watch);

  function watch(part, failures) {
    failures = Number(failures) || 0;
    if (!part.dataset.poll) return;
    setTimeout(function () {
      if (document.hidden || part.contains(document.activeElement)) return watch(part);
      fetch(part.dataset.poll, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
        if (answer.status === 401 || answer.status === 403) return null; // The session has ended; the next click leads to the log-in.
        if (!answer.ok) throw new Error(String(answer.status));
        return answer.text();
      }).then(function (text) {
        if (text === null) return;
        var next = new DOMParser().parseFromString(text, "text/html").querySelector("[data-poll]");
        if (!next) return;
        part.replaceWith(next);
        watch(next);
      }).catch(function () { watch(part, Math.min(failures + 1, 5)); });
    }, Number(part.dataset.pollSeconds) * 1000 * Math.pow(2, failures));
  }
})();
