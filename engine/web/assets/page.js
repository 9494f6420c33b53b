// What the page does beyond htmx: it says whether it is live, counts what is chosen,
// and does not move a list under somebody's hand.
"use strict";
document.documentElement.classList.add("js");
const at = (id) => document.getElementById(id);

// Is what one sees what there is?
const link = (on) => {
  const e = at("link");
  e.textContent = on ? "live" : "not connected";
  e.className = "link " + (on ? "on" : "off");
};
document.addEventListener("htmx:sseOpen", (event) => {
  link(true);
  // From now on it shows more than it came with: a stream that is begun anew has to tell all.
  const from = event.target.getAttribute("sse-connect");
  event.target.setAttribute("sse-connect", from.replace(/[?&]have=[^&]*$/, ""));
});
document.addEventListener("htmx:sseError", (event) => {
  link(false);
  // Refused, and not broken off: where the session has ended, the page leads to where one logs in.
  if (event.detail.source.readyState !== EventSource.CLOSED) return;
  fetch(location.href, { method: "HEAD" }).then((answer) => { if (answer.status === 401) location.reload(); }, () => {});
});

// What the node answers in the place of what was asked for takes the place of nothing.
const told = (text) => {
  const p = document.createElement("p");
  p.className = "notice bad";
  p.textContent = text;
  return p;
};
const cause = (xhr) => {
  try { return JSON.parse(xhr.responseText).error; } catch { return xhr.responseText || xhr.statusText; }
};
document.addEventListener("htmx:beforeSwap", (event) => {
  const { detail } = event, { xhr } = detail;
  if (xhr.status < 400) {
    if (detail.target.id === "list") at("notice").replaceChildren(); // it was of another list
    return;
  }
  if (xhr.status === 401) { // the session has ended
    event.preventDefault();
    location.reload();
    return;
  }
  Object.assign(detail, { target: at("notice"), swapOverride: "innerHTML", selectOverride: "unset" });
  const page = (xhr.getResponseHeader("Content-Type") || "").startsWith("text/html");
  if (!page) detail.serverResponse = told(cause(xhr)).outerHTML; // what was not made for one is text
});
document.addEventListener("htmx:sendError", () => at("notice").replaceChildren(told("The node does not answer. When it is back, look what has become of this.")));

// Whoever points at a row, is in one with the keyboard or has chosen some finds the rows
// where they were: others are offered, not put there.
const busy = (rows) => rows.matches(":hover") || rows.contains(document.activeElement) || rows.querySelector("input:checked");
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  if (event.target.id !== "rows") return;
  const hold = busy(event.target) && event.target.querySelector("tr:not(.none)");
  at("moved").hidden = !hold;
  if (hold) event.preventDefault();
});

// What is chosen.
const count = () => {
  const picked = at("picked");
  if (!picked) return;
  const boxes = [...document.querySelectorAll("#rows input[name=id]")];
  const n = boxes.filter((b) => b.checked).length;
  picked.textContent = at("all") && at("all").checked ? "All that match:" : n + " chosen:";
  const all = at("pick-all");
  all.checked = n > 0 && n === boxes.length;
  all.indeterminate = n > 0 && n < boxes.length;
};
document.addEventListener("change", (event) => {
  if (event.target.id === "pick-all") document.querySelectorAll("#rows input[name=id]").forEach((b) => { b.checked = event.target.checked; });
  count();
});
document.addEventListener("htmx:afterSettle", count);
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.closest("#words") && event.detail.successful && event.detail.xhr.status < 400) {
    document.querySelectorAll("#words input:checked").forEach((b) => { b.checked = false; });
    count();
  }
});

// A stream that ends because one leaves the page is none that has broken off, and a page that is
// come back to is as old as its stream.
let stream;
const follow = htmx.createEventSource;
htmx.createEventSource = (url) => (stream = follow(url));
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
