// Keeps a page true: parts that say with `data-live` what they show are fetched again when that changes, and where the gateway is not heard
// of any more that is told at the top, and nothing can be sent that would act on what may be old.
//
// data-live="/groups/all notices/1a2b": paths of the tree (with all below them) and topics. data-every="15": also every so many seconds.
// A part has an id and no fields to type in; what is open in it (details) stays so.
"use strict";
(() => {
  const BURST = 3, EACH_MS = 1000, LEAST_MS = 50; // three fetches at once, then one a second
  const stream = document.body.dataset.stream;
  const banner = document.getElementById("connection");
  let morph = null, stale = new Set(), timer = null, fetching = false, credit = BURST, counted = 0, told = 0, since = null;

  htmx.registerExtension("live", {
    init: (api) => { morph = api.morph; },
    htmx_before_morph_attr: (element, detail) => !(detail.attrName === "open" && element.tagName === "DETAILS"),
    htmx_after_request: (element, { ctx }) => goes(ctx),
    htmx_after_swap: () => { settle(document); disable(document); settled(); missed(); },
  });

  // The answer to a form replaces the content of this page; one that is another page, or needs further files, is gone to.
  function goes(ctx) {
    const page = new DOMParser().parseFromString(ctx.text, "text/html");
    const files = (of) => [...of.querySelectorAll("script[src], link[rel=stylesheet]")].map((one) => one.getAttribute("src") || one.getAttribute("href"));
    const here = files(document), header = (of) => of.querySelector("header")?.innerHTML;
    if (ctx.response.raw.redirected && (header(page) !== header(document) || files(page).some((one) => !here.includes(one)))) {
      location.assign(ctx.response.raw.url);
      return false;
    }
    if (ctx.response.raw.redirected) scrollTo(0, 0); // Another page begins at its top, also where the form keeps its place.
    return true;
  }

  // Times are in the reader's own zone.
  function settle(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!isNaN(at)) {
        time.textContent = at.toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
        time.title = time.dateTime;
      }
    }
  }

  const settled = () => document.dispatchEvent(new CustomEvent("m2mapp:settled"));

  function touches(topics, wanted) {
    return wanted.split(" ").some((one) => one && topics.some((topic) =>
      topic === "*" || topic === one || one === "/" && topic[0] === "/" || topic.startsWith(one + "/")));
  }

  function changed(topics) {
    for (const part of document.querySelectorAll("[data-live]")) {
      if (part.id && touches(topics, part.dataset.live)) stale.add(part.id);
    }
    document.dispatchEvent(new CustomEvent("m2mapp:changed", { detail: (wanted) => touches(topics, wanted) }));
    soon();
  }

  function soon() {
    if (!stale.size || timer || fetching || document.hidden) return;
    const now = Date.now();
    credit = Math.min(BURST, credit + (now - counted) / EACH_MS);
    counted = now;
    timer = setTimeout(refresh, Math.max(0, (1 - credit) * EACH_MS));
  }

  async function refresh() {
    timer = null;
    credit -= 1;
    const wanted = stale;
    stale = new Set();
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { "M2M-Live": "1" }, cache: "no-store" });
      if (answer.status === 401) return show("signed-out");
      if (answer.status >= 500 || answer.status === 429) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const main = document.getElementById("main"), fresh = page.getElementById("main");
      if (main.dataset.status !== fresh.dataset.status) location.reload(); // What is shown has come or gone, or may not be seen any more.
      else for (const id of wanted) replace(id, page.getElementById(id));
    } catch {
      // The gateway is away, or has too much to do: once more when something is heard of it, or in a while.
      setTimeout(() => { for (const id of wanted) stale.add(id); soon(); }, EACH_MS);
    } finally {
      fetching = false;
      setTimeout(soon, LEAST_MS);
    }
  }

  function replace(id, fresh) {
    const part = document.getElementById(id);
    if (!part) return;
    if (!fresh) { part.replaceChildren(); return; }
    settle(fresh);
    if (part.isEqualNode(fresh)) return;
    const holder = document.createDocumentFragment();
    holder.append(document.adoptNode(fresh));
    morph(part, holder, false);
    const now = document.getElementById(id);
    htmx.process(now);
    if (lost()) disable(now);
    settled();
  }

  // The connection.
  const lost = () => document.documentElement.classList.contains("lost");

  function disable(root) {
    for (const button of root.querySelectorAll("form[method=post] button")) button.disabled = lost();
  }

  function show(state) {
    const away = state !== "live" && state !== "connecting";
    const was = lost();
    if (away && !was) since = new Date();
    document.documentElement.classList.toggle("lost", away);
    document.documentElement.dataset.connection = state;
    if (away) {
      const line = document.createElement("p");
      if (state === "signed-out") {
        line.textContent = "Your session has ended. ";
        const link = document.createElement("a");
        link.href = "/admin/sign-in?to=" + encodeURIComponent(location.pathname + location.search);
        link.textContent = "Sign in again";
        line.append(link);
      } else {
        line.textContent = `The connection to the gateway is lost since ${since.toLocaleTimeString()}: what is shown may be old. Trying again.`;
      }
      banner.replaceChildren(line);
    } else {
      banner.replaceChildren();
    }
    disable(document);
    if (was && !away) everything();
  }

  function everything() {
    for (const part of document.querySelectorAll("[data-live]")) if (part.id) stale.add(part.id);
    document.dispatchEvent(new CustomEvent("m2mapp:changed", { detail: () => true }));
    soon();
  }

  // What changed after the page was made, and before it was here to be told.
  function missed() {
    if (told > Number(document.getElementById("main").dataset.stamp)) everything();
  }

  function heard(message) {
    if (message.stamp !== undefined) told = message.stamp;
    if (message.type === "state") show(message.state);
    else if (message.type === "again") everything();
    else if (message.type === "changed") changed(message.topics);
    else if (message.type === "stamp") missed();
  }

  function connect() {
    if ("SharedWorker" in window) {
      const worker = new SharedWorker(document.body.dataset.worker, "m2mapp");
      worker.port.onmessage = ({ data }) => heard(data);
      worker.port.postMessage({ type: "hello", url: new URL(stream, location.href).href });
      addEventListener("pagehide", () => worker.port.postMessage({ type: "bye" }));
      addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
      return;
    }
    // No shared workers (some phones): a stream of its own, while the page is seen.
    let source = null;
    const open = () => {
      source = new EventSource(stream);
      source.onopen = () => heard({ type: "state", state: "live" });
      source.onerror = () => {
        heard({ type: "state", state: "lost" });
        if (source && source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) open(); }, 2000);
      };
      source.addEventListener("hello", () => heard({ type: "again" }));
      source.addEventListener("changed", (event) => heard({ type: "changed", stamp: Number(event.lastEventId), topics: JSON.parse(event.data) }));
      source.addEventListener("signed-out", () => { source.close(); heard({ type: "state", state: "signed-out" }); });
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden && source) { source.close(); source = null; } else if (!document.hidden && !source) open();
    });
    if (!document.hidden) open();
  }

  document.addEventListener("visibilitychange", soon);
  document.addEventListener("submit", (event) => {
    if (lost() && event.target.method === "post") { event.preventDefault(); event.stopImmediatePropagation(); }
  }, true);
  settle(document);
  setInterval(() => {
    const now = Math.round(Date.now() / 1000);
    for (const part of document.querySelectorAll("[data-live][data-every]")) {
      if (part.id && part.childElementCount && now % Number(part.dataset.every) === 0) stale.add(part.id);
    }
    soon();
  }, 1000);
  if (stream) connect();
})();
