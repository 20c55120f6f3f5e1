// Cancelling a job and running it again: asks first, then posts. What becomes of it, the socket says.

import { part, setText } from "./dom.js";
import { post } from "./post.js";
import { FINISHED } from "./status.js";

const dialog = document.getElementById("confirm");
const form = dialog.querySelector("form");
let send = null; // what the dialog's button does

part(dialog, "back").addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const go = part(dialog, "go");
  go.disabled = true;
  const trouble = await send(form.elements.reason.value);
  go.disabled = false;
  setText(part(dialog, "trouble"), trouble);
  if (!trouble) dialog.close();
});

/** What a person works on can be cancelled as well: it is not needed any more. */
export function canCancel({ job }) {
  return job.status === "manual" || !FINISHED.has(job.status);
}

/** Whether the job can go on by itself: from the first step that is not done. */
export function canRunAgain(state) {
  return hasEnded(state) && state.job.status !== "completed";
}

/** Whether it can be run again from `step`: the job has ended, and all before the step is done. */
export function canRunAgainFrom(step, state) {
  const before = [...state.steps.values()].filter((other) => other.stage < step.stage);
  return hasEnded(state) && before.every((other) => other.status === "completed");
}

function hasEnded({ job, steps }) {
  return FINISHED.has(job.status) && [...steps.values()].every((step) => step.status !== "running");
}

export function askToCancel(id) {
  ask({
    heading: "Cancel this job?",
    words: "What has not begun never will. A step that is running is stopped within seconds.",
    button: "Cancel the job",
    hasReason: true,
    send: (reason) => post(`/api/jobs/${id}/cancel`, { reason }),
  });
}

export function askToRunAgain(id, step = null) {
  const start = step ? `“${step.title}”` : "the first step that is not done";
  ask({
    heading: "Run this job again?",
    words: `It goes on from ${start}. Steps before it keep what they have done; it and all that follows begin anew.`,
    button: "Run again",
    hasReason: false,
    send: () => post(`/api/jobs/${id}/rerun`, { from_step: step?.name ?? null }),
  });
}

/** `question` has a heading, words, the button's text, hasReason, and send(reason). */
export function ask(question) {
  send = question.send;
  setText(part(dialog, "heading"), question.heading);
  setText(part(dialog, "words"), question.words);
  setText(part(dialog, "go"), question.button);
  setText(part(dialog, "trouble"), "");
  part(dialog, "reason-field").hidden = !question.hasReason;
  form.elements.reason.value = "";
  dialog.showModal();
}
