// Draws charts with ApexCharts from the JSON in their elements, and refreshes the page's figures.
(function () {
  "use strict";
  var REFRESH_MS = 15000;
  var COLORS = { delivered: "#2f9e44", failed: "#f59f00", given_up: "#c92a2a", p50: "#1c7ed6", p95: "#ae3ec9" };
  var drawn = {};

  function options(place) {
    var chart = JSON.parse(place.dataset.chart), bars = chart.kind === "bar";
    var dark = document.documentElement.getAttribute("data-bs-theme") === "dark";
    return {
      chart: {
        type: chart.kind, height: 240, stacked: bars, nonce: place.dataset.nonce, background: "transparent",
        animations: { enabled: false }, accessibility: { enabled: false }, toolbar: { show: false }, zoom: { enabled: false }, fontFamily: "inherit"
      },
      theme: { mode: dark ? "dark" : "light" },
      colors: chart.series.map(function (one) { return COLORS[one.key]; }),
      series: chart.series.map(function (one) { return { name: one.name, data: one.data }; }),
      stroke: bars ? { width: 0 } : { width: 2, curve: "straight" },
      markers: { size: bars ? 0 : 3, strokeWidth: 0 },
      dataLabels: { enabled: false },
      grid: { borderColor: dark ? "#3b4859" : "#dce1e7" },
      xaxis: { categories: chart.labels, tickAmount: Math.min(8, Math.floor(place.clientWidth / 90)), labels: { rotate: 0, hideOverlappingLabels: true }, tooltip: { enabled: false } },
      yaxis: { min: 0, forceNiceScale: true, labels: { formatter: bars ? rate : duration } },
      legend: { position: "top", horizontalAlign: "left", onItemClick: { toggleDataSeries: false } }
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
      drawn[place.id] = new ApexCharts(place, options(place));
      drawn[place.id].render();
    });
  }

  function fetched(address) {
    return fetch(address, { headers: { "X-Requested-With": "fetch" } }).then(function (answer) {
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.text().then(function (text) { return new DOMParser().parseFromString(text, "text/html"); });
    });
  }

  function load() {
    document.querySelectorAll("[data-load]").forEach(function (place) {
      fetched(place.dataset.load).then(function (answer) {
        if (place.innerHTML.trim() !== answer.body.innerHTML.trim()) place.replaceChildren.apply(place, answer.body.childNodes);
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
      if (answer.querySelectorAll("[data-chart]").length !== Object.keys(drawn).length) return location.reload();
      answer.querySelectorAll("[data-chart]").forEach(function (fresh) {
        var old = document.getElementById(fresh.id);
        if (old.dataset.chart === fresh.dataset.chart) return;
        old.dataset.chart = fresh.dataset.chart;
        var now = options(old);
        drawn[old.id].updateOptions({ series: now.series, xaxis: now.xaxis }, false, false);
      });
    }, function () {});
  }

  draw();
  load();
  setInterval(refresh, REFRESH_MS);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
})();
