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
    else if (isThere(value)) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter(isThere));
  return node;
}

// So that an attribute or a child may be left out by a condition: `x > 0 && el(...)`.
const isThere = (value) => value !== null && value !== undefined && value !== false;

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
  if (x !== 0 && Math.abs(x) < 5e-4) return "less than 0.05 %";
  return `${(100 * x).toFixed(Math.abs(x) < 0.0995 ? 1 : 0)} %`;
}
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const range = (n) => Array.from({ length: n }, (_, k) => k);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// The position of the largest number; NaN counts as none.
const largest = (numbers) => numbers.reduce((best, x, k) => (!(numbers[best] >= x) && x === x ? k : best), 0);

// "a, b and c"
const listed = (parts) => parts.flatMap((part, k) => [k === 0 ? "" : k === parts.length - 1 ? " and " : ", ", part]);

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
const weightNames = new Set(Object.keys(data.weights ?? {}).map((name) => name.split("[")[0]));
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

// The numbers of a value may be left out of the page where its formula gives them.
const isComputed = (q, side) => side === "value" && Boolean(q.value?.formula) && !baseOf(q).value.arrays;
const hasNumbers = (q, side) => Boolean(q[side] && baseOf(q)[side]?.arrays) || isComputed(q, side);

// The words that the rows of a quantity belong to.
function rowWords(q, b) {
  const { src, tgt } = data.sentences[b];
  return q.axis === "t" ? tgt : q.axis === "s" ? src : ["whole sentence"];
}

const rowNoun = (q) => (q.axis === "t" ? "step" : "source word");
const rowName = (q, b, row) => (q.axis ? `${rowNoun(q)} ${row} “${rowWords(q, b)[row]}”` : "");
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

function describeCell(q, side, b, row, column) {
  const parts = [nameOf(q, side) + (q.axis ? `[${row}]` : ""), rowName(q, b, row), columnName(q, b, column)];
  return `${parts.filter(Boolean).join(", ")}: ${show(numberAt(q, side, b, row, column))}`;
}

// Where a column stands in the rows of an array of which only some units are kept.
function position(base, column) {
  if (!base.units) return column;
  base.places ??= new Map(base.units.map((unit, k) => [unit, k]));
  return base.places.get(column);
}

// A number of a row that exists; undefined if the page does not have it.
function numberAt(q, side, b, row, column) {
  if (isComputed(q, side)) return computedNumber(q, b, row, column);
  const base = baseOf(q), text = base[side]?.arrays?.[b], place = position(base, q.first + column);
  if (!text || place === undefined || !q[side]) return undefined;
  return decode(text)[row * rowLength(base, b) + place];
}

const computedNumbers = new Map();  // name and sentence -> number of each cell

function computedNumber(q, b, row, column) {
  const key = `${q.id} ${b}`, cell = row * columnCount(q, b) + column;
  if (!computedNumbers.has(key)) computedNumbers.set(key, []);
  const x = (computedNumbers.get(key)[cell] ??= evaluate(parse(q.value.formula), scopeAt(q, b, row, column)));
  return Number.isNaN(x) ? undefined : x;
}

const rowLength = (base, b) => (base.units ? base.units.length : columnCount(base, b));

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
const { tanh, exp, log, sqrt } = Math;
const FUNCTIONS = { sigmoid: (x) => 1 / (1 + exp(-x)), tanh, exp, log, sqrt, "": (x) => x };  // "": brackets alone
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

function evaluateProduct({ factors }, scope) {
  let product = 1;
  for (const factor of factors) {
    const x = evaluateFactor(factor, scope);
    product = factor.over ? product / x : product * x;
  }
  return product;
}

// What a sum is over: visit(k, product) for each place.
function eachPlace(term, scope, visit) {
  const places = placesOf(term, scope.b);
  for (let k = 0; k < places && !(scope.stops && scope.missing.size); k++) {
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

// A sum runs over the shortest axis at which its letter stands.  An index like t-1 may leave its axis: not it.
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
  const sign = (factor, k) => (k === 0 ? "" : factor.over ? " / " : " * ");
  const product = term.factors.map((factor, k) => sign(factor, k) + textOfFactor(factor, scope));
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
  return decode(path.arrays[b])[row * rowLength(base, b) + place];
}

/* ---------- Grid: what heat maps and line charts share ----------

   It takes the focus.  Arrow keys, Home, End, PageUp, PageDown and the pointer move a cursor over its cells; Enter or a
   click opens one.  The cell under the cursor is said in the line of text below. */

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
    id, class: "grid scroll", role: "grid", tabindex: 0, "aria-label": label, "aria-describedby": readout.id,
    "aria-rowcount": rows, "aria-colcount": columns,
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
  const flat = width >= 72 || !labels.some((one) => one.isWord);
  const longest = Math.max(...labels.map(({ text }) => text.length));
  const height = `height:${Math.min(6.5, 1 + 0.5 * longest)}rem`;
  return el("div", { class: flat ? "column-labels flat" : "column-labels", style: flat ? null : height },
    labels.map(({ at, text, isWord }) =>
      el("span", { style: `left:${at}px${flat && isWord ? `;max-width:${width - 4}px` : ""}` }, word(text))));
}

/* ---------- Heat map ---------- */

const dark = matchMedia("(prefers-color-scheme: dark)");
const COLOURS = {
  light: { zero: [255, 255, 255], above: [22, 88, 184], below: [205, 92, 10], none: [200, 200, 200], mark: "#0008" },
  dark: { zero: [30, 34, 41], above: [110, 175, 255], below: [255, 160, 75], none: [90, 90, 90], mark: "#fff9" },
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
  const small = new OffscreenCanvas(columns, rows), pixels = small.getContext("2d");
  const image = pixels.createImageData(columns, rows), bytes = image.data, negative = [];
  for (let k = 0; k < rows * columns; k++) {
    const row = Math.floor(k / columns), column = k % columns, x = number(row, column);
    const [red, green, blue] = colourOf(x, scale);
    [bytes[4 * k], bytes[4 * k + 1], bytes[4 * k + 2], bytes[4 * k + 3]] = [red, green, blue, 255];
    if (x < -0.002 * scale.limit) negative.push([column * width, row * height]);
  }
  pixels.putImageData(image, 0, 0);
  const dense = Math.min(devicePixelRatio || 1, 16000 / (columns * width));  // a canvas may not be wider
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
  const parts = scale.negative ? [-1, -0.25, 0, 0.25, 1] : [0, 0.25, 0.5, 0.75, 1];
  return el("p", { class: "legend", "aria-label": "Colours" }, parts.map((part) => {
    const x = part * scale.limit, colour = `background:rgb(${colourOf(x, scale)})`;
    return el("span", null, el("i", { style: colour, "aria-hidden": "true" }, part < 0 && "–"), show(x));
  }));
}

// rows: their words; labels: [{at: column, text, isWord}]; number(row, column); selected: a cell, or null; limit: the
// number of the last colour, where several maps share their colours.
function heatMap({ id, label, rows, columns, labels, number, selected, describe, open, limit, widest = 22 }) {
  const least = labels.some(({ isWord }) => isWord) ? 24 : 3, height = 20;
  const width = clamp(Math.floor((main.clientWidth - 150) / columns), least, Math.max(widest, least));
  const scale = colourScale(rows.length, columns, number);
  scale.limit = limit ?? scale.limit;
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
  const names = el("ul", { class: "map-rows", "aria-hidden": "true" }, rowLabels);
  return el("div", { class: "map" }, el("div", { class: "map-body" }, names, grid), readout, colourLegend(scale));
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
  const kept = keptColumns(q, b), columns = kept.length, number = (r, k) => numberAt(q, side, b, rows[r], kept[k]);
  const scale = colourScale(rows.length, columns, number);
  const label = `${nameOf(q, side)} of rows ${rows.join(", ")}, the largest ${show(scale.limit)}`;
  const canvas = el("canvas", { role: "img", class: "strip", "aria-label": label });
  const width = clamp(Math.floor(320 / columns), 1, 12), height = rows.length > 2 ? 5 : 14;
  paint(canvas, { rows: rows.length, columns, number, width, height, scale });
  return canvas;
}

/* ---------- Line chart ---------- */

const MARKERS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5L5,4H-5z", "M0,-5L5,0L0,5L-5,0z",
                 "M-4,-4L4,4M-4,4L4,-4", "M0,-5V5M-5,0H5", "M0,5L5,-4H-5z", "M-5,-2h10v4h-10z", "M-2,-5h4v10h-4z"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 3", "6 2 2 2", "10 2"];

// A line of style 0, 1, ... has a colour, a dash and a marker of its own.  A ghost is what it is with the change on.
const lineClass = ({ style, ghost }) => `series-${style % 9}${ghost ? " ghost" : ""}`;
const dashOf = ({ style, ghost }) => (ghost ? "3 3" : DASHES[style % 9]);
const marker = ({ style }, x, y) =>
  svg("path", { class: "marker", d: MARKERS[style % 9], transform: `translate(${x},${y})` });

