// Why steps do not start: asked of the server while there are such steps, since what they wait for
// (a limit, a worker) changes without an event of this job.

const EVERY_MS = 5000;
const SOON_MS = 300; // after an event; a burst of them asks once

/** Calls `onReasons(reasons by step id)` now and then, for as long as `isWanted()`. */
export function watchReasons(jobId, isWanted, onReasons) {
  let timer = null;
  let isAsking = false;

  async function ask() {
    timer = null;
    if (isAsking || document.hidden || !isWanted()) return plan(EVERY_MS);
    isAsking = true;
    try {
      const answer = await fetch(`/api/jobs/${jobId}/why`, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const { steps } = await answer.json();
        onReasons(new Map(steps.map((reason) => [reason.step, reason])));
      }
    } catch {
      // The server is away for a moment: the page says so elsewhere, and asks again.
    } finally {
      isAsking = false;
      plan(EVERY_MS);
    }
  }

  function plan(milliseconds) {
    if (!isWanted()) return;
    clearTimeout(timer);
    timer = setTimeout(ask, milliseconds);
  }

  document.addEventListener("visibilitychange", () => plan(SOON_MS));
  plan(0);
  return () => plan(SOON_MS);
}
