// What is known of a job, and what each message makes of it. No page is needed here.

/** The state that a snapshot is. `number` is that of the last event in it. */
export function fromSnapshot(snapshot) {
  return {
    number: snapshot.number,
    job: snapshot.job,
    steps: new Map(snapshot.steps.map((step) => [step.id, step])),
    events: snapshot.events,
    artifacts: snapshot.artifacts,
    subject: snapshot.subject,
  };
}

/**
 * The state after `message`, and whether there is a gap: then nothing after the gap was applied,
 * and the events after `state.number` have to be asked for.
 */
export function apply(state, message) {
  switch (message.type) {
    case "snapshot":
      return { state: fromSnapshot(message), hasGap: false };
    case "events":
      return applyEvents(state, message);
    case "ping":
      return { state, hasGap: message.number !== state.number };
    default:
      return { state, hasGap: false }; // of a later version
  }
}

function applyEvents(state, message) {
  const next = { ...state, steps: new Map(state.steps), events: [...state.events] };
  let hasGap = false;
  for (const event of message.events) {
    if (event.number <= next.number) continue; // sent twice, which is all right
    if (event.number !== next.number + 1) {
      hasGap = true;
      break;
    }
    next.number = event.number;
    next.events.push(event);
    next.job = { ...next.job, ...event.data.job };
    if (event.step && event.data.step) {
      next.steps.set(event.step, { ...next.steps.get(event.step), ...event.data.step });
    }
  }
  const known = new Set(next.artifacts.map((artifact) => artifact.id));
  const added = message.artifacts.filter((artifact) => !known.has(artifact.id));
  next.artifacts = [...next.artifacts, ...added];
  if ("subject" in message) next.subject = message.subject;
  return { state: next, hasGap };
}
