// Pieces of the document: elements, and curves as SVG.

export function node(tag, about = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...inside.filter((each) => each != null));
  return made;
}

export function curve(values, limit) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (tag, about) => {
    const made = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, value] of Object.entries(about)) made.setAttribute(name, value);
    svg.append(made);
  };
  let low = Infinity, high = -Infinity;
  for (const value of limit === undefined ? values : [...values, 0, limit * 1.1]) {
    low = Math.min(low, value); high = Math.max(high, value);
  }
  const tall = high > low ? high - low : 1, wide = Math.max(1, values.length - 1);
  const y = (value) => (100 * (high - value) / tall).toFixed(2);
  svg.setAttribute("viewBox", `0 -2 ${wide} 104`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (limit !== undefined) add("line", { class: "limit", x1: 0, x2: wide, y1: y(limit), y2: y(limit) });
  const points = values.map((value, at) => `${at},${y(value)}`).join(" ");
  add("polyline", { class: "curve", points });
  return svg;
}

export function thinned(values, most) {
  const step = Math.ceil(values.length / most);
  return step <= 1 ? values : values.filter((_, at) => at % step === 0);
}