// The line of a legend.
function sample(one) {
  return svg("svg", { class: `sample ${lineClass(one)}`, width: 40, height: 14, "aria-hidden": "true" },
    svg("path", { d: "M0,7H40", "stroke-dasharray": dashOf(one) }), !one.ghost && marker(one, 20, 7));
}

const legendOf = (series, titleOf) => el("ul", { class: "series" },
  series.map((one, k) => el("li", { title: titleOf?.(k) }, sample(one), one.name)));

// A scale has y(number) in pixels, or null where it has no place, and ticks [number, text].
function logScale(numbers, height) {
  const known = numbers.filter((x) => x > 0 && Number.isFinite(x)), powers = known.length ? known.map(Math.log10) : [0];
  const low = Math.floor(Math.min(...powers)), high = Math.max(Math.ceil(Math.max(...powers)), low + 1);
  const step = Math.ceil((high - low) / 6);
  const marks = range(Math.floor((high - low) / step) + 1).map((k) => low + k * step);
  return { y: (x) => (x > 0 ? height * (1 - (Math.log10(x) - low) / (high - low)) : null),
           ticks: marks.map((n) => [10 ** n, Math.abs(n) <= 3 ? String(Number((10 ** n).toPrecision(1))) : `1e${n}`]) };
}

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

function drawnLine(one, x, y, markers) {
  const points = Array.from(one.values, (value, k) => [x(k), y(value)]);
  return svg("g", { class: lineClass(one) }, svg("path", { d: linePath(points), "stroke-dasharray": dashOf(one) }),
    markers && !one.ghost && points.map(([left, top]) => top !== null && marker(one, left, top)));
}

// The room in one of two columns, where there are two.
const halfWidth = () => (main.clientWidth > 1000 ? main.clientWidth / 2 - 24 : main.clientWidth);

// series: [{name, values, style, ghost}]; words: under the points; dense: so many points that they have no markers.
function lineChart({ id, label, series, words, describe, open, scale = logScale, at = [0, 0], dense = false,
                     height = 220, fit = main.clientWidth }) {
  const lines = series.filter((one) => !one.ghost), n = series[0].values.length;
  const margin = { left: 56, right: 12, top: 10 };
  const room = Math.max(100, fit - margin.left - margin.right - 4), space = dense ? room / n : clamp(room / n, 24, 110);
  const width = space * n, whole = width + margin.left + margin.right, x = (k) => (k + 0.5) * space;
  const { y, ticks } = scale(series.flatMap((one) => Array.from(one.values)), height);
  const cursor = svg("circle", { class: "cursor", r: dense ? 3 : 9 });
  const rule = svg("line", { class: "rule", y1: 0, y2: height });
  const axis = ticks.map(([value, text]) => svg("g", { class: "axis", transform: `translate(0,${y(value)})` },
    svg("line", { x2: width }), svg("text", { x: -8, dy: "0.35em" }, text)));
  const picture = svg("svg", { width: whole, height: height + 2 * margin.top, "aria-hidden": "true" },
    svg("g", { transform: `translate(${margin.left},${margin.top})` }, axis, rule,
      series.map((one) => drawnLine(one, x, y, !dense)), cursor));
  const { grid, readout } = cursorGrid({
    id, label, rows: lines.length, columns: n, at, open, describe,
    place(row, k) {
      fill(rule, { x1: x(k), x2: x(k) }, []);
      fill(cursor, { cx: x(k), cy: y(lines[row].values[k]) ?? height }, []);
    },
    hit({ clientX, clientY }) {
      const { left, top } = picture.getBoundingClientRect(), k = Math.floor((clientX - left - margin.left) / space);
      if (k < 0 || k >= n) return null;
      const away = lines.map((one) => Math.abs(clientY - top - margin.top - (y(one.values[k]) ?? height)));
      return [away.indexOf(Math.min(...away)), k];
    },
  }, el("div", { class: "drawing", style: `width:${whole}px` }, picture,
    words && columnLabels(words.map((text, k) => ({ at: margin.left + x(k), text, isWord: true })), space)));
  return el("div", { class: "chart" }, grid, readout);
}

/* ---------- Table, code and controls ---------- */

// head: names of columns; rows: lists of texts, numbers and nodes, the first of which names its row.
function table(caption, head, rows) {
  const cell = (content, k) => (k === 0 ? el("th", { scope: "row" }, content)
    : typeof content === "number" ? el("td", { class: "n" }, show(content)) : el("td", null, content));
  return el("div", { class: "scroll", "data-label": caption }, el("table", null, el("caption", null, caption),
    el("thead", null, el("tr", null, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map(cell))))));
}

// A part of 1 as a bar; what is beyond 0 and 1 is cut.
const bar = (part) => el("span", { class: "bar", "aria-hidden": "true" },
  el("i", { style: `width:${100 * clamp(part, 0, 1)}%` }));

// [name, value ...] of what is to be said.
const facts = (pairs) => el("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) =>
  el("div", null, el("dt", null, name), el("dd", null, value))));

// The text of a function, with some lines marked: by their numbers, or {number: node that stands beside it}.
function sourceCode(key, marked, caption) {
  const source = data.sources?.[key];
  if (!source) return null;
  const beside = typeof marked === "object" ? marked : { [marked]: null }, numbers = Object.keys(beside).join(", ");
  const line = (text, n) => el("span", { class: n in beside ? "line here" : "line" },
    el("i", { "aria-hidden": "true" }, n), n in beside ? [el("mark", null, text), beside[n]] : text, "\n");
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

// A map from each key to the things that have it, in the order of the things.
function grouped(things, keyOf) {
  const groups = new Map();
  for (const one of things) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one]);
  return groups;
}

// options: [value, text, group].
function select(id, label, options, current, onchange) {
  const option = ([value, text]) => el("option", { value, selected: String(value) === String(current) }, text);
  const groups = [...grouped(options, (one) => one[2] ?? "")].map(([group, members]) =>
    (group ? el("optgroup", { label: group }, members.map(option)) : members.map(option)));
  return el("label", { class: "control" }, el("span", null, label),
    el("select", { id, onchange: (event) => onchange(event.target.value) }, groups));
}

function radio(name, value, label, checked, onchange) {
  const input = el("input", { type: "radio", name, id: `${name}-${value}`, checked, onchange });
  return el("label", { class: "radio" }, input, el("span", null, label));
}

function radios(name, title, options, current, onchange) {
  return el("fieldset", { class: "control" }, el("legend", null, title),
    options.map(([value, text]) => radio(name, value, text, String(value) === String(current), () => onchange(value))));
}

const controls = (...children) => el("div", { class: "controls" }, children);

// Another sentence has other words: the loss of one of them cannot stay chosen.
function sentenceSelect(b, onchange) {
  if (data.sentences.length < 2) return null;
  const options = data.sentences.map(({ src }, k) => [k, `${k}: ${src.join(" ")}`]);
  return select("sentence", "Sentence", options, b, (k) => {
    state.loss = null;
    onchange(k);
  });
}

const quantityOptions = (quantities) => quantities.map((q) => [q.id, `${q.id}: ${q.title}`, q.group]);

/* ---------- The view of a sentence ---------- */

const attention = data.quantities.filter((q) => /^weights(_\d+)?$/.test(q.id));  // of each head, if there are several
const smoothing = Object.fromEntries(data.facts ?? []).label_smoothing ?? 0;

function sentenceView([b]) {
  b = sentenceNumber(b);
  const { tgt, losses, loss } = data.sentences[b], worst = largest(losses);
  return [
    lead("The loss of this sentence is ", number(loss), " nats. The word that costs most is ", quoted(tgt[worst]),
      ": ", number(losses[worst]), " nats, ", percent(losses[worst] / loss), " of it."),
    controls(sentenceSelect(b, (k) => go("sentence", k))),
    el("div", { class: "columns" },
      section("Target words and their losses", lossTable(b)),
      section("Attention", attention.length ? attentionMaps(b) : note("This model has no attention."))),
    isPadded(b) && note("This sentence is padded in its batch. Padding is no row of any array here: it is left out, ",
      "not multiplied by zero."),
    state.loss !== null && alternatives(b, state.loss),
    data.serve && section("Ask the server", sentenceForm(b), weightForm()),
  ];
}

function isPadded(b) {
  const longest = (side) => Math.max(...data.sentences.map((one) => one[side].length));
  return ["src", "tgt"].some((side) => data.sentences[b][side].length < longest(side));
}

