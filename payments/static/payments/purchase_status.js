// A purchase's statuses as people read them. Their colours are the jobs': live.css has them.

import { setAttribute, setText } from "../jobs/dom.js";

const LABELS = {
  initiated: "Starting",
  validating: "Getting ready",
  processing: "Buying",
  completed: "Completed",
  failed: "Failed",
  manual: "With a person",
  cancelled: "Cancelled",
};
const LIKE = { initiated: "pending", validating: "running", processing: "running" };

export function hasEnded(status) {
  return !(status in LIKE);
}

/** The status of a job that is shown in the same colour. */
export function likeJob(status) {
  return LIKE[status] ?? status;
}

export function showStatus(badge, status) {
  setAttribute(badge, "data-status", likeJob(status));
  setText(badge, LABELS[status] ?? status);
}
