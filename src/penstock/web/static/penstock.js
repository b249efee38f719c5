// Times in the viewer's zone, in UTC on hover; and the clipboard.
class LocalTime extends HTMLElement {
  static observedAttributes = ["datetime"];

  attributeChangedCallback() {
    const text = this.getAttribute("datetime");
    const moment = new Date(text);
    if (!text || isNaN(moment)) return;
    const today = new Date().toDateString() === moment.toDateString();
    const date = { year: "numeric", month: "short", day: "numeric" };
    const time = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
    this.textContent = moment.toLocaleString(undefined, today ? time : { ...date, ...time });
    this.title = moment.toISOString().replace("T", " ").replace("Z", " UTC");
  }
}
customElements.define("local-time", LocalTime);

async function copyText(text) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  Quasar.Notify.create({ message: done ? "Copied" : "The browser blocked copying", timeout: 1200 });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copyText(button.dataset.copy);
});

// After a restart the server knows no session of this page any more: a new page gets one, or leads to the sign-in.
function watchSocket() {
  if (!window.socket) return setTimeout(watchSocket, 200);
  window.socket.on("connect_error", async () => {
    const answer = await fetch("/health/live").catch(() => null);
    if (answer?.ok) location.reload();
  });
}
watchSocket();