function lossTable(b) {
  const { tgt, losses, loss, chosen } = data.sentences[b], most = Math.max(...losses);
  const choice = (t, id, label) => radio("loss", id, el("span", { class: "hidden" }, label), state.loss === t, () => {
    state.loss = t;
    go("sentence", b);
  });
  return [
    table("Loss of each target word, in nats", ["word", "loss", "", "show its gradient"], [
      ...losses.map((x, t) => [[`${t} `, word(tgt[t])], x, bar(x / most), choice(t, t, `word ${t}`)]),
      ["all words", loss, "", choice(null, "all", "all words")]]),
    note("Choose a loss: that of all words, or of one. The next views then show its gradients. ",
      chosen === "translated" ? "The target words are the model's own translation." : "The target words were given.",
      smoothing > 0 && ` The losses are those of training, with a label smoothing of ${smoothing}.`),
  ];
}

function attentionMaps(b) {
  const meaning = "Rows are target words, columns source words; the weights of a row add up to 1";
  if (attention.length === 1) return [attentionMap(attention[0], "attention", "Attention", b), note(meaning, ".")];
  const limit = Math.max(...attention.map((q) => Math.max(...decode(q.value.arrays[b]))));
  return [
    note(`${meaning} in each of the ${attention.length} heads, which share their colours. A head looks at the source `,
      "by queries, keys and values of its own."),
    el("div", { class: "heads" }, attention.map((q, head) => el("div", null, el("h4", null, `Head ${head}`),
      attentionMap(q, `attention-${head}`, `Attention of head ${head}`, b, limit)))),
  ];
}

function attentionMap(q, id, name, b, limit) {
  const { src, tgt } = data.sentences[b], t = state.loss ?? 0;
  const weight = (row, s) => numberAt(q, "value", b, row, s);
  return heatMap({
    id, label: `${name}: a row for each target word, a column for each source word`,
    rows: tgt, columns: src.length, labels: wordLabels(src), number: weight, limit, widest: limit ? 24 : 40,
    selected: [t, largest(src.map((_, s) => weight(t, s)))],
    describe: (row, s) => `“${tgt[row]}” looks at “${src[s]}”: ${show(weight(row, s))}`,
    open: (row, s) => go("number", q.id, b, row, s),
  });
}

function alternatives(b, t) {
  const { tgt, alternatives: words } = data.sentences[b];
  if (!words?.[t]?.length) return null;
  return section("The most probable words",
    table(`Of step ${t}, where the right word is “${tgt[t]}”`, ["word", "probability", ""],
      words[t].map(([text, p]) => [[word(text), text === tgt[t] && " (the right word)"], p, bar(p)])));
}

/* ---------- Where the gradient goes ---------- */

const FLOWS = ["h_dec", "c_dec", "o", "a", "h_enc", "h_fwd", "c_fwd", "h_bwd", "c_bwd"]
  .filter((id) => byId.get(id)?.gradient);

function flowView([b, names]) {
  b = sentenceNumber(b);
  const ids = names === undefined ? FLOWS.filter((id) => id !== "a" && id !== "h_enc") : names.split(",").filter(Boolean);
  for (const id of ids) if (!FLOWS.includes(id)) throw new BadAddress(`there is no gradient “${id}” to draw`);
  return [
    flowLead(b, ids),
    state.loss !== null && note("Gradients of the loss of word ", state.loss, " ",
      quoted(data.sentences[b].tgt[state.loss]), " alone; ", link(address("sentence", b), "choose another"), "."),
    controls(sentenceSelect(b, (k) => go("flow", k, ids.join(",")))),
    flowSection("t", "Decoder, step by step", b, ids),
    flowSection("s", "Encoder, word by word", b, ids),
    data.factors?.length > 0 && section("Factors of one step back",
      note("How much of a gradient's norm one step back leaves: above 1 the gradient grows, below 1 it fades.",
        state.loss !== null && " They are those of the loss of all words."),
      factorChart("t", "Decoder", b), factorChart("s", "Encoder", b)),
  ];
}

// Where of all gradients that are shown the norm falls furthest below its largest.
function weakest(b, ids) {
  const falls = ids.filter((id) => /^[hc]_(dec|fwd|bwd)/.test(id)).flatMap((id) => {  // what steps hand on
    const q = byId.get(id), all = (gradientNorms(q, b) ?? []).map((norm, row) => ({ norm, row }));
    const norms = all.filter((one) => one.norm > 0).sort((x, y) => x.norm - y.norm);
    return norms.length ? [{ q, low: norms[0], high: norms[norms.length - 1] }] : [];
  });
  return falls.sort((x, y) => x.low.norm / x.high.norm - y.low.norm / y.high.norm)[0];
}

function flowLead(b, ids) {
  const found = weakest(b, ids);
  if (!found) return lead("Choose gradients: a line shows how large the gradient still is at each word.");
  const { q, low, high } = found;
  return lead("The signal is at its weakest in ", code(`d${q.id}`), ": at ", wordOfRow(q, b, low.row), " its norm is ",
    number(low.norm), ", ", times(high.norm / low.norm), " smaller than at ", wordOfRow(q, b, high.row), ".",
    leastHandedOn(b));
}

// The step back that leaves least of the decoder's cell.
function leastHandedOn(b) {
  const factor = data.factors?.find((one) => one.q === "c_dec"), { tgt } = data.sentences[b];
  if (!factor || tgt.length < 2) return null;
  const steps = factor.values[b].slice(0, -1), least = steps.indexOf(Math.min(...steps));
  return [" Of one step back, the forget gates leave least of ", code("dc_dec"), " from ", quoted(tgt[least + 1]),
    " to ", quoted(tgt[least]), ": ", number(steps[least]), " of its norm."];
}

const wordOfRow = (q, b, row) => [`${rowNoun(q)} ${row}, `, quoted(rowWords(q, b)[row])];

function flowSection(axis, title, b, ids) {
  const all = FLOWS.filter((id) => byId.get(id).axis === axis), those = all.filter((id) => ids.includes(id));
  if (!all.length) return null;
  const words = rowWords(byId.get(all[0]), b), unknown = those.filter((id) => !gradientNorms(byId.get(id), b));
  const lines = those.filter((id) => !unknown.includes(id)).map((id) =>
    ({ name: `d${id}`, id, style: FLOWS.indexOf(id), values: gradientNorms(byId.get(id), b) }));
  const changed = state.loss === null ? lines.filter(({ id }) => state.change?.norms?.[id]) : [];
  const series = [...lines, ...changed.map((one) =>
    ({ ...one, name: `${one.name} with the change`, ghost: true, values: state.change.norms[one.id][b] }))];
  return section(title, flowChoice(all, b, ids),
    state.change && note("Dashed and without markers: with the change “", state.change.title, "”, ",
      state.loss === null ? "where it alters them." : "which is known for the loss of all words only."),
    unknown.length > 0 && note("Of ", listed(unknown.map((id) => code(`d${id}`))),
      " only the loss of all words is known."),
    lines.length > 0 && [normChart(`flow-${axis}`, title, series, words, b), normTable(series, words)]);
}

function flowChoice(all, b, ids) {
  const toggled = (id) => FLOWS.filter((one) => (one === id) !== ids.includes(one)).join(",");
  return el("fieldset", { class: "series" }, el("legend", null, "Gradients"), all.map((id) => {
    const onchange = () => go("flow", b, toggled(id));
    return el("label", { title: byId.get(id).title },
      el("input", { type: "checkbox", id: `flow-${id}-shown`, checked: ids.includes(id), onchange }),
      sample({ style: FLOWS.indexOf(id) }), code(`d${id}`));
  }));
}

// Norms of gradients over words; a point opens its sources.
function normChart(id, label, series, words, b, fit) {
  const lines = series.filter((one) => !one.ghost);
  return lineChart({
    id, label: `${label}: norms of gradients`, series, words, fit,
    describe: (line, k) => `${lines[line].name}[${k}] “${words[k]}”: ${show(lines[line].values[k])}`,
    open(line, k) {
      const q = byId.get(lines[line].id);
      go(q.gradient.paths?.length ? "sources" : "number", `d${q.id}`, b, k);
    },
  });
}

function normTable(series, words) {
  return el("details", null, el("summary", null, "The numbers"),
    table("Norms of gradients", ["word", ...series.map((one) => one.name)],
      words.map((text, k) => [[`${k} `, word(text)], ...series.map((one) => one.values[k])])));
}

function factorChart(axis, title, b) {
  const factors = data.factors.filter((factor) => byId.get(factor.q)?.axis === axis);
  if (!factors.length) return null;
  const series = factors.map((factor, style) => ({ name: factor.name, values: factor.values[b], style }));
  const words = rowWords(byId.get(factors[0].q), b);
  return [el("h4", null, title), legendOf(series, (k) => factors[k].sentence), lineChart({
    id: `factors-${axis}`, label: `${title}: factors of one step back`, series, words, height: 150,
    describe: (line, k) => {
      const from = words[k + (byId.get(factors[line].q).reversed ? -1 : 1)];
      return `${series[line].name}, from ${from === undefined ? "the end" : `“${from}”`} back to “${words[k]}”: ` +
        show(series[line].values[k]);
    },
    open: (line, k) => go("sources", `d${factors[line].q}`, b, k),
  })];
}

