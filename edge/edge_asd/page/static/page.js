// The page of a device: asks it for what is new, and draws that. Whatever comes from it is set as text, never as HTML.
"use strict";
(() => {
const QUARTER = 900, DAY = 86400; // seconds
const POINTS = 3600;
const STALE = 15000; // ms without a new status, after which nobody seems to listen any more
const PATIENCE = 6000, LONGEST_WAIT = 10000; // ms
const QUIETEST = -90; // dBFS, the left end of the level meter
const MOST_EVENTS = 200, MORE_EVENTS = 20;
const WHERE_FROM = {
  site: "learned on this site", alarm: "the bundle's, for alarms", decision: "the bundle's, for decisions",
};
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137],
  [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

const $ = (id) => document.getElementById(id);
const put = (element, said) => { if (element.textContent !== said) element.textContent = said; };
const make = (name, said = "", className = "") => {
  const element = document.createElement(name);
  element.textContent = said;
  element.className = className;
  return element;
};

// ---- words and numbers

const number = (value) => (value === null || value === undefined ? "–" : minus(String(Number(value.toPrecision(4)))));
const minus = (said) => said.replace("-", "\u2212");
const decibel = (value, digits = 1) => minus(value.toFixed(digits));
const hertz = (value) => (value < 1000 ? `${Math.round(value)} Hz` : `${Number((value / 1000).toFixed(1))} kHz`);
const whole = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function duration(s) {
  if (s < 9.95) return `${Number(s.toFixed(1))} s`;
  s = Math.round(s);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < DAY) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / DAY)} d ${Math.floor((s % DAY) / 3600)} h`;
}

function range(band) {
  const [low, high] = [hertz(band.low_hz), hertz(band.high_hz)];
  const [from, unit] = low.split(" ");
  const sign = band.deviation_db < 0 ? "\u2212" : "+";
  return `${high.endsWith(` ${unit}`) ? from : low}\u2013${high} ${sign}${Math.abs(Math.round(band.deviation_db))} dB`;
}

function setTime(element, iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return put(element, iso || "–");
  element.dateTime = iso;
  element.title = `${date.toISOString().replace("T", " ").replace(/\.\d+Z$/, "")} UTC`;
  put(element, moment.format(date));
}

// ---- what is known

let about = null, status = null, offline = "", failures = 0, lastAnswer = null;
let updatedAt = 0; // of this browser's clock that never jumps, when the status last was a new one
let run = 0; // counts the daemon's starts: what was asked before one is worth nothing after it
let points = [], nextPoint = 0, minutes = [], events = [], shown = MORE_EVENTS, eventsSaid = "";
let codes = null, kept = 0, nextFrame = 0, low = -60, high = 0;
let wholeDay = false;

const age = () => (performance.now() - updatedAt) / 1000;
const deviceNow = () => (status ? Date.parse(status.updated) / 1000 + age() : Date.now() / 1000);

function forget() {
  run += 1;
  points = [], nextPoint = 0, minutes = [], kept = 0, nextFrame = 0;
}

// ---- asking

async function ask(path, read = (answer) => answer.json()) {
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(), PATIENCE);
  try {
    const answer = await fetch(path, { signal: ending.signal, cache: "no-store" });
    if (!answer.ok) {
      throw Object.assign(new Error((await answer.text()).slice(0, 300)), { status: answer.status });
    }
    return await read(answer);
  } finally {
    clearTimeout(timer);
  }
}

// Again and again while somebody looks; less often while it fails.
function repeat(period, job) {
  let timer = 0, busy = false, wait = period;
  return async function turn() {
    clearTimeout(timer);
    if (busy || document.hidden) return;
    busy = true;
    try {
      await job();
      wait = period;
    } catch (error) {
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
    busy = false;
    timer = setTimeout(turn, wait);
  };
}

const askStatus = repeat(1000, async () => {
  try {
    about = about || await ask("/api/about");
    const found = await ask("/api/status");
    const before = status;
    if (!before || before.updated !== found.updated) updatedAt = performance.now();
    status = found, lastAnswer = new Date();
    if (before && before.since !== found.since) forget(), about = null;
    const healed = offline !== "";
    offline = "", failures = 0;
    showStatus();
    const changed = before && (before.alert !== found.alert || String(before.faults) !== String(found.faults));
    if (healed) [askScores, askFrames, askMinutes, askEvents].forEach((turn) => turn());
    else if (changed) askEvents();
  } catch (error) {
    failures += 1;
    if (failures < 2 && !error.status) throw error; // one that got lost in the air isn't worth a word
    offline = error.status === 401 ? "It asks for the token again: load this page anew to give it."
      : error.status ? `It answers: ${error.message}` : "Trying again.";
    showStatus();
    throw error;
  }
});

const askScores = repeat(1000, async () => {
  const mine = run;
  const found = await ask(`/api/scores?since=${nextPoint}`);
  if (mine !== run) return;
  if (found.next < nextPoint) return forget(); // it has begun anew
  points = points.concat(found.points.filter((point) => point[1] !== null)).slice(-POINTS);
  nextPoint = found.next;
  drawScores();
});

const askFrames = repeat(500, async () => {
  if (!about) return;
  const mine = run, bands = about.bands_hz.length;
  let next = 0;
  const found = new Uint8Array(await ask(`/api/frames?since=${nextFrame}`, (answer) => {
    next = Number(answer.headers.get("X-Next"));
    return answer.arrayBuffer();
  }));
  if (mine !== run) return;
  if (next < nextFrame) return forget();
  nextFrame = next;
  const room = about.frames * bands;
  if (!codes || codes.length !== room) codes = new Uint8Array(room), kept = 0;
  const fresh = found.subarray(Math.max(0, found.length - room));
  codes.copyWithin(0, fresh.length);
  codes.set(fresh, room - fresh.length);
  kept = Math.min(about.frames, kept + fresh.length / bands);
  drawFrames();
});

const askMinutes = repeat(30000, async () => {
  if (!wholeDay) return;
  minutes = (await ask("/api/minutes")).minutes.filter((minute) => minute[2] !== null);
  drawScores();
});

const askEvents = repeat(10000, async () => {
  try {
    events = (await ask(`/api/events?count=${wholeDay ? MOST_EVENTS : Math.min(shown + 1, MOST_EVENTS)}`)).events;
    eventsSaid = "";
  } catch (error) {
    eventsSaid = error.status ? error.message : "";
    showEvents();
    throw error;
  }
  showEvents();
  drawScores();
});

// ---- the verdict and the health

function verdict() {
  if (offline) {
    const since = lastAnswer ? `Its last answer was at ${seconds.format(lastAnswer)}. ` : "";
    return ["gone", "?", "The daemon doesn't answer", since + offline];
  }
  if (age() * 1000 > STALE) {
    const said = `Its page does, but it has said nothing new for ${duration(age())}.`;
    return ["gone", "?", "The daemon doesn't answer", said];
  }
  if (status.gated) {
    return ["deaf", "✕", `Can't hear: ${status.faults.join(", ") || "microphone"}`, status.sensor];
  }
  if (status.commissioning) {
    return ["learning", "…", "Gets to know the machine", "No alerts until it does."];
  }
  if (status.alert) return ["strange", "!", "Sounds strange", "An alert is on."];
  if (status.last_score === null) return ["waiting", "…", "Listens", "The first score takes ten seconds of sound."];
  const above = status.last_score > status.threshold;
  return ["good", "✓", "Sounds like itself",
    above ? "Above the threshold, but not for long enough to raise an alert." : "Below the threshold."];
}

