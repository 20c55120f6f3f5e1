// Events as plain sentences.

const SENTENCES = {
  "job.created": () => ["The job was created"],
  "job.completed": () => ["The job is completed", "green"],
  "job.failed": () => ["The job failed", "red"],
  "job.manual": () => ["The job was handed to a person", "orange"],
  "job.cancelled": (event) => [`The job was cancelled: ${event.message}`],
  "step.ready": (event, step) => [`${step} can start`, "faint"],
  "step.started": (event, step) => [startSentence(event, step), "blue"],
  "step.progress": (event, step) => [event.message || `${step} goes on`, "faint"],
  "step.completed": (event, step) => [`${step}: done`, "green"],
  "step.failed": (event, step) => [`${step} failed: ${event.message}`, "red"],
  "step.retrying": (event, step) => [`${step} did not work: ${event.message}`, "orange"],
  "step.postponed": (event) => [event.message, "orange"],
  "step.released": (event) => [event.message, "orange"],
  "step.recovered": (event) => [event.message, "orange"],
  "step.cancelled": (event, step) => [`${step}: not needed any more`, "faint"],
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
