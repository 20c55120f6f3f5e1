// The page of a job: everything on it follows from one state (job_state.js).

import { connect } from "./connection.js";
import { clone, part, readJson, reconcile, setAttribute, setLink, setText } from "./dom.js";
import { sentence } from "./event_sentences.js";
import {
  askToCancel,
  askToRunAgain,
  canCancel,
  canRunAgain,
  canRunAgainFrom,
} from "./job_control.js";
import { apply, fromSnapshot } from "./job_state.js";
import { drawWaits } from "./job_waits.js";
import { watchReasons } from "./job_why.js";
import { FINISHED, label, showBadge, showBar, showMark } from "./status.js";
import {
  between,
  formatDuration,
  formatFully,
  formatMoment,
  setServerTime,
  since,
  stopTicking,
  tick,
  until,
} from "./times.js";

const SHOWN_EVENTS = 200;
const head = document.getElementById("job");
const title = head.querySelector(".job-title").textContent;
const snapshot = readJson("snapshot");

let state = fromSnapshot(snapshot);
let isDrawing = false;
let reasons = new Map(); // why a step does not start, by its id

setServerTime(snapshot.at);
part(head, "cancel").onclick = () => askToCancel(head.dataset.id);
part(head, "again").onclick = () => askToRunAgain(head.dataset.id);
draw();

const socket = connect(
  () => `/ws/jobs/${head.dataset.id}/?after=${state.number}`,
  (message) => {
    if (message.at) setServerTime(message.at);
    const result = apply(state, message);
    state = result.state;
    if (result.hasGap) socket.send({ type: "resume", after: state.number });
    drawSoon();
    askWhy();
  },
);

const askWhy = watchReasons(head.dataset.id, hasIdleSteps, (found) => {
  reasons = found;
  drawSoon();
});

function hasIdleSteps() {
  if (FINISHED.has(state.job.status)) return false;
  return [...state.steps.values()].some((step) => step.status === "ready" || step.status === "waiting");
}

// A burst of messages is drawn once. Not by animation frames alone: a hidden tab has none.
function drawSoon() {
  if (isDrawing) return;
  isDrawing = true;
  setTimeout(draw, 16);
}

function draw() {
  isDrawing = false;
  drawHead();
  drawTrouble();
  drawStages();
  drawEvidence();
  drawSubject();
  drawTimeline();
}

function drawHead() {
  const { job } = state;
  showBadge(part(head, "status"), job.status);
  showBar(part(head, "bar"), { percent: job.progress, status: job.status, name: "Progress of the job" });
  setText(part(head, "percent"), `${job.progress} %`);
  showMoment(part(head, "created"), job.created_at);
  const time = part(head, "time");
  if (job.finished_at && job.started_at) {
    stopTicking(time);
    setText(time, `Took ${formatDuration(between(job.started_at, job.finished_at), { exact: true })}`);
  } else if (job.finished_at) {
    stopTicking(time);
    setText(time, "Never started");
  } else if (job.started_at) {
    tick(time, () => `Running for ${formatDuration(since(job.started_at))}`);
  } else {
    const ready = [...state.steps.values()].find((step) => step.status === "ready");
    tick(time, () => `In the queue for ${formatDuration(since(ready?.due_at ?? job.created_at))}`);
  }
  part(head, "cancel").hidden = !canCancel(state);
  part(head, "again").hidden = !canRunAgain(state);
  const running = [...state.steps.values()].find((step) => step.status === "running");
  setText(part(head, "phase"), running ? running.phase || running.title : "");
  setText(part(head, "spoken"), `${label(job.status)}. ${running?.title ?? ""}`);
  const mark = job.status === "running" ? `${job.progress} %` : label(job.status);
  document.title = `${mark} · ${title}`;
}

function drawTrouble() {
  const { job, subject } = state;
  const box = document.getElementById("trouble");
  const isManual = job.status === "manual";
  const isCancelled = job.status === "cancelled";
  box.hidden = !job.error || !FINISHED.has(job.status);
  if (box.hidden) return;
  setAttribute(box, "data-tone", isManual ? "orange" : isCancelled ? "gray" : "red");
  setText(part(box, "symbol"), isManual ? "front_hand" : isCancelled ? "do_not_disturb_on" : "error");
  const headings = { manual: "A person has to take over", cancelled: "This was cancelled" };
  setText(part(box, "heading"), headings[job.status] ?? "This did not work");
  setText(part(box, "message"), job.error.message);
  setText(part(box, "advice"), subject?.advice ?? "");
  setText(part(box, "code"), job.error.code);
}

function drawStages() {
  const steps = [...state.steps.values()].sort(
    (a, b) => a.stage - b.stage || a.position - b.position,
  );
  const done = steps.filter((step) => step.status === "completed").length;
  setText(document.getElementById("steps-count"), `${done} of ${steps.length} done`);
  const stages = new Map();
  for (const step of steps) stages.set(step.stage, [...(stages.get(step.stage) ?? []), step]);
  reconcile(
    document.getElementById("stages"),
    [...stages],
    ([stage]) => stage,
    () => clone("stage"),
    (element, [, group]) => {
      const note = part(element, "note");
      note.hidden = group.length === 1;
      const finished = group.filter((step) => step.status === "completed").length;
      setText(note, `Side by side, ${finished} of ${group.length} done`);
      reconcile(part(element, "steps"), group, (step) => step.id, () => clone("step"), drawStep);
    },
  );
}

