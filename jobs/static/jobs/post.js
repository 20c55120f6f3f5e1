// Posting to our own API as the user of the page.

// The API's own sentence is for programs: it names headers.
const LOGGED_OUT = "You are logged out. Log in again in another tab, then repeat this.";

/** Posts it; the sentence that says what went wrong, or nothing. */
export async function post(url, body) {
  return (await postFor(url, body)).trouble;
}

/** Posts it; what was answered, or the sentence that says what went wrong. */
export async function postFor(url, body) {
  const headers = {
    "Content-Type": "application/json",
    "X-CSRFToken": document.querySelector("input[name=csrfmiddlewaretoken]").value,
  };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const said = answer.status === 401 ? { error: LOGGED_OUT } : await answer.json();
    return answer.ok ? { trouble: "", answer: said } : { trouble: said.error };
  } catch {
    return { trouble: "There was no answer. Look whether anything changed, then try again." };
  }
}
