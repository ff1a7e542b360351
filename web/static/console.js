// Everything here only improves pages that work without it: parts that refresh, relative times, copying.
"use strict";

const spans = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function relative(moment, now) {
  const seconds = (now - moment) / 1000;
  const distance = Math.abs(seconds);
  if (distance < 5) return "just now";
  const [name, size] = spans.find(([, length]) => distance >= length) ?? spans[3];
  return seconds < 0 ? `in ${Math.ceil(distance / size)} ${name}` : `${Math.floor(distance / size)} ${name} ago`;
}

function refreshTimes() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const text = relative(Date.parse(element.dateTime), now);
    if (element.textContent !== text) element.textContent = text;
  }
}

function enableCopying(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const label = button.querySelector("[data-copy-label]");
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        label.textContent = "Copied";
      } catch {
        label.textContent = "Press Ctrl+C";
        getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      }
      setTimeout(() => { label.textContent = "Copy"; }, 2000);
    });
  }
}

class Refreshing {
  constructor(region) {
    this.region = region;
    this.paused = false;
    this.last = "";
    this.status = document.querySelector("[data-refresh-status]");
    this.seconds = Number(region.dataset.refreshSeconds);
    this.schedule();
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.run(); });
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(), this.seconds * 1000);
  }

  async run() {
    if (!this.paused && !document.hidden && !this.isInUse()) {
      try {
        const answer = await fetch(this.region.dataset.refresh, { headers: { "X-Fragment": "1" }, cache: "no-store" });
        if (answer.status === 401) return location.reload();
        if (answer.ok) this.show(await answer.text());
        this.region.classList.toggle("stale", !answer.ok);
      } catch {
        this.region.classList.add("stale");
      }
    }
    this.schedule();
  }

  // What a person selects or has opened must not be pulled from under the pointer.
  isInUse() {
    const selection = getSelection();
    const selecting = !selection.isCollapsed && this.region.contains(selection.anchorNode);
    return selecting || this.region.querySelector("details[open]") !== null;
  }

  show(html) {
    if (html === this.last) return;
    this.last = html;
    const focused = this.region.contains(document.activeElement) ? document.activeElement.id : "";
    const before = this.region.querySelector("[data-status]")?.dataset.status;
    this.region.innerHTML = html;
    enableCopying(this.region);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    const after = this.region.querySelector("[data-status]")?.dataset.status;
    if (this.status && after && before !== after) this.status.textContent = after;
  }
}

function enablePausing(regions) {
  const button = document.querySelector("[data-refresh-pause]");
  if (!button || !regions.length) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const paused = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Updates paused" : "Pause updates";
    for (const region of regions) region.paused = paused;
  });
}

enableCopying(document);
enablePausing([...document.querySelectorAll("[data-refresh]")].map((region) => new Refreshing(region)));
setInterval(refreshTimes, 15000);

// A filter of radio buttons applies at once; without script its button does.
for (const chip of document.querySelectorAll(".filters .chip input")) {
  chip.addEventListener("change", () => chip.form.requestSubmit());
}
