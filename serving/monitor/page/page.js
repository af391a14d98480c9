"use strict";
// Everything shown comes as text: nothing from the data is ever read as markup.
const KEY = "hustings-key", WHO = "hustings-who";
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en");
const open = new Set();
let look = null, stopped = null;

function make(name, attributes = {}, ...children) {
  const drawn = ["svg", "rect", "circle", "line", "title"].includes(name);
  const made = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const percent = (share) => `${Math.round(100 * share)} %`;
const hour = (text) => new Date(text).toLocaleString("en-GB",
  { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

function state(words, css = "") {
  $("state").textContent = words;
  $("state").className = `state ${css}`;
}

// --- the stream, with the key in a header --------------------------------------------

async function follow(key) {
  stopped = new AbortController();
  const answer = await fetch("monitor/stream", {
    headers: { "X-API-Key": key, Accept: "text/event-stream" },
    cache: "no-store", signal: stopped.signal,
  });
  if (answer.status === 401) { ask("That is not the key."); return false; }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  $("ask").hidden = true;
  $("watch").hidden = false;
  state("live", "live");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return true;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    const last = events.filter((event) => event.includes("\ndata: ")).pop();
    if (last) show(JSON.parse(last.slice(last.indexOf("\ndata: ") + 7)));
  }
}

async function watch() {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    if (!key) { ask(); return; }
    try {
      if (!(await follow(key))) return;
    } catch (failure) {
      state("connection lost, trying again", "lost");
    }
    await new Promise((go) => setTimeout(go, 2000));
  }
}

function ask(fault = "") {
  sessionStorage.removeItem(KEY);
  state("not connected");
  $("watch").hidden = true;
  $("ask").hidden = false;
  $("ask-fault").textContent = fault;
  $("key").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  watch();
});
$("find").addEventListener("input", () => look && show(look));

// --- what is shown ---------------------------------------------------------------------

function show(told) {
  look = told;
  document.title = told.alarms.length
    ? `(${told.alarms.length}) ${told.campaign}` : `${told.campaign} · reactions`;
  $("campaign").textContent = told.campaign;
  $("until").textContent = told.heard_until
    ? `Shown up to the hour of ${hour(told.heard_until)} UTC` : "Nothing heard yet";
  $("wishes").hidden = told.open_wishes === 0;
  $("wishes").textContent = `${number.format(told.open_wishes)} replies may ask to be ` +
    "left alone. Nothing more is sent to them until somebody has read them: " +
    "hustings reactions review.";
  const paused = new Map(told.messages.filter((m) => m.paused)
    .map((m) => [m.message_id, m.paused]));
  for (const one of told.paused_unheard) paused.set(one.message_id, one);
  $("alarms").replaceChildren(...alarms(told, paused));
  $("messages").tBodies[0].replaceChildren(...rows(told));
  $("none").hidden = told.messages.length > 0;
  $("messages").hidden = told.messages.length === 0;
  $("issues").replaceChildren(...told.issues.map(tile));
  const rules = told.rules;
  $("rules").textContent = `An alarm of one message is false at most once in ` +
    `${number.format(Math.round(1 / rules.alpha))} stretches of ${rules.hours} hours, ` +
    "however often anybody looks, where reactions cluster as they did before. Rates are " +
    "good ÷ (good + bad), with a 95 % interval, pooled towards the issue.";
}

const KINDS = { backlash: "Backlash", new_accounts: "New accounts",
  outside_area: "From outside" };

function alarms(told, paused) {
  const unheard = told.paused_unheard.map((one) =>
    make("div", { class: "alarm look" },
      make("div", {},
        make("h3", {}, make("span", { class: "kind" }, "Paused "), one.message_id),
        make("p", {}, pausedBy(one))),
      button(one.message_id, true)));
  if (!told.alarms.length && !unheard.length) {
    return [make("p", { class: "calm" }, "No alarm.")];
  }
  return told.alarms.map((alarm) => make(
    "article", { class: `alarm ${alarm.kind === "backlash" ? "" : "look"}` },
    make("div", {},
      make("h3", {}, make("span", { class: "kind" }, `${KINDS[alarm.kind]} `),
        `${alarm.message_id} · ${alarm.issue}`),
      make("p", {}, alarm.text),
      alarm.contradicts_lift
        ? make("p", { class: "against" }, alarm.contradicts_lift) : null,
      make("p", { class: "quiet" }, `Since about ${hour(alarm.since)}, raised ` +
        `${hour(alarm.raised)} UTC. ${sentText(alarm.sent)} ${plannedText(alarm.planned)}`)),
    button(alarm.message_id, paused.has(alarm.message_id)),
    sentGroups(alarm.sent))).concat(unheard);
}

