// Elements are made by h and put on the page by show, which changes what
// differs and leaves the rest, so that focus and scrolling stay where they are.
// Nothing is ever parsed as HTML: names come from other people.

const SVG = new Set(["svg", "g", "line", "circle", "rect", "text", "title"]);

// h makes an element; attributes that begin with "on" are handlers.
export function h(name, attributes, ...children) {
  const e = SVG.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [k, v] of Object.entries(attributes ?? {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e[k] = v;
    else e.setAttribute(k, v === true ? "" : String(v));
  }
  e.append(...children.flat(Infinity).filter((c) => c !== undefined && c !== null && c !== false).map((c) => c instanceof Node ? c : String(c)));
  return e;
}

const HANDLERS = ["onclick", "onchange", "onsubmit", "oninput", "onload"];

// show makes the children of parent equal to those given.
export function show(parent, ...children) {
  const wanted = children.flat(Infinity).filter((c) => c !== undefined && c !== null && c !== false)
    .map((c) => c instanceof Node ? c : document.createTextNode(String(c)));
  for (let i = 0; i < wanted.length; i++) {
    const now = parent.childNodes[i];
    if (!now) parent.append(wanted[i]);
    else if (!same(now, wanted[i])) now.replaceWith(wanted[i]);
    else patch(now, wanted[i]);
  }
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.nodeType !== 1 || a.id === b.id && a.getAttribute("data-key") === b.getAttribute("data-key"));
}

function patch(now, wanted) {
  if (now.nodeType !== 1) {
    if (now.nodeValue !== wanted.nodeValue) now.nodeValue = wanted.nodeValue;
    return;
  }
  for (const a of [...now.attributes]) if (!wanted.hasAttribute(a.name)) now.removeAttribute(a.name);
  for (const a of wanted.attributes) if (now.getAttribute(a.name) !== a.value) now.setAttribute(a.name, a.value);
  for (const k of HANDLERS) if (now[k] !== wanted[k]) now[k] = wanted[k];
  if (now.hasAttribute("data-own")) return; // what is in it is the element's own business
  show(now, [...wanted.childNodes]);
}

// ask shows a question in a dialog; the answer is true or false.
export function ask(question, yes) {
  return new Promise((resolve) => {
    const d = h("dialog", { "aria-label": question },
      h("p", {}, question),
      h("form", { method: "dialog", class: "row" }, h("button", { value: "yes", class: "danger" }, yes), h("button", { value: "no", autofocus: true }, "No")));
    d.onclose = () => { d.remove(); resolve(d.returnValue === "yes"); };
    document.body.append(d);
    d.showModal();
  });
}

export function bytes(n) {
  if (!n) return "0 B";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const i = Math.min(units.length - 1, Math.floor(Math.log10(n) / 3));
  const v = n / 1000 ** i;
  return (i && v < 100 ? v.toFixed(1) : Math.round(v)) + " " + units[i];
}

export function seconds(s) {
  if (!(s > 0)) return "0 s";
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 90) return Math.round(s) + " s";
  const m = Math.round(s / 60);
  if (m < 90) return m + " min";
  const hours = Math.floor(m / 60);
  return hours < 48 ? hours + " h " + m % 60 + " min" : Math.round(hours / 24) + " days";
}

export function ago(time) {
  const s = (Date.now() - Date.parse(time)) / 1000;
  return s < 60 ? "just now" : seconds(s) + " ago";
}

export const percent = (x) => Math.round(x * 100) + " %";
export const plural = (n, one, many) => n + " " + (n === 1 ? one : many ?? one + "s");