/* ---------- A number ---------- */

// A cell is {q, side, b, row, column}.
const firstQuantity = () => (byId.has("h_dec") ? "h_dec" : data.quantities[0].id);
const sideNumber = ({ q, b, row, column }, side) => numberAt(q, side, b, row, column);
const shownOr = (x) => (x === undefined ? "not in this page" : show(x));

function numberView([name = firstQuantity(), b, row, column]) {
  const { q, side } = quantityNamed(name);
  b = sentenceNumber(b);
  if (!hasNumbers(q, side)) throw new BadAddress(`the numbers of ${name} are not in this page`);
  row = integer(row, rowWords(q, b).length, () => largest(normsOf(q, side, b)), "row");
  column = integer(column, columnCount(q, b), () => largestInRow(q, side, b, row), "column");
  state.cell = [name, b, row, column];
  const cell = { q, side, b, row, column };
  return [
    numberLead(cell),
    numberControls(cell),
    section(`${name}: ${side === "gradient" ? "gradient of the " : ""}${q.title}`, keptNote(q, b),
      quantityMap({ id: "map", q, side, b, selected: [row, column] })),
    section(`${cellName(q, side, row, column)} in numbers`, cellFacts(cell),
      el("div", { class: "columns" }, el("div", null, formulaOf(cell)), el("div", null, codeOf(q, side)))),
    checksSection(),
  ];
}

// The column with the largest number; better that of a unit whose weights are in the page.
function largestInRow(q, side, b, row) {
  const all = keptColumns(q, b), best = all.filter((column) => q.chosen?.includes(column));
  const columns = best.length ? best : all;
  return columns[largest(columns.map((column) => Math.abs(numberAt(q, side, b, row, column))))] ?? 0;
}

function numberLead(cell) {
  const { q, b, row, column } = cell, value = sideNumber(cell, "value"), gradient = sideNumber(cell, "gradient");
  return lead(code(cellName(q, "value", row, column)), q.axis && [" (", wordOfRow(q, b, row), ")"], " is ",
    el("b", null, value === undefined ? "not in this page" : number(value)),
    "; its gradient is ", gradient === undefined ? "not in this page." : [el("b", null, number(gradient)),
      ": if it were larger by 0.001, the loss would ", gradient < 0 ? "fall" : "rise", " by about ",
      number(Math.abs(gradient) * 0.001), "."]);
}

function numberControls({ q, side, b, row, column }) {
  const other = side === "value" ? "gradient" : "value", sides = [["value", "value"], ["gradient", "gradient"]];
  const there = data.quantities.filter((one) => hasNumbers(one, "value") || hasNumbers(one, "gradient"));
  const keeps = (to) => to.axis === q.axis && to.column_axis === q.column_axis && keptColumns(to, b).includes(column);
  const open = (to) =>
    go("number", nameOf(to, hasNumbers(to, side) ? side : other), b, ...(keeps(to) ? [row, column] : []));
  return controls(
    select("quantity", "Quantity", quantityOptions(there), q.id, (id) => open(byId.get(id))),
    hasNumbers(q, other) && radios("side", "Side", sides, side, (to) => go("number", nameOf(q, to), b, row, column)),
    sentenceSelect(b, (k) => go("number", nameOf(q, side), k)));
}

function keptNote(q, b) {
  const kept = keptColumns(q, b).length, all = columnCount(q, b);
  return kept < all && note(`${kept} of ${all} columns are in this page.`);
}

function cellFacts(cell) {
  const { q, side, b, row, column } = cell, part = q[side], check = checkOf(cell);
  return facts([
    ["value", shownOr(sideNumber(cell, "value"))],
    q.gradient && ["gradient", shownOr(sideNumber(cell, "gradient"))],
    check && ["check", `${check.numeric} by complex step`, el("br"), `${check.analytic} by backward`, el("br"),
      check.ok ? "they agree" : "THEY DIFFER", ` (error ${show(check.error)})`],
    part.equation && ["equation", el("code", { class: "equation" }, part.equation),
      part.equation_of && [" in ", code(part.equation_of)]],
    side === "value" && ["memory", part.bytes ? `${part.bytes.toLocaleString("en")} bytes in the cache of this sentence`
      : part.kept ? "kept in the cache" : "not kept in the cache"],
    part.paths?.length && ["paths",
      link(address("sources", `d${q.id}`, b, row), "where ", code(`d${q.id}[${row}]`), " comes from")],
  ]);
}

const checkOf = ({ q, b, row, column }) =>
  data.checks?.find((one) => one.q === q.id && one.b === b && one.row === row && one.unit === column);

// What the cell is computed from: its summands in symbols and in numbers, and the largest terms of each sum.
function formulaOf(cell) {
  const { q, side, b, row, column } = cell, stored = sideNumber(cell, side);
  const summands = timed("formula", () => summandsOf(q, side, b, row, column)), scope = scopeAt(q, b, row, column);
  if (!summands.length) return section4("Formula", noFormula(q, side));
  const values = timed("evaluation", () => summands.map((one) => summandValue(one, scope)));
  const total = values.reduce((sum, x) => sum + x, 0);
  const rows = summands.map(({ label, formula }, k) => [
    [label, label && formula && el("br"), formula && code(textOf(formula))],
    formula && code(textOf(formula, scope)), known(values[k])]);
  return section4("Formula",
    table(`${cellName(q, side, row, column)} (${lettersOf(scope)}) is the sum of`, ["formula", "with numbers", "value"],
      [...rows, ["sum", "", known(total)], ["in the page", "", stored ?? "not in this page"]]),
    scope.missing.size ? missingNote(cell, scope.missing) : note(agreement(total, stored)),
    summands.flatMap(({ formula }) => (formula ? sumsOf(formula) : [])).map((term) => sumTable(term, scope)),
    data.serve && computeButton(cell));
}

// Some quantities are others side by side, or copies.
function noFormula(q, side) {
  const [, suffix] = q.id.match(/^z(_.*)/) ?? [], name = (id) => (side === "gradient" ? `d${id}` : id);
  const parts = suffix ? [..."ifgo"].map((gate) => `z${gate}${suffix}`)
    : q.id === "h_enc" ? ["h_fwd", "h_bwd"].filter((id) => byId.has(id)) : [];
  if (!parts.length) return note("None: it is looked up or copied, or nothing reaches it.");
  return note("It is ", listed(parts.map((id) => link(address("number", name(id), state.b), code(name(id))))),
    " side by side: they have the formulas.");
}

const lettersOf = ({ letters }) => Object.entries(letters).map(([letter, value]) => `${letter} = ${value}`).join(", ");

const section4 = (title, ...children) => [el("h4", null, title), children];

// By its formula; where a number of that is missing, what Python has computed, if it is in the page.
function summandValue({ formula, stored }, scope) {
  const x = formula ? evaluate(formula, scope) : NaN;
  return Number.isNaN(x) ? stored ?? NaN : x;
}

function agreement(total, stored) {
  if (Number.isNaN(total)) return "The numbers of its paths are not in this page, but their norms are.";
  if (stored === undefined) return "";
  const away = total === stored ? 0 : Math.abs(total - stored) / Math.max(Math.abs(total), Math.abs(stored));
  return away < 1e-3 ? `The two agree (relative difference ${show(away)}; the page keeps 7 digits of a number).`
    : `The two differ by ${percent(away)}: the page keeps 7 digits of a number, and here large numbers cancel.`;
}

// The ten largest terms of a sum.
function sumTable(term, scope) {
  const terms = [], { letter, factors } = term, blanks = factors.map(() => "");
  const inNumbers = (factor) => (factor.inner ? numberOr(evaluateFactor(factor, scope), () => textOfFactor(factor))
    : textOfFactor(factor, scope));
  eachPlace(term, scope, (k, product) => terms.push({ k, product }));
  const sum = (those) => known(those.reduce((total, one) => total + one.product, 0)), total = sum(terms);
  if (typeof total !== "number") return null;  // factors without their partners tell nothing
  const size = ({ product }) => (Number.isNaN(product) ? -1 : Math.abs(product));  // what is not known comes last
  terms.sort((one, other) => size(other) - size(one));
  const rows = terms.slice(0, 10).map(({ k, product }) => {
    scope.letters[letter] = k;
    return [String(k), ...factors.map(inNumbers), known(product)];
  });
  delete scope.letters[letter];
  if (terms.length > 10) rows.push([`the other ${terms.length - 10}`, ...blanks, sum(terms.slice(10))]);
  return table(`The largest of the ${terms.length} terms of ${textOfTerm(term)}`,
    [letter, ...factors.map((factor) => code(textOfFactor(factor))), "product"],
    [...rows, ["total", ...blanks, total]]);
}

