// Says on the page how fresh it is.

import { LiveSocket } from "./live_socket.js";
import { formatDuration, stopTicking, tick } from "./times.js";

const LOG_IN = 4401;

/** Connects and keeps the mark in the page's header right. */
export function connect(address, onMessage) {
  return new LiveSocket(address, { onMessage, onState: show });
}

function show(state) {
  const mark = document.getElementById("connection");
  const words = mark.querySelector("[data-part=words]");
  mark.dataset.state = state.name;
  stopTicking(words);
  switch (state.name) {
    case "connecting":
      words.textContent = "Connecting";
      break;
    case "live":
      if (words.textContent !== "Live") words.textContent = "Live";
      break;
    case "reconnecting":
      tick(words, () => {
        const left = state.at - Date.now();
        return left < 1000 ? "Reconnecting" : `Reconnecting in ${formatDuration(left)}`;
      });
      break;
    case "ended":
      words.textContent = state.code === LOG_IN ? "Logged out" : "Stopped";
      explainEnd(state);
  }
}

function explainEnd({ code, reason }) {
  const notice = document.getElementById("connection-ended");
  const link = notice.querySelector("a");
  const words = notice.querySelector("[data-part=words]");
  if (code === LOG_IN) {
    words.textContent = "You are logged out. What you see here no longer changes.";
    link.textContent = "Log in again";
    link.href = `${notice.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
  } else {
    words.textContent = `${reason} What you see here no longer changes.`;
    link.textContent = "Load the page again";
    link.href = location.href;
  }
  notice.hidden = false;
}
