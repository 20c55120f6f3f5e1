// Posting to our own API as the user of the page.

/** Posts it; the sentence that says what went wrong, or nothing. */
export async function post(url, body) {
  const headers = {
    "Content-Type": "application/json",
    "X-CSRFToken": document.querySelector("input[name=csrfmiddlewaretoken]").value,
  };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    if (answer.ok) return "";
    const { error } = await answer.json();
    return error;
  } catch {
    return "There was no answer. Look whether anything changed, then try again.";
  }
}
