// A curve as SVG, drawn by elements alone: nothing in a name can become HTML.
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [400, 180, 52, 22, 8];

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// points: [step, value], steps growing. number: how a value is written.
export function curve(name, points, number) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [first, last] = [xs[0], xs.at(-1)];
  const across = (x) => LEFT + ((WIDTH - LEFT - 4) * (x - first)) / (last - first || 1);
  const down = (y) => TOP + (HEIGHT - TOP - BOTTOM) * (high > low ? (high - y) / (high - low) : 0.5);
  const drawn = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${name} from ${number(ys[0])} to ${number(ys.at(-1))}` });
  for (const value of new Set([low, high])) {
    drawn.append(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - 4, y1: down(value), y2: down(value) }));
    drawn.append(shape("text", { x: LEFT - 6, y: down(value) + 4, "text-anchor": "end" }, number(value)));
  }
  drawn.append(shape("text", { x: LEFT, y: HEIGHT - 6 }, `step ${number(first)}`));
  drawn.append(shape("text", { x: WIDTH - 4, y: HEIGHT - 6, "text-anchor": "end" }, number(last)));
  drawn.append(shape("polyline", { points: points.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`).join(" ") }));
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = `${name} ${number(ys.at(-1))}`;
  figure.append(caption, drawn);
  return figure;
}
