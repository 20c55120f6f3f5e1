// Times in the reader's own locale and zone, counted on the server's clock.

let skew = 0; // the server's clock less ours, in milliseconds

export function setServerTime(iso) {
  skew = Date.parse(iso) - Date.now();
}

export function now() {
  return Date.now() + skew;
}

export function since(iso) {
  return Math.max(0, now() - Date.parse(iso));
}

export function until(iso) {
  return Math.max(0, Date.parse(iso) - now());
}

export function between(from, to) {
  return Math.max(0, Date.parse(to) - Date.parse(from));
}

/** "4 s", "1 min 5 s", "2 h 3 min", "3 d"; of short ones `exact` shows tenths and milliseconds. */
export function formatDuration(milliseconds, { exact = false } = {}) {
  const seconds = milliseconds / 1000;
  if (exact && seconds < 0.1) return `${Math.round(milliseconds)} ms`;
  if (exact && seconds < 10) return `${seconds.toLocaleString(undefined, tenths)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    const rest = Math.floor(seconds % 60);
    return rest && minutes < 10 ? `${minutes} min ${rest} s` : `${minutes} min`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

const tenths = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dateAndClock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** The time of day; with its date when that is not today's. */
export function formatMoment(iso) {
  const moment = new Date(iso);
  const isToday = moment.toDateString() === new Date(now()).toDateString();
  return (isToday ? clock : dateAndClock).format(moment);
}

export function formatFully(iso) {
  return full.format(new Date(iso));
}

/** "4 s ago", "2 min ago", counting, in a <time>. */
export function showAge(element, iso) {
  element.dateTime = iso;
  element.title = formatFully(iso);
  tick(element, () => {
    const age = since(iso);
    return `${formatDuration(age < 60_000 ? age : age - (age % 60_000))} ago`;
  });
}

const ticking = new Map(); // element -> the text it shows now

/** Shows `text()` now and every second, for as long as the element is on the page. */
export function tick(element, text) {
  ticking.set(element, text);
  show(element, text);
}

export function stopTicking(element) {
  ticking.delete(element);
}

function show(element, text) {
  const shown = text();
  if (element.textContent !== shown) element.textContent = shown;
}

function showAll() {
  for (const [element, text] of ticking) {
    if (element.isConnected) show(element, text);
    else ticking.delete(element);
  }
}

setInterval(showAll, 1000);
document.addEventListener("visibilitychange", showAll); // a hidden page's timers are held back
