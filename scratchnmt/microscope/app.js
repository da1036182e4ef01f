/* The page of the gradient microscope: one training step, of which every number can be looked at.

   The order of this file: small helpers, the data, formulas, components (grid, heat map, line chart, table, code,
   controls), one section for each view, and the router.  An address names a view and what is chosen in it:

       #number/dh_dec/0/3/17?loss=2&with=dc-overwritten
        view   name  b row unit   the loss of target word 2 alone, and the change that is on

   A view is a function from the parts of its address to nodes.  Whatever a control does, it goes to another address,
   and the view is built anew: the address is the only state. */
(function () {
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const timings = {};  // name -> milliseconds of the last time
window.microscope = { timings };

/* ---------- Small helpers ---------- */

// An element.  Text reaches the page here alone, and as text: nothing in the data is ever read as HTML.
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name,
      value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function timed(name, work) {
  const start = performance.now();
  try {
    return work();
  } finally {
    timings[name] = performance.now() - start;
  }
}

// Four digits; a small or large number with an exponent, as Python would print it.
function show(x) {
  if (typeof x !== "number" || Number.isNaN(x)) return "nan";
  if (x === 0 || !Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(4))) : Number(x.toPrecision(4)).toExponential();
}

const times = (x) => `${x < 10 ? x.toFixed(1) : x < 1e6 ? Math.round(x).toLocaleString("en") : show(x)} times`;

function percent(x) {
  if (Math.abs(x) >= 10) return `${show(x)} times`;
  return x !== 0 && Math.abs(x) < 5e-4 ? `${show(100 * x)} %` : `${(100 * x).toFixed(Math.abs(x) < 0.0995 ? 1 : 0)} %`;
}
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const range = (n) => Array.from({ length: n }, (_, k) => k);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// The position of the largest number; NaN counts as none.
const largest = (numbers) => numbers.reduce((best, x, k) => (!(numbers[best] >= x) && x === x ? k : best), 0);

// "a, b and c"
const listed = (parts) =>
  parts.flatMap((part, k) => (k === 0 ? [part] : [k === parts.length - 1 ? " and " : ", ", part]));

// A word may be written from right to left, and must not turn the text around it.
const word = (text) => el("bdi", null, text);
const quoted = (text) => ["“", word(text), "”"];
const code = (...text) => el("code", null, text);
const number = (x) => el("span", { class: "number" }, show(x));
const lead = (...parts) => el("p", { class: "lead" }, parts);
const note = (...parts) => el("p", { class: "note" }, parts);
const section = (title, ...children) => el("section", null, el("h3", null, title), children);
const link = (address, ...children) => el("a", { href: address }, children);
const button = (label, onclick, attributes) => el("button", { type: "button", onclick, ...attributes }, label);

/* ---------- The data ---------- */

const byId = new Map(data.quantities.map((q) => [q.id, q]));
const changes = [...(data.bugs ?? []), ...(data.cuts ?? [])];
const decoded = new Map();  // base64 text -> its numbers

function decode(text) {
  if (!decoded.has(text)) decoded.set(text, timed("decode", () => floats(text)));
  return decoded.get(text);
}

// Little-endian float32, which is what a Float32Array is on every machine that runs a browser today.
function floats(text) {
  const bytes = atob(text), array = new Uint8Array(bytes.length);
  for (let k = 0; k < bytes.length; k++) array[k] = bytes.charCodeAt(k);
  return new Float32Array(array.buffer);
}

// "h_dec" is the value of a quantity, "dh_dec" its gradient.
function named(name) {
  if (byId.has(name)) return { q: byId.get(name), side: "value" };
  const q = name.startsWith("d") ? byId.get(name.slice(1)) : null;
  return q ? { q, side: "gradient" } : null;
}

const nameOf = (q, side) => (side === "gradient" ? `d${q.id}` : q.id);
const cellName = (q, side, row, column) => `${nameOf(q, side)}[${q.axis ? `${row}, ` : ""}${column}]`;
const baseOf = (q) => (q.of ? byId.get(q.of) : q);
const hasArrays = (q, side) => Boolean(q[side] && baseOf(q)[side]?.arrays);

// The words that the rows of a quantity belong to.
function rowWords(q, b) {
  const { src, tgt } = data.sentences[b];
  return q.axis === "t" ? tgt : q.axis === "s" ? src : ["whole sentence"];
}

const rowName = (q, b, row) =>
  (q.axis ? `${q.axis === "t" ? "step" : "source word"} ${row} “${rowWords(q, b)[row]}”` : "");
const columnCount = (q, b) => (q.column_axis === "s" ? data.sentences[b].src.length : q.columns);

// The columns of a quantity that are in the page: all, or those of some units.
function keptColumns(q, b) {
  const base = baseOf(q), n = columnCount(q, b);
  if (q.units) return q.units;
  return base.units ? base.units.map((unit) => unit - q.first).filter((unit) => unit >= 0 && unit < n) : range(n);
}

function columnName(q, b, column) {
  if (q.column_axis === "s") return `source word ${column} “${data.sentences[b].src[column]}”`;
  if (q.column_axis === "words") return `word “${wordOfColumn(q, column)}”`;
  return `unit ${column}`;
}

const wordOfColumn = (q, column) => q.labels?.[q.units ? q.units.indexOf(column) : column] ?? String(column);

const describeCell = (q, side, b, row, column) =>
  [`${nameOf(q, side)}${q.axis ? `[${row}]` : ""}`, rowName(q, b, row),
    columnName(q, b, column)].filter(Boolean).join(", ") +
  `: ${show(numberAt(q, side, b, row, column))}`;

// Where a column stands in the rows of an array of which only some units are kept.
function position(base, column) {
  if (!base.units) return column;
  base.places ??= new Map(base.units.map((unit, k) => [unit, k]));
  return base.places.get(column);
}

// A number of a row that exists; undefined if the page does not have it.
function numberAt(q, side, b, row, column) {
  const base = baseOf(q), text = base[side]?.arrays?.[b], place = position(base, q.first + column);
  if (!text || place === undefined) return undefined;
  return decode(text)[row * (base.units ? base.units.length : columnCount(base, b)) + place];
}

// A number of any row: before the first stands the quantity `start`, or zeros.
function numberAround(q, side, b, row, column) {
  const rows = rowWords(q, b).length;
  if (row >= 0 && row < rows) return numberAt(q, side, b, row, column);
  const before = q.reversed || q.after ? rows : -1;
  return q.start && row === before ? numberAt(byId.get(q.start), side, b, 0, column) : 0;
}

// A number of a weight; only some rows and columns of a matrix are in the page.
function weightAt(name, [row, column]) {
  const weight = data.weights[name];
  if (weight.values) return decode(weight.values)[row];
  if (weight.rows?.[row]) return decode(weight.rows[row])[column];
  return weight.columns?.[column] ? decode(weight.columns[column])[row] : undefined;
}

// The norm of each row; that of an alias is of its columns of the other array.
function normsOf(q, side, b) {
  return q[side].norms?.[b] ?? rowWords(q, b).map((_, row) =>
    Math.hypot(...keptColumns(q, b).map((column) => numberAt(q, side, b, row, column))));
}

// Norms of a gradient's rows for the loss that is chosen; null where only the loss of all words is known.
function gradientNorms(q, b) {
  if (state.loss === null) return q.gradient.norms[b];
  const text = q.gradient.by_word?.arrays?.[b], rows = rowWords(q, b).length;
  return text ? Array.from(decode(text).subarray(state.loss * rows, (state.loss + 1) * rows)) : null;
}

/* ---------- Formulas ----------

   "sum k: h_dec[t,k] * keys[s,k]" is shown as it stands, and evaluated with the numbers of the page.

       formula = {terms};  term = {sign, letter of its sum or null, factors}
       factor  = {number} | {constant} | {name, q and side, or weight, indices} | {call, inner}; `over`: divided by it
       index   = {letter or null, added: [[sign, number or constant]]} */

const TOKENS = /[A-Za-z_][\w.]*|\d+(?:\.\d+)?(?:e[-+]?\d+)?|[-+*/:,()[\]]/g;
const FUNCTIONS = { sigmoid: (x) => 1 / (1 + Math.exp(-x)), tanh: Math.tanh, exp: Math.exp, log: Math.log,
  "": (x) => x };
const parsed = new Map();

function parse(text) {
  if (!parsed.has(text)) parsed.set(text, new Parser(text).whole());
  return parsed.get(text);
}

class Parser {
  constructor(text) {
    this.text = text;
    this.tokens = text.match(TOKENS) ?? [];
    this.at = 0;
  }

  whole() {
    const formula = this.formula();
    if (this.at < this.tokens.length) throw new SyntaxError(`${this.tokens[this.at]} is not expected in ${this.text}`);
    return formula;
  }

  take(token) {
    const there = this.tokens[this.at] === token;
    if (there) this.at++;
    return there;
  }

  expect(token) {
    if (!this.take(token)) throw new SyntaxError(`${token} is missing in ${this.text}`);
  }

  sign() {
    return this.take("-") ? -1 : this.take("+") ? 1 : 0;
  }

  formula() {
    const terms = [this.term(this.sign() || 1)];
    for (let sign; (sign = this.sign()); ) terms.push(this.term(sign));
    return { terms };
  }

  term(sign) {
    let letter = null;
    if (this.take("sum")) {
      letter = this.tokens[this.at++];
      this.expect(":");
    }
    const factors = [this.factor()];
    for (;;) {
      if (this.take("*")) factors.push(this.factor());
      else if (this.take("/")) factors.push({ ...this.factor(), over: true });
      else return { sign, letter, factors };
    }
  }

  factor() {
    const token = this.tokens[this.at++] ?? "";
    if (/^\d/.test(token)) return { number: Number(token) };
    const call = token === "(" ? "" : token;
    if (token === "(" || (call in FUNCTIONS && this.take("("))) {
      const inner = this.formula();
      this.expect(")");
      return { call, inner };
    }
    return this.tokens[this.at] === "[" ? this.reference(token) : { constant: token };
  }

  reference(token) {
    const suffix = this.tokens.slice(this.at, this.at + 3).join("");
    const name = data.weights && token + suffix in data.weights ? token + suffix : token;
    if (name !== token) this.at += 3;
    this.expect("[");
    const indices = [this.index()];
    while (this.take(",")) indices.push(this.index());
    this.expect("]");
    if (name in (data.weights ?? {})) return { name, weight: name, indices };
    const found = named(name);
    if (!found) throw new SyntaxError(`${name} is not a quantity, in ${this.text}`);
    return { name, ...found, indices };
  }

  index() {
    const first = this.tokens[this.at++], letter = /^[a-z]$/.test(first) ? first : null;
    const added = letter ? [] : [[1, first]];
    for (let sign; (sign = this.sign()); ) added.push([sign, this.tokens[this.at++]]);
    return { letter, added };
  }
}

// Where a formula is evaluated: sentence b, the letters of the cell, and the names of what was found to be missing.
function scopeAt(q, b, row, column) {
  const letters = { [q.letters[q.letters.length - 1]]: column };
  if (q.axis) letters[q.letters[0]] = row;
  return { b, letters, missing: new Set() };
}

function constant(name, b) {
  if (/^\d/.test(name)) return Number(name);
  if (name === "S") return data.sentences[b].src.length;
  return name === "T" ? data.sentences[b].tgt.length : data.sizes[name];
}

const addedTo = (index, b) => index.added.reduce((sum, [sign, part]) => sum + sign * constant(part, b), 0);
const indexAt = (index, scope) => (index.letter ? scope.letters[index.letter] : 0) + addedTo(index, scope.b);

// A number that is not in the page is NaN, and so is everything that is computed from it.
function evaluateFactor(factor, scope) {
  if (factor.number !== undefined) return factor.number;
  if (factor.constant) return constant(factor.constant, scope.b);
  if (factor.inner) return FUNCTIONS[factor.call](evaluate(factor.inner, scope));
  const at = factor.indices.map((index) => indexAt(index, scope));
  const number = factor.weight ? weightAt(factor.weight, at)
    : factor.q.axis ? numberAround(factor.q, factor.side, scope.b, at[0], at[1])
    : numberAt(factor.q, factor.side, scope.b, 0, at[at.length - 1]);
  if (number === undefined) scope.missing.add(factor.name);
  return number ?? NaN;
}

const evaluateProduct = (term, scope) => term.factors.reduce(
  (product, factor) =>
    (factor.over ? product / evaluateFactor(factor, scope) : product * evaluateFactor(factor, scope)), 1);

// What a sum is over: visit(k, product) for each place.
function eachPlace(term, scope, visit) {
  const places = placesOf(term, scope.b);
  for (let k = 0; k < places; k++) {
    scope.letters[term.letter] = k;
    visit(k, evaluateProduct(term, scope));
  }
  delete scope.letters[term.letter];
}

function evaluateTerm(term, scope) {
  if (!term.letter) return evaluateProduct(term, scope);
  let total = 0;
  eachPlace(term, scope, (_, product) => (total += product));
  return total;
}

const evaluate = (formula, scope) =>
  formula.terms.reduce((total, term) => total + term.sign * evaluateTerm(term, scope), 0);

// A sum runs over the shortest axis at which its letter stands; an index like t-1 may leave its axis, and does not count.
function placesOf(term, b) {
  const sizes = { counts: [], others: [] };
  for (const { reference, axis, index } of lettersIn(term.factors)) {
    if (index.letter !== term.letter) continue;
    const numbered = index.added.some(([, part]) => /^\d/.test(part));
    sizes[numbered ? "others" : "counts"].push(axisSize(reference, axis, b) - (numbered ? 0 : addedTo(index, b)));
  }
  const known = sizes.counts.length ? sizes.counts : sizes.others;
  return known.length ? Math.min(...known) : 0;
}

function lettersIn(factors) {
  return factors.flatMap((factor) => {
    if (factor.inner) return factor.inner.terms.flatMap((term) => lettersIn(term.factors));
    return (factor.indices ?? []).map((index, axis) => ({ reference: factor, axis, index }));
  });
}

function axisSize(reference, axis, b) {
  if (reference.weight) return data.weights[reference.weight].shape[axis];
  return axis === 0 && reference.q.axis ? rowWords(reference.q, b).length : columnCount(reference.q, b);
}

// A formula as text; with a scope, numbers stand in the place of what is known, and a sum is its total.
const textOf = (formula, scope) => formula.terms.map((term, k) =>
  (k ? (term.sign < 0 ? " - " : " + ") : term.sign < 0 ? "-" : "") + textOfTerm(term, scope)).join("");

function textOfTerm(term, scope) {
  if (scope && term.letter) return numberOr(evaluateTerm(term, scope), () => textOfTerm(term));
  const product = term.factors.map((factor, k) =>
    (k ? (factor.over ? " / " : " * ") : "") + textOfFactor(factor, scope));
  return (term.letter ? `sum ${term.letter}: ` : "") + product.join("");
}

function textOfFactor(factor, scope) {
  if (factor.inner) return `${factor.call}(${textOf(factor.inner, scope)})`;
  if (factor.number !== undefined) return String(factor.number);
  const symbols = () => factor.constant ?? `${factor.name}[${factor.indices.map(textOfIndex).join(", ")}]`;
  return scope ? numberOr(evaluateFactor(factor, scope), symbols) : symbols();
}

const textOfIndex = ({ letter, added }) =>
  (letter ?? "") + added.map(([sign, part], k) => (sign < 0 ? "-" : k || letter ? "+" : "") + part).join("");

const numberOr = (x, otherwise) => (Number.isNaN(x) ? otherwise() : show(x));
const known = (x) => (x === undefined || Number.isNaN(x) ? "not known" : x);

// The sums of a formula that stand in no other sum.
const sumsOf = (formula) => formula.terms.flatMap((term) =>
  (term.letter ? [term] : term.factors.flatMap((factor) => (factor.inner ? sumsOf(factor.inner) : []))));

// The summands of a number: [{label, formula, stored}].  A gradient is the sum of what comes by its paths.
function summandsOf(q, side, b, row, column) {
  const part = q[side];
  if (side === "value" || !part.paths?.length) {
    return part.formula ? parse(part.formula).terms.map((term) => ({ label: null, formula: { terms: [term] } })) : [];
  }
  const used = part.paths.filter((path) => path.norms[b][row] !== 0);
  return used.map((path) => ({ label: path.label, formula: path.formula ? parse(path.formula) : null,
                               stored: pathNumber(q, path, b, row, column) }));
}

function pathNumber(q, path, b, row, column) {
  const base = baseOf(q), place = position(base, q.first + column);
  if (!path.arrays || place === undefined) return undefined;
  return decode(path.arrays[b])[row * (base.units ? base.units.length : columnCount(base, b)) + place];
}

/* ---------- Grid: what heat maps and line charts share ----------

   It takes focus;
   arrow keys, Home, End, PageUp, PageDown and the pointer move a cursor over its cells, Enter or a click
   opens one.  The cell under the cursor is said in the line of text below. */

function cursorGrid({ id, label, rows, columns, at, describe, place, hit, open }, ...content) {
  const cell = el("span", { role: "gridcell" });
  const readout = el("p", { class: "readout", "aria-live": "polite", id: `${id}-readout` });
  let [row, column] = at;
  function move(r, c) {
    [row, column] = [clamp(r, 0, rows - 1), clamp(c, 0, columns - 1)];
    cell.textContent = readout.textContent = describe(row, column);
    place(row, column);
  }
  const keys = {
    ArrowUp: () => move(row - 1, column), ArrowDown: () => move(row + 1, column),
    ArrowLeft: () => move(row, column - 1), ArrowRight: () => move(row, column + 1),
    Home: () => move(row, 0), End: () => move(row, columns - 1),
    PageUp: () => move(0, column), PageDown: () => move(rows - 1, column),
    Enter: () => open?.(row, column), " ": () => open?.(row, column),
  };
  const grid = el("div", {
    id, class: "grid scroll", role: "grid", tabindex: 0, "aria-label": label, "aria-rowcount": rows,
      "aria-colcount": columns,
    "aria-describedby": readout.id,
    onkeydown: (event) => {
      if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
      grid.querySelector(".cursor").scrollIntoView({ block: "nearest", inline: "nearest" });
    },
    onpointermove: (event) => { const found = hit(event); if (found) move(...found); },
    onclick: (event) => { const found = hit(event); if (found) open?.(...found); },
  }, content, el("div", { role: "row", class: "hidden" }, cell));
  move(row, column);
  return { grid, readout };
}

// Labels under columns: words from the bottom up where there is little room, else as they are.
function columnLabels(labels, width) {
  const flat = width >= 72 || !labels.some((one) => one.isWord),
    longest = Math.max(...labels.map(({ text }) => text.length));
  return el("div",
    { class: flat ? "column-labels flat" : "column-labels",
    style: flat ? null : `height:${Math.min(6.5, 1 + 0.5 * longest)}rem` },
    labels.map(({ at, text }) => el("span", { style: `left:${at}px` }, word(text))));
}

/* ---------- Heat map ---------- */

const dark = matchMedia("(prefers-color-scheme: dark)");
const COLOURS = {
  light: { zero: [255, 255, 255], above: [22, 88, 184], below: [205, 92, 10], none: [200, 200, 200],
    mark: "rgba(0,0,0,.55)" },
  dark: { zero: [30, 34, 41], above: [110, 175, 255], below: [255, 160, 75], none: [90, 90, 90],
    mark: "rgba(255,255,255,.6)" },
};

// Blue above 0, orange below.  Where there are both, the colour grows with the square root of a number, so that small
// ones can be told from 0.
function colourOf(x, { limit, negative, colours: { zero, above, below, none } }) {
  if (x === undefined || Number.isNaN(x)) return none;
  const size = limit ? Math.min(1, Math.abs(x) / limit) : 0, part = negative ? Math.sqrt(size) : size;
  const end = x < 0 ? below : above, mixed = (k) => Math.round(zero[k] + part * (end[k] - zero[k]));
  return [mixed(0), mixed(1), mixed(2)];
}

// One pixel for each number, drawn larger; a stroke through negative ones says their sign without colour.
function paint(canvas, { rows, columns, number, width, height, scale }) {
  const small = new OffscreenCanvas(columns, rows), pixels = small.getContext("2d"),
    image = pixels.createImageData(columns, rows);
  const dense = Math.min(devicePixelRatio || 1, 16000 / (columns * width)), negative = [], bytes = image.data;
  for (let k = 0; k < rows * columns; k++) {
    const row = Math.floor(k / columns), column = k % columns, x = number(row, column);
    const [red, green, blue] = colourOf(x, scale);
    [bytes[4 * k], bytes[4 * k + 1], bytes[4 * k + 2], bytes[4 * k + 3]] = [red, green, blue, 255];
    if (x < -0.002 * scale.limit) negative.push([column * width, row * height]);
  }
  pixels.putImageData(image, 0, 0);
  [canvas.width, canvas.height] = [columns * width * dense, rows * height * dense];
  canvas.style = `width:${columns * width}px;height:${rows * height}px`;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (width < 8 || height < 8) return;
  context.scale(dense, dense);
  context.strokeStyle = scale.colours.mark;
  context.beginPath();
  for (const [x, y] of negative) {
    context.moveTo(x + width / 2 - 2.5, y + height / 2);
    context.lineTo(x + width / 2 + 2.5, y + height / 2);
  }
  context.stroke();
}

function colourScale(rows, columns, number) {
  let limit = 0, negative = false;
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const x = number(row, column);
    if (Math.abs(x) > limit) limit = Math.abs(x);
    if (x < 0) negative = true;
  }
  return { limit, negative, colours: COLOURS[dark.matches ? "dark" : "light"] };
}

