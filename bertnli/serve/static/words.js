// The words of a pair: what each adds to the answer, and where each looks.

const SPECIAL = new Set(["<cls>", "<sep>", "[CLS]", "[SEP]"]);
const LISTED = 3; // of the words that one looks at most
const LEAST = 0.01; // a share below a point has no colour
const SCALES = [0.1, 0.2, 0.5, 1]; // what the full colour may stand for

const $ = (id) => document.getElementById(id);

let shown = null; // the explanation
let words = []; // its tokens' buttons
let active = null; // the place of the token whose attention is shown

/** Show an explanation as POST explain gives it. */
export function showWords(explanation) {
  shown = explanation;
  active = null;
  words = shown.tokens.map(makeWord);
  const sentences = ["Premise", "Hypothesis"].map((name, segment) => {
    const sentence = document.createElement("div");
    sentence.className = "sentence";
    sentence.setAttribute("role", "group");
    sentence.setAttribute("aria-label", name);
    sentence.append(...words.filter((_, i) => shown.segments[i] === segment));
    return sentence;
  });
  $("sentences").replaceChildren(...sentences);
  words[0].tabIndex = 0;
  fill($("block"), "mean of all", shown.attention.length);
  fill($("head"), "mean of all", shown.attention[0].length);
  addLegend();
  paint();
  $("words").hidden = false;
}

export function hideWords() {
  $("words").hidden = true;
}

function makeWord(token, i) {
  const word = document.createElement("button");
  word.type = "button";
  word.className = SPECIAL.has(token) ? "word special" : "word";
  word.textContent = token;
  word.tabIndex = -1; // arrows go from word to word; Tab goes past them
  const share = SPECIAL.has(token) ? "" : `, ${signed(shown.saliency[i])}`;
  word.setAttribute("aria-label", `${token}${share}`);
  word.addEventListener("mouseenter", () => activate(i));
  word.addEventListener("mouseleave", () => activate(words.indexOf(document.activeElement)));
  word.addEventListener("focus", () => {
    words.forEach((other) => (other.tabIndex = other === word ? 0 : -1));
    activate(i);
  });
  word.addEventListener("blur", () => activate(null));
  return word;
}

function activate(i) {
  active = i === -1 ? null : i;
  paint();
}

/** Return where token i looks: the weights of its row, of a head or of the mean. */
function looksOf(i) {
  const chosen = (id, all) => ($(id).value === "" ? all : [all[Number($(id).value)]]);
  const rows = chosen("block", shown.attention).flatMap((block) =>
    chosen("head", block).map((head) => head[i]),
  );
  return rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / rows.length);
}

function paint() {
  $("sentences").classList.toggle("looking", active !== null);
  const values = active === null ? shown.saliency : looksOf(active);
  const largest = Math.max(...values.map(Math.abs));
  const full = SCALES.find((scale) => scale >= largest) ?? SCALES.at(-1);
  words.forEach((word, i) => {
    const size = Math.abs(values[i]);
    const share = size < LEAST ? 0 : Math.min(1, size / full);
    word.style.setProperty("--share", share.toFixed(3));
    word.classList.toggle("shaded", share > 0.2);
    word.classList.toggle("for", active === null && values[i] > 0);
    word.classList.toggle("against", active === null && values[i] < 0);
    word.classList.toggle("source", i === active);
  });
  showScale(full);
  $("detail").textContent = active === null ? summary() : lookDetail(values);
}

/** Say in numbers what the colours mean: the least that has one, half of the full one, the full. */
function showScale(full) {
  const steps = [LEAST, full / 2, full];
  const looks = active !== null;
  const number = (p) => String(+(100 * p).toFixed(1));
  const swatches = (kind, sign, shares) =>
    shares.map((share) => {
      const swatch = element("swatch", sign + number(share));
      swatch.classList.add(kind);
      swatch.style.setProperty("--share", share / full);
      return swatch;
    });
  const below = element("swatch", looks ? "below 1" : "less than 1");
  const unit = looks ? "% of its attention" : "points";
  const scale = looks ? [] : swatches("against", "−", [...steps].reverse());
  scale.push(below, ...swatches(looks ? "look" : "for", looks ? "" : "+", steps), unit);
  $("scale").replaceChildren(...scale);
}

function element(kind, text) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

function summary() {
  const { tokens, saliency } = shown;
  const most = order(saliency.map(Math.abs)).filter((i) => Math.abs(saliency[i]) >= LEAST);
  if (!most.length) return "No word counts for a point or more.";
  const each = most.slice(0, LISTED).map((i) => `“${tokens[i]}” ${signed(saliency[i])}`);
  return `Counts most: ${each.join(", ")}.`;
}

function lookDetail(weights) {
  const { tokens, saliency } = shown;
  const most = order(weights).slice(0, LISTED);
  const each = most.map((j) => `“${tokens[j]}” (${(100 * weights[j]).toFixed(0)} %)`);
  const own = SPECIAL.has(tokens[active]) ? "" : ` It adds ${signed(saliency[active])}.`;
  return `“${tokens[active]}” looks most at ${each.join(", ")}.${own}`;
}

function order(values) {
  return values.map((_, i) => i).sort((a, b) => values[b] - values[a]);
}

function signed(share) {
  return `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)} points`;
}

function addLegend() {
  const from = `with all words masked ${(100 * shown.baseline).toFixed(1)} %`;
  $("legend").replaceChildren(
    "What each word does to the probability of ",
    `${shown.label} (${from}): `,
    element("key for", "raises it"),
    " or ",
    element("key against", "lowers it"),
    ". Point at a word, or go to it with Tab and the arrows, to see where it looks; Esc ends that.",
  );
}

/** Give a choice its options, and keep what was chosen. */
function fill(select, all, count) {
  const before = select.value;
  const options = [new Option(all, "")];
  for (let i = 0; i < count; i++) options.push(new Option(String(i + 1), String(i)));
  select.replaceChildren(...options);
  select.value = before !== "" && Number(before) < count ? before : "";
}

$("sentences").addEventListener("keydown", (event) => {
  const at = words.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: words.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  words[Math.min(Math.max(to, 0), words.length - 1)].focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && active !== null) activate(null);
});
for (const id of ["block", "head"]) $(id).addEventListener("change", () => shown && paint());