function drawStep(element, step) {
  setAttribute(element, "data-status", step.status);
  showMark(part(element, "mark"), step.status);
  setText(part(element, "title"), step.title);
  const isRetried = step.attempt > 1 || (step.attempt === 1 && step.error && step.max_attempts > 1);
  setText(part(element, "attempt"), isRetried ? `attempt ${step.attempt} of ${step.max_attempts}` : "");
  drawStepTime(part(element, "time"), step);
  drawStepNote(part(element, "note"), step);
  const bar = part(element, "bar");
  bar.hidden = step.status !== "running" || step.progress === 0;
  showBar(bar, { percent: step.progress, status: step.status, name: `Progress of ${step.title}` });
  drawWaits(part(element, "waits"), step, head.dataset.id);
  setText(part(element, "error"), step.error?.message ?? "");
  const again = part(element, "again");
  again.hidden = !canRunAgainFrom(step, state);
  again.onclick = () => askToRunAgain(head.dataset.id, step);
}

function drawStepTime(time, step) {
  if (step.status === "running" && step.started_at) {
    tick(time, () => formatDuration(since(step.started_at)));
    return;
  }
  stopTicking(time);
  if (step.started_at && step.finished_at) {
    setText(time, formatDuration(between(step.started_at, step.finished_at), { exact: true }));
    time.title = `${formatFully(step.started_at)} to ${formatFully(step.finished_at)}`;
  } else {
    setText(time, "");
  }
}

function drawStepNote(note, step) {
  const isIdle = step.status === "ready" || step.status === "waiting";
  const reason = isIdle && !step.waits?.length ? reasons.get(step.id) : null;
  // What it is retried for stands below it.
  const why = reason && reason.code !== "retry" ? reason.sentence : "";
  if (step.status === "waiting" && step.due_at && !step.waits?.length) {
    tick(note, () => {
      const left = until(step.due_at);
      const what = step.error ? "Tries again" : "Goes on";
      const when = left < 1000 ? `${what} now` : `${what} in ${formatDuration(left)}`;
      return why ? `${why} ${when}` : when;
    });
    return;
  }
  stopTicking(note);
  if (why) return setText(note, why);
  const words = { ready: "Waiting for a free worker", cancelled: step.started_at ? "Stopped" : "Not needed any more" };
  setText(note, step.phase || (words[step.status] ?? ""));
}

function drawEvidence() {
  const attempts = new Map();
  for (const artifact of state.artifacts) {
    const key = `${artifact.step} ${artifact.attempt}`;
    attempts.set(key, [...(attempts.get(key) ?? []), artifact]);
  }
  document.getElementById("evidence").hidden = attempts.size === 0;
  const count = attempts.size === 1 ? "1 attempt" : `${attempts.size} attempts`;
  setText(document.getElementById("evidence-count"), count);
  reconcile(
    document.getElementById("attempts"),
    [...attempts].reverse(),
    ([key]) => key,
    () => clone("attempt"),
    (element, [, artifacts]) => {
      setText(part(element, "heading"), describeAttempt(artifacts[0]));
      reconcile(
        part(element, "artifacts"),
        artifacts,
        (artifact) => artifact.id,
        (artifact) => clone(artifact.kind === "screenshot" ? "picture" : "file"),
        drawArtifact,
      );
    },
  );
}

function describeAttempt(artifact) {
  const step = state.steps.get(artifact.step);
  return `${step?.title ?? "Step"}, attempt ${artifact.attempt} · ${formatMoment(artifact.created_at)}`;
}

function drawArtifact(element, artifact) {
  const caption = `${artifact.title}: ${describeAttempt(artifact)}`;
  if (artifact.kind === "screenshot") {
    const picture = element.querySelector("img");
    setAttribute(picture, "src", artifact.url);
    setAttribute(picture, "alt", caption);
    element.onclick = () => openLightbox(artifact.url, caption);
  } else {
    setLink(element, artifact.url);
    setText(part(element, "title"), artifact.title);
  }
}

function openLightbox(url, caption) {
  const lightbox = document.getElementById("lightbox");
  part(lightbox, "picture").src = url;
  part(lightbox, "picture").alt = caption;
  part(lightbox, "original").href = url;
  part(lightbox, "caption").textContent = caption;
  lightbox.onclick = (event) => event.target === lightbox && lightbox.close();
  lightbox.showModal();
}

function drawSubject() {
  const facts = state.subject?.facts ?? [];
  document.getElementById("subject").hidden = facts.length === 0;
  reconcile(
    document.getElementById("facts"),
    facts,
    (fact) => fact.label,
    () => clone("fact"),
    (element, fact) => {
      const text = part(element, "text");
      setText(part(element, "label"), fact.label);
      setText(text, fact.text);
      setLink(text, fact.url);
      if (/^https?:/.test(fact.url)) {
        text.target = "_blank";
        text.rel = "noopener noreferrer";
      }
    },
  );
}

function drawTimeline() {
  const shown = state.events.slice(-SHOWN_EVENTS).reverse();
  document.getElementById("timeline-rest").hidden = (shown.at(-1)?.number ?? 1) === 1;
  reconcile(
    document.getElementById("timeline"),
    shown,
    (event) => event.number,
    () => clone("event"),
    (element, event) => {
      const { text, tone } = sentence(event, state.steps);
      setAttribute(element, "data-tone", tone);
      showMoment(part(element, "at"), event.at);
      setText(part(element, "sentence"), text);
    },
  );
}

function showMoment(element, iso) {
  setText(element, formatMoment(iso));
  setAttribute(element, "datetime", iso);
  setAttribute(element, "title", formatFully(iso));
}