function missingNote(cell, missing) {
  const { q, side, b, row, column } = cell, units = unitsThatAreThere(cell);
  return el("div", { class: "note" },
    el("p", null, `Some numbers of ${columnName(q, b, column)} are not in this page (of `,
      listed([...missing].map((name) => code(name))), "). ", code("scratchnmt microscope --serve"), " computes any.",
      units.length > 0 && " The page has those of:"),
    el("p", { class: "buttons" },
      units.map((unit) => button(`unit ${unit}`, () => go("number", nameOf(q, side), b, row, unit)))));
}

// Units of which everything that the formula needs is in the page, twelve at most.
function unitsThatAreThere({ q, side, b, row }) {
  const H = data.sizes.H, n = columnCount(q, b), units = data.units ?? {};
  const kept = q.kind ? units[q.kind] ?? [] : Object.values(units).flat();
  const blocks = kept.flatMap((unit) => range(Math.ceil(n / H)).map((k) => unit + k * H));
  const candidates = [...new Set(blocks)].filter((unit) => unit < n).sort((x, y) => x - y), found = [];
  const complete = (unit) => summandsOf(q, side, b, row, unit).every(({ formula }) => {
    const scope = { ...scopeAt(q, b, row, unit), stops: true };  // at the first number that is missing
    if (formula) evaluate(formula, scope);
    return formula && !scope.missing.size;
  });
  for (const unit of candidates) if (found.length < 12 && complete(unit)) found.push(unit);
  return found;
}

function codeOf(q, side) {
  const { made, called, read, paths } = q[side], readers = [...(read ?? []), ...(side === "value" ? q.read ?? [] : [])];
  return [
    section4("Code", made && sourceCode(made.source, made.line, "It is made by"),
      called && sourceCode(called.source, called.line, "which is called by"),
      (paths ?? []).filter((path) => path.source).map((path) =>
        sourceCode(path.source, path.line, `What comes by ${path.label}, is added by`))),
    readers.length > 0 && section4("Who reads it on the way back",
      el("ul", null, readers.map((one) => el("li", null, one.what, ": ", sourceLine(one.source, one.line))))),
  ];
}

function checksSection() {
  const checks = [...(data.checks ?? [])].sort((one, other) => other.error - one.error);
  if (!checks.length) return null;
  const good = checks.filter((one) => one.ok).length;
  const cell = ({ q, b, row, unit }) =>
    link(address("number", `d${q}`, b, row, unit), code(cellName(byId.get(q), "gradient", row, unit)));
  return section("Checked numbers",
    note(`${good} of ${checks.length} gradients agree with a derivative by complex step, which knows nothing of the `,
      "backward pass. An error is relative to the root mean square of its array."),
    el("details", null, el("summary", null, "All of them, the largest error first"),
      table("Checked numbers", ["cell", "word", "by backward", "by complex step", "error", ""], checks.map((one) =>
        [cell(one), word(rowWords(byId.get(one.q), one.b)[one.row]), one.analytic, one.numeric, one.error,
         one.ok ? "agrees" : "DIFFERS"]))));
}

/* ---------- Sources of a gradient ---------- */

const withPaths = data.quantities.filter((q) => q.gradient?.paths?.length);
const firstWithPaths = () => withPaths.find((q) => q.id === "h_dec") ?? withPaths[0];

// A path has a letter and a colour.
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const key = (k) => el("b", { class: `key key-${k % 6}` }, LETTERS[k]);

function sourcesView([name = `d${firstWithPaths().id}`, b, row]) {
  const { q, side } = quantityNamed(name);
  if (side === "value" || !q.gradient.paths?.length) throw new BadAddress(`the paths of “${name}” are not known`);
  b = sentenceNumber(b);
  const words = rowWords(q, b);
  row = integer(row, words.length, () => largest(q.gradient.norms[b]), "row");
  const at = `${name}[${row}]`, wordOptions = words.map((text, k) => [k, `${k} ${text}`]);
  const gradients = withPaths.map((one) => [`d${one.id}`, `d${one.id}: ${one.title}`, one.group]);
  return [
    sourcesLead(q, b, row),
    controls(select("gradient", "Gradient", gradients, name, (to) => go("sources", to, b)),
      q.axis && select("row", "Word", wordOptions, row, (k) => go("sources", name, b, k)),
      sentenceSelect(b, (k) => go("sources", name, k))),
    state.loss !== null && note("Paths are known for the loss of all words. Of word ", state.loss, " alone, ",
      "the norm of ", code(at), " is ", number(gradientNorms(q, b)?.[row]), "."),
    section(`The paths to ${at}`, pathTable(q, b, row),
      note("A share is measured along the gradient itself: shares add up to 100 %, and one below 0 works against it; a ",
        "part at right angles to it has a norm but no share. ",
        hasNumbers(q, side) && [link(address("number", name, b, row), "The numbers of ", code(at)), "."])),
    words.length > 1 && section("Every word", shareTable(q, b, row)),
    stepMaps(q, b, row),
    section("The code", pathCode(q.gradient.paths)),
  ];
}

function sourcesLead(q, b, row) {
  const parts = q.gradient.paths.map((path) => ({ share: path.shares[b][row], label: path.label }))
    .filter(({ share }) => Math.abs(share) >= 5e-4).sort((one, other) => other.share - one.share);
  const gradient = [code(`d${q.id}[${row}]`), q.axis && [" (", wordOfRow(q, b, row), ")"]];
  if (!parts.length) return lead("Nothing reaches ", gradient, ".");
  return lead("Of the gradient ", gradient, ", ",
    listed(parts.map(({ share, label }) => [el("b", null, percent(share)), " comes from ", label])), ".");
}

function pathTable(q, b, row) {
  const { paths, norms, residual } = q.gradient;
  const caption = `Whole norm ${show(norms[b][row])}; the sum of the paths differs by ${show(residual)}, relative`;
  return table(caption, ["path", "norm", "share", "", "formula", "line"], paths.map((path, k) =>
    [[key(k), " ", path.label], path.norms[b][row], percent(path.shares[b][row]), bar(path.shares[b][row]),
     path.formula && code(path.formula),
     [sourceLine(path.source, path.line), path.textbook && [el("br"), "in the textbook: ", code(path.textbook)]]]));
}

// Each function once, with the lines of all paths that come out of it.
function pathCode(paths) {
  return [...grouped(paths.keys(), (k) => paths[k].source)].map(([source, members]) => {
    const lines = [...grouped(members, (k) => paths[k].line)];
    const beside = Object.fromEntries(lines.map(([line, those]) => [line, those.map((k) => [" ", key(k)])]));
    return sourceCode(source, beside, "Added by");
  });
}

// For each word a bar, in which each path has a part.
function shareTable(q, b, row) {
  const { paths, norms } = q.gradient;
  const label = (text, k) => [`${k} `, k === row ? el("b", null, word(text)) : word(text)];
  return [el("ul", { class: "series" }, paths.map((path, k) => el("li", null, key(k), path.label))),
    table("Shares of the paths, hatched where they work against the sum", ["word", "norm", "shares"],
      rowWords(q, b).map((text, k) =>
        [link(address("sources", `d${q.id}`, b, k), label(text, k)), norms[b][k], shareBar(paths, b, k)]))];
}

function shareBar(paths, b, row) {
  const shares = paths.map((path) => path.shares[b][row]), whole = shares.reduce((sum, x) => sum + Math.abs(x), 0);
  const parts = shares.map((share, k) => {
    const part = Math.abs(share) / whole, name = `key-${k % 6}${share < 0 ? " against" : ""}`;
    return part > 0.002 && el("i", { class: name, style: `width:${100 * part}%` }, part > 0.06 && LETTERS[k]);
  });
  const label = paths.map((path, k) => `${path.label} ${percent(shares[k])}`).join(", ");
  return el("span", { class: "stack", role: "img", "aria-label": label }, parts);
}

// What every step of the decoder adds, where that is known: to one word by each path, and by each path to every word.
function stepMaps(q, b, row) {
  const { paths } = q.gradient, { tgt } = data.sentences[b], those = [...paths.keys()].filter((k) => paths[k].steps);
  if (!those.length) return null;
  const added = (k, to, t) => decode(paths[k].steps[b])[to * tgt.length + t];
  const map = (id, label, rows, norm, open) => heatMap({
    id, label: `Norms: a row for each ${label}, a column for each target step`, rows, columns: tgt.length,
    labels: wordLabels(tgt), number: norm, widest: 40, open,
    describe: (r, t) => `${rows[r]}, from step ${t} “${tgt[t]}”: ${show(norm(r, t))}`,
  });
  return section("What each target step adds",
    section4(`To d${q.id}[${row}], by each path`,
      map("steps", "path", those.map((k) => LETTERS[k]), (r, t) => added(those[r], row, t))),
    those.map((k) => section4(`By ${paths[k].label}, to every word`,
      map(`steps-${k}`, "word", rowWords(q, b), (r, t) => added(k, r, t), (r) => go("sources", `d${q.id}`, b, r)))));
}