const sentText = (sent) => sent && sent.n
  ? `Sent so far to ${number.format(sent.n)} voters.`
  : "Sent so far to fewer than 20 voters, or to nobody known here.";

const plannedText = (planned) => planned && planned.n
  ? `Planned for ${number.format(planned.n)} voters, and not handed over yet.` : "";

function sentGroups(sent) {
  if (!sent || !sent.n) return null;
  const groups = (title, counts) => Object.keys(counts).length === 0 ? null : make(
    "div", {}, make("strong", {}, title),
    make("div", { class: "groups" }, ...Object.entries(counts)
      .sort((a, b) => b[1] - a[1])
      .map(([name, n]) => make("span", {}, make("i", {}, name), number.format(n)))));
  return make("details", {}, make("summary", {}, "Who has been sent it"),
    groups("By segment", sent.by_segment), groups("By county", sent.by_county));
}

const pausedBy = (pause) => `Paused by ${pause.by}, ${hour(pause.at)} UTC: ${pause.reason}`;

function rows(told) {
  const wanted = $("find").value.trim().toLowerCase();
  const loud = new Set(told.alarms.filter((a) => a.kind === "backlash")
    .map((a) => a.message_id));
  return told.messages
    .filter((m) => `${m.message_id} ${m.issue}`.toLowerCase().includes(wanted))
    .flatMap((m) => {
      const more = open.has(m.message_id);
      const row = make("tr", { class: `row ${m.paused ? "paused" : ""}` },
        make("th", { scope: "row" },
          make("button", { class: "open name", "aria-expanded": String(more),
            onclick: () => toggle(m.message_id) }, m.message_id),
          loud.has(m.message_id) ? make("span", { class: "tag" }, "alarm") : null,
          m.paused ? make("span", { class: "tag pause" }, "paused") : null,
          make("small", {}, m.paused ? pausedBy(m.paused) : m.issue)),
        make("td", { class: "well", "data-name": "Goes down well" }, rate(m.rate)),
        make("td", { class: "n change", "data-name": "Change" }, change(m.change)),
        make("td", { class: "hours" }, sparkline(m.series, told.hour_minutes)),
        cell("Good", m.good), cell("Bad", m.bad), cell("Neutral", m.neutral),
        cell("Set apart", m.outside_area + m.new_accounts),
        make("td", { class: "act" }, button(m.message_id, Boolean(m.paused))));
      return more ? [row, details(m)] : [row];
    });
}

const cell = (name, n) =>
  make("td", { class: "n", "data-name": name }, n ? number.format(n) : "–");

function toggle(message) {
  if (!open.delete(message)) open.add(message);
  show(look);
}

function rate(known) {
  if (!known) return make("span", { class: "quiet" }, "–");
  const told = `${percent(known.rate)} (95 % interval ${percent(known.low)} to ` +
    `${percent(known.high)})`;
  return make("div", { class: "rate", title: told },
    make("b", {}, percent(known.rate)),
    make("svg", { viewBox: "0 0 100 10", height: 10, preserveAspectRatio: "none",
      role: "img", "aria-label": told },
      make("rect", { class: "ground", x: 0, y: 4, width: 100, height: 2 }),
      make("rect", { class: "span", x: 100 * known.low, y: 2, height: 6,
        width: Math.max(100 * (known.high - known.low), .8) }),
      make("rect", { class: "point", x: 100 * known.rate - .8, y: 0, width: 1.6,
        height: 10 })));
}

