"use strict";

// Progress: ask how it stands until it is over, then show the page as it ends.
for (const place of document.querySelectorAll("[data-poll]")) {
  const says = place.querySelector("[data-says]");
  const ask = async () => {
    try {
      const answer = await fetch(place.dataset.poll, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { location.reload(); return; }
      const progress = await answer.json();
      if (says.textContent !== progress.says) says.textContent = progress.says;
      if (progress.is_over) { location.reload(); return; }
    } catch {
      says.textContent = "The gateway does not answer; asking again.";
    }
    setTimeout(ask, 1000);
  };
  setTimeout(ask, 500);
}

// Pages that show what is going on draw themselves anew while somebody looks at them.
const main = document.querySelector("main[data-refresh]");
if (main) {
  const isBusy = () => document.hidden || !getSelection().isCollapsed || main.contains(document.activeElement);
  setInterval(async () => {
    if (isBusy()) return;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (!fresh || isBusy()) return;
      for (const kept of main.querySelectorAll("details[id]")) {
        const same = fresh.querySelector(`#${CSS.escape(kept.id)}`);
        if (same) same.open = kept.open;
      }
      main.replaceChildren(...fresh.childNodes);
    } catch { /* the gateway is away: what is shown stays, with its time */ }
  }, 10000);
}