function colourLegend(scale) {
  const marks = scale.negative ? [-1, -0.25, 0, 0.25, 1] : [0, 0.25, 0.5, 0.75, 1];
  return el("p", { class: "legend", "aria-label": "Colours" }, marks.map((part) => el("span", null,
    el("i", { style: `background:rgb(${colourOf(part * scale.limit, scale)})`, "aria-hidden": "true" },
      part < 0 ? "–" : ""), show(part * scale.limit))));
}

// rows: their words; labels: [{at: column, text, isWord}]; number(row, column); selected: a cell, or null.
function heatMap({ id, label, rows, columns, labels, number, selected, describe, open, widest = 22 }) {
  const least = labels.some(({ isWord }) => isWord) ? 24 : 3, height = 20;
  const width = clamp(Math.floor((main.clientWidth - 150) / columns), least, Math.max(widest, least));
  const scale = colourScale(rows.length, columns, number);
  const canvas = el("canvas", { "aria-hidden": "true" });
  paint(canvas, { rows: rows.length, columns, number, width, height, scale });
  const box = (row, column) => `left:${column * width}px;top:${row * height}px;width:${width}px;height:${height}px`;
  const cursor = el("div", { class: "cursor" }), rowLabels = rows.map((text) => el("li", null, word(text)));
  const columnNames = columnLabels(labels.map((one) => ({ ...one, at: (one.at + 0.5) * width })), width);
  const { grid, readout } = cursorGrid({
    id, label, rows: rows.length, columns, describe, open, at: selected ?? [0, 0],
    place(row, column) {
      cursor.style = box(row, column);
      rowLabels.forEach((node, k) => node.classList.toggle("on", k === row));
      labels.forEach((one, k) => columnNames.children[k].classList.toggle("on", one.at === column));
    },
    hit({ clientX, clientY }) {
      const { left, top } = canvas.getBoundingClientRect();
      const [row, column] = [Math.floor((clientY - top) / height), Math.floor((clientX - left) / width)];
      return row >= 0 && row < rows.length && column >= 0 && column < columns ? [row, column] : null;
    },
  }, el("div", { class: "drawing", style: `width:${columns * width}px` }, canvas, cursor,
    selected && el("div", { class: "selected", style: box(...selected) }), columnNames));
  return el("div", { class: "map" },
    el("div", { class: "map-body" }, el("ul", { class: "map-rows", "aria-hidden": "true" }, rowLabels), grid),
    readout, colourLegend(scale));
}

