// The page of the service: what happens now, labels, versions. It asks /api/ and draws; no more.
import { drawSample } from "./looks.js";
import { curve, node } from "./parts.js";
import { play } from "./sounds.js";
import { Refused, ask, hasToken, keepToken } from "./talk.js";
import { words } from "./words.js";

const $ = (id) => document.getElementById(id);
const state = { status: null, event: 0, cards: new Map(), picked: new Set(), last: null,
                undo: [], drift: [], names: [], view: "ask" };

// --- what goes wrong ---

function say(error) {
  if (error instanceof Refused && error.status === 401) return askToken();
  $("connection").hidden = false;
  $("connection").textContent = error instanceof Refused ? error.message : words.offline;
}

function calm() { $("connection").hidden = true; }

async function safely(work) {
  try { await work(); calm(); } catch (error) { say(error); }
}

const hour = (seconds) => new Date(1000 * seconds).toLocaleTimeString();

// --- now ----------------------------------------------------------------------------------------

async function refreshStatus() {
  const status = await ask("api/status");
  state.status = status;
  document.title = `${status.name} – skip2lora`;
  $("name").textContent = status.name;
  const { drift, latency_ms: latency } = status;
  $("phase").textContent = words.phases[drift.phase];
  $("phase").classList.toggle("alarm", drift.phase === "changed");
  const version = status.version === 0 ? `0, ${words.base}` : `${status.version}`;
  const numbers = [
    [words.version, version], [words.predictions, status.n_predicted.toLocaleString()],
    [words.latency, latency.median === null ? "–"
      : `${latency.median.toFixed(2)} ms (99 %: ${latency.p99.toFixed(2)} ms)`],
    [words.labelled, status.n_labels], [words.samples, status.n_samples],
  ];
  $("numbers").replaceChildren(...numbers.flatMap(([name, value]) =>
    [node("dt", {}, name), node("dd", {}, String(value))]));
  $("drift-text").textContent = driftText(drift);
  $("keys").textContent = isOfNumbers() ? words.keysOfNumbers : words.keys;
  state.drift.push(Math.log10(1 + drift.statistic));
  if (state.drift.length > 300) state.drift.shift();
  $("drift-chart").replaceChildren(curve(state.drift, Math.log10(drift.limit)));
  $("learning-text").textContent = learningText(status);
  if (String(state.names) !== String(status.classes) || !$("filter").children.length) {
    state.names = status.classes;
    drawFilter();
  }
}

function driftText(drift) {
  if (drift.phase === "learning") return words.learning(drift.n_learned, drift.learn);
  if (drift.phase === "changed") return words.changed(drift.since, words.severity[drift.severity]);
  return words.watching;
}

function learningText(status) {
  if (status.paused) return words.paused(status.paused);
  if (status.learning) return words.running;
  return status.waiting_versions.length ? words.waiting : status.reason || words.idle;
}

async function refreshLatest() {
  const { samples } = await ask("api/samples?limit=8");
  $("latest").querySelector("tbody").replaceChildren(...samples.map((sample) =>
    node("tr", {}, node("td", { class: "number" }, hour(sample.time)),
         node("td", {}, words.answer(sample.answer, sample.probability)),
         node("td", {}, sample.label ?? ""))));
}

// --- labels -------------------------------------------------------------------------------------

function drawFilter() {
  const choices = [["ask", words.toLabel], ["suspects", words.suspects], ["", words.all],
    ["state=unlabelled", words.unlabelled], ["state=contradicting", words.disputed],
    ...state.names.map((name) => [`label=${encodeURIComponent(name)}`, name])];
  $("filter").replaceChildren(...choices.map(([value, name]) => node("option", { value }, name)));
  $("filter").value = state.view;
}

