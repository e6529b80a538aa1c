// Draws charts with Chart.js from the JSON in their elements, and refreshes the page's figures.
(function () {
  "use strict";
  var REFRESH_MS = 15000;
  var COLORS = { delivered: "#2f9e44", failed: "#f59f00", given_up: "#c92a2a", p50: "#1c7ed6", p95: "#ae3ec9" };
  var drawn = {};

  function data(place) {
    var chart = JSON.parse(place.dataset.chart);
    return {
      labels: chart.labels,
      datasets: chart.series.map(function (one) {
        return { label: one.name, data: one.data, borderColor: COLORS[one.key], backgroundColor: COLORS[one.key] };
      })
    };
  }
  function options(place) {
    var bars = JSON.parse(place.dataset.chart).kind === "bar", written = bars ? rate : duration, style = getComputedStyle(place);
    var grid = style.getPropertyValue("--tblr-border-color");
    return {
      animation: false, maintainAspectRatio: false, color: style.color, font: { family: style.fontFamily },
      datasets: { bar: { categoryPercentage: 0.9, barPercentage: 0.85 }, line: { borderWidth: 2, pointRadius: 2.5 } },
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: { align: "start", labels: { boxWidth: 12, boxHeight: 12, color: style.color }, onClick: null },
        tooltip: { callbacks: { label: function (one) { return one.dataset.label + ": " + written(one.raw); } } }
      },
      scales: {
        x: { stacked: bars, grid: { display: false }, border: { color: grid }, ticks: { color: style.color, maxRotation: 0, maxTicksLimit: 8 } },
        y: { stacked: bars, min: 0, grid: { color: grid }, border: { display: false }, ticks: { color: style.color, callback: written, maxTicksLimit: 6 } }
      }
    };
  }
  function rate(value) { return value === null || value === undefined ? "–" : String(Math.round(value * 100) / 100); }
  function duration(value) {
    if (value === null || value === undefined) return "–";
    return value < 1000 ? Math.round(value) + " ms" : Math.round(value / 100) / 10 + " s";
  }

  function draw() {
    document.querySelectorAll("[data-chart]").forEach(function (place) {
      if (drawn[place.id]) drawn[place.id].destroy();
      var canvas = document.createElement("canvas");
      place.replaceChildren(canvas);
      drawn[place.id] = new Chart(canvas, { type: JSON.parse(place.dataset.chart).kind, data: data(place), options: options(place) });
    });
  }

  function fetched(address) {
    return fetch(address, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.text().then(function (text) { return new DOMParser().parseFromString(text, "text/html"); });
    });
  }

  var loaded = {}; // as the server sent it; the page adds ages
  function load() {
    document.querySelectorAll("[data-load]").forEach(function (place) {
      fetched(place.dataset.load).then(function (answer) {
        var text = answer.body.innerHTML;
        if (loaded[place.id] === text) return;
        loaded[place.id] = text;
        place.replaceChildren.apply(place, answer.body.childNodes);
        window.panelAges();
      }, function () {});
    });
  }

  function refresh() {
    if (document.hidden) return;
    load();
    fetched(location.href).then(function (answer) {
      answer.querySelectorAll("[data-refreshed]").forEach(function (fresh) {
        var old = document.getElementById(fresh.id);
        if (!old.contains(document.activeElement)) old.replaceChildren.apply(old, fresh.childNodes);
      });
      window.panelAges();
      if (answer.querySelectorAll("[data-chart]").length !== Object.keys(drawn).length) return location.reload();
      answer.querySelectorAll("[data-chart]").forEach(function (fresh) {
        var old = document.getElementById(fresh.id);
        if (old.dataset.chart === fresh.dataset.chart) return;
        old.dataset.chart = fresh.dataset.chart;
        drawn[old.id].data = data(old);
        drawn[old.id].update();
      });
    }, function () {});
  }

  draw();
  load();
  setInterval(refresh, REFRESH_MS);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
})();