function showStatus() {
  const [state, sign, said, why] = verdict();
  $("verdict").dataset.state = state;
  put($("sign"), sign);
  put($("said"), said);
  put($("why"), why);
  $("offline").hidden = !offline;
  put($("offline"), offline ? "The device doesn't answer; what stands below is old." : "");
  if (!status) return;
  put($("machine"), `${status.machine} ${status.section}`);
  put($("device"), status.device);
  document.title = `${said} · ${status.machine} ${status.section}`;
  put($("score"), number(status.last_score));
  put($("threshold"), number(status.threshold));
  put($("version"), `edge-asd ${status.version}, process ${status.pid}`);
  $("clock").hidden = status.synchronised;
  const going = status.commissioning;
  $("commissioning").hidden = !going;
  if (going) {
    const percent = Math.round(100 * Math.min(1, Math.max(0, going.done)));
    $("done").value = percent;
    put($("percent"), `${percent} %`);
    const phase = going.phase === "learning" ? "It learns how the machine sounds here."
      : "It measures what that sounds like to what it has learned.";
    put($("phase"), going.said ? `${phase} ${going.said}` : phase);
  }
  showHealth();
  drawLevel();
}

function showHealth() {
  const s = status, from = WHERE_FROM[s.threshold_from] || s.threshold_from;
  const faults = s.sensor || s.faults.join(", ");
  const rows = [
    ["Microphone", faults || "hears rightly", faults ? "wrong" : "right"],
    ["Lost samples", s.lost_samples ? `${whole.format(s.lost_samples)} so far` : "none", s.lost_samples ? "" : "right"],
    ["Clock", s.synchronised ? "synchronised" : "not known to be right", s.synchronised ? "right" : "wrong"],
    ["Storage", (s.storage || "works") + (s.unwritten ? `; ${s.unwritten} events wait for it` : ""),
      s.storage ? "wrong" : "right"],
  ];
  for (const sink of s.sinks) {
    const parts = [sink.trouble || "works"];
    if (sink.waiting) parts.push(`${whole.format(sink.waiting)} messages wait`);
    if (sink.missed) parts.push(`${whole.format(sink.missed)} were dropped`);
    rows.push([`Told: ${sink.name}`, parts.join("; "), sink.trouble || sink.missed ? "wrong" : "right"]);
  }
  rows.push(
    ["Threshold", number(s.threshold) + (from ? `, ${from}` : ""), ""],
    ["Commissioned", s.site, s.site ? "time" : "", "not on this site yet"],
    ["Listens since", s.since, "time", ""],
    ["Heard", `${duration(s.heard_seconds)}, ${whole.format(s.scores)} scores`, ""],
    ["Memory", `${Math.round(s.resident_mb)} MB`, ""],
    ["Bundle", s.bundle, ""],
  );
  const list = $("health");
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([term, said, state, otherwise], index) => {
    let row = list.children[index];
    if (!row) {
      row = make("div");
      row.append(make("dt"), make("dd"));
      row.lastChild.append(make("time"));
      list.append(row);
    }
    row.className = state;
    put(row.firstChild, term);
    const inner = row.lastChild.firstChild;
    if (state === "time") return setTime(inner, said);
    inner.removeAttribute("title"), inner.removeAttribute("datetime");
    put(inner, said || otherwise || "–");
  });
}