async function refreshQueue() {
  const view = state.view;
  let samples, notes = new Map();
  if (view === "ask") ({ samples } = await ask("api/ask"));
  else if (view === "suspects") {
    const { suspects } = await ask("api/suspects");
    samples = await Promise.all(suspects.slice(0, 60).map((each) => ask(`api/samples/${each.id}`)));
    notes = new Map(suspects.map((each) => [each.id, words.suspect(each.label, each.answer)]));
  } else ({ samples } = await ask(`api/samples?limit=60&${view}`));
  if (view !== state.view) return;
  const kept = new Map();
  for (const sample of samples) {
    const card = state.cards.get(sample.id) ?? makeCard(sample);
    updateCard(card, sample, notes.get(sample.id));
    kept.set(sample.id, card);
  }
  state.cards = kept;
  state.picked = new Set([...state.picked].filter((id) => kept.has(id)));
  const cards = [...kept.values()].map((card) => card.box);
  const same = cards.length === $("cards").children.length
    && cards.every((box, at) => $("cards").children[at] === box);
  const active = document.activeElement, typing = $("cards").contains(active);
  if (!same) $("cards").replaceChildren(...cards);
  if (!kept.has(state.last)) state.last = null;
  if (typing && !same) {
    if (active.isConnected) active.focus();  // a number that is half typed goes on
    else focusCard(state.last ?? firstOpen());
  }
  queueText();
}

function queueText() {
  const count = state.cards.size;
  $("queue-text").textContent = state.picked.size ? words.picked(state.picked.size)
    : state.view === "ask" ? (count ? words.toDo(count) : words.emptyQueue)
    : count ? "" : words.emptyList;
}

function makeCard(sample) {
  const id = sample.id, look = node("div"), about = node("p"), note = node("p", { class: "bad-text" });
  const classes = node("div", { class: "classes" });
  const box = node("li", { tabindex: 0, role: "option", "aria-selected": "false",
    "aria-label": words.sample(id), onclick: (event) => clickCard(event, id),
    onfocusin: () => { state.last = id; } }, look, about, note, classes);
  safely(() => drawSample(look, sample, (button) => safely(() => play(id, button))));
  return { box, about, note, classes, label: null, names: null };
}

function updateCard(card, sample, note) {
  card.about.textContent = words.answer(sample.answer, sample.probability);
  card.note.textContent = note ?? "";
  const names = String(state.names);
  if (card.names !== names) {
    card.names = names;
    card.classes.replaceChildren(...isOfNumbers() ? [numberInput(sample)] : classChoices(sample.id));
  }
  card.label = sample.label;
  card.box.classList.toggle("done", sample.label !== null);
  const input = card.classes.querySelector("input");
  if (input && input !== document.activeElement) input.value = sample.label ?? "";
  for (const button of card.classes.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === sample.label));
  }
}

const isOfNumbers = () => state.status.task === "regression";

// Typed into, and taken with Enter; it keeps what was given, to be corrected.
function numberInput({ id, label: given }) {
  const input = node("input", { type: "number", step: "any", required: true, value: given,
    "aria-label": words.number(id), onclick: (event) => event.stopPropagation(),
    onkeydown: (event) => {
      if (event.key === "Escape") focusCard(id);
      else if (event.key === "Enter" && input.reportValidity()) label(chosen(id), Number(input.value));
    } });
  return input;
}

function classChoices(id) {
  const few = state.names.slice(0, 9);
  const buttons = few.map((name, at) => node("button", { type: "button", "data-name": name,
    title: name, onclick: (event) => { event.stopPropagation(); label(chosen(id), name); } },
    `${at + 1} ${name}`));
  const more = node("select", { "aria-label": words.otherClass, onclick: (event) => event.stopPropagation(),
    onchange: (event) => {
      const value = event.target.value;
      event.target.selectedIndex = 0;
      if (value === "+") newClass(chosen(id));
      else label(chosen(id), state.names[Number(value)]);
    } }, node("option", { disabled: true, selected: true, value: "" }, words.otherClass),
    ...state.names.slice(9).map((name, at) => node("option", { value: at + 9 }, name)),
    node("option", { value: "+" }, words.newClass));
  return [...buttons, more];
}

const chosen = (id) => (state.picked.has(id) ? [...state.picked] : [id]);

