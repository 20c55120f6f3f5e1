// The inbox: what waits for a person. It is read anew whenever a job has changed.

import { connect } from "./connection.js";
import { clone, part, readJson, reconcile, setLink, setText } from "./dom.js";
import { drawWait } from "./job_waits.js";
import { post } from "./post.js";
import { formatMoment } from "./times.js";

const PAUSE_MS = 500;
let isAsking = false;

draw(readJson("inbox"));
connect(() => "/ws/jobs/", askSoon);

// A busy system changes jobs all the time: it is asked twice a second at most.
function askSoon() {
  if (isAsking) return;
  isAsking = true;
  setTimeout(ask, PAUSE_MS);
}

async function ask() {
  isAsking = false;
  try {
    const answer = await fetch("/api/inbox");
    if (answer.ok) draw(await answer.json());
  } catch {
    // The connection's sign says that it is gone; the next message asks again.
  }
}

function draw(inbox) {
  drawList("effects", inbox.effects, "effect", drawEffect);
  drawList("waits", inbox.waits, "inbox-wait", drawOpenWait);
  drawList("messages", inbox.messages, "message", drawMessage);
  drawList("webhooks", inbox.webhooks, "webhook", drawWebhook);
  document.getElementById("nothing").hidden = Object.values(inbox).some((items) => items.length);
}

function drawList(id, items, template, update) {
  const section = document.getElementById(id);
  section.hidden = items.length === 0;
  setText(part(section, "count"), String(items.length));
  reconcile(part(section, "list"), items, (item) => item.id, () => clone(template), update);
}

function drawJob(element, job) {
  setText(part(element, "job"), job.title);
  setLink(part(element, "job"), job.url);
}

function drawEffect(element, effect) {
  drawJob(element, effect.job);
  setText(part(element, "title"), effect.title);
  setText(part(element, "reason"), effect.reason);
  reconcile(
    part(element, "facts"),
    effect.intent,
    (fact) => fact.label,
    () => clone("fact"),
    (row, fact) => {
      setText(part(row, "label"), fact.label);
      setText(part(row, "text"), fact.text);
    },
  );
  part(element, "yes").onclick = () => answer(element, effect.answer_url, { happened: true });
  part(element, "no").onclick = () => answer(element, effect.answer_url, { happened: false });
  part(element, "drop").onclick = () =>
    answer(element, effect.answer_url, { happened: false, cancel: true });
}

function drawOpenWait(element, wait) {
  drawJob(element, wait.job);
  reconcile(
    part(element, "waits"),
    [wait],
    () => wait.id,
    () => clone("wait"),
    (row) => drawWait(row, wait, wait.answer_url),
  );
}

function drawMessage(element, message) {
  const to = message.recipient ? ` to ${message.recipient}` : "";
  setText(part(element, "title"), `From ${message.sender}${to}`);
  setText(part(element, "at"), formatMoment(message.at));
  setText(part(element, "reason"), message.reason);
  const form = part(element, "form");
  const { request, code } = form.elements;
  code.hidden = message.has_code;
  code.required = !message.has_code;
  reconcile(
    request,
    message.requests,
    (option) => option.id,
    () => document.createElement("option"),
    (option, choice) => {
      option.value = choice.id;
      setText(option, choice.title);
    },
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    const body = { request: request.value, code: message.has_code ? null : code.value };
    answer(element, message.answer_url, body);
  };
}

function drawWebhook(element, webhook) {
  setText(part(element, "title"), webhook.title);
  setLink(part(element, "title"), webhook.url);
  setText(part(element, "at"), formatMoment(webhook.at));
  setText(part(element, "reason"), webhook.reason);
}

async function answer(element, url, body) {
  const controls = element.querySelectorAll("button, input, select");
  controls.forEach((each) => (each.disabled = true));
  const trouble = await post(url, body);
  controls.forEach((each) => (each.disabled = false));
  setText(part(element, "trouble"), trouble);
  if (!trouble) await ask();
}