// ---- events

const cards = new Map();

function goesOn(event) {
  if (!status || event.ended_s !== null) return false;
  if (Date.parse(event.raised_utc) < Date.parse(status.since)) return false;
  return event.kind === "anomaly" ? status.alert : status.faults.includes(event.fault);
}

function card(event) {
  const item = make("li", "", event.kind), title = make("h3"), sign = make("i", event.kind === "sensor" ? "✕" : "▲");
  sign.setAttribute("aria-hidden", "true");
  const parts = { item, name: make("span"), time: make("time"), lasted: make("p"), peak: make("p"), said: make("p"),
    nearest: make("p", "", "quiet"), bands: make("ul", "", "bands"), clock: make("p", "", "quiet"),
    sound: null, lost: make("p", "", "quiet"), picture: null };
  parts.bands.setAttribute("aria-label", "Where it differs most from normal");
  title.append(sign, parts.name, parts.time);
  item.append(title, parts.lasted, parts.peak, parts.said, parts.bands, parts.nearest, parts.clock, parts.lost);
  return parts;
}

function keep(parts, event) {
  const place = `/api/events/${encodeURIComponent(event.id)}`;
  const sound = make("audio"), picture = make("img");
  sound.controls = true, sound.preload = "none", sound.src = `${place}/sound`;
  sound.setAttribute("aria-label", `Sound of the event of ${parts.time.textContent}`);
  sound.addEventListener("error", () => {
    if (sound.played.length) sound.load(); // it was there: Chromium can't seek near the end of a FLAC file
    else put(parts.lost, "This sound can't be had: it is no longer kept, or not yet.");
  });
  sound.addEventListener("playing", () => put(parts.lost, ""));
  picture.loading = "lazy", picture.alt = `Spectrogram of the sound around ${parts.time.textContent}`;
  let tries = 3; // it is written some seconds after the alert went out
  picture.addEventListener("load", () => { picture.hidden = false; });
  picture.addEventListener("error", () => {
    picture.hidden = true;
    if (tries-- > 0) setTimeout(() => { picture.src = `${place}/picture?again=${tries}`; }, 20000);
  });
  picture.src = `${place}/picture`;
  parts.item.append(sound, picture);
  parts.sound = sound, parts.picture = picture;
}

