// What a step waits for, and the buttons and fields that answer it.

import { clone, part, reconcile, setText } from "./dom.js";
import { post } from "./post.js";
import { formatDuration, stopTicking, tick, until } from "./times.js";

const WORDS = {
  otp: "Waiting for a one-time password",
  signal: "Waiting for something outside",
  timer: "Waiting for its time",
  approval: "Waiting for a person",
};

export function drawWaits(list, step, jobId) {
  reconcile(
    list,
    step.waits ?? [],
    (wait) => wait.id,
    () => clone("wait"),
    (element, wait) => drawWait(element, wait, `/api/jobs/${jobId}/waits/${wait.id}`),
  );
}

export function drawWait(element, wait, url) {
  setText(part(element, "question"), wait.question || WORDS[wait.kind]);
  drawDeadline(part(element, "deadline"), wait.deadline_at);
  drawCodeForm(part(element, "code"), wait, url);
  reconcile(
    part(element, "choices"),
    wait.choices,
    (choice) => choice,
    () => clone("choice"),
    (button, choice) => {
      setText(button, choice[0].toUpperCase() + choice.slice(1));
      button.onclick = () => send(element, url, { choice });
    },
  );
}

function drawDeadline(deadline, at) {
  if (!at) {
    stopTicking(deadline);
    setText(deadline, "");
    return;
  }
  tick(deadline, () => {
    const left = until(at);
    return left < 1000 ? "Its time is over" : `${formatDuration(left)} left`;
  });
}

function drawCodeForm(form, wait, url) {
  form.hidden = wait.kind !== "otp";
  form.onsubmit = async (event) => {
    event.preventDefault();
    const { code } = form.elements;
    if (await send(form.closest(".wait"), url, { code: code.value })) form.reset();
  };
}

async function send(element, url, body) {
  const controls = element.querySelectorAll("button, input");
  controls.forEach((each) => (each.disabled = true));
  const trouble = await post(url, body);
  controls.forEach((each) => (each.disabled = false));
  setText(part(element, "trouble"), trouble);
  return !trouble;
}
