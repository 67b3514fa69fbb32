// A shared worker: one event stream for all tabs of this browser, since a browser opens only six connections to a host.
// It hands each event on to every tab, and tells when the stream is lost: nothing was heard for longer than two beats and a bit.
"use strict";
const SILENT_MS = 12000, AGAIN_MS = 2000;
const tabs = new Set();
let stamp = 0, source = null, heard = 0, opened = 0, state = "connecting", url = "", hello = null;

function tell(message) {
  for (const tab of tabs) tab.postMessage(message);
}

function become(next) {
  if (state !== next) {
    state = next;
    tell({ type: "state", state });
  }
}

function open() {
  if (source) source.close();
  source = new EventSource(url);
  heard = opened = Date.now();
  const on = (type, act) => source.addEventListener(type, (event) => {
    heard = Date.now();
    become("live");
    act(event);
  });
  on("hello", (event) => {
    const now = JSON.parse(event.data), before = hello;
    hello = now;
    stamp = now.stamp;
    tell(before ? { type: "again", stamp, restarted: before.run !== now.run } : { type: "stamp", stamp });
  });
  on("changed", (event) => {
    stamp = Number(event.lastEventId);
    tell({ type: "changed", stamp, topics: JSON.parse(event.data) });
  });
  on("beat", () => {});
  source.addEventListener("signed-out", () => {
    source.close();
    source = null;
    // Whoever has signed in anew meanwhile has another cookie: that is asked before it is told.
    if (Date.now() - opened > AGAIN_MS) open();
    else become("signed-out");
  });
  source.onerror = () => {
    become("lost");
    if (source && source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(open, AGAIN_MS);
    }
  };
}

setInterval(() => {
  if (source && Date.now() - heard > SILENT_MS) {
    become("lost");
    open();
  }
}, 1000);

self.addEventListener("connect", (event) => {
  const tab = event.ports[0];
  tab.onmessage = ({ data }) => {
    if (data.type === "bye") {
      tabs.delete(tab);
      if (!tabs.size && source) { source.close(); source = null; hello = null; state = "connecting"; }
    } else if (data.type === "hello") {
      url = data.url;
      tabs.add(tab);
      if (!source || state === "signed-out") { state = "connecting"; open(); }
      tab.postMessage({ type: "state", state });
      tab.postMessage({ type: "stamp", stamp });
    }
  };
  tab.start();
});