function fill(parts, event) {
  const on = goesOn(event), length = event.ended_s === null ? null : event.ended_s - event.began_s;
  put(parts.name, event.kind === "sensor" ? `Microphone: ${event.fault || "fault"}` : "Sounded strange");
  setTime(parts.time, event.began_utc);
  put(parts.lasted, on ? `Goes on since ${duration(Math.max(0, deviceNow() - Date.parse(event.began_utc) / 1000))}`
    : length === null ? "Its end wasn't heard" : `Lasted ${duration(length)}`);
  const times = event.peak && event.threshold ? `, ${(event.peak / event.threshold).toFixed(2)} times the threshold` : "";
  put(parts.peak, event.peak === null ? "" : `Peak ${number(event.peak)}${times} (${number(event.threshold)})`);
  put(parts.said, event.said);
  put(parts.nearest, event.nearest ? `Nearest normal clip: ${event.nearest}` : "");
  put(parts.clock, event.synchronised ? "" : "The clock wasn't known to be right then.");
  const bands = event.bands.map(range);
  if (String(bands) !== String([...parts.bands.children].map((one) => one.textContent))) {
    parts.bands.replaceChildren(...bands.map((said) => make("li", said)));
  }
  for (const part of ["peak", "said", "nearest", "clock", "bands"]) parts[part].hidden = !parts[part].textContent;
  if (event.clip && !parts.sound) keep(parts, event);
}

// Cards stay where they are: a sound that plays would stop if its card were made anew, or moved.
function showEvents() {
  const list = $("events"), some = events.slice(0, shown), wanted = new Set(some.map((event) => event.id));
  for (const [id, parts] of cards) {
    if (!wanted.has(id)) parts.item.remove(), cards.delete(id);
  }
  some.forEach((event, index) => {
    if (!cards.has(event.id)) cards.set(event.id, card(event));
    const parts = cards.get(event.id);
    fill(parts, event);
    if (list.children[index] !== parts.item) list.insertBefore(parts.item, list.children[index] || null);
  });
  put($("no-events"), eventsSaid || (some.length ? "" : "None so far."));
  $("no-events").hidden = !$("no-events").textContent;
  $("more").hidden = events.length <= shown || shown >= MOST_EVENTS;
}

// ---- drawing

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function sheet(canvas) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== across || canvas.height !== down) canvas.width = across, canvas.height = down;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `12.5px ${getComputedStyle(document.body).fontFamily}`;
  return [pen, width, height];
}

function niceStep(span, steps) {
  const rough = span / steps, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}