// Numbers under some of the columns, so far apart that they can be read.
function unitLabels(columns) {
  const width = clamp(Math.floor((main.clientWidth - 150) / columns.length), 3, 22);
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * width >= 34) ?? 1000;
  return range(Math.ceil(columns.length / step)).map((k) => ({ at: k * step, text: String(columns[k * step]) }));
}

const wordLabels = (words) => words.map((text, at) => ({ at, text, isWord: true }));

// The heat map of a quantity: a row for each word, a column for each unit; a cell opens its number.
function quantityMap({ id, q, side, b, selected = null, open }) {
  const columns = keptColumns(q, b), words = rowWords(q, b);
  const labels = q.column_axis === "s" ? wordLabels(data.sentences[b].src)
    : q.column_axis === "words" ? wordLabels(columns.map((column) => wordOfColumn(q, column))) : unitLabels(columns);
  return heatMap({
    id, rows: words, columns: columns.length, labels,
    label: `${nameOf(q, side)}: a row for each word, a column for each ${q.column_axis === "units" ? "unit" : "word"}`,
    number: (row, k) => numberAt(q, side, b, row, columns[k]),
    describe: (row, k) => describeCell(q, side, b, row, columns[k]),
    selected: selected && columns.includes(selected[1]) ? [selected[0], columns.indexOf(selected[1])] : null,
    open: open ?? ((row, k) => go("number", nameOf(q, side), b, row, columns[k])),
  });
}

// The numbers of some rows as a small picture.
function strips(q, side, b, rows) {
  const columns = keptColumns(q, b), number = (r, k) => numberAt(q, side, b, rows[r], columns[k]);
  const scale = colourScale(rows.length, columns.length, number), height = rows.length > 2 ? 5 : 14;
  const canvas = el("canvas",
    { role: "img", class: "strip",
    "aria-label": `${nameOf(q, side)} of rows ${rows.join(", ")}, the largest ${show(scale.limit)}` });
  paint(canvas,
    { rows: rows.length, columns: columns.length, number, width: clamp(Math.floor(320 / columns.length), 1, 12), height,
    scale });
  return canvas;
}

/* ---------- Line chart ---------- */

// The room in one of two columns, where there are two.
const halfWidth = () => (main.clientWidth > 1000 ? main.clientWidth / 2 - 24 : main.clientWidth);

const MARKERS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5L5,4H-5z", "M0,-5L5,0L0,5L-5,0z",
  "M-4,-4L4,4M-4,4L4,-4",
                 "M0,-5V5M-5,0H5", "M0,5L5,-4H-5z", "M-5,-2h10v4h-10z", "M-2,-5h4v10h-4z"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 3", "6 2 2 2", "10 2"];
const marker = (style, x, y) =>
  svg("path", { d: MARKERS[style % MARKERS.length], transform: `translate(${x},${y})`, class: "marker" });

// The line of a legend.  A ghost is what a line would be with the change that is on.
function sample({ style, ghost }) {
  return svg("svg",
    { class: `sample series-${style % 9}${ghost ? " ghost" : ""}`, width: 40, height: 14, "aria-hidden": "true" },
    svg("path", { d: "M0,7H40", "stroke-dasharray": ghost ? "3 3" : DASHES[style % 9] }),
      ghost ? null : marker(style, 20, 7));
}

function logScale(numbers, height) {
  const known = numbers.filter((x) => x > 0 && Number.isFinite(x));
  const low = Math.floor(Math.log10(Math.min(...known, 1e300))),
    high = Math.ceil(Math.log10(Math.max(...known, 1e-300)));
  const [from, to] = known.length ? [low, Math.max(high, low + 1)] : [-1, 0], step = Math.ceil((to - from) / 6);
  return { y: (x) => (x > 0 ? height * (1 - (Math.log10(x) - from) / (to - from)) : null),
           ticks: range(Math.floor((to - from) / step) + 1).map((k) =>
             [10 ** (from + k * step), exponentLabel(from + k * step)]) };
}

const exponentLabel = (n) => (n >= -3 && n <= 3 ? String(Number((10 ** n).toPrecision(1))) : `1e${n}`);

function linearScale(numbers, height) {
  const top = Math.max(...numbers.filter(Number.isFinite), 0) || 1, unit = 10 ** Math.floor(Math.log10(top));
  const step = [0.2, 0.5, 1, 2].map((k) => k * unit).find((size) => top / size <= 6);
  return { y: (x) => (Number.isFinite(x) ? height * (1 - x / top) : null),
           ticks: range(Math.floor(top / step) + 1).map((k) => [k * step, show(k * step)]) };
}

// A path through the points that there are; a 0 has no place on a log scale, and leaves a gap.
function linePath(points) {
  let pen = "M";
  return points.map(([x, y]) => {
    const part = y === null ? "" : `${pen}${x.toFixed(1)},${y.toFixed(1)}`;
    pen = y === null ? "M" : "L";
    return part;
  }).join("");
}

// series: [{name, values, style, ghost}]; words: under the points; dense: so many points that they have no markers.
function lineChart({ id, label, series, words, describe, open, scale = logScale, at = [0, 0], dense = false,
  height = 220, fit = main.clientWidth }) {
  const margin = { left: 56, right: 12, top: 10 }, n = series[0].values.length,
    ghosts = series.filter((one) => one.ghost);
  const lines = series.filter((one) => !one.ghost), room = Math.max(100, fit - margin.left - margin.right - 4);
  const space = dense ? room / n : clamp(room / n, 24, 110), width = space * n;
  const { y, ticks } = scale(series.flatMap((one) => Array.from(one.values)), height);
  const x = (k) => (k + 0.5) * space, cursor = svg("circle", { class: "cursor", r: dense ? 3 : 9 });
  const rule = svg("line", { class: "rule", y1: 0, y2: height });
  const drawn = [...ghosts,
    ...lines].map((one) => svg("g", { class: `series-${one.style % 9}${one.ghost ? " ghost" : ""}` },
    svg("path", { d: linePath(Array.from(one.values, (value, k) => [x(k), y(value)])),
      "stroke-dasharray": one.ghost ? "3 3" : DASHES[one.style % 9] }),
    dense || one.ghost ? null
      : Array.from(one.values, (value, k) => (y(value) === null ? null : marker(one.style, x(k), y(value))))));
  const picture = svg("svg",
    { width: width + margin.left + margin.right, height: height + 2 * margin.top, "aria-hidden": "true" },
    svg("g", { transform: `translate(${margin.left},${margin.top})` },
      ticks.map(([value, text]) =>
        svg("g", { class: "axis" }, svg("line", { x1: 0, x2: width, y1: y(value), y2: y(value) }),
        svg("text", { x: -8, y: y(value), dy: "0.35em" }, text))),
      rule, drawn, cursor));
  const { grid, readout } = cursorGrid({
    id, label, rows: lines.length, columns: n, at, open, describe,
    place(row, k) {
      fill(rule, { x1: x(k), x2: x(k) }, []);
      fill(cursor, { cx: x(k), cy: y(lines[row].values[k]) ?? height }, []);
    },
    hit(event) {
      const { left, top } = picture.getBoundingClientRect(),
        k = Math.floor((event.clientX - left - margin.left) / space);
      if (k < 0 || k >= n) return null;
      const away = lines.map((one) => Math.abs(event.clientY - top - margin.top - (y(one.values[k]) ?? height)));
      return [away.indexOf(Math.min(...away)), k];
    },
  }, el("div", { class: "drawing", style: `width:${width + margin.left + margin.right}px` }, picture,
    words && columnLabels(words.map((text, k) => ({ at: margin.left + x(k), text, isWord: true })), space)));
  return el("div", { class: "chart" }, grid, readout);
}

const legendOf = (series, titleOf) =>
  el("ul", { class: "series" }, series.map((one, k) => el("li", { title: titleOf?.(k) }, sample(one), one.name)));

/* ---------- Table, code and controls ---------- */

// head: names of columns; rows: lists of texts, numbers and nodes, the first of which names its row.
function table(caption, head, rows, { id } = {}) {
  const cell = (content, k) => (k === 0 ? el("th", { scope: "row" }, content)
    : el("td", { class: typeof content === "number" ? "n" : null },
      typeof content === "number" ? show(content) : content));
  return el("div", { class: "scroll", "data-label": caption }, el("table", { id },
    el("caption", null, caption),
      el("thead", null, el("tr", null, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map(cell))))));
}

