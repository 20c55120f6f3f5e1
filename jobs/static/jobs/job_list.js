import { part, setLink, setText } from "./dom.js";
import { liveList } from "./live_list.js";
import { FINISHED, showBadge, showRowBar } from "./status.js";
import { between, formatDuration, showAge, since, stopTicking, tick, until } from "./times.js";

liveList({ name: "jobs", draw });

function draw(element, job) {
  const link = part(element, "link");
  setText(link, job.title);
  setLink(link, job.url);
  setText(part(element, "workflow"), job.workflow);
  showBadge(part(element, "status"), job.status);
  showRowBar(element, ["running", "waiting"].includes(job.status), {
    percent: job.progress,
    status: job.status,
    name: `Progress of ${job.title}`,
  });
  drawNote(part(element, "note"), job);
  showAge(part(element, "age"), job.created_at);
  drawTook(part(element, "took"), job);
}

function drawNote(note, job) {
  if (job.due_at && !FINISHED.has(job.status)) {
    tick(note, () => `${job.phase} · in ${formatDuration(until(job.due_at))}`);
    return;
  }
  stopTicking(note);
  setText(note, FINISHED.has(job.status) ? (job.error?.message ?? "") : job.phase);
}

function drawTook(took, job) {
  if (job.started_at && !job.finished_at) {
    tick(took, () => `for ${formatDuration(since(job.started_at))}`);
    return;
  }
  stopTicking(took);
  const isKnown = job.started_at && job.finished_at;
  const duration = isKnown ? between(job.started_at, job.finished_at) : 0;
  setText(took, isKnown ? `took ${formatDuration(duration, { exact: true })}` : "");
}