function write(pen, said, x, y, align, baseline) {
  pen.textAlign = align, pen.textBaseline = baseline;
  pen.fillText(said, x, y);
}

function drawScores() {
  const canvas = $("scores"), [pen, width, height] = sheet(canvas);
  const left = 46, right = width - 8, top = 10, bottom = height - 22;
  const span = wholeDay ? DAY : QUARTER, end = deviceNow(), begin = end - span;
  const inside = (row) => row[0] >= begin - 60 && row[0] <= end + 3;
  const rows = (wholeDay ? minutes : points).filter(inside);
  const values = rows.flatMap((row) => row.slice(1)).concat(status ? [status.threshold] : []);
  if (!values.length) return;
  let least = values.reduce((a, b) => Math.min(a, b)), most = values.reduce((a, b) => Math.max(a, b));
  const step = niceStep(Math.max(most - least, Math.abs(most) * 0.05, 1e-6) * 1.15, height < 210 ? 3 : 4);
  least = Math.floor((least - step * 0.1) / step) * step, most = Math.ceil((most + step * 0.1) / step) * step;
  const x = (utc) => left + ((utc - begin) / span) * (right - left);
  const y = (value) => bottom - ((value - least) / (most - least)) * (bottom - top);

  pen.lineWidth = 1, pen.strokeStyle = colour("--grid"), pen.fillStyle = colour("--quiet");
  for (let value = least; value <= most + step / 2; value += step) {
    pen.beginPath(), pen.moveTo(left, y(value)), pen.lineTo(right, y(value)), pen.stroke();
    write(pen, number(Math.abs(value) < step / 1e6 ? 0 : value), left - 7, y(value), "right", "middle");
  }
  const between = [60, 180, 300, 3 * 3600, 4 * 3600, 6 * 3600, 12 * 3600].find(
    (apart) => apart * 25 > span && (apart / span) * (right - left) > 62) || span / 2;
  const east = new Date(end * 1000).getTimezoneOffset() * -60;
  for (let at = Math.ceil((begin + east) / between) * between - east; at <= end; at += between) {
    const said = clock.format(new Date(at * 1000));
    write(pen, said, Math.min(x(at), right - 16), bottom + 6, "center", "top");
    pen.beginPath(), pen.moveTo(x(at), bottom), pen.lineTo(x(at), bottom + 4), pen.stroke();
  }

  pen.save();
  pen.beginPath(), pen.rect(left, top - 6, right - left, bottom - top + 7), pen.clip();
  for (const event of events) drawSpan(pen, event, x, end, top, bottom);
  pen.lineJoin = "round";
  if (wholeDay) drawRange(pen, rows, x, y);
  drawLine(pen, rows, wholeDay ? 2 : 1, wholeDay ? 150 : 5, x, y);
  if (status) {
    pen.strokeStyle = colour("--threshold"), pen.lineWidth = 2, pen.setLineDash([7, 5]);
    pen.beginPath(), pen.moveTo(left, y(status.threshold)), pen.lineTo(right, y(status.threshold)), pen.stroke();
  }
  pen.restore();
  if (!rows.length) {
    const said = wholeDay ? "No minute is over yet" : "No scores yet";
    write(pen, said, (left + right) / 2, (top + bottom) / 2, "center", "middle");
  }
  const peak = rows.length ? `, at most ${number(Math.max(...rows.map((row) => row[row.length - 1])))}` : "";
  const now = status ? `: now ${number(status.last_score)}, threshold ${number(status.threshold)}` : "";
  canvas.setAttribute("aria-label", `Score over the last ${wholeDay ? "24 hours" : "15 minutes"}${now}${peak}`);
}