// A part of 1 as a bar; what is beyond 0 and 1 is cut.
const bar = (part) =>
  el("span", { class: "bar", "aria-hidden": "true" }, el("i", { style: `width:${100 * clamp(part, 0, 1)}%` }));

const facts = (pairs) =>
  el("dl", { class: "facts" },
  pairs.filter(Boolean).map(([name, ...value]) => el("div", null, el("dt", null, name), el("dd", null, value))));

// The text of a function, with some lines marked: by their numbers, or {number: node that stands beside it}.
function sourceCode(key, marked, caption) {
  const source = data.sources?.[key];
  if (!source) return null;
  const beside = typeof marked === "object" ? marked : { [marked]: null }, numbers = Object.keys(beside).join(", ");
  const line = (text, number) => (number in beside
    ? el("span", { class: "line here" }, el("i", { "aria-hidden": "true" }, number), el("mark", null, text),
      beside[number], "\n")
    : el("span", { class: "line" }, el("i", { "aria-hidden": "true" }, number), text, "\n"));
  return el("figure", { class: "source" },
    el("figcaption", null, caption, " ", code(`${source.file}:${numbers}`), ", in ", code(source.name)),
    el("pre", { class: "scroll", "data-label": `${caption} ${source.name}, line ${numbers}` },
      el("code", null, source.lines.map((text, k) => line(text, source.first + k)))));
}

// The text of one line of a source, as it is shown in tables.
function sourceLine(key, line) {
  const source = data.sources?.[key], text = source?.lines[line - source.first]?.trim();
  return [code(`${key.split(":")[0]}:${line}`), " ", text && code(text)];
}

// options: [value, text, group].
function select(id, label, options, current, onchange) {
  const option = ([value, text]) => el("option", { value, selected: String(value) === String(current) }, text);
  const groups = grouped(options, (one) => one[2] ?? "");
  return el("label", { class: "control" }, el("span", null, label),
    el("select", { id, onchange: (event) => onchange(event.target.value) },
    [...groups].map(([group, members]) =>
      (group ? el("optgroup", { label: group }, members.map(option)) : members.map(option)))));
}

// A map from each key to the things that have it, in the order of the things.
function grouped(things, keyOf) {
  const groups = new Map();
  for (const one of things) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one]);
  return groups;
}

function radio(name, value, label, checked, onchange) {
  return el("label", { class: "radio" },
    el("input", { type: "radio", name, id: `${name}-${value}`, checked, onchange }), el("span", null, label));
}

function radios(name, title, options, current, onchange) {
  return el("fieldset", { class: "control" }, el("legend", null, title),
    options.map(([value, text]) => radio(name, value, text, String(value) === String(current), () => onchange(value))));
}

const controls = (...children) => el("div", { class: "controls" }, children);

function sentenceSelect(b, onchange) {
  if (data.sentences.length < 2) return null;
  return select("sentence", "Sentence", data.sentences.map(({ src }, k) => [k, `${k}: ${src.join(" ")}`]), b, onchange);
}

const quantityOptions = (quantities) => quantities.map((q) => [q.id, `${q.id}: ${q.title}`, q.group]);

/* ---------- The view of a sentence ---------- */

const attention = byId.get("weights");

function sentenceView([b]) {
  b = sentenceNumber(b);
  const { tgt, losses, loss, chosen } = data.sentences[b], worst = largest(losses);
  return [
    lead("The loss of this sentence is ", show(loss), " nats; the word that costs most is ", quoted(tgt[worst]), ", ",
      show(losses[worst]),
      " nats, ", percent(losses[worst] / loss), " of it."),
    controls(sentenceSelect(b, (k) => { state.loss = null; go("sentence", k); })),
    el("div", { class: "columns" },
      section("Target words and their losses", lossTable(b),
        note("Choose the loss that gradients are of: that of all words, or of one. It holds in the views of gradients. ",
          chosen === "translated" ? "The target words are the model's own translation."
            : "The target words were given.")),
      section("Attention",
        attention ? attentionMap(b) : note("This model has no attention: there is no quantity “weights”."))),
    state.loss === null ? null : alternatives(b, state.loss),
    data.serve && section("Ask the server", sentenceForm(b), weightForm()),
  ];
}

function lossTable(b) {
  const { tgt, losses } = data.sentences[b], most = Math.max(...losses);
  const choose = (t) => () => { state.loss = t; go("sentence", b); };
  const rows = losses.map((x, t) =>
    [[`${t} `, word(tgt[t])], x, bar(x / most),
    radio("loss", t, el("span", { class: "hidden" }, `step ${t}`), state.loss === t, choose(t))]);
  return table("Loss of each target word, in nats", ["word", "loss", "", "gradients of"], [
    ...rows, ["all words", data.sentences[b].loss, "",
      radio("loss", "all", el("span", { class: "hidden" }, "all words"), state.loss === null, choose(null))]]);
}

function attentionMap(b) {
  const { src, tgt } = data.sentences[b], weight = (t, s) => numberAt(attention, "value", b, t, s),
    row = state.loss ?? 0;
  return [heatMap({
    id: "attention", label: "Attention: a row for each target word, a column for each source word", rows: tgt,
      columns: src.length,
    labels: wordLabels(src), number: weight, widest: 40, selected: [row, largest(src.map((_, s) => weight(row, s)))],
    describe: (t, s) => `“${tgt[t]}” looks at “${src[s]}”: ${show(weight(t, s))}`,
    open: (t, s) => go("number", "weights", b, t, s),
  }), note("Rows are target words, columns source words; the weights of a row add up to 1.")];
}

function alternatives(b, t) {
  const { tgt, alternatives: of } = data.sentences[b];
  if (!of?.[t]?.length) return null;
  return section("The most probable words",
    table(`Of step ${t}, where the right word is “${tgt[t]}”`, ["word", "probability", ""],
    of[t].map(([text, p]) => [[word(text), text === tgt[t] && " (the right word)"], p, bar(p)])));
}

/* ---------- Where the gradient goes ---------- */

const FLOWS = ["h_dec", "c_dec", "o", "a", "h_enc", "h_fwd", "c_fwd", "h_bwd",
  "c_bwd"].filter((id) => byId.get(id)?.gradient);

function flowView([b, names]) {
  b = sentenceNumber(b);
  const shown = names === undefined ? FLOWS.filter((id) => id !== "a") : names.split(",").filter(Boolean);
  for (const id of shown) if (!FLOWS.includes(id)) throw new BadAddress(`there is no gradient “${id}” to draw`);
  const { tgt } = data.sentences[b];
  return [
    flowLead(b, shown),
    state.loss !== null
      && note("Gradients of the loss of word ", String(state.loss), " ", quoted(tgt[state.loss]), " alone; ",
      link(address("sentence", b), "choose another"), "."),
    controls(sentenceSelect(b, (k) => { state.loss = null; go("flow", k, shown.join(",")); })),
    flowSection("t", "Decoder, step by step", b, shown),
    flowSection("s", "Encoder, word by word", b, shown),
    data.factors?.length > 0
      && section("Factors of one step back",
      note("How much of a gradient's norm one step back leaves: above 1 the gradient grows, below 1 it fades."),
      factorChart("t", "Decoder", b), factorChart("s", "Encoder", b)),
  ];
}

function flowLead(b, shown) {
  const fades = shown.map((id) => {
    const q = byId.get(id),
      values = (gradientNorms(q, b) ?? []).map((x, row) => [x, row]).filter(([x]) => x > 0).sort(([x], [y]) => x - y);
    return values.length && { q, low: values[0], high: values[values.length - 1] };
  }).filter(Boolean).sort((one, other) => one.low[0] / one.high[0] - other.low[0] / other.high[0]);
  if (!fades.length) return lead("Choose gradients: each line shows how much of the loss's gradient is left at each word.");
  const { q, low, high } = fades[0],
    at = ([, row]) => [q.axis === "t" ? "step " : "source word ", String(row), " ", quoted(rowWords(q, b)[row])];
  return lead("The signal is at its weakest in ", code(`d${q.id}`), ": at ", at(low), " its norm is ", number(low[0]),
    ", ", times(high[0] / low[0]),
    " smaller than at ", at(high), ".");
}

function flowSection(axis, title, b, shown) {
  const all = FLOWS.filter((id) => byId.get(id).axis === axis), series = [], unknown = [];
  if (!all.length) return null;
  for (const id of all.filter((one) => shown.includes(one))) {
    const values = gradientNorms(byId.get(id), b), changed = state.change?.norms?.[id]?.[b], style = FLOWS.indexOf(id);
    if (!values) unknown.push(id);
    else series.push({ name: `d${id}`, id, values, style });
    if (changed && state.loss === null) series.push({ name: `d${id} with the change`, id, values: changed, style,
      ghost: true });
  }
  const words = rowWords(byId.get(all[0]), b);
  return section(title, flowChoice(all, b, shown),
    state.change && note("Dashed and without markers: the same with the change “", state.change.title, "”",
      state.loss === null ? "." : ", which is known for the loss of all words only."),
    unknown.length > 0 && note("Of ", listed(unknown.map(code)), " only the loss of all words is known."),
    series.some((one) => !one.ghost) && [normChart(`flow-${axis}`, title, series, words, b), normTable(series, words)]);
}

function flowChoice(all, b, shown) {
  const toggled = (id) => FLOWS.filter((one) => (one === id) !== shown.includes(one)).join(",");
  return el("fieldset", { class: "series" }, el("legend", null, "Gradients"),
    all.map((id) => el("label", { title: byId.get(id).title },
    el("input", { type: "checkbox", id: `flow-${id}-shown`, checked: shown.includes(id),
      onchange: () => go("flow", b, toggled(id)) }),
    sample({ style: FLOWS.indexOf(id) }), code(`d${id}`))));
}

// Norms of gradients over words; a point opens its sources.
function normChart(id, label, series, words, b, fit) {
  const lines = series.filter((one) => !one.ghost);
  return lineChart({
    id, label: `${label}: norms of gradients`, series, words, fit,
    describe: (line, k) => `${lines[line].name}[${k}] “${words[k]}”: ${show(lines[line].values[k])}`,
    open: (line, k) =>
      (byId.get(lines[line].id).gradient.paths?.length ? go("sources", `d${lines[line].id}`, b, k)
      : go("number", `d${lines[line].id}`, b, k)),
  });
}

function normTable(series, words) {
  return el("details", null, el("summary", null, "The numbers"),
    table("Norms of gradients", ["word", ...series.map((one) => one.name)],
    words.map((text, k) => [[`${k} `, word(text)], ...series.map((one) => one.values[k])])));
}

function factorChart(axis, title, b) {
  const of = (data.factors ?? []).filter((factor) => byId.get(factor.q)?.axis === axis);
  if (!of.length) return null;
  const series = of.map((factor, style) => ({ name: factor.name, values: factor.values[b], style })),
    words = rowWords(byId.get(of[0].q), b);
  return [el("h4", null, title), legendOf(series, (k) => of[k].sentence), lineChart({
    id: `factors-${axis}`, label: `${title}: factors of one step back`, series, words, height: 150,
    describe: (line, k) => `${series[line].name}, ${k} “${words[k]}”: ${show(series[line].values[k])}`,
  })];
}

