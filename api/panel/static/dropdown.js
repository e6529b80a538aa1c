// Turns a list of options into a searchable dropdown: a combobox that finds options by name, group and description, by
// mouse, keyboard and touch. The list stays the form's field, so without this script it is used as it stands.
(function () {
  "use strict";
  document.querySelectorAll("select[data-dropdown]").forEach(build);

  function element(name, properties, parent) {
    var made = Object.assign(document.createElement(name), properties);
    if (parent) parent.append(made);
    return made;
  }

  function build(select) {
    var id = select.id, active = null, rows = [];
    var box = element("div", { className: "dropdown-box" });
    var chosen = element("ul", { className: "dropdown-chosen" }, box);
    var input = element("input", { className: "form-select", type: "text", autocomplete: "off", spellcheck: false, placeholder: select.dataset.search }, box);
    var list = element("div", { className: "dropdown-options", id: id + "-options", hidden: true }, box);
    select.hidden = true;
    select.before(box);
    select.id = id + "-list";
    input.id = id;
    ["aria-describedby", "aria-invalid"].forEach(function (name) { if (select.hasAttribute(name)) input.setAttribute(name, select.getAttribute(name)); });
    if (select.hasAttribute("aria-invalid")) input.classList.add("is-invalid");
    set(input, { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id });
    set(list, { role: "listbox", "aria-multiselectable": "true", "aria-label": document.querySelector("label[for='" + id + "']").textContent });
    input.dataset.path = select.name;

    select.querySelectorAll("optgroup").forEach(function (group, place) {
      var part = element("div", {}, list), head = element("div", { className: "dropdown-group", id: id + "-group-" + place, textContent: group.label }, part);
      set(part, { role: "group", "aria-labelledby": head.id });
      group.querySelectorAll("option").forEach(function (option) {
        var row = element("div", { className: "dropdown-option", id: id + "-" + option.value }, part);
        row.setAttribute("role", "option");
        element("strong", { textContent: option.value }, row);
        element("span", { textContent: option.dataset.about }, row);
        rows.push({ option: option, row: row, part: part, words: [option.value, group.label, option.dataset.about].join(" ").toLowerCase() });
      });
    });
    var nothing = element("p", { className: "dropdown-nothing", textContent: select.dataset.nothing, hidden: true }, box);
    nothing.setAttribute("role", "status");

    function set(one, attributes) { Object.keys(attributes).forEach(function (name) { one.setAttribute(name, attributes[name]); }); }
    function shown() { return rows.filter(function (one) { return !one.row.hidden; }); }

    function activate(one) {
      if (active) active.row.classList.remove("active");
      active = one || null;
      if (!active) return input.removeAttribute("aria-activedescendant");
      active.row.classList.add("active");
      input.setAttribute("aria-activedescendant", active.row.id);
      active.row.scrollIntoView({ block: "nearest" });
    }

    function open() {
      var words = input.value.trim().toLowerCase().split(/\s+/);
      rows.forEach(function (one) { one.row.hidden = !words.every(function (word) { return one.words.indexOf(word) >= 0; }); });
      Array.from(list.children).forEach(function (part) { part.hidden = !part.querySelector("[role=option]:not([hidden])"); });
      var found = shown().length > 0;
      nothing.hidden = found;
      list.hidden = !found;
      input.setAttribute("aria-expanded", String(found));
      var named = shown().find(function (one) { return words.every(function (word) { return one.option.value.toLowerCase().indexOf(word) >= 0; }); });
      activate(found && input.value.trim() ? named || shown()[0] : null);
    }

    function close() {
      list.hidden = nothing.hidden = true;
      input.setAttribute("aria-expanded", "false");
      activate(null);
    }

    function toggle(one, on) {
      one.option.selected = on;
      input.value = "";
      close();
      show();
      select.dispatchEvent(new Event("input", { bubbles: true }));
    }

    function show() {
      chosen.replaceChildren();
      rows.forEach(function (one) {
        one.row.setAttribute("aria-selected", String(one.option.selected));
        if (!one.option.selected) return;
        var button = element("button", { type: "button", className: "btn btn-sm", textContent: one.option.value }, element("li", {}, chosen));
        button.setAttribute("aria-label", select.dataset.remove.replace("NAME", one.option.value));
        element("i", { className: "fa-solid fa-xmark ms-2" }, button).setAttribute("aria-hidden", "true");
        button.addEventListener("click", function () { toggle(one, false); input.focus(); });
      });
    }

    input.addEventListener("click", function () { if (list.hidden) open(); else close(); });
    input.addEventListener("input", open);
    input.addEventListener("blur", function () {
      var typed = input.value.trim().toLowerCase();
      var one = rows.find(function (row) { return row.option.value.toLowerCase() === typed; });
      if (one) toggle(one, true); else close();
    });
    list.addEventListener("mousedown", function (event) { event.preventDefault(); }); // keeps the focus in the field
    list.addEventListener("click", function (event) {
      var one = rows.find(function (row) { return row.row.contains(event.target); });
      if (one) toggle(one, !one.option.selected);
    });
    input.addEventListener("keydown", function (event) {
      var step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        if (list.hidden) open();
        var all = shown(), at = all.indexOf(active) + step;
        if (all.length) activate(all[(at + (active || step > 0 ? all.length : all.length + 1)) % all.length]);
      } else if (event.key === "Enter") {
        event.preventDefault(); // here it chooses, and sends no form
        if (active) toggle(active, !active.option.selected); else open();
      } else if (event.key === "Escape") {
        close();
      } else if (event.key === "Backspace" && !input.value && chosen.lastChild) {
        chosen.lastChild.querySelector("button").click();
      }
    });
    show();
  }
})();