function drawSpan(pen, event, x, end, top, bottom) {
  const begin = Date.parse(event.began_utc) / 1000;
  const over = Date.parse(event.ended_utc || event.raised_utc) / 1000;
  const name = event.kind === "sensor" ? "--deaf" : "--strange";
  const from = x(begin), wide = Math.max(2, x(goesOn(event) ? end : over) - from);
  pen.fillStyle = colour(`${name}-fill`), pen.fillRect(from, top, wide, bottom - top);
  pen.strokeStyle = colour(name), pen.lineWidth = 4, pen.setLineDash(event.kind === "sensor" ? [4, 4] : []);
  pen.beginPath(), pen.moveTo(from, top), pen.lineTo(from + wide, top), pen.stroke();
  pen.setLineDash([]);
}

function drawRange(pen, rows, x, y) {
  pen.fillStyle = colour("--range");
  for (const [utc, least, , most] of rows) {
    pen.fillRect(x(utc), y(most), Math.max(1, x(utc + 60) - x(utc)), Math.max(1, y(least) - y(most)));
  }
}

function drawLine(pen, rows, column, gap, x, y) {
  pen.strokeStyle = colour("--line"), pen.lineWidth = 2;
  pen.beginPath();
  let before = -Infinity;
  for (const row of rows) {
    const broken = row[0] - before > gap || row[0] < before; // nothing was heard, or the clock was set
    pen[broken ? "moveTo" : "lineTo"](x(row[0] + (wholeDay ? 30 : 0)), y(row[column]));
    before = row[0];
  }
  pen.stroke();
}

const image = document.createElement("canvas");

function palette(value) {
  const place = Math.min(0.9999, Math.max(0, value)) * (VIRIDIS.length - 1), first = Math.floor(place);
  const [a, b] = [VIRIDIS[first], VIRIDIS[first + 1]];
  return a.map((one, index) => Math.round(one + (b[index] - one) * (place - first)));
}

// Black and white of the picture: nearly the least and nearly the largest of what is in it, in steps of 5 dB.
function stretch(used) {
  const counts = new Uint32Array(256);
  for (const code of used) counts[code] += 1;
  const at = (share) => {
    let left = share * used.length, code = 0;
    while (code < 255 && (left -= counts[code]) > 0) code += 1;
    return about.floor_db + about.step_db * code;
  };
  const [least, most] = [at(0.02), at(0.997)];
  if (least < low || least > low + 8) low = Math.floor(least / 5) * 5;
  if (most > high || most < high - 8) high = Math.ceil(most / 5) * 5;
  high = Math.max(high, low + 20);
}

function drawFrames() {
  const canvas = $("frames"), [pen, width, height] = sheet(canvas);
  if (!about || !codes || !kept) return;
  const bands = about.bands_hz.length, frames = about.frames, used = codes.subarray((frames - kept) * bands);
  stretch(used);
  const colours = Array.from({ length: 256 }, (_, code) =>
    palette((about.floor_db + about.step_db * code - low) / (high - low)));
  image.width = frames, image.height = bands;
  const ink = image.getContext("2d"), picture = ink.createImageData(frames, bands), data = picture.data;
  for (let frame = frames - kept; frame < frames; frame += 1) {
    for (let band = 0; band < bands; band += 1) {
      const [red, green, blue] = colours[codes[frame * bands + band]];
      const at = 4 * ((bands - 1 - band) * frames + frame);
      data[at] = red, data[at + 1] = green, data[at + 2] = blue, data[at + 3] = 255;
    }
  }
  ink.putImageData(picture, 0, 0);
  const left = 58, right = width - 8, top = 4, bottom = height - 22;
  pen.fillStyle = colour("--track"), pen.fillRect(left, top, right - left, bottom - top);
  pen.drawImage(image, left, top, right - left, bottom - top);

  pen.fillStyle = colour("--quiet"), pen.strokeStyle = colour("--quiet"), pen.lineWidth = 1;
  let lowest = bottom + 99;
  for (const [hz, y] of marks(top, bottom)) {
    if (lowest - y < 17) continue;
    lowest = y;
    write(pen, hertz(hz), left - 8, Math.max(y, top + 6), "right", "middle");
    pen.beginPath(), pen.moveTo(left - 5, y), pen.lineTo(left, y), pen.stroke();
  }
  const length = frames * about.frame_seconds, step = niceStep(length, width < 500 ? 4 : 5);
  for (let back = 0; back <= length; back += step) {
    const x = right - (back / length) * (right - left);
    write(pen, back ? `\u2212${Number(back.toFixed(1))} s` : "now", x, bottom + 6, back ? "center" : "right", "top");
  }
  put($("scale"), `dark ${decibel(low, 0)} dB to bright ${decibel(high, 0)} dB`);
}