/* ---------- A number ---------- */

function numberView([name = "h_dec", b, row, column]) {
  const { q, side } = quantityNamed(byId.has("h_dec") || name !== "h_dec" ? name : data.quantities[0].id);
  b = sentenceNumber(b);
  if (!hasArrays(q, side)) throw new BadAddress(`the numbers of ${nameOf(q, side)} are not in this page`);
  row = integer(row, rowWords(q, b).length, () => largestCell(q, side, b)[0], "row");
  column = integer(column, columnCount(q, b), () => largestInRow(q, side, b, row), "column");
  const other = side === "value" ? "gradient" : "value", cell = { q, side, b, row, column };
  state.cell = [nameOf(q, side), b, row, column];
  return [
    numberLead(cell),
    controls(
      select("quantity", "Quantity",
        quantityOptions(data.quantities.filter((one) => hasArrays(one, "value") || hasArrays(one, "gradient"))), q.id,
        (id) => go("number", nameOf(byId.get(id), hasArrays(byId.get(id), side) ? side : other), b)),
      hasArrays(q, other)
        && radios("side", "Side", [["value", "value"], ["gradient", "gradient"]], side,
        (to) => go("number", nameOf(q, to), b, row, column)),
      sentenceSelect(b, (k) => { state.loss = null; go("number", nameOf(q, side), k); })),
    section(`${nameOf(q, side)}: ${side === "gradient" ? "gradient of the " : ""}${q.title}`, keptNote(q, b),
      quantityMap({ id: "map", q, side, b, selected: [row, column] })),
    section(`${cellName(q, side, row, column)} in numbers`, cellFacts(cell),
      el("div", { class: "columns" }, el("div", null, formulaOf(cell)), el("div", null, codeOf(cell)))),
    checksSection(),
  ];
}

function largestCell(q, side, b) {
  const row = largest(normsOf(q, side, b));
  return [row, largestInRow(q, side, b, row)];
}

function largestInRow(q, side, b, row) {
  const all = keptColumns(q, b), those = all.filter((column) => (data.units?.[q.kind ?? "dec"] ?? []).includes(column));
  const columns = those.length ? those : all;  // better a unit whose weights are in the page
  return columns[largest(columns.map((column) => Math.abs(numberAt(q, side, b, row, column))))] ?? 0;
}

function numberLead({ q, b, row, column }) {
  const value = numberAt(q, "value", b, row, column),
    gradient = hasArrays(q, "gradient") ? numberAt(q, "gradient", b, row, column) : undefined;
  const where = q.axis ? [" (", rowWordsText(q, b, row), ")"] : "";
  if (value === undefined && gradient === undefined) return lead(code(cellName(q, "value", row, column)), where,
    " is not in this page.");
  return lead(code(cellName(q, "value", row, column)), where,
    value === undefined ? " is not in this page" : [" is ", el("b", null, number(value))],
    gradient === undefined ? ", and its gradient is not in this page."
      : ["; its gradient is ", el("b", null, number(gradient)),
      ": if it were larger by 0.001, the loss would ", gradient < 0 ? "fall" : "rise", " by about ",
        number(Math.abs(gradient) * 0.001), "."]);
}

const rowWordsText = (q, b, row) =>
  [q.axis === "t" ? "step " : "source word ", String(row), ", ", quoted(rowWords(q, b)[row])];

function keptNote(q, b) {
  const kept = keptColumns(q, b).length, all = columnCount(q, b);
  return kept < all && note(`${kept} of ${all} columns are in this page.`);
}

function cellFacts({ q, side, b, row, column }) {
  const part = q[side], check = checkOf(q, b, row, column);
  return facts([
    ["value", show(numberAt(q, "value", b, row, column))],
    q.gradient && ["gradient",
      hasArrays(q, "gradient") ? show(numberAt(q, "gradient", b, row, column)) : "not in this page"],
    part.equation
      && ["equation", el("code", { class: "equation" }, part.equation),
      part.equation_of && [" in ", code(part.equation_of)]],
    check && ["check",
      `${check.numeric} by complex step, ${check.analytic} by backward: ${check.ok ? "they agree" : "THEY DIFFER"} (${show(check.error)})`],
    part.bytes ? ["memory", `${part.bytes.toLocaleString("en")} bytes in the cache of this sentence`]
      : ["memory", part.kept ? "kept in the cache" : "not kept in the cache"],
    side === "gradient" && part.paths?.length
      && ["paths", link(address("sources", `d${q.id}`, b, row), `where ${nameOf(q, side)}[${row}] comes from`)],
  ]);
}

const checkOf = (q, b, row, column) =>
  (data.checks ?? []).find((one) => one.q === q.id && one.b === b && one.row === row && one.unit === column);

// What the cell is computed from: the summands in symbols, in numbers, and the largest terms of each sum.
function formulaOf({ q, side, b, row, column }) {
  const summands = timed("formula", () => summandsOf(q, side, b, row, column)),
    stored = numberAt(q, side, b, row, column);
  if (!summands.length) return [el("h4", null, "Formula"),
    note("It has no formula of its own: it is looked up or copied, or nothing reaches it.")];
  const scope = scopeAt(q, b, row, column);
  const values = timed("evaluation", () => summands.map((one) => {
    const x = one.formula ? evaluate(one.formula, scope) : NaN;
    return Number.isNaN(x) ? one.stored ?? NaN : x;
  }));
  const total = values.reduce((sum, x) => sum + x, 0), labelled = summands.some((one) => one.label);
  const rows = summands.map((one, k) => [
    one.formula ? code(textOf(one.formula)) : "", ...(labelled ? [one.label] : []),
      one.formula ? code(textOf(one.formula, scope)) : "", known(values[k])]);
  return [
    el("h4", null, "Formula"),
      table(`${cellName(q, side, row, column)} is the sum of`,
      ["formula", ...(labelled ? ["by the path"] : []), "with numbers", "value"],
      [...rows, ["sum", ...(labelled ? [""] : []), "", known(total)],
        ["in the page", ...(labelled ? [""] : []), "", stored === undefined ? "not in this page" : stored]]),
    scope.missing.size ? missingNote({ q, side, b, row, column }, scope.missing) : note(agreement(total, stored)),
    summands.flatMap((one) => (one.formula ? sumsOf(one.formula) : [])).map((term) => sumTable(term, scope)),
    data.serve && computeButton({ q, side, b, row, column }),

  ];
}

function agreement(total, stored) {
  if (stored === undefined) return "";
  const away = Math.abs(total - stored) / Math.max(Math.abs(total), Math.abs(stored), 1e-300);
  return total === stored || away < 1e-3
    ? `The two agree (relative difference ${show(total === stored ? 0 : away)}; numbers of the page have 7 digits).`
    : `The two differ by ${percent(away)}: the sum is of numbers with 7 digits each, or the formula does not hold here.`;
}

// The ten largest terms of a sum.
function sumTable(term, scope) {
  const products = [];
  eachPlace(term, scope, (k, product) => products.push([k, product]));
  const total = products.reduce((sum, [, x]) => sum + x, 0),
    ordered = products.sort(([, x], [, y]) => Math.abs(y) - Math.abs(x) || 0);
  const factorsAt = (k) => {
    scope.letters[term.letter] = k;
    return term.factors.map((factor) =>
      (factor.inner ? numberOr(evaluateFactor(factor, scope), () => textOfFactor(factor))
      : textOfFactor(factor, scope)));
  };
  const rows = ordered.slice(0, 10).map(([k, product]) => [String(k), ...factorsAt(k), known(product)]);
  delete scope.letters[term.letter];
  const blank = term.factors.map(() => ""), others = ordered.slice(10);
  if (others.length) rows.push([`the other ${others.length}`, ...blank,
    known(others.reduce((sum, [, x]) => sum + x, 0))]);
  return table(`The largest of the ${products.length} terms of ${textOfTerm(term)}`,
    [term.letter, ...term.factors.map((factor) => code(textOfFactor(factor))), "product"],
    [...rows, ["total", ...blank, known(total)]]);
}

function missingNote({ q, side, b, row, column }, missing) {
  const units = unitsThatAreThere({ q, side, b, row });
  return el("div", { class: "note" },
    el("p", null, "Some numbers of unit ", String(column), " are not in this page (of ", listed([...missing].map(code)),
    "). ",
    code("scratchnmt microscope --serve"), " computes any.", units.length > 0 && " The page has those of:"),
    el("p", { class: "buttons" },
      units.map((unit) => button(`unit ${unit}`, () => go("number", nameOf(q, side), b, row, unit)))));
}

// Units of which everything that the formula needs is in the page.
function unitsThatAreThere({ q, side, b, row }) {
  const H = data.sizes.H, n = columnCount(q, b),
    kept = q.kind ? data.units[q.kind] ?? [] : [...new Set(Object.values(data.units ?? {}).flat())];
  const candidates = [...new Set(kept.flatMap((unit) =>
    range(Math.ceil(n / H)).map((k) => unit + k * H)))].filter((unit) => unit < n).sort((x, y) => x - y);
  const complete = (unit) =>
    summandsOf(q, side, b, row,
    unit).every(({ formula }) => formula && !Number.isNaN(evaluate(formula, scopeAt(q, b, row, unit))));
  const found = [];
  for (const unit of candidates) if (found.length < 12 && complete(unit)) found.push(unit);
  return found;
}

function codeOf({ q, side }) {
  const part = q[side], readers = [...(part.read ?? []), ...(side === "value" ? q.read ?? [] : [])];
  return [
    el("h4", null, "Code"),
    part.made && sourceCode(part.made.source, part.made.line, "It is made by"),
    part.called && sourceCode(part.called.source, part.called.line, "which is called by"),
    readers.length > 0 && el("div", null, el("h4", null, "Who reads it on the way back"),
      el("ul", null, readers.map((one) => el("li", null, one.what, ": ", sourceLine(one.source, one.line))))),
  ];
}

function checksSection() {
  const checks = [...(data.checks ?? [])].sort((one, other) => other.error - one.error);
  if (!checks.length) return null;
  const good = checks.filter((one) => one.ok).length;
  return section("Checked numbers",
    note(`${good} of ${checks.length} gradients agree with a derivative by complex step, which knows nothing of the backward pass; errors are relative to the root mean square of the array, and at most ${show(data.check_tolerance)} is allowed.`),
    el("details", null, el("summary", null, "All of them, the largest error first"),
      table("Checked numbers", ["cell", "word", "by backward", "by complex step", "error", ""],
      checks.map((one) =>
        [link(address("number", `d${one.q}`, one.b, one.row, one.unit),
        cellName(byId.get(one.q), "gradient", one.row, one.unit)), word(rowWords(byId.get(one.q), one.b)[one.row]),
        one.analytic, one.numeric, one.error, one.ok ? "agrees" : "DIFFERS"]))));
}

