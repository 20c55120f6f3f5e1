// Statuses as people read them. Their colours are in live.css, by data-status.

import { part, setAttribute, setText } from "./dom.js";

const LABELS = {
  pending: "Pending",
  ready: "Ready",
  running: "Running",
  processing: "Processing",
  waiting: "Waiting",
  completed: "Completed",
  failed: "Failed",
  manual: "With a person",
  manual_required: "Manual required",
  cancelled: "Cancelled",
};

const SYMBOLS = {
  pending: "radio_button_unchecked",
  ready: "radio_button_unchecked",
  running: "progress_activity",
  waiting: "schedule",
  completed: "check_circle",
  failed: "cancel",
  cancelled: "do_not_disturb_on",
};

export const FINISHED = new Set(["completed", "failed", "manual", "cancelled"]);

export function label(status) {
  return LABELS[status] ?? status;
}

export function showBadge(element, status) {
  setAttribute(element, "data-status", status);
  setText(element, label(status));
}

export function showMark(element, status) {
  setAttribute(element, "data-status", status);
  setText(element, SYMBOLS[status] ?? "radio_button_unchecked");
}

export function showBar(bar, { percent, status, name }) {
  setAttribute(bar, "data-status", status);
  setAttribute(bar, "aria-label", name);
  setAttribute(bar, "aria-valuemin", 0);
  setAttribute(bar, "aria-valuemax", 100);
  setAttribute(bar, "aria-valuenow", percent);
  bar.firstElementChild.style.width = `${percent}%`;
}

/** Shows the bar of a row that is being worked on, and hides that of every other. */
export function showRowBar(row, isShown, values) {
  const bar = part(row, "bar");
  bar.hidden = !isShown;
  showBar(bar, values);
}
