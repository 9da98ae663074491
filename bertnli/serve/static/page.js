// The form, its examples, and the answers. What is typed reaches the page as text, never as HTML.

import { showWords, hideWords } from "./words.js";

const EXAMPLES = [
  ["A man is asleep on a bench.", "The man is awake."],
  ["Two dogs are running along the beach.", "Animals are outdoors."],
  ["A woman is playing the guitar on a stage.", "The woman is famous."],
  ["A girl in a red coat is eating an apple.", "A girl is eating fruit."],
  ["Three children are playing football in a park.", "The children are at home in bed."],
  ["A man is reading a newspaper on a train.", "He is on his way to work."],
];
const MANY_UNKNOWN = 1 / 3; // a larger share of unknown words is worth a warning
const NAMES = { torch: "PyTorch", mxnet: "MXNet" };

const $ = (id) => document.getElementById(id);
const nameOf = (backend) => NAMES[backend] ?? backend;
const percent = (p) => `${(100 * p).toFixed(1)} %`;

/** Return an element with properties and children; strings become text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

let served = null; // what GET model says
let asking = null; // the AbortController of the question under way
let answered = null; // the pair that the answer on the page is of

const typed = () => ({ premise: $("premise").value.trim(), hypothesis: $("hypothesis").value.trim() });

async function get(path, body, signal) {
  const options = body && {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  };
  const answer = await fetch(path, options || {});
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error || `the server answered ${answer.status}`);
  return content;
}

async function ask() {
  const pair = typed();
  const missing = ["premise", "hypothesis"].find((name) => !pair[name]);
  if (missing) {
    fail(`Give a ${missing}.`);
    $(missing).focus();
    return;
  }
  asking?.abort();
  const mine = (asking = new AbortController());
  busy(true);
  try {
    if (!served) {
      served = await get("model");
      addBackends();
    }
    const answers = await Promise.all(
      served.backends.map((backend) => get("predict", { ...pair, backend }, mine.signal)),
    );
    if (mine.signal.aborted) return;
    say(remarks(answers[0].predictions[0]));
    if (!isAnswered(pair)) hideWords(); // those of the pair before
    showAnswers(answers);
    answered = pair;
    markOld();
    await explain(pair, mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    fail(error instanceof TypeError ? "The server does not answer. Is it running?" : error.message);
  } finally {
    if (asking === mine) busy(false);
  }
}

/** Show the words of a pair as the chosen backend explains them; a model may have no such answer. */
async function explain(pair, signal) {
  const backend = $("by").value || served.backends[0];
  try {
    const explanation = await get("explain", { ...pair, backend }, signal);
    if (!signal.aborted) showWords(explanation);
  } catch (error) {
    if (signal.aborted) return;
    hideWords();
    say(`${$("problem").textContent} Word by word is missing: ${error.message}`.trim());
  }
}

function showAnswers(answers) {
  const results = answers.map(({ backend, predictions }) => ({ backend, ...predictions[0] }));
  $("answers").replaceChildren(
    ...results.map(({ backend, label, probabilities }) =>
      make("div", {}, make("h3", {}, nameOf(backend)), bars(label, probabilities)),
    ),
  );
  $("answer").hidden = false;
  $("verdict").textContent = verdict(results);
  $("difference").hidden = results.length < 2;
  if (results.length > 1) $("difference").textContent = difference(results);
}

/** Return what is to be said of a pair that the model could not read as it is. */
function remarks({ unknown_share: unknown, is_cut: cut }) {
  const sentences = [];
  if (unknown > MANY_UNKNOWN) {
    sentences.push(
      `The model does not know ${percent(unknown)} of this pair's words, so its answer means little.`,
    );
  }
  if (cut) sentences.push(`The pair has more than ${served.max_len} tokens and was cut.`);
  return sentences.join(" ");
}

function bars(label, probabilities) {
  const rows = Object.entries(probabilities).map(([name, p]) => {
    const fill = make("div", { className: "fill" });
    // From nothing to its share, which the style sheet turns into a movement.
    requestAnimationFrame(() => fill.style.setProperty("--share", p));
    const track = make("div", { className: "track" }, fill);
    track.setAttribute("aria-hidden", "true");
    return make(
      "li",
      { className: name === label ? "top" : "" },
      make("span", { className: "name" }, name),
      make("span", { className: "number" }, percent(p)),
      track,
    );
  });
  return make("ul", { className: "bars" }, ...rows);
}

function verdict(results) {
  const [first, ...others] = results;
  if (others.every(({ label }) => label === first.label)) {
    const p = percent(first.probabilities[first.label]);
    return `${first.label[0].toUpperCase()}${first.label.slice(1)}, with ${p}.`;
  }
  const each = results.map(({ backend, label }) => `${nameOf(backend)} says ${label}`);
  return `They differ: ${each.join(", ")}.`;
}

function difference([a, b]) {
  let [largest, at] = [0, ""];
  for (const [name, p] of Object.entries(a.probabilities)) {
    const apart = Math.abs(p - b.probabilities[name]);
    if (apart > largest) [largest, at] = [apart, name];
  }
  const names = `${nameOf(a.backend)} and ${nameOf(b.backend)}`;
  if (largest === 0) return `${names} give the same probabilities, to the last digit.`;
  const digits = Math.min(12, Math.max(2, Math.ceil(-Math.log10(largest))));
  return `${names} are at most ${largest.toFixed(digits)} apart, in the probability of ${at}.`;
}

function say(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

/** Say what is wrong, with no answer below it: it would be one to other sentences. */
function fail(problem) {
  say(problem);
  answered = null;
  $("answer").hidden = true;
  hideWords();
  markOld();
}

function isAnswered({ premise, hypothesis }) {
  return answered?.premise === premise && answered.hypothesis === hypothesis;
}

/** Mark an answer whose sentences have been changed since. */
function markOld() {
  const is = answered !== null && !isAnswered(typed());
  for (const id of ["answer", "words"]) $(id).classList.toggle("old", is);
  $("old").hidden = !is;
  $("problem").hidden = is || !$("problem").textContent; // it is of those sentences, too
}

function busy(is) {
  document.querySelector(".primary").setAttribute("aria-disabled", String(is));
  $("form").setAttribute("aria-busy", String(is));
}

function addExamples() {
  const items = EXAMPLES.map(([premise, hypothesis]) => {
    const button = make(
      "button",
      { type: "button", className: "example" },
      make("span", {}, premise),
      make("span", { className: "then" }, hypothesis),
    );
    button.addEventListener("click", () => {
      $("premise").value = premise;
      $("hypothesis").value = hypothesis;
      markOld();
      ask();
    });
    return make("li", {}, button);
  });
  $("examples").replaceChildren(...items);
}

function addBackends() {
  $("by").replaceChildren(
    ...served.backends.map((backend) => make("option", { value: backend }, nameOf(backend))),
  );
  $("by-label").hidden = served.backends.length < 2;
  const on = served.backends.map(nameOf).join(" and ");
  $("served").textContent = `${served.checkpoint} on ${on} decides: ${served.labels.join(", ")}.`;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("form").noValidate = true; // the page says itself what is missing
for (const name of ["premise", "hypothesis"]) {
  $(name).addEventListener("input", markOld);
  $(name).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
}
$("by").addEventListener("change", ask);

addExamples();
[$("premise").value, $("hypothesis").value] = EXAMPLES[0];
ask();
