// Events as plain sentences.

const SENTENCES = {
  "job.created": () => ["The job was created"],
  "job.completed": () => ["The job is completed", "green"],
  "job.failed": () => ["The job failed", "red"],
  "job.manual": () => ["The job was handed to a person", "orange"],
  "job.cancelled": (event) => [event.message],
  "job.rerun": (event) => [event.message, "blue"],
  "job.resumed": (event) => [event.message, "blue"],
  "step.ready": (event, step) => [`${step} can start`, "faint"],
  "step.started": (event, step) => [startSentence(event, step), "blue"],
  "step.progress": (event, step) => [event.message || `${step} goes on`, "faint"],
  "step.completed": (event, step) => [`${step}: done`, "green"],
  "step.failed": (event, step) => [`${step} failed: ${event.message}`, "red"],
  "step.retrying": (event, step) => [`${step} did not work: ${event.message}`, "orange"],
  "step.postponed": (event) => [event.message, "orange"],
  "step.limited": (event, step) => [`${step} has to wait: ${event.message}`, "orange"],
  "step.waiting": (event) => [event.message, "orange"],
  "step.answered": (event) => [event.message, "green"],
  "effect.intended": (event) => [event.message, "faint"],
  "effect.confirmed": (event) => [event.message, "green"],
  "effect.absent": (event) => [event.message, "orange"],
  "effect.unknown": (event) => [event.message, "red"],
  "step.released": (event) => [event.message, "orange"],
  "step.recovered": (event) => [event.message, "orange"],
  "step.cancelled": (event, step) => [`${step}: not needed any more`, "faint"],
  "step.stopped": (event, step) => [`${step} was stopped`, "orange"],
  "step.reset": (event, step) => [`${step} will run again`, "faint"],
};

export function sentence(event, steps) {
  const make = SENTENCES[event.kind] ?? (() => [event.message]);
  const [text, tone = "gray"] = make(event, steps.get(event.step)?.title ?? "A step");
  return { text, tone };
}

function startSentence(event, step) {
  const attempt = event.data.step?.attempt ?? 1;
  return attempt > 1 ? `${step} started, attempt ${attempt}` : `${step} started`;
}