/* ---------- Sources of a gradient ---------- */

const withPaths = data.quantities.filter((q) => q.gradient?.paths?.length);
const firstWithPaths = () => withPaths.find((q) => q.id === "h_dec") ?? withPaths[0];
const KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

function sourcesView([name = `d${firstWithPaths().id}`, b, row]) {
  const { q, side } = quantityNamed(name);
  if (side === "value" || !q.gradient.paths?.length) throw new BadAddress(`the paths of “${name}” are not known`);
  b = sentenceNumber(b);
  const words = rowWords(q, b), { paths, norms } = q.gradient;
  row = integer(row, words.length, () => largest(norms[b]), "row");
  return [
    sourcesLead(q, b, row),
    controls(select("gradient", "Gradient",
      withPaths.map((one) => [`d${one.id}`, `d${one.id}: ${one.title}`, one.group]), name,
      (id) => go("sources", id, b)),
      q.axis && select("row", "Word", words.map((text, k) => [k, `${k} ${text}`]), row,
        (k) => go("sources", name, b, k)),
      sentenceSelect(b, (k) => { state.loss = null; go("sources", name, k); })),
    state.loss !== null
      && note("Paths are known for the loss of all words. Of word ", String(state.loss), " alone, the norm of ",
      code(`${name}[${row}]`), " is ",
      gradientNorms(q, b) ? show(gradientNorms(q, b)[row]) : "not known", "."),
    section(`The paths to ${name}[${row}]`, pathTable(q, b, row),
      note("A share is measured along the gradient itself: the shares add up to 100 %, and one below 0 works against the others. ",
      link(address("number", name, b, row), "The numbers of ", code(`${name}[${row}]`)), ".")),
    words.length > 1 && section("Every word", shareTable(q, b, row)),
    stepMaps(q, b, row),
    section("The code", pathCode(paths)),
  ];
}

function sourcesLead(q, b, row) {
  const parts = q.gradient.paths.map((path) => [path.shares[b][row], path.label]).filter(([share]) =>
    Math.abs(share) >= 5e-4).sort(([x], [y]) => y - x);
  const of = [code(`d${q.id}[${row}]`), q.axis && [" (", rowWordsText(q, b, row), ")"]];
  return parts.length
    ? lead("Of the gradient ", of, ", ",
    listed(parts.map(([share, label]) => [el("b", null, percent(share)), " comes from ", label])), ".")
    : lead("Nothing reaches ", of, ".");
}

function pathTable(q, b, row) {
  const { paths, norms, residual } = q.gradient;
  return table(`Whole norm ${show(norms[b][row])}; the sum of the paths differs from it by ${show(residual)} at most, relative`, ["path", "norm", "share", "", "formula", "line"],
    paths.map((path, k) =>
      [[el("b", { class: `key key-${k % 6}` }, KEYS[k]), " ", path.label], path.norms[b][row],
      percent(path.shares[b][row]), bar(path.shares[b][row]),
      path.formula ? code(path.formula) : "", sourceLine(path.source, path.line)]));
}

// Each function once, with the lines of all paths that come out of it.
function pathCode(paths) {
  const keyed = paths.map((path, k) => ({ ...path, key: el("b", { class: `key key-${k % 6}` }, KEYS[k]) }));
  return [...grouped(keyed, (path) => path.source)].map(([source, members]) => {
    const beside = [...grouped(members, (path) => path.line)].map(([line, those]) =>
      [line, those.map((path) => [" ", path.key])]);
    return sourceCode(source, Object.fromEntries(beside), "Added by");
  });
}

// For each word a bar, in which each path has a part; a part that works against the sum is hatched.
function shareTable(q, b, row) {
  const { paths, norms } = q.gradient, words = rowWords(q, b);
  const stack = (k) => {
    const shares = paths.map((path) => path.shares[b][k]),
      whole = shares.reduce((sum, share) => sum + Math.abs(share), 0) || 1;
    return el("span",
      { class: "stack", role: "img",
      "aria-label": paths.map((path, p) => `${path.label} ${percent(shares[p])}`).join(", ") },
      shares.map((share, p) =>
        { const part = Math.abs(share) / whole;
      return part > 0.002
        && el("i", { class: `key-${p % 6}${share < 0 ? " against" : ""}`, style: `width:${100 * part}%` },
        part > 0.06 ? KEYS[p] : ""); }));
  };
  return [el("ul", { class: "series" },
    paths.map((path, k) => el("li", null, el("b", { class: `key key-${k % 6}` }, KEYS[k]), path.label))),
    table("Shares of the paths, hatched where they work against the sum", ["word", "norm", "shares"],
      words.map((text, k) =>
      [link(address("sources", `d${q.id}`, b, k), `${k} `, k === row ? el("b", null, word(text)) : word(text)),
        norms[b][k], stack(k)]))];
}

// What every step of the decoder adds, where that is known: path by path for one word, and word by word for each path.
function stepMaps(q, b, row) {
  const paths = q.gradient.paths.filter((path) => path.steps), { tgt } = data.sentences[b];
  if (!paths.length) return null;
  const added = (path, r, t) => decode(path.steps[b])[r * tgt.length + t];
  const map = (id, label, rows, number) =>
    heatMap({ id, label, rows, columns: tgt.length, labels: wordLabels(tgt), number, widest: 40,
    describe: (r, t) => `${rows[r]}, from step ${t} “${tgt[t]}”: ${show(number(r, t))}`,
      open: (r) => id !== "steps" && go("sources", `d${q.id}`, b, r) });
  return section("What each target step adds", el("h4", null, `To d${q.id}[${row}], path by path`),
    map("steps", "Norms: a row for each path, a column for each target step",
      paths.map((path) => KEYS[q.gradient.paths.indexOf(path)]), (r, t) => added(paths[r], row, t)),
    paths.map((path, k) => [el("h4", null, `To each word, by ${path.label}`),
      map(`steps-${k}`, `Norms by ${path.label}: a row for each word, a column for each target step`, rowWords(q, b),
        (r, t) => added(path, r, t))]));
}

/* ---------- Sabotage: the same step with a bug, or with a path cut ---------- */

const FILTERS = [["all", "all"], ["gradients", "those that change gradients only"],
  ["loss", "those that change the loss"]];
const changesLoss = (change) => change.loss === null || Math.abs(change.loss_difference) > 1e-9 * data.loss;
const mostChanged = (change) => [...change.weights].sort(([, x], [, y]) => y - x);

function sabotageView([name = "off", id, b, filter = "all"]) {
  state.change = changeNamed(name === "off" ? null : name);
  b = sentenceNumber(b);
  if (id !== undefined && !FLOWS.includes(id)) throw new BadAddress(`there is no gradient “${id}” to draw`);
  if (!FILTERS.some(([value]) => value === filter)) throw new BadAddress(`there is no filter “${filter}”`);
  const shown = id ?? (state.change ? clearest(state.change, b) : FLOWS[0]);
  const open = (to, of = filter) => go("sabotage", to, id ?? FLOWS[0], b, of);
  return [
    sabotageLead(state.change),
    state.change && changeDetails(state.change, shown, b, filter),
    section("Switch on", radios("filter", "Show", FILTERS, filter, (to) => open(name, to)),
      changeTable("Bugs", data.bugs, filter), changeTable("Paths that can be cut", data.cuts, filter)),
    data.hidden_bugs?.length > 0 && el("details", null,
      el("summary", null, count(data.hidden_bugs.length, "bug"), " that this model cannot show"),
      table("Bugs that are not here", ["name", "what", "why not"],
        data.hidden_bugs.map((bug) => [code(bug.name), bug.title, bug.reason]))),
  ];
}

function changeNamed(name) {
  const found = name === null ? null : changes.find((one) => one.name === name);
  if (found === undefined) throw new BadAddress(`there is no change “${name}”`);
  return found;
}

function sabotageLead(change) {
  if (!change) {
    return lead(`Of ${changes.length} changes that can be switched on, ${changes.filter((one) => !changesLoss(one)).length} leave the loss as it is: `,
      "the backward pass alone is wrong, and only gradients tell.");
  }
  const wrong = change.weights.filter(([, difference]) => difference > 1e-6).length;
  return lead("With the change “", el("b", null, change.title), "” ",
    change.loss === null ? "the step ends with an error"
    : changesLoss(change) ? ["the loss goes from ", number(data.loss), " to ", number(change.loss)]
      : ["the loss stays ", number(change.loss), ": it does not tell"],
  change.weights.length > 0 && `; the gradients of ${count(wrong, "weight")} change`, ".");
}

function changeTable(caption, members, filter) {
  const shown = (members ?? []).filter((one) => filter === "all" || changesLoss(one) === (filter === "loss"));
  if (!shown.length) return null;
  return table(caption, ["change", "", "loss", "gradient that changes most"], shown.map((one) => {
    const on = one === state.change, [weight, difference] = mostChanged(one)[0] ?? [];
    return [[one.title, el("br"), code(one.name)], switchOf(one, on),
      one.loss === null ? "an error" : changesLoss(one) ? ["changes by ", number(one.loss_difference)] : "the same",
      weight ? [code(weight), `, by ${percent(difference)}`] : "none"];
  }));
}

const switchOf = (change, on) => button(on ? "Off" : "On", () => go("sabotage", on ? "off" : change.name),
  { id: `switch-${change.name}`, "aria-pressed": String(on), "aria-label": `${on ? "Off" : "On"}: ${change.name}` });

function changeDetails(change, id, b, filter) {
  return el("div", { class: "columns" },
    section("The change",
      facts([change.origin && ["origin", change.origin], ["where", code(`${change.file}:${change.line}`)],
      change.loss !== null && ["loss", el("span", null, `${change.loss} with it`), el("br"), `${data.loss} without`]]),
    change.story && note(change.story), change.diff?.length > 0 && diff(change.diff)),
    change.norms?.[id] && section("Norms of a gradient", changedNorms(change, byId.get(id), b, filter)),
    change.weights.length > 0
      && section("Gradients of the weights",
      table("The largest change first", ["weight", "change", "", "norm", "with the change"],
      mostChanged(change).map(([name, difference, before, after]) =>
        [code(name), percent(difference), bar(difference), before, after]))),
    change.verdict && section(change.caught ? "What the checker says" : "What the checker says: nothing is wrong",
      el("pre", { class: "scroll verdict", "data-label": "report of the checker" }, change.verdict)));
}

const diff = (lines) =>
  el("pre", { class: "scroll", "data-label": "difference" }, el("code", null, lines.map(([sign, text]) =>
  el("span", { class: sign === "-" ? "line removed" : sign === "+" ? "line added" : "line" }, `${sign} ${text}\n`))));

