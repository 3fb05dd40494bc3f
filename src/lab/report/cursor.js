// A cursor over each picture: moved by the slider, by its buttons or by the pointer, and read out below.
"use strict";
for (const reader of document.querySelectorAll(".reader")) {
  const picture = JSON.parse(reader.dataset.picture);
  const figure = reader.closest("figure");
  const svg = figure.querySelector("svg");
  const line = svg.querySelector(".cursor");
  const slider = reader.querySelector("input");
  const output = reader.querySelector("output");
  const last = Number(slider.max);

  const seconds = (tenths) => (tenths / 10).toFixed(1) + " s";
  const who = (lanes, at) =>
    lanes.filter((lane) => lane.spans.some(([from, to]) => from <= at && at < to)).map((lane) => lane.node).join(", ")
    || "nobody";
  const state = (machine, at) => {
    let text = "not seen yet";
    for (const [from, words] of machine.states) if (from <= at) text = words;
    return machine.node + " " + text;
  };
  const requests = ([done, failed], at) => (done[at] || "0") + " answered, " + (failed[at] || "0") + " failed";

  function read(at) {
    const lines = [
      "At " + seconds(at) + ": " + who(picture.leads, at) + " leads; " + who(picture.address, at)
        + " holds the virtual address; " + who(picture.writable, at) + " takes writes.",
      "Machines: " + picture.machines.map((machine) => state(machine, at)).join("; ") + ".",
      ...picture.clients.map((client) => "Client " + client.name + " in this tenth: reads "
        + requests(client.reads, at) + "; writes " + requests(client.writes, at) + "."),
      ...picture.marks.filter(([when]) => when === at).map(([, kind, text]) => kind + ": " + text),
    ];
    return lines.join("\n");
  }

  function show(at) {
    const x = picture.left + picture.width * (last ? at / last : 0);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.classList.add("on");
    slider.value = at;
    slider.setAttribute("aria-valuetext", seconds(at));
    output.textContent = read(at);
    const scroll = figure.querySelector(".scroll");
    if (x < scroll.scrollLeft + picture.left || x > scroll.scrollLeft + scroll.clientWidth) {
      scroll.scrollLeft = x - scroll.clientWidth / 2;
    }
  }

  const marks = picture.marks.map(([at]) => at);
  slider.addEventListener("input", () => show(Number(slider.value)));
  reader.querySelector(".previous").addEventListener("click", () => {
    const before = marks.filter((at) => at < Number(slider.value));
    show(before.length ? before[before.length - 1] : 0);
  });
  reader.querySelector(".next").addEventListener("click", () => {
    const after = marks.find((at) => at > Number(slider.value));
    show(after === undefined ? last : after);
  });
  svg.addEventListener("click", (event) => {
    const x = event.clientX - svg.getBoundingClientRect().left - picture.left;
    show(Math.max(0, Math.min(last, Math.round(last * x / picture.width))));
  });
  reader.hidden = false;
}
