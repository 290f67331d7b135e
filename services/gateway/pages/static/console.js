// What HTML can't do by itself: copy, count down, show a password, take a reset token out of the address.
"use strict";

const texts = document.currentScript.dataset;

htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false;
htmx.config.selfRequestsOnly = true;
htmx.config.historyEnabled = false;
// A refusal is an answer to show, wherever the server says that it belongs.
htmx.config.responseHandling = [{ code: "204", swap: false }, { code: "...", swap: true }];

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const source = document.getElementById(copy.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    } catch {
      window.getSelection().selectAllChildren(source); // no clipboard over plain http: the person copies what is marked
      return;
    }
    const before = copy.textContent;
    copy.textContent = copy.dataset.done;
    setTimeout(() => { copy.textContent = before; }, 2000);
  }
  const show = event.target.closest("[data-show-password]");
  if (show) {
    const field = document.getElementById(show.dataset.showPassword);
    const hidden = field.type === "password";
    field.type = hidden ? "text" : "password";
    show.setAttribute("aria-pressed", String(hidden));
  }
  const close = event.target.closest("[data-close]");
  if (close) {
    const details = close.closest("details");
    details.open = false;
    details.querySelector("summary").focus();
  }
  // A question that was opened and left closes again.
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

function countDown() {
  for (const clock of document.querySelectorAll("[data-until]")) {
    const left = Math.max(0, Math.round((new Date(clock.dataset.until) - Date.now()) / 1000));
    clock.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  }
}
countDown();
setInterval(countDown, 1000);
document.addEventListener("htmx:afterSettle", countDown);

// A form that changed is not the one that was previewed.
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-preview]");
  if (form && !event.target.closest("[data-preview-result]")) document.getElementById(form.dataset.preview).replaceChildren();
});

// What was handed over for good leaves its form.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.target.matches("form[data-reset]")) event.target.reset();
});

// A page that nobody looks at asks for nothing, so that it does not keep a forgotten session alive.
const IDLE_MILLISECONDS = 10 * 60 * 1000;
let usedAt = Date.now();
for (const kind of ["pointerdown", "pointermove", "keydown", "scroll"]) {
  document.addEventListener(kind, () => { usedAt = Date.now(); }, { passive: true, capture: true });
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const polls = (event.detail.elt.getAttribute("hx-trigger") ?? "").includes("every");
  if (polls && (document.hidden || Date.now() - usedAt > IDLE_MILLISECONDS)) event.preventDefault();
});

// One press, one request: a second press of a form's button would ask again.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  setTimeout(() => { for (const button of event.target.querySelectorAll("button")) button.disabled = true; });
});
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

document.addEventListener("htmx:sendError", () => {
  const notice = document.getElementById("notice");
  if (!notice) return;
  const alert = document.createElement("div");
  alert.className = "alert bad";
  alert.textContent = texts.unreachable;
  notice.replaceChildren(alert);
});

// The token of a letter stands in the fragment, which no server sees; it leaves the address at once.
const token = document.getElementById("reset-token");
if (token && location.hash.startsWith("#token=")) {
  token.value = decodeURIComponent(location.hash.slice(7));
  token.closest(".field").hidden = true;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
}