/* ---------- A unit ---------- */

const LAYERS = { dec: "decoder", fwd: "encoder, left to right", bwd: "encoder, right to left" };
const layers = Object.keys(LAYERS).filter((kind) => unitQuantities(kind, "value").length);

// Gates, cell and state of a layer: one number for each unit.
function unitQuantities(kind, side) {
  return data.quantities.filter((q) =>
    q.kind === kind && q.axis && q.columns === data.sizes.H && /^[ifgoch]_/.test(q.id) && hasNumbers(q, side));
}

function unitView([kind = layers[0], b, unit]) {
  if (!layers.includes(kind)) throw new BadAddress(`there is no layer “${kind}”`);
  b = sentenceNumber(b);
  const kept = data.units?.[kind] ?? [], all = range(data.sizes.H), gradients = unitQuantities(kind, "gradient");
  unit = integer(unit, all.length, kept[0] ?? 0, "unit");
  const units = [...kept.map((one) => [one, one, "with weights in this page"]),
                 ...all.filter((one) => !kept.includes(one)).map((one) => [one, one, "others"])];
  return [
    unitLead(kind, b, unit),
    controls(radios("layer", "Layer", layers.map((one) => [one, LAYERS[one]]), kind, (to) => go("unit", to, b)),
      select("unit", "Unit", units, unit, (to) => go("unit", kind, b, to)),
      sentenceSelect(b, (k) => go("unit", kind, k, unit))),
    section("Gates, cell and state", unitMap("unit-values", unitQuantities(kind, "value"), "value", b, unit)),
    gradients.length > 0 && section("Their gradients", unitMap("unit-gradients", gradients, "gradient", b, unit)),
    forgetSection(kind, b, unit),
  ];
}

function unitMap(id, quantities, side, b, unit) {
  const words = rowWords(quantities[0], b);
  return heatMap({
    id, label: `Unit ${unit}: a row for each quantity, a column for each word`, widest: 74,
    rows: quantities.map((q) => nameOf(q, side)), columns: words.length, labels: wordLabels(words),
    number: (row, k) => numberAt(quantities[row], side, b, k, unit),
    describe: (row, k) => describeCell(quantities[row], side, b, k, unit),
    open: (row, k) => go("number", nameOf(quantities[row], side), b, k, unit),
  });
}

// For each word, the product of the forget gates of all later steps: what of its cell is left at the last one.
function keptByForgetGates(kind, b, unit) {
  const f = byId.get(`f_${kind}`), c = byId.get(`c_${kind}`);
  if (!c || !f || !hasNumbers(f, "value")) return null;
  const gates = rowWords(f, b).map((_, row) => numberAt(f, "value", b, row, unit)), kept = gates.map(() => 1);
  const backwards = c.reversed ? range(gates.length) : range(gates.length).reverse(), later = c.reversed ? -1 : 1;
  for (const row of backwards.slice(1)) kept[row] = kept[row + later] * gates[row + later];
  return { c, kept, first: backwards[backwards.length - 1] };
}

function unitLead(kind, b, unit) {
  const found = keptByForgetGates(kind, b, unit), name = `Unit ${unit} of the ${LAYERS[kind]}`;
  if (!found) return lead(name, ", at every word.");
  const { c, kept, first } = found;
  return lead(name, ": of its cell at the first word that it reads, ", wordOfRow(c, b, first), ", its forget gates ",
    "keep ", el("b", null, kept[first] < 5e-4 ? number(kept[first]) : percent(kept[first])), " of it up to the last, ",
    "and as much of a gradient on the way back.");
}

function forgetSection(kind, b, unit) {
  const found = keptByForgetGates(kind, b, unit);
  if (!found) return null;
  const { c, kept } = found, words = rowWords(c, b), size = (_, row) => Math.abs(numberAt(c, "gradient", b, row, unit));
  const series = [{ name: "product of the later forget gates", style: 0, values: kept }];
  if (hasNumbers(c, "gradient")) series.push({ name: `|d${c.id}| of this unit`, style: 1, values: words.map(size) });
  return section("What is kept", legendOf(series), lineChart({
    id: "kept", label: "What is kept from each word to the last", series, words,
    describe: (line, k) => `${series[line].name}, ${k} “${words[k]}”: ${show(series[line].values[k])}`,
    open: (line, k) => go("number", line ? `d${c.id}` : `f_${kind}`, b, k, unit),
  }), note("The product is over all steps after a word: what a gradient of 1 at the last cell still is when it comes ",
    "back to this one, if it comes through the cell alone."));
}

/* ---------- Step by step: a debugger ---------- */

const calls = data.calls?.list ?? [];

// One operation.  The data names operations, places in the code and quantities by numbers.
function callAt(n) {
  const [op, site, backward, reads, writes, , weight] = calls[n], [source, line, inner, first] = data.calls.sites[site];
  return { op: data.calls.ops[op], weight, site, phase: backward ? "backward" : "forward", source, line, inner, first,
           reads: accesses(reads, 4), writes: accesses(writes, 5) };
}

// [quantity, gradient?, sentence, row, added to?], one behind the other.
const accesses = (flat, size) => range(flat.length / size).map((k) => {
  const [q, gradient, b, row, added] = flat.slice(k * size, (k + 1) * size);
  return { q: data.quantities[q], side: gradient ? "gradient" : "value", b, row, added };
});

function stepView([n]) {
  const at = integer(n, calls.length, 0, "operation");
  const { op, weight, site, phase, source, line, inner, first, reads, writes } = callAt(at);
  const made = writes[0] ?? reads[0], back = calls.findIndex((one) => one[2]);
  return [
    lead(`Operation ${at}, of 0 to ${calls.length - 1}, in the ${phase} pass: `, code(op), weight && [" with ", code(weight)],
      ", called by ", code(data.sources?.[source]?.name ?? source),
      made?.q.axis && [", for ", wordOfRow(made.q, made.b, made.row)], "."),
    stepper(at, calls.findIndex((one, k) => k > at && one[1] === site), back),
    el("div", { class: "columns" },
      section("The code", sourceCode(source, line, "Called by"), sourceCode(inner, first, "The operation:")),
      section("The numbers", accessTable("It reads", reads), accessTable("It writes", writes))),
    liveSection(at),
  ];
}