// The gradient whose norms a change alters most.
function clearest(change, b) {
  const those = FLOWS.filter((id) => change.norms?.[id]);
  const away = (id) =>
    Math.max(...change.norms[id][b].map((x, row) =>
    Math.abs(Math.log((x + 1e-30) / (byId.get(id).gradient.norms[b][row] + 1e-30)))));
  return those[largest(those.map(away))] ?? FLOWS[0];
}

function changedNorms(change, q, b, filter) {
  const drawn = FLOWS.filter((id) => change.norms?.[id]), open = (id, k) => go("sabotage", change.name, id, k, filter);
  const series = [{ name: `d${q.id}`, id: q.id, style: 0, values: q.gradient.norms[b] },
                  { name: `d${q.id} with the change`, id: q.id, style: 1, values: change.norms[q.id][b] }];
  return [controls(select("norms", "Gradient", quantityOptions(drawn.map((id) => byId.get(id))), q.id,
    (id) => open(id, b)),
    sentenceSelect(b, (k) => open(q.id, k))), legendOf(series),
  normChart("changed-norms", `d${q.id} without and with the change`, series, rowWords(q, b), b, halfWidth())];
}

/* ---------- A unit ---------- */

const KINDS = { dec: "decoder", fwd: "encoder, left to right", bwd: "encoder, right to left" };
const kinds = Object.keys(KINDS).filter((kind) => unitQuantities(kind, "value").length);

// Gates, cell and state of a layer: one number for each unit.
function unitQuantities(kind, side) {
  return data.quantities.filter((q) => q.kind === kind && q.columns === data.sizes.H && /^[a-y]_/.test(q.id)
    && hasArrays(q, side));
}

function unitView([kind = kinds[0], b, unit]) {
  if (!kinds.includes(kind)) throw new BadAddress(`there is no layer “${kind}”`);
  b = sentenceNumber(b);
  const kept = data.units?.[kind] ?? [], values = unitQuantities(kind, "value"),
    gradients = unitQuantities(kind, "gradient");
  unit = integer(unit, data.sizes.H, kept[0] ?? 0, "unit");
  return [
    unitLead(kind, b, unit),
    controls(radios("kind", "Layer", kinds.map((one) => [one, KINDS[one]]), kind, (to) => go("unit", to, b)),
      select("unit", "Unit",
        [...kept.map((one) => [one, one, "with weights in this page"]),
        ...range(data.sizes.H).filter((one) => !kept.includes(one)).map((one) => [one, one, "others"])],
        unit, (to) => go("unit", kind, b, to)),
      sentenceSelect(b, (k) => { state.loss = null; go("unit", kind, k, unit); })),
    section("Gates, cell and state", unitMap("unit-values", values, "value", b, unit)),
    gradients.length > 0 && section("Their gradients", unitMap("unit-gradients", gradients, "gradient", b, unit)),
    forgetSection(kind, b, unit),
  ];
}

function unitMap(id, quantities, side, b, unit) {
  const words = rowWords(quantities[0], b);
  return heatMap({
    id, label: `Unit ${unit}: a row for each quantity, a column for each word`,
      rows: quantities.map((q) => nameOf(q, side)), columns: words.length, labels: wordLabels(words), widest: 74,
    number: (row, k) => numberAt(quantities[row], side, b, k, unit),
      describe: (row, k) => describeCell(quantities[row], side, b, k, unit),
    open: (row, k) => go("number", nameOf(quantities[row], side), b, k, unit),
  });
}

// For each word, the product of the forget gates of all later steps: what of its cell is left at the last one.
function keptByForgetGates(kind, b, unit) {
  const f = byId.get(`f_${kind}`);
  if (!f || !hasArrays(f, "value")) return null;
  const gates = rowWords(f, b).map((_, row) => numberAt(f, "value", b, row, unit)), kept = gates.map(() => 1);
  const later = byId.get(`c_${kind}`)?.reversed ? -1 : 1,
    order = later > 0 ? range(gates.length).reverse() : range(gates.length);
  for (const row of order.slice(1)) kept[row] = kept[row + later] * gates[row + later];
  return { kept, first: order[order.length - 1] };
}

function unitLead(kind, b, unit) {
  const found = keptByForgetGates(kind, b, unit), q = byId.get(`c_${kind}`);
  if (!found || !q) return lead(`Unit ${unit} of the ${KINDS[kind]}, at every word.`);
  return lead(`Unit ${unit} of the ${KINDS[kind]}: of its cell at the first word it reads, `,
    rowWordsText(q, b, found.first), ", its forget gates keep ",
    el("b", null, found.kept[found.first] < 1e-3 ? show(found.kept[found.first]) : percent(found.kept[found.first])),
      " up to the last, and as much of a gradient on the way back.");
}

function forgetSection(kind, b, unit) {
  const found = keptByForgetGates(kind, b, unit), c = byId.get(`c_${kind}`);
  if (!found) return null;
  const words = rowWords(c, b), series = [{ name: "product of the later forget gates", style: 0, values: found.kept }];
  if (hasArrays(c, "gradient")) series.push({ name: `|d${c.id}| of this unit`, style: 1,
    values: words.map((_, row) => Math.abs(numberAt(c, "gradient", b, row, unit))) });
  return section("What is kept", legendOf(series),
    lineChart({ id: "kept", label: "What is kept from each word to the last", series, words,
    describe: (line, k) => `${series[line].name}, ${k} “${words[k]}”: ${show(series[line].values[k])}`,
    open: (line, k) => go("number", line ? `d${c.id}` : `f_${kind}`, b, k, unit) }),
  note("The product is that of the gates of all steps after a word: a gradient of 1 at the last cell comes back to it as this number, if it comes through the cell alone."));
}

/* ---------- Step by step: a debugger ---------- */

const calls = data.calls?.list ?? [];

// One operation.  The data names operations, places in the code and quantities by numbers.
function callAt(n) {
  const [op, site, backward, reads, writes, live] = calls[n], [source, line, inner, first] = data.calls.sites[site];
  return { op: data.calls.ops[op], site, phase: backward ? "backward" : "forward", source, line, inner, first, live,
           reads: accesses(reads, 4), writes: accesses(writes, 5) };
}

// [quantity, gradient?, sentence, row, added to?], one behind the other.
const accesses = (flat, size) => range(flat.length / size).map((k) => {
  const [q, gradient, b, row, added] = flat.slice(k * size, (k + 1) * size);
  return { q: data.quantities[q], side: gradient ? "gradient" : "value", b, row, added };
});

function stepView([n]) {
  const at = integer(n, calls.length, 0, "operation"), last = calls.length - 1,
    { op, site, phase, source, line, inner, first, reads, writes } = callAt(at);
  return [
    lead(`Operation ${at} of ${last}, in the ${phase} pass: `, code(op), ", called by ",
      code(data.sources?.[source]?.name ?? source), "."),
    stepper(at, last, calls.findIndex((one, k) => k > at && one[1] === site)),
    el("div", { class: "columns" },
      section("The code", sourceCode(source, line, "Called by"), sourceCode(inner, first, "The operation:")),
      section("The numbers", accessTable("It reads", reads), accessTable("It writes", writes))),
    liveSection(at),
  ];
}

// Buttons, a slider and keys that go through the operations.
function stepper(at, last, same) {
  const keys = { n: at + 1, ArrowRight: at + 1, p: at - 1, ArrowLeft: at - 1, Home: 0, End: last };
  const step = (id, label, to) =>
    button(label, () => go("step", to), { id, disabled: to < 0 || to > last || to === at });
  const slide = (event) => { history.replaceState(null, "", address("step", event.target.value)); shown(); };
  const press = (event) => {
    const to = keys[event.key];
    if (to === undefined || to < 0 || to > last || event.target.type === "range" || event.ctrlKey || event.altKey
      || event.metaKey) return;
    event.preventDefault();
    go("step", to);
  };
  return el("div",
    { id: "stepper", role: "group", tabindex: 0,
    "aria-label": "Operations; n or right: the next, p or left: the one before", onkeydown: press },
    el("div", { class: "buttons" }, step("step-first", "First", 0), step("step-previous", "Previous", at - 1),
      step("step-next", "Next", at + 1),
      step("step-last", "Last", last), step("step-same", "Next of this line", same)),
    el("label", { class: "control" }, el("span", null, "Operation; keys: n and p, or the arrows"),
      el("input", { id: "slider", type: "range", min: 0, max: last, value: at, oninput: slide })));
}

// The rows that an operation touches, those of one quantity and sentence together.
function accessTable(caption, touched) {
  const groups = grouped(touched.filter(({ q, side }) => hasArrays(q, side)),
    ({ q, side, b }) => `${q.id} ${side} ${b}`);
  if (!groups.size) return note(`${caption} nothing that has a name in this page.`);
  return table(caption, ["rows", "", "numbers when the training step is done"], [...groups.values()].map((members) => {
    const { q, side, b, added } = members[0], rows = [...new Set(members.map((one) => one.row))].sort((x, y) => x - y);
    return [[link(address("number", nameOf(q, side), b, rows[0]),
      code(nameOf(q, side), q.axis && `[${intervals(rows)}]`)),
      data.sentences.length > 1 && ` of sentence ${b}`], added ? "added to" : "", strips(q, side, b, rows)];
  }));
}

// [0, 1, 2, 5] as "0–2, 5".
function intervals(numbers) {
  const parts = [];
  for (const x of numbers) {
    const last = parts[parts.length - 1];
    if (last && last[1] === x - 1) last[1] = x;
    else parts.push([x, x]);
  }
  return parts.map(([from, to]) => (from === to ? from : `${from}–${to}`)).join(", ");
}

function liveSection(at) {
  const values = calls.map((call) => call[5]), most = largest(values),
    bytes = (k) => `${values[k].toLocaleString("en")} bytes`;
  return section("Memory",
    note(`Bytes of the arrays that are alive after each operation; the most, ${bytes(most)}, after operation `,
    link(address("step", most), String(most)), "."),
  lineChart({ id: "live", label: "Bytes alive after each operation", series: [{ name: "bytes", style: 0, values }],
    scale: linearScale, dense: true,
    height: 120, at: [0, at], describe: (_, k) => `operation ${k}, ${callAt(k).op}, ${callAt(k).phase}: ${bytes(k)}`,
      open: (_, k) => go("step", k) }));
}

/* ---------- Two traces ---------- */

