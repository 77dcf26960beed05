import { h, plural, seconds } from "./dom.js";
import { get } from "./api.js";

// history is what this machine did for others and got from them, by day.
export async function history() {
  const v = await get("/v1/history?days=60");
  const t = v.total;
  if (!t.day) return [h("h2", {}, "History"), h("p", {}, "Nothing was done on this machine yet.")];
  return [
    h("h2", {}, "History"),
    h("ul", { class: "tiles" },
      big("For others", plural(t.others_tasks, "task"), seconds(t.others_s) + " of rendering" + (t.others_failed ? ", " + t.others_failed + " not done" : "")),
      big("For you", plural(t.own_delivered, "frame") + " delivered", t.own_here_tasks ? plural(t.own_here_tasks, "task") + " of own jobs done here, " + seconds(t.own_here_s) : "all rendered by others"),
      big("GPU energy for others", (t.gpu_wh / 1000).toFixed(2) + " kWh", "what the rest of the machine draws is not known")),
    h("section", { class: "card" }, h("h3", {}, "Rendering a day, since " + t.day), bars(v.days.slice(0, 30).reverse())),
    h("section", { class: "card scroll", tabindex: 0, "aria-label": "Days" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Day"), ["Tasks for others", "Rendering", "Not done", "GPU energy", "Own frames", "Own rendering here"].map((x) => h("th", { scope: "col", class: "n" }, x)))),
      h("tbody", {}, v.days.map((d) => h("tr", { "data-key": d.day }, h("td", {}, d.day),
        [d.others_tasks, seconds(d.others_s), d.others_failed, (d.gpu_wh / 1000).toFixed(2) + " kWh", d.own_delivered, seconds(d.own_here_s)].map((x) => h("td", { class: "n" }, x))))))),
  ];
}

const big = (title, number, rest) => h("li", { class: "card" }, h("p", { class: "soft" }, title), h("h3", {}, number), h("p", { class: "soft small" }, rest));

function bars(days) {
  const most = Math.max(1, ...days.map((d) => d.others_s + d.own_here_s));
  const w = 600 / Math.max(14, days.length);
  return h("svg", { class: "bars", viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", "aria-label": "Rendering a day; the table below says the same" },
    days.map((d, i) => {
      const o = d.others_s / most * 100, own = d.own_here_s / most * 100;
      return h("g", { "data-key": d.day }, h("title", {}, d.day + ": " + seconds(d.others_s) + " for others, " + seconds(d.own_here_s) + " for own jobs"),
        h("rect", { x: i * w + 1, width: w - 2, y: 100 - o, height: o }), h("rect", { class: "own", x: i * w + 1, width: w - 2, y: 100 - o - own, height: own }));
    }));
}