// Frequencies that are worth a mark, and where they are: a band's centre is the middle of its row.
function marks(top, bottom) {
  const bands = about.bands_hz, found = [];
  for (const hz of [200, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 20000]) {
    const above = bands.findIndex((band) => band >= hz);
    if (above < 1) continue;
    const place = above - 1 + (hz - bands[above - 1]) / (bands[above] - bands[above - 1]);
    found.push([hz, bottom - ((place + 0.5) / bands.length) * (bottom - top)]);
  }
  return found;
}

function drawLevel() {
  const canvas = $("level"), [pen, width] = sheet(canvas);
  const left = 14, right = width - 14, x = (dbfs) =>
    left + ((Math.min(0, Math.max(QUIETEST, dbfs)) - QUIETEST) / -QUIETEST) * (right - left);
  const { rms_dbfs: rms, peak_dbfs: peak, level_dbfs: usual } = status;
  pen.fillStyle = colour("--track"), pen.fillRect(left, 4, right - left, 16);
  pen.fillStyle = colour("--quiet");
  for (const mark of width < 420 ? [-80, -60, -40, -20, 0] : [-80, -70, -60, -50, -40, -30, -20, -10, 0]) {
    pen.fillRect(x(mark) - 0.5, 20, 1, 5);
    write(pen, minus(String(mark)), x(mark), 28, "center", "top");
  }
  if (rms !== null) pen.fillStyle = colour("--line"), pen.fillRect(left, 4, x(rms) - left, 16);
  if (usual !== null) {
    pen.fillStyle = colour("--card"), pen.fillRect(x(usual) - 3, 4, 6, 16);
    pen.fillStyle = colour("--quiet"), pen.fillRect(x(usual) - 1, 2, 2, 20);
  }
  if (peak !== null) pen.fillStyle = colour(peak > -1 ? "--strange" : "--ink"), pen.fillRect(x(peak) - 2, 1, 4, 22);
  const said = rms === null || peak === null ? "nothing heard yet"
    : `RMS ${decibel(rms)} dBFS, peak ${decibel(peak)} dBFS${peak > -1 ? ", clips" : ""}`
      + (usual === null ? "" : `, usual ${decibel(usual)} dBFS`);
  put($("level-said"), said);
  canvas.setAttribute("aria-valuenow", rms === null ? String(QUIETEST) : rms.toFixed(1));
  canvas.setAttribute("aria-valuetext", said);
}

// ---- what a person does

function choose(day) {
  wholeDay = day;
  $("day").setAttribute("aria-pressed", String(day)), $("quarter").setAttribute("aria-pressed", String(!day));
  $("legend-range").hidden = !day;
  put($("legend-score"), day ? "mean of a minute" : "score");
  drawScores(), askMinutes(), askEvents();
}

function redraw() {
  drawScores(), drawFrames();
  if (status) drawLevel();
}

$("quarter").addEventListener("click", () => choose(false));
$("day").addEventListener("click", () => choose(true));
$("more").addEventListener("click", () => { shown += MORE_EVENTS; showEvents(); askEvents(); });
window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
const all = [askStatus, askScores, askFrames, askMinutes, askEvents];
document.addEventListener("visibilitychange", () => { if (!document.hidden) all.forEach((turn) => turn()); });
askStatus().then(() => all.slice(1).forEach((turn) => turn()));
})();