function compareView([id, b]) {
  const { quantities } = data.compare,
    most = (side) => Object.keys(quantities).filter((one) => byId.has(one) && quantities[one][side])
    .map((one) => [one, Math.max(...quantities[one][side].flat())]).sort(([, x], [, y]) => y - x);
  const values = Object.fromEntries(most("value")), gradients = most("gradient"),
    names = [...new Set([...gradients.map(([one]) => one), ...Object.keys(values)])];
  b = sentenceNumber(b);
  id ??= names[0];
  if (!names.includes(id)) throw new BadAddress(`“${id}” is not compared`);
  const { title, other_title: otherTitle, loss, other_loss: otherLoss, calls } = data.compare, q = byId.get(id);
  return [
    lead("The losses of ", el("b", null, title), " and ", el("b", null, otherTitle), " are ", show(loss), " and ",
      show(otherLoss), ", ", show(Math.abs(loss - otherLoss)), " apart",
      gradients.length
        ? ["; of the gradients, ", code(`d${gradients[0][0]}`), " differs most, by ", show(gradients[0][1])] : "", "."),
    controls(select("compared", "Gradient", quantityOptions(names.map((one) => byId.get(one))), id,
      (to) => go("compare", to, b)), sentenceSelect(b, (k) => go("compare", id, k))),
    comparedNorms(q, b),
    section("Quantities", table("Largest differences", ["quantity", "value", "gradient"], names.map((one) =>
      [link(address("compare", one, b), code(one)), known(values[one]), known(Object.fromEntries(gradients)[one])]))),
    section("Operations",
      table("Largest differences of what operations return", ["operation", "pass", "line", "difference"],
      [...calls].sort((x, y) => y[4] - x[4]).map(([op, source, line, phase, difference]) =>
        [code(op), phase, sourceLine(source, line), difference]))),
  ];
}

function comparedNorms(q, b) {
  const { title, other_title: otherTitle, quantities } = data.compare,
    { norms, other_norms: others } = quantities[q.id];
  if (!norms || !others) return null;
  const series = [{ name: title, id: q.id, style: 0, values: norms[b] },
    { name: otherTitle, id: q.id, style: 1, values: others[b] }];
  return section(`Norms of d${q.id}`, legendOf(series),
    normChart("compared-norms", `d${q.id} of both`, series, rowWords(q, b), b));
}

/* ---------- Server mode: the program that made the page still runs, and computes more ---------- */

async function ask(path, body) {
  const answer = await fetch(path,
    { method: body ? "POST" : "GET", headers: { "X-Token": data.serve.token, "Content-Type": "application/json" },
    body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text() || answer.statusText);
  return answer.json();
}

// Shows what comes of a question, or what went wrong, in a live region.
async function report(output, question, nodesOf) {
  output.replaceChildren("…");
  try {
    const answer = await question();
    output.replaceChildren(...fill(document.createDocumentFragment(), null, [nodesOf(answer)]).childNodes);
  } catch (error) {
    output.replaceChildren(`The server says: ${error.message}`);
  }
}

function computeButton({ q, side, b, row, column }) {
  const output = el("div", { role: "status" }), query = new URLSearchParams({ q: q.id, side, b, row, unit: column });
  return el("div", null,
    button("Compute by complex step", () => report(output, () => ask(`/number?${query}`), computed), { id: "compute" }),
    output);
}

function computed({ value, gradient, terms, numeric, error }) {
  return [facts([["value", show(value)], ["gradient", show(gradient)],
    ["check", `${numeric} by complex step, relative error ${show(error)}`]]),
    (terms ?? []).map((sum) =>
      table(sum.label, ["index", "factors", "product"],
      [...sum.terms, ...(sum.rest ? [[`the other ${sum.rest[0]}`, "", sum.rest[1]]] : []), ["total", "", sum.total]]))];
}

function form(title, fields, send, nodesOf) {
  const output = el("p", { role: "status" });
  const inputs = fields.map(([id, label, value]) =>
    el("label", { class: "control" }, el("span", null, label), el("input", { id, type: "text", value })));
  return el("form", { class: "controls", "aria-label": title, onsubmit: (event) => {
    event.preventDefault();
    report(output, () => send(...fields.map(([id]) => document.getElementById(id).value)), nodesOf);
  } }, inputs, el("button", null, title), output);
}

function sentenceForm(b) {
  const { src, tgt } = data.sentences[b];
  return form("Look at another sentence",
    [["other-src", "Source words", src.join(" ")],
    ["other-tgt", "Target words; none: the model translates", tgt.slice(0, -1).join(" ")]],
    (source, target) => ask("/sentence", { src: source, tgt: target }), () => { location.reload(); return "…"; });
}

function weightForm() {
  return form("Move a weight",
    [["weight-name", "Weight", Object.keys(data.weights)[0]], ["weight-index", "Index", "0, 0"],
    ["weight-value", "Value", "0"]],
    (name, index, value) => ask("/weight", { name, index: index.split(",").map(Number), value: Number(value) }),
    ({ loss, before }) => `The loss goes from ${before} to ${loss}.`);
}

/* ---------- The router ---------- */

class BadAddress extends Error {}

// What holds in every view: the loss that gradients are of, the change that is on, and the cell that was looked at last.
const state = { loss: null, change: null, cell: null, b: 0 };

const views = {
  sentence: { title: "Sentence", build: sentenceView, there: true, first: () => [state.b] },
  flow: { title: "Where the gradient goes", build: flowView, there: FLOWS.length > 0, first: () => [state.b] },
  number: { title: "Number", build: numberView, there: data.quantities.length > 0,
    first: () => state.cell ?? [byId.has("h_dec") ? "h_dec" : data.quantities[0].id, state.b] },
  sources: { title: "Sources", build: sourcesView, there: withPaths.length > 0,
    first: () => [`d${firstWithPaths().id}`, state.b] },
  step: { title: "Step by step", build: stepView, there: calls.length > 0, first: () => [0] },
  unit: { title: "Unit", build: unitView, there: kinds.length > 0, first: () => [kinds[0], state.b] },
  sabotage: { title: "Sabotage", build: sabotageView, there: changes.length > 0,
    first: () => [state.change?.name ?? "off"] },
  compare: { title: "Two traces", build: compareView, there: Boolean(data.compare), first: () => [] },
};

// Parts of addresses: checked, since anybody can write an address.
function integer(text, limit, otherwise, what) {
  if (text === undefined) return typeof otherwise === "function" ? otherwise() : otherwise;
  if (!/^\d+$/.test(text) || Number(text) >= limit) throw new BadAddress(`there is no ${what} “${text}”`);
  return Number(text);
}

function sentenceNumber(text) {
  const b = integer(text, data.sentences.length, 0, "sentence");
  if (state.loss !== null
    && state.loss >= data.sentences[b].tgt.length) throw new BadAddress(`sentence ${b} has no target word ${state.loss}`);
  return (state.b = b);
}

function quantityNamed(name) {
  const found = named(name);
  if (!found || !found.q[found.side]) throw new BadAddress(`there is no quantity “${name}”`);
  return found;
}

function address(view, ...parts) {
  const options = new URLSearchParams();
  if (state.loss !== null) options.set("loss", state.loss);
  if (state.change && view !== "sabotage") options.set("with", state.change.name);
  const path = [view, ...parts].map((part) => encodeURIComponent(part).replaceAll("%2C", ",")).join("/");
  return `#${path}${options.size ? `?${options}` : ""}`;
}

function go(view, ...parts) {
  const to = address(view, ...parts);
  if (to === location.hash) shown();
  else location.hash = to;
}

function place() {
  const [path, options] = location.hash.slice(1).split("?"), [view, ...parts] = path.split("/").map(decodeURIComponent);
  return { view: view || "sentence", parts, options: new URLSearchParams(options) };
}

function readOptions(options) {
  const loss = options.get("loss");
  state.loss = loss === null ? null : integer(loss, 1e6, null, "target word");
  state.change = changeNamed(options.get("with"));
}

// The nodes of the view at the address, or of the first view, with a sentence on what is wrong with the address.
function content() {
  try {
    const { view, parts, options } = place();
    readOptions(options);
    if (!views[view]?.there) throw new BadAddress(`there is no view “${view}” in this page`);
    return [view, views[view].build(parts)];
  } catch (error) {
    if (!(error instanceof BadAddress || error instanceof URIError)) throw error;
    state.loss = state.change = null;
    return ["sentence",
      [el("p", { class: "warning", role: "alert" },
      `This address leads nowhere: ${error.message}. Here is the first sentence.`), sentenceView([])]];
  }
}

let current = null;  // the view that is shown

// Builds the view anew.  The focus, and how far boxes are scrolled, stay where they were.
function render() {
  const focused = document.activeElement?.id,
    scrolled = new Map([...main.querySelectorAll(".scroll[id]")].map((box) => [box.id, box.scrollLeft]));
  const [view, nodes] = content(), heading = el("h2", { id: "view", tabindex: "-1" }, views[view].title);
  main.replaceChildren(heading, ...fill(document.createDocumentFragment(), null, [nodes]).childNodes);
  navigation(view);
  banner();
  document.title = `${views[view].title} · ${data.title} · gradient microscope`;
  for (const [id, left] of scrolled) if (document.getElementById(id)) document.getElementById(id).scrollLeft = left;
  settleBoxes();
  if (current && current !== view) { scrollTo(0, 0); heading.focus(); }
  else if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  current = view;
}

// A box that scrolls must take the focus, so that keys can scroll it; code is scrolled to the line that is marked.
function settleBoxes() {
  const found = [...main.querySelectorAll(".scroll:not([role])")].map((box) =>
    {  // measure all, then change: one layout
    const here = box.querySelector(".here"),
      scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    return { box, scrolls, top: here ? here.offsetTop - box.clientHeight / 2 : 0 };
  });
  for (const { box, top } of found.filter((one) => one.scrolls)) {
    fill(box, { tabindex: 0, role: "group", "aria-label": box.dataset.label }, []);
    if (top > 0) box.scrollTop = top;
  }
}

const shown = () => timed("render", () => timed(`view ${location.hash.slice(1).split("/")[0]}`, render));

function navigation(view) {
  const there = Object.entries(views).filter(([, one]) => one.there);
  document.getElementById("views").replaceChildren(...there.map(([id, one]) =>
    el("a", { href: address(id, ...one.first()), "aria-current": id === view ? "page" : null }, one.title)));
}

function banner() {
  const off = () =>
    { const { view, parts } = place(); state.change = null; go(view, ...(view === "sabotage" ? ["off"] : parts)); };
  document.getElementById("banner").replaceChildren(...(state.change
    ? [el("p", null, "Sabotage is on: ", el("b", null, state.change.title), " "), button("Off", off, { id: "off" })]
    : []));
}

function about() {
  return el("details", null, el("summary", null, "About this page"),
    note("One training step on ", count(data.sentences.length, "sentence pair"),
      ", computed in float64; the numbers of this page are kept in float32. The loss of the whole batch is ",
      show(data.loss), " nats. ",
      data.made && ["It was made by ", code(data.made), "."]),
    facts((data.facts ?? []).map(([name, value]) => [name, String(value)])));
}

function start() {
  document.getElementById("title").replaceChildren("Gradient microscope ", el("span", null, data.title));
  document.getElementById("about").append(about());
  document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  shown();
  addEventListener("hashchange", shown);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; shown(); } });
  dark.addEventListener("change", shown);
  requestAnimationFrame(() => setTimeout(() => (timings["first paint"] = performance.now())));
}

start();
})();