function change(known) {
  if (!known) return "–";
  const css = known.points < 0 ? "fall" : "rise";
  const sign = known.points < 0 ? "−" : "+";
  return make("span", { class: css,
    title: `${percent(known.before)} before, ${percent(known.now)} in the last ` +
      `${known.hours} hours` }, `${sign}${Math.abs(known.points).toFixed(0)} pts`);
}

// Good above the line, bad below it, on one scale.
function sparkline(series, minutes) {
  const width = 3 * series.length, height = 34;
  const top = Math.max(1, ...series.map((counts) => counts[0]));
  const low = Math.max(0, ...series.map((counts) => counts[1]));
  const scale = height / (top + low);
  const line = top * scale;
  const bars = series.flatMap(([good, bad], i) => [
    good ? make("rect", { class: "good", x: 3 * i, width: 2.2, y: line - good * scale,
      height: good * scale }) : null,
    bad ? make("rect", { class: "bad", x: 3 * i, width: 2.2, y: line,
      height: bad * scale }) : null,
  ]);
  const heard = series.reduce((sum, counts) => sum + counts[0] + counts[1], 0);
  return make("svg", { viewBox: `0 0 ${width} ${height}`, width, height,
    preserveAspectRatio: "none", role: "img",
    "aria-label": `${number.format(heard)} good or bad in the last ` +
      `${Math.round(series.length * minutes / 60)} hours` },
    make("line", { class: "axis", x1: 0, x2: width, y1: line, y2: line }), ...bars);
}

function details(m) {
  const kinds = Object.entries(m.kinds)
    .map(([kind, n]) => `${kind} ${number.format(n)}`).join(" · ");
  const apart = [
    m.outside_area ? `${number.format(m.outside_area)} from outside the area` : "",
    m.new_accounts ? `${number.format(m.new_accounts)} of new accounts` : "",
  ].filter(Boolean).join(", ");
  return make("tr", { class: "more" }, make("td", { colspan: 9 },
    kinds ? make("p", {}, make("strong", {}, "Kinds "), kinds) : null,
    apart ? make("p", {}, make("strong", {}, "Set apart "),
      `${apart} (${percent(m.apart_share)} of all)`) : null,
    m.rate ? make("p", {}, make("strong", {}, "Goes down well "),
      `${percent(m.rate.rate)}, 95 % interval ${percent(m.rate.low)} to ` +
      percent(m.rate.high)) : null,
    make("strong", {}, "Segments"),
    make("div", { class: "groups" }, ...m.segments.map((s) => make("span", {},
      make("i", {}, s.segment),
      s.rate ? `${percent(s.rate.rate)} of ${number.format(s.good + s.bad)}`
        : number.format(s.neutral))))));
}

function tile(issue) {
  return make("div", { class: "tile" }, make("strong", {}, issue.issue),
    rate(issue.rate),
    make("small", {}, `${number.format(issue.good)} good · ` +
      `${number.format(issue.bad)} bad`));
}

// --- pausing ---------------------------------------------------------------------------

function button(message, paused) {
  return make("button", { onclick: () => sure(message, paused) },
    paused ? "Resume" : "Pause");
}

function sure(message, paused) {
  $("sure-title").textContent = paused ? `Resume ${message}?` : `Pause ${message}?`;
  $("sure-text").textContent = paused
    ? "It may be planned, recommended and exported again at once."
    : "Nobody is planned, recommended or exported this message until it is resumed.";
  $("sure-yes").textContent = paused ? "Resume" : "Pause";
  $("by").value = sessionStorage.getItem(WHO) || "";
  $("why").value = "";
  $("sure-fault").textContent = "";
  const dialog = $("sure");
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "yes") act(message, paused);
  };
  dialog.showModal();
}

async function act(message, paused) {
  const by = $("by").value.trim(), reason = $("why").value.trim();
  sessionStorage.setItem(WHO, by);
  try {
    const answer = await fetch(paused ? "resume" : "pause", {
      method: "POST",
      headers: { "X-API-Key": sessionStorage.getItem(KEY),
        "Content-Type": "application/json" },
      body: JSON.stringify({ message_id: message, by, reason }),
    });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  } catch (failure) {
    $("sure").showModal();
    $("sure-fault").textContent = `It did not work: ${failure.message}.`;
  }
}

watch();
