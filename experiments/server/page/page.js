// Shows a user's sessions and recommendations; what is picked becomes an event.
"use strict";

const ITEMS = 12;
const SESSIONS = 12;
const PARTS = {
  hierarchy: "hierarchy (what the network expects)",
  world: "world (what everybody picks)",
  followers: "followers (what follows the last items)",
  own: "own (what the user picked before)",
  memory_units: "memory units (a small network on all counts)",
};
const at = (id) => document.getElementById(id);
let user = null;
let places = new Map();
let shown = SESSIONS;
let turn = 0;

function made(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

const nameOf = (item) => item.title ?? (item.item === null ? "unknown item" : String(item.item));

// What a server answers, or an error with its reason.
async function ask(path, method = "GET", body = undefined) {
  const headers = {};
  const token = at("token").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("the server does not answer");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  if (answer.status === 401) at("access").open = true;
  const error = new Error(found.detail ?? `the server says ${answer.status}`);
  error.status = answer.status;
  throw error;
}

// Does something, and says what went wrong if it does.
async function tried(action) {
  at("wrong").textContent = "";
  try {
    await action();
  } catch (error) {
    at("wrong").textContent = error.status === 401
      ? "The server needs a token: write it above, and show the user again."
      : `That did not work: ${error.message}.`;
    if (error.status === 401) at("token").focus();
  }
}

// A user whose id may hold any character, as a part of a path.
const inPath = (id) => encodeURIComponent(id);

// Shows what is known of the user now. Answers that come late are not shown.
async function refresh() {
  const mine = ++turn;
  const seen = at("unseen").checked;
  const path = `v1/recommend/${inPath(user)}`;
  const next = await ask(`${path}?n=${ITEMS}&explain=true&exclude_seen=${seen}`);
  const past = next.known ? await ask(`v1/users/${inPath(user)}`) : { log: [], received: [] };
  if (mine !== turn) return null;
  showPast(past);
  showNext(next);
  return next;
}

function sessionsOf(past) {
  const all = [...past.log, ...[...past.received].sort((a, b) => a.time - b.time)];
  const found = [];
  for (const one of all) {
    if (one.starts_session || !found.length) found.push([]);
    found.at(-1).push(one);
  }
  return found;
}

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function showPast(past) {
  const found = sessionsOf(past);
  const events = found.reduce((sum, one) => sum + one.length, 0);
  at("past-note").textContent = found.length
    ? `${found.length} session${found.length > 1 ? "s" : ""}, ${events} event${events > 1 ? "s" : ""}; the newest is first.`
    : "Nothing yet.";
  at("earlier").hidden = found.length <= shown;
  const rows = found.slice(-shown).reverse().map((session) => {
    const row = made("li");
    const when = made("time", WHEN.format(new Date(session[0].time * 1000)));
    when.dateTime = new Date(session[0].time * 1000).toISOString();
    const picks = made("ol", undefined, "picks");
    picks.append(...session.map((one) => made("li", nameOf(one))));
    row.append(when, picks);
    return row;
  });
  at("past").replaceChildren(...rows);
}

// How an item has moved in the list since it was last shown.
function movedBy(item, place) {
  if (!places.size) return "";
  const before = places.get(String(item.item));
  if (before === undefined) return "new";
  if (before === place) return "";
  return before > place ? `up ${before - place}` : `down ${place - before}`;
}

function showNext(next) {
  at("model").textContent = `Model ${next.model}.`;
  const names = next.items.length ? Object.keys(PARTS).filter((name) => name in next.items[0].parts) : [];
  at("legend").replaceChildren(...names.map((name) => {
    const key = made("span", undefined, "key");
    key.style.setProperty("--of", `var(--${name})`);
    const row = made("li");
    row.append(key, PARTS[name]);
    return row;
  }));
  const most = Math.max(1e-9, ...next.items.flatMap((one) => names.map((name) => Math.abs(one.parts[name]))));
  const rows = [...at("list").children];
  // Rows stay where they are and change what they show: so the focus stays, too.
  next.items.forEach((item, place) => {
    const row = rows[place] ?? at("list").appendChild(emptyRow(place));
    fill(row, item, place, names, most);
  });
  rows.slice(next.items.length).forEach((row) => row.remove());
  at("list-note").textContent = next.items.length ? "" : "No item is left.";
  places = new Map(next.items.map((item, place) => [String(item.item), place]));
}

function emptyRow(place) {
  const row = made("li");
  const pick = made("button", undefined, "pick");
  pick.type = "button";
  pick.addEventListener("click", () => tried(() => picked(row.item)));
  const score = made("div", undefined, "score");
  score.append(made("span"), made("span", undefined, "moved"));
  row.append(made("span", `${place + 1}.`, "rank"), pick, score, made("dl", undefined, "parts"));
  return row;
}

function fill(row, item, place, names, most) {
  row.item = item;
  row.querySelector(".pick").textContent = nameOf(item);
  row.querySelector(".score span").textContent = item.score.toFixed(2);
  row.querySelector(".moved").textContent = movedBy(item, place);
  const parts = row.querySelector(".parts");
  while (parts.children.length > names.length) parts.lastChild.remove();
  names.forEach((name, index) => {
    const part = parts.children[index] ?? parts.appendChild(emptyPart());
    part.style.setProperty("--of", `var(--${name})`);
    part.querySelector("dt").textContent = name.replace("_", " ") + owed(name, item.parts);
    const value = item.parts[name];
    // Nothing is known of the item there.
    part.hidden = value === 0;
    part.querySelector(".value").textContent = (value > 0 ? "+" : "") + value.toFixed(2);
    const wide = (50 * Math.abs(value)) / most;
    const bar = part.querySelector("i");
    bar.style.left = `${value < 0 ? 50 - wide : 50}%`;
    bar.style.width = `${wide}%`;
  });
}

function emptyPart() {
  const part = made("div");
  const bar = made("dd", undefined, "bar");
  bar.append(made("i"));
  bar.setAttribute("aria-hidden", "true");
  part.append(made("dt"), made("dd", undefined, "value"), bar);
  return part;
}

// Which horizon of the world it is, and whose followers.
function owed(name, parts) {
  if (name === "world" && parts.world_half_life_hours !== null) {
    return `, ${hours(parts.world_half_life_hours)}`;
  }
  if (name === "followers" && parts.followers_of !== null) return ` of ${nameOf(parts.followers_of)}`;
  return "";
}

function hours(value) {
  if (value < 1) return `half-life ${Math.round(60 * value)} min`;
  return value < 48 ? `half-life ${Math.round(value)} h` : `half-life ${Math.round(value / 24)} days`;
}

async function picked(item) {
  const answer = await ask("v1/events", "POST", { events: [{ user, item: item.item }] });
  const first = places;
  const next = await refresh();
  if (!next) return;
  const top = next.items[0];
  const moved = next.items.filter((one, place) => first.get(String(one.item)) !== place).length;
  at("said").textContent = answer.accepted
    ? `${nameOf(item)} is now an event. ${moved} of ${next.items.length} places have changed` +
      (top ? `; first is ${nameOf(top)}.` : ".")
    : `${nameOf(item)} was an event of this second already.`;
}

async function show(id) {
  user = id;
  places = new Map();
  shown = SESSIONS;
  at("said").textContent = "";
  const next = await refresh();
  if (next) at("said").textContent = next.known ? `User ${user}.` : `User ${user} is new.`;
}

at("who").addEventListener("submit", (event) => {
  event.preventDefault();
  tried(async () => {
    await show(at("user").value);
    await suggest();
  });
});
at("invent").addEventListener("click", () => {
  at("user").value = `guest-${Math.random().toString(36).slice(2, 8)}`;
  tried(() => show(at("user").value));
});
at("unseen").addEventListener("change", () => user !== null && tried(refresh));
at("earlier").addEventListener("click", () => {
  shown += SESSIONS;
  tried(refresh);
});

async function suggest() {
  const found = await ask("v1/users?n=50");
  at("users").replaceChildren(...found.users.map((id) => {
    const option = made("option");
    option.value = id;
    return option;
  }));
  return found.users;
}

// Somebody to begin with: the first user of the log.
tried(async () => {
  const users = await suggest();
  if (users.length && user === null) {
    at("user").value = users[0];
    await show(String(users[0]));
  }
});
