// Trades a bearer token for a session.
const form = document.getElementById("sign-in");
const problem = document.getElementById("problem");
const button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.hidden = true;
  button.disabled = true;
  try {
    const response = await fetch("/api/sign-in", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token: form.elements.token.value }),
    });
    if (response.ok) {
      location.assign("/");
      return;
    }
    const answer = await response.json().catch(() => ({}));
    problem.textContent = answer.error ?? `host-sync answered ${response.status}`;
  } catch {
    problem.textContent = "host-sync cannot be reached: is the port-forward still there?";
  }
  problem.hidden = false;
  button.disabled = false;
  form.elements.token.focus();
});

// Enter sends, as in any form of one field; a token has no lines.
form.elements.token.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    form.requestSubmit();
  }
});
form.elements.token.focus();