function clickCard(event, id) {
  const ids = [...state.cards.keys()];
  if (event.shiftKey && state.last !== null) {
    const [from, to] = [ids.indexOf(state.last), ids.indexOf(id)].sort((a, b) => a - b);
    ids.slice(from, to + 1).forEach((each) => state.picked.add(each));
  } else if (state.picked.has(id)) state.picked.delete(id);
  else state.picked.add(id);
  drawPicked();
  focusCard(id);
}

function drawPicked() {
  for (const [id, card] of state.cards) {
    card.box.setAttribute("aria-selected", String(state.picked.has(id)));
  }
  queueText();
}

function focusCard(id) {
  state.cards.get(id)?.box.focus();
}

async function label(ids, name, isNew = false) {
  const next = nextAfter(ids);
  await safely(async () => {
    const labels = ids.map((id) => ({ id, label: name }));
    const settle = ["suspects", "state=contradicting"].includes(state.view); // a second look counts
    const done = await ask("api/labels", { labels, new: isNew, settle, source: "page" });
    state.undo.push(done.labelled);
    $("undo").disabled = false;
    for (const id of done.labelled) {
      const card = state.cards.get(id);
      if (card) updateCard(card, { ...(await ask(`api/samples/${id}`)) });
    }
    state.picked.clear();
    drawPicked();
    if (done.refused.length) throw new Refused(400, done.refused[0].error);
  });
  focusCard(state.cards.has(next) ? next : firstOpen());
}

function firstOpen() {
  for (const [id, card] of state.cards) if (card.label === null) return id;
  return null;
}

function nextAfter(ids) {
  const all = [...state.cards.keys()];
  const from = Math.max(...ids.map((id) => all.indexOf(id)));
  const open = (id) => state.cards.get(id).label === null && !ids.includes(id);
  return all.slice(from + 1).find(open) ?? all.find(open) ?? null;
}

async function undo() {
  const ids = state.undo.pop();
  $("undo").disabled = state.undo.length === 0;
  if (!ids) return;
  await safely(async () => {
    await ask("api/labels/undo", { ids });
    await refreshQueue();
  });
  if (ids.length) focusCard(ids[0]);
}

async function skip(ids) {
  await safely(async () => {
    for (const id of ids) await ask(`api/samples/${id}/skip`, {});
    state.picked.clear();
    await refreshQueue();
  });
}

function newClass(ids) {
  const dialog = $("new-class");
  $("new-name").value = "";
  dialog.returnValue = "";
  dialog.onclose = () => {
    const name = $("new-name").value.trim();
    if (dialog.returnValue === "add" && name) label(ids, name, true);
  };
  dialog.showModal();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("new-class").open) return;
  if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
  const ids = [...state.cards.keys()], at = ids.indexOf(state.last);
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow(), ArrowUp: -perRow() };
  if (event.key === "u") { undo(); return; }
  if (event.key === "p" && state.last !== null) {
    state.cards.get(state.last)?.box.querySelector("button.play")?.click();
    return;
  }
  if (event.key === "x" && state.last !== null) { skip(chosen(state.last)); return; }
  if (!ids.length) return;
  if (event.key in moves && (at >= 0 ? event.target.closest("#cards") : true)) {
    const to = at < 0 ? 0 : Math.min(ids.length - 1, Math.max(0, at + moves[event.key]));
    focusCard(ids[to]);
  } else if (isOfNumbers() && /^[-0-9.,]$/.test(event.key) && at >= 0) {
    const input = state.cards.get(state.last).box.querySelector("input");
    input.focus();
    input.select();
    return;  // the key is typed there
  } else if (/^[1-9]$/.test(event.key) && state.names[event.key - 1] !== undefined && at >= 0) {
    label(chosen(state.last), state.names[event.key - 1]);
  } else if (event.key === " " && at >= 0 && event.target.closest("#cards > li") === event.target) {
    clickCard(event, state.last);
  } else return;
  event.preventDefault();
}

function perRow() {
  const boxes = [...$("cards").children];
  const top = boxes[0]?.offsetTop;
  return Math.max(1, boxes.filter((box) => box.offsetTop === top).length);
}