// Buttons, a slider and keys that go through the operations; `same` is the next one of the same line, or -1.
function stepper(at, same, back) {
  const last = calls.length - 1, isFar = (to) => to < 0 || to > last || to === at;
  const keys = { n: at + 1, ArrowRight: at + 1, p: at - 1, ArrowLeft: at - 1, Home: 0, End: last };
  const step = (id, label, to) => button(label, () => go("step", to), { id: `step-${id}`, disabled: isFar(to) });
  function press(event) {
    const to = keys[event.key] ?? -1;
    if (isFar(to) || (event.target.type === "range" && event.key.length > 1) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    go("step", to);
  }
  function slide(event) {  // no entry in the history for each place that the slider passes
    history.replaceState(null, "", address("step", event.target.value));
    shown();
  }
  const label = "Operations; n or right: the next, p or left: the one before";
  return el("div", { id: "stepper", role: "group", tabindex: 0, "aria-label": label, onkeydown: press },
    el("div", { class: "buttons" }, step("first", "First", 0), step("previous", "Previous", at - 1),
      step("next", "Next", at + 1), step("last", "Last", last), step("back", "Backward pass", back),
      step("same", "Same line, next time", same)),
    el("label", { class: "control" }, el("span", null, "Operation; keys: n and p, or the arrows"),
      el("input", { id: "slider", type: "range", min: 0, max: last, value: at, oninput: slide })));
}

// The rows that an operation touches, those of one quantity and sentence together.
function accessTable(caption, touched) {
  const groups = [...grouped(touched, ({ q, side, b }) => `${nameOf(q, side)} ${b}`).values()];
  if (!groups.length) return note(`${caption} only weights, ids or arrays without a name here.`);
  return table(caption, ["rows", "", "numbers when the training step is done"], groups.map((members) => {
    const { q, side, b, added } = members[0], name = nameOf(q, side);
    const rows = [...new Set(members.map(({ row }) => row))].sort((x, y) => x - y);
    const label = code(name, q.axis && `[${intervals(rows)}]`);
    const there = hasNumbers(q, side);
    return [[there ? link(address("number", name, b, rows[0]), label) : label, data.sentences.length > 1 && ` of sentence ${b}`],
      added ? "added to" : "", there ? strips(q, side, b, rows) : ""];
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
  const values = calls.map((call) => call[5]), peak = largest(values);
  const bytes = (k) => `${values[k].toLocaleString("en")} bytes`;
  return section("Memory", note(`Bytes of the arrays that are alive after each operation; the most, ${bytes(peak)}, `,
    "after ", link(address("step", peak), `operation ${peak}`), "."),
  lineChart({
    id: "live", label: "Bytes alive after each operation", series: [{ name: "bytes", style: 0, values }],
    scale: linearScale, dense: true, height: 120, at: [0, at], open: (_, k) => go("step", k),
    describe: (_, k) => `operation ${k}, ${callAt(k).op}, ${callAt(k).phase}: ${bytes(k)}`,
  }));
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
  const hidden = data.hidden_bugs ?? [], list = (caption, members) => changeTable(caption, members ?? [], filter);
  return [
    sabotageLead(state.change),
    state.change && changeDetails(state.change, id ?? clearest(state.change, b), b, filter),
    section("Switch on", radios("filter", "Show", FILTERS, filter, (to) => go("sabotage", name, id ?? FLOWS[0], b, to)),
      list("Bugs", data.bugs), list("Paths that can be cut", data.cuts)),
    hidden.length > 0 && el("details", null,
      el("summary", null, `${count(hidden.length, "bug")} that this page cannot show`),
      table("Bugs that are not here", ["name", "what", "why not"],
        hidden.map((bug) => [code(bug.name), bug.title, bug.reason]))),
  ];
}

function changeNamed(name) {
  const found = name === null ? null : changes.find((one) => one.name === name);
  if (found === undefined) throw new BadAddress(`there is no change “${name}”`);
  return found;
}

function sabotageLead(change) {
  if (!change) {
    const quiet = changes.filter((one) => !changesLoss(one)).length;
    return lead(`Of ${count(changes.length, "change")} that can be switched on, ${quiet} leave the loss as it is: `,
      "only gradients tell.");
  }
  const loss = change.loss === null ? "the step ends with an error"
    : changesLoss(change) ? ["the loss goes from ", number(data.loss), " to ", number(change.loss)]
      : ["the loss stays ", number(change.loss), ": it does not tell"];
  const wrong = change.weights.filter(([, difference]) => difference > 1e-6).length;
  return lead("With the change “", el("b", null, change.title), "” ", loss,
    wrong > 0 && `. The gradients of ${wrong} of ${weightNames.size} weights differ`, ".");
}

function changeTable(caption, members, filter) {
  const shown = members.filter((one) => filter === "all" || changesLoss(one) === (filter === "loss"));
  if (!shown.length) return null;
  return table(caption, ["change", "", "loss", "gradient that changes most"], shown.map((one) => {
    const [weight, difference] = mostChanged(one)[0] ?? [];
    const loss = changesLoss(one) ? ["changes by ", number(one.loss_difference)] : "the same";
    return [[one.title, one.origin && [el("br"), code(one.name)]], changeSwitch(one), one.loss === null ? "an error" : loss,
      weight && [code(weight), `, by ${percent(difference)}`]];
  }));
}

function changeSwitch(change) {
  const on = change === state.change, label = on ? "Off" : "On";
  return button(label, () => go("sabotage", on ? "off" : change.name),
    { id: `switch-${change.name}`, "aria-label": `${label}: ${change.name}` });
}

function changeDetails(change, id, b, filter) {
  const { origin, file, line, story, weights, verdict, caught } = change;
  return el("div", { class: "columns" },
    section("The change", facts([origin && ["origin", origin], ["where", code(`${file}:${line}`)],
      change.loss !== null && ["loss", `${change.loss} with it`, el("br"), `${data.loss} without`]]),
    story && note(story), change.diff?.length > 0 && diff(change.diff)),
    change.norms?.[id] && section("Norms of a gradient", changedNorms(change, byId.get(id), b, filter)),
    weights.length > 0 && section("Gradients of the weights",
      table("The largest change first", ["weight", "change", "", "norm", "with the change"], mostChanged(change).map(
        ([name, difference, before, after]) => [code(name), percent(difference), bar(difference), before, after]))),
    verdict && section(caught ? "What the checker says" : "What the checker says: nothing is wrong",
      el("pre", { class: "scroll", "data-label": "report of the checker" }, verdict)));
}

const diff = (lines) => el("pre", { class: "scroll", "data-label": "difference" }, lines.map(([sign, text]) =>
  el("span", { class: { "-": "removed", "+": "added" }[sign] ?? "same" }, `${sign} ${text}\n`)));

// The gradient whose norms a change alters most.
function clearest(change, b) {
  const those = FLOWS.filter((id) => change.norms?.[id]);
  const size = (norm) => Math.log(norm + 1e-30);
  const away = (id) => {
    const right = byId.get(id).gradient.norms;
    return Math.max(...change.norms[id].flatMap((norms, k) =>
      norms.map((norm, row) => (k === b ? 1 : 0.01) * Math.abs(size(norm) - size(right[k][row])))));
  };
  return those[largest(those.map(away))];
}

function changedNorms(change, q, b, filter) {
  const drawn = FLOWS.filter((id) => change.norms?.[id]).map((id) => byId.get(id));
  const open = (id, k) => go("sabotage", change.name, id, k, filter), name = `d${q.id}`;
  const series = [{ name, id: q.id, style: 0, values: q.gradient.norms[b] },
                  { name: `${name} with the change`, id: q.id, style: 1, values: change.norms[q.id][b] }];
  const label = `${name} without and with the change`;
  return [
    controls(select("norms", "Gradient", quantityOptions(drawn), q.id, (id) => open(id, b)),
      sentenceSelect(b, (k) => open(q.id, k))),
    legendOf(series), normChart("changed-norms", label, series, rowWords(q, b), b, halfWidth())];
}

/* ---------- Two traces ---------- */

const compared = Object.entries(data.compare?.quantities ?? {}).filter(([id]) => byId.has(id)).map(([id, of]) =>
  ({ id, of, value: most(of.value), gradient: most(of.gradient) }));

function most(differences) {
  return differences ? Math.max(...differences.flat()) : undefined;
}

function compareView([id, b]) {
  const { title, other_title: otherTitle, loss, other_loss: otherLoss } = data.compare;
  b = sentenceNumber(b);
  const byGradient = [...compared].sort((one, other) => (other.gradient ?? -1) - (one.gradient ?? -1));
  const first = byGradient[0], chosen = id === undefined ? first : compared.find((one) => one.id === id);
  if (!chosen) throw new BadAddress(`“${id}” is not compared`);
  const options = quantityOptions(compared.map((one) => byId.get(one.id)));
  return [
    lead("Two models on the same sentences. The losses of ", el("b", null, title), " and ", el("b", null, otherTitle), " are ", number(loss), " and ",
      number(otherLoss), ", ", number(Math.abs(loss - otherLoss)), " apart; of the gradients, ", code(`d${first.id}`),
      " differs most, by ", number(first.gradient), "."),
    controls(select("compared", "Gradient", options, chosen.id, (to) => go("compare", to, b)),
      sentenceSelect(b, (k) => go("compare", chosen.id, k))),
    chosen.of.gradient_norms && section(`Norms of d${chosen.id}`, comparedNorms(chosen, b)),
    section("Quantities", table("Largest difference of any number", ["quantity", "value", "gradient"], byGradient.map((one) =>
      [link(address("compare", one.id, b), code(one.id)), known(one.value), known(one.gradient)]))),
    section("Operations", comparedCalls()),
  ];
}

function comparedNorms({ id, of }, b) {
  const { title, other_title: otherTitle } = data.compare;
  const series = [{ name: title, id, style: 0, values: of.gradient_norms[b] },
                  { name: otherTitle, id, style: 1, values: of.other_gradient_norms[b] }];
  const words = rowWords(byId.get(id), b), label = `d${id} of both: norms of gradients`;
  return [legendOf(series), lineChart({
    id: "compared-norms", label, series, words,
    describe: (line, k) => `d${id}[${k}] “${words[k]}”, ${series[line].name}: ${show(series[line].values[k])}`,
  })];
}

function comparedCalls() {
  const isBackward = (call) => call[3] === "backward";  // forward first: its differences make those of the way back
  const ordered = [...data.compare.calls].sort((one, other) => isBackward(one) - isBackward(other) || other[4] - one[4]);
  const row = ([op, source, line, phase, difference]) => [code(op), phase, sourceLine(source, line), difference];
  return table("Largest difference of what operations write, as a share of the largest number in it, of the two models", ["operation", "pass", "line", "difference"],
    ordered.map(row));
}

/* ---------- Server mode: the program that made the page still runs, and computes more ---------- */

async function ask(path, body) {
  const headers = { "X-Token": data.serve.token, "Content-Type": "application/json" };
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  if (!answer.ok) throw new Error(await answer.text() || answer.statusText);
  return answer.json();
}

// Shows in `output` what comes of a question, or what went wrong.
async function report(output, question, nodesOf) {
  output.replaceChildren("…");
  try {
    const answer = await question();
    output.replaceChildren();
    fill(output, null, [nodesOf(answer)]);
  } catch (error) {
    output.replaceChildren(`The server says: ${error.message}`);
  }
}

function computeButton({ q, side, b, row, column }) {
  const output = el("div", { role: "status" }), query = new URLSearchParams({ q: q.id, side, b, row, unit: column });
  const compute = () => report(output, () => ask(`/number?${query}`), computed);
  return el("div", null, button("Compute by complex step", compute, { id: "compute" }), output);
}

function computed({ value, gradient, terms, numeric, error }) {
  const rest = ({ rest: [n, sum] = [] }) => (n ? [[`the other ${n}`, "", sum]] : []);
  return [
    facts([["value", show(value)], ["gradient", show(gradient)],
      ["check", `${numeric} by complex step, error ${show(error)}`]]),
    (terms ?? []).map((sum) => table(sum.label, ["index", "factors", "product"],
      [...sum.terms, ...rest(sum), ["total", "", sum.total]])),
  ];
}

// fields: [id, label, value]; send is called with what stands in them.
function form(title, fields, send, nodesOf) {
  const output = el("p", { role: "status" });
  const inputs = fields.map(([id, , value]) => el("input", { id, type: "text", value }));
  function onsubmit(event) {
    event.preventDefault();
    report(output, () => send(...inputs.map((input) => input.value)), nodesOf);
  }
  return el("form", { class: "controls", "aria-label": title, onsubmit },
    inputs.map((input, k) => el("label", { class: "control" }, el("span", null, fields[k][1]), input)),
    el("button", null, title), output);
}

function sentenceForm(b) {
  const { src, tgt } = data.sentences[b];
  return form("Look at another sentence", [["other-src", "Source words", src.join(" ")],
    ["other-tgt", "Target words; none: the model translates", tgt.slice(0, -1).join(" ")]],
  (source, target) => ask("/sentence", { src: source, tgt: target }), () => location.reload());
}

function weightForm() {
  return form("Move a weight", [["weight-name", "Weight", Object.keys(data.weights)[0]],
    ["weight-index", "Index", "0, 0"], ["weight-value", "Value", "0"]],
  (name, index, value) => ask("/weight", { name, index: index.split(",").map(Number), value: Number(value) }),
  ({ loss, before }) => `The loss goes from ${before} to ${loss}.`);
}

/* ---------- The router ---------- */

class BadAddress extends Error {}

// What holds in every view: the loss that gradients are of, the change that is on, the cell that was looked at last.
const state = { loss: null, change: null, cell: null, b: 0 };

// `there`: whether this page has the data of the view; `first`: the parts of its address before anything is chosen.
const views = {
  sentence: { title: "Sentence", build: sentenceView, there: true, first: () => [state.b] },
  flow: { title: "Where the gradient goes", build: flowView, there: FLOWS.length, first: () => [state.b] },
  number: { title: "Number", build: numberView, there: data.quantities.length,
            first: () => (state.cell?.[1] === state.b ? state.cell : [firstQuantity(), state.b]) },
  sources: { title: "Sources", build: sourcesView, there: withPaths.length,
             first: () => [`d${firstWithPaths().id}`, state.b] },
  step: { title: "Step by step", build: stepView, there: calls.length, first: () => [0] },
  unit: { title: "Unit", build: unitView, there: layers.length, first: () => [layers[0], state.b] },
  sabotage: { title: "Sabotage", build: sabotageView, there: changes.length,
              first: () => [state.change?.name ?? "off"] },
  compare: { title: "Two models", build: compareView, there: compared.length, first: () => [] },
};

// A number in an address, which anybody may have written.
function integer(text, limit, otherwise, what) {
  if (text === undefined) return typeof otherwise === "function" ? otherwise() : otherwise;
  if (!/^\d+$/.test(text) || Number(text) >= limit) throw new BadAddress(`there is no ${what} “${text}”`);
  return Number(text);
}

function sentenceNumber(text) {
  const b = integer(text, data.sentences.length, 0, "sentence"), words = data.sentences[b].tgt.length;
  if (state.loss >= words) throw new BadAddress(`sentence ${b} has no target word ${state.loss}`);
  return (state.b = b);
}

function quantityNamed(name) {
  const found = named(name);
  if (!found?.q[found.side]) throw new BadAddress(`there is no quantity “${name}”`);
  return found;
}

function address(view, ...parts) {
  const path = [view, ...parts].map((part) => encodeURIComponent(part).replaceAll("%2C", ",")).join("/");
  const options = new URLSearchParams();
  if (state.loss !== null) options.set("loss", state.loss);
  if (state.change && view !== "sabotage") options.set("with", state.change.name);
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

// The view at the address and its nodes; or the first view, with a sentence on what is wrong with the address.
function content() {
  try {
    const { view, parts, options } = place();
    if (!Object.hasOwn(views, view) || !views[view].there) throw new BadAddress(`there is no view “${view}” here`);
    state.loss = options.has("loss") ? integer(options.get("loss"), 1e6, null, "target word") : null;
    state.change = changeNamed(options.get("with"));
    return [view, views[view].build(parts)];
  } catch (error) {
    if (!(error instanceof BadAddress || error instanceof URIError)) throw error;
    state.loss = state.change = null;
    const warning = `This address leads nowhere: ${error.message}. Here is the first sentence.`;
    return ["sentence", [el("p", { class: "warning", role: "alert" }, warning), sentenceView([])]];
  }
}

let current = null;  // the view that is shown

// Builds the view anew.  The focus, and how far boxes are scrolled, stay where they were.
const WHOLE_LOSS = ["number", "unit", "step", "sabotage", "compare"];  // views without gradients of single words
let shownChange = null;

function render() {
  const focused = document.activeElement?.id, boxes = [...main.querySelectorAll(".scroll[id]")];
  const scrolled = boxes.map((box) => [box.id, box.scrollLeft]).filter(([, left]) => left);
  const [view, nodes] = content(), { title } = views[view], heading = el("h2", { id: "view", tabindex: "-1" }, title);
  const switched = state.change !== shownChange;
  shownChange = state.change;
  main.replaceChildren(heading);
  fill(main, null, [WHOLE_LOSS.includes(view) && state.loss !== null && note("Gradients here are those of the loss of ",
    `all words, not of word ${state.loss} alone.`), nodes]);
  navigation(view);
  banner(view);
  document.title = `${title} · ${data.title} · gradient microscope`;
  settleBoxes(new Map(scrolled));
  if (current && (current !== view || (view === "sabotage" && switched && state.change))) {
    scrollTo(0, 0);
    heading.focus();
  } else if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  current = view;
}

// A box that scrolls must take the focus, so that keys can scroll it; code is scrolled to the line that is marked.
// All are measured before any is changed, so that the browser lays the page out once.
function settleBoxes(scrolled) {
  const found = [...main.querySelectorAll(".scroll")].map((box) => {
    const here = box.querySelector(".here"), top = here ? here.offsetTop - box.clientHeight / 2 : 0;
    return { box, top, scrolls: box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight };
  });
  for (const { box, top } of found.filter((one) => one.scrolls)) {
    if (!box.hasAttribute("role")) fill(box, { tabindex: 0, role: "group", "aria-label": box.dataset.label }, []);
    if (top > 0) box.scrollTop = top;
    if (scrolled.has(box.id)) box.scrollLeft = scrolled.get(box.id);
  }
}

function navigation(view) {
  const there = Object.entries(views).filter(([, one]) => one.there);
  document.getElementById("views").replaceChildren(...there.map(([id, one]) =>
    el("a", { href: address(id, ...one.first()), "aria-current": id === view ? "page" : null }, one.title)));
}

// Stays visible in all views while a change is on.
function banner(view) {
  const box = document.getElementById("banner");
  box.replaceChildren();
  if (!state.change) return;
  const off = () => {
    const { view, parts } = place();
    state.change = null;
    go(view, ...(view === "sabotage" ? ["off"] : parts));
  };
  fill(box, null, [el("p", null, "Sabotage is on: ", el("b", null, state.change.title),
    !["flow", "sabotage"].includes(view) && ". The numbers of this view are without it."), button("Off", off, { id: "off" })]);
}

function about() {
  return el("details", null, el("summary", null, "About this page"),
    note(`One training step on ${count(data.sentences.length, "sentence pair")}, computed in float64 and kept here in `,
      `float32. The loss of the whole batch is ${data.loss} nats.`, data.made && [" Made by ", code(data.made), "."]),
    facts((data.facts ?? []).map(([name, value]) => [name, String(value)])));
}

const shown = () => timed("render", () => timed(`view ${location.hash.slice(1).split(/[/?]/)[0]}`, render));

function start() {
  document.getElementById("title").append(" ", el("span", null, data.title));
  document.getElementById("about").append(about());
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();  // the address is the view's
    main.focus();
  });
  shown();
  addEventListener("hashchange", shown);
  dark.addEventListener("change", shown);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) shown();
    width = innerWidth;
  });
  requestAnimationFrame(() => setTimeout(() => (timings["first paint"] = performance.now())));
}

start();
})();