// --- versions and events ------------------------------------------------------------------------

async function refreshVersions() {
  const { versions } = await ask("api/versions");
  $("versions").querySelector("thead").replaceChildren(
    node("tr", {}, ...(isOfNumbers() ? words.columnsOfNumbers : words.columns).map((name) => node("th", { scope: "col" }, name))));
  $("versions").querySelector("tbody").replaceChildren(...[...versions].reverse().flatMap(versionRows));
}

// What is short in a row, and why in one below it, as wide as the table: a telephone shows both.
function versionRows(version) {
  const state = words.states[version.in_use ? "in use" : version.state] ?? version.state;
  const cells = [
    node("td", { class: "number" }, String(version.number)),
    node("td", {}, version.number ? new Date(1000 * version.created).toLocaleString() : words.base),
    node("td", {}, node("span", {}, state), " ", versionButton(version)),
    node("td", { class: "number" }, String(version.fixed ?? "")),
    node("td", { class: "number" }, String(version.broke ?? "")),
  ];
  const why = node("td", { colspan: String(cells.length) }, version.reason ?? "");
  return [node("tr", {}, ...cells), ...(version.number && version.reason ? [node("tr", { class: "why" }, why)] : [])];
}

function versionButton(version) {
  if (version.in_use) return null;
  const isNew = version.state === "waiting" || version.state === "refused";  // never in use
  const text = isNew ? words.adopt : words.rollBack;
  return node("button", { type: "button", onclick: () => safely(async () => {
    await ask(`api/versions/${version.number}/adopt`, {});
    await refreshVersions();
  }) }, text);
}

function eventText({ kind, detail }) {
  const text = words.kinds[kind];
  return text === undefined ? kind : typeof text === "function" ? text(detail) : text;
}

async function followEvents() {
  for (;;) {
    try {
      const { events } = await ask(`api/events?after=${state.event}&wait=20`);
      calm();
      if (!events.length) continue;
      state.event = events.at(-1).id;
      for (const each of events) {
        $("events").prepend(node("li", {}, node("time", {}, hour(each.time)), ` ${eventText(each)}`));
      }
      while ($("events").children.length > 200) $("events").lastChild.remove();
      await refreshVersions();
      await refreshQueue();
    } catch (error) {
      say(error);
      if (error instanceof Refused && error.status === 401) return;
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

async function followStatus() {
  for (;;) {
    if (!document.hidden) {
      try { await refreshStatus(); await refreshLatest(); if (!state.cards.size) await refreshQueue(); }
      catch (error) { say(error); if (error.status === 401) return; }
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}

// --- start --------------------------------------------------------------------------------------

function askToken() {
  document.querySelector("main").hidden = true;
  $("token-form").hidden = false;
  $("token-error").textContent = hasToken() ? words.wrongToken : "";
  $("token").focus();
}

async function start() {
  try { await refreshStatus(); } catch (error) {
    say(error);
    if (!(error instanceof Refused && error.status === 401)) setTimeout(start, 2000);
    return;
  }
  calm();
  $("token-form").hidden = true;
  document.querySelector("main").hidden = false;
  followStatus();
  followEvents();
}

for (const each of document.querySelectorAll("[data-words]")) {
  each.textContent = words[each.dataset.words];
}
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken($("token").value);
  start();
});
$("filter").addEventListener("change", (event) => {
  state.view = event.target.value;
  state.cards.clear();
  state.picked.clear();
  safely(refreshQueue);
});
$("select-all").addEventListener("click", () => {
  for (const [id, card] of state.cards) if (card.label === null || state.view !== "ask") state.picked.add(id);
  drawPicked();
});
$("undo").addEventListener("click", undo);
$("learn").addEventListener("click", () => safely(async () => {
  $("learn").disabled = true;
  try { await ask("api/learn", {}); await refreshVersions(); }
  finally { $("learn").disabled = false; }
}));
document.addEventListener("keydown", onKey);
start();
