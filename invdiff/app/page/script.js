"use strict";
const $ = (id) => document.getElementById(id);
const ASK_EVERY = 400; // milliseconds
let about, photo = null, order = null, shown = -1, began = 0, timer = 0;

// --- asking -------------------------------------------------------------------------------------------------------

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("invdiff does not answer: is it still running?");
  }
  if (response.status === 204) return null;
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(found.error || "refused"), { status: response.status, ...found });
  return found;
}

function complain(error) {
  $("error").textContent = error ? error.message : "";
  $("error").hidden = !error;
  $("smaller").hidden = !(error && error.smaller);
}

// --- choosing -----------------------------------------------------------------------------------------------------

const task = () => about.tasks.find((one) => one.name === $("form").elements.task.value);

async function choose(file) {
  const mine = photo = file || null;
  complain(null);
  $("start").disabled = true;
  const address = photo ? URL.createObjectURL(photo) : "", picture = new Image();
  picture.src = address;
  const drawn = await picture.decode().then(() => true, () => false); // of some kinds a browser shows nothing
  if (photo !== mine) return;
  URL.revokeObjectURL($("thumb").src);
  $("thumb").src = address;
  $("thumb").hidden = !drawn;
  if (photo) $("chosen").textContent = photo.name;
  else $("chosen").innerHTML = "<strong>Drop a photo here</strong>, or choose one";
  const large = photo && photo.size > about.limits.size;
  if (large) complain(new Error(`${photo.name}: the file is larger than ${about.limits.size / 2 ** 20} MB`));
  $("start").disabled = !photo || large;
}

function tellDial() {
  const dial = Number($("dial").value);
  const words = dial === 0 ? "Faithful: smooth where your photo does not tell."
    : dial < 0.7 ? "Between: some texture that is likely, and may be wrong."
    : "Textured: looks sharpest, and details may be invented.";
  $("dial-help").textContent = words;
  $("dial").setAttribute("aria-valuetext", `${Math.round(100 * dial)} percent. ${words}`);
}

function offer() {
  for (const [place, one] of about.tasks.entries()) {
    const label = document.createElement("label"), input = document.createElement("input");
    const title = document.createElement("span"), small = document.createElement("small");
    label.className = "task";
    Object.assign(input, { type: "radio", name: "task", value: one.name, checked: place === 0 });
    title.textContent = one.title;
    small.textContent = one.about;
    label.append(input, title, small);
    $("tasks").append(label);
  }
  $("tasks").addEventListener("change", () => { $("dial").value = task().dial; tellDial(); });
  $("dial").value = task().dial;
  tellDial();
  $("where").textContent = about.kept ? "It stays on this machine. Results are kept in a folder there."
    : "It stays on this machine, and is removed soon after you close the page.";
  const pixels = about.limits.pixels / 1e6;
  $("limits").textContent = `JPEG, PNG, WebP, TIFF and others; ${about.limits.size / 2 ** 20} MB and ${pixels} megapixels at most`;
  $("version").textContent = `invdiff ${about.version}`;
}

async function start(smaller) {
  complain(null);
  $("start").disabled = true;
  const query = new URLSearchParams({ task: task().name, dial: $("dial").value, name: photo.name });
  if (smaller) query.set("smaller", "yes");
  try {
    const found = await ask(`orders?${query}`, { method: "POST", body: photo, headers: { "Content-Type": "application/octet-stream" } });
    history.replaceState(null, "", `#${found.order}`);
    follow(found.order);
  } catch (error) {
    complain(error);
  }
  $("start").disabled = !photo;
}

// --- following ----------------------------------------------------------------------------------------------------

function follow(ident) {
  order = ident;
  shown = -1;
  began = Date.now();
  for (const id of ["before", "after", "kernel"]) $(id).removeAttribute("src"); // of the photo before
  $("words").replaceChildren();
  $("form").hidden = true;
  $("result").hidden = false;
  for (const id of ["compare", "done", "story", "glossary", "more", "kernel-figure", "actual-label"]) $(id).hidden = true;
  setActual(false);
  $("heading").textContent = "Sent";
  $("heading").focus();
  look();
}

async function look() {
  const ident = order;
  let status;
  try {
    status = await ask(`orders/${ident}`);
  } catch (error) {
    if (order !== ident) return;
    if (error.status) return back(error);
    say(error.message);
    later(5 * ASK_EVERY);
    return;
  }
  if (order !== ident) return; // something else is looked at by now
  show(status);
  if (["waiting", "working"].includes(status.state)) later(ASK_EVERY);
}

function later(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(look, milliseconds);
}

function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}

const HEADINGS = { waiting: "Waiting", working: "Restoring", done: "Restored", failed: "This did not work", stopped: "Stopped" };

function show(status) {
  const { state } = status, at = `orders/${order}`;
  const heading = `${HEADINGS[state]}: ${status.name}`;
  if ($("heading").textContent !== heading) $("heading").textContent = heading;
  $("work").hidden = !["waiting", "working"].includes(state);
  if (state === "waiting") {
    $("progress").removeAttribute("value");
    say(status.before === 1 ? "One photo is before yours." : `${status.before} photos are before yours.`);
  } else if (state === "working") {
    $("progress").value = status.progress;
    say(status.steps ? `Step ${Math.min(status.step + 1, status.steps)} of ${status.steps}` : "Beginning");
  } else {
    say({ done: "Done. Move the line to compare.", failed: status.failure, stopped: "Nothing was kept." }[state]);
  }
  $("elapsed").textContent = `${Math.round((Date.now() - began) / 1000)} s`;
  picture(status, at);
  $("done").hidden = !["done", "failed", "stopped"].includes(state);
  $("download").hidden = $("done").querySelector(".note").hidden = state !== "done";
  if (state === "done") finish(status, at);
}

function picture(status, at) {
  const has = (name) => status.views.includes(name);
  $("compare").hidden = !has("before") || ["failed", "stopped"].includes(status.state);
  if (has("before") && !$("before").hasAttribute("src")) $("before").src = `${at}/views/before`;
  $("after").hidden = !has("after");
  if (has("after") && status.shown !== shown) {
    shown = status.shown;
    const next = new Image(); // shown only when it is whole: no flicker between steps
    next.onload = () => { $("after").src = next.src; fit(); };
    next.src = `${at}/views/after?${shown}`;
    if (has("kernel")) $("kernel").src = `${at}/views/kernel?${shown}`;
  }
  $("kernel-figure").hidden = !has("kernel");
  $("kernel-caption").textContent = KERNELS[status.task];
  $("story").hidden = !has("kernel") || ["failed", "stopped"].includes(status.state);
}

const KERNELS = {
  enlarge: "The blur that was found: how far one point of the scene is spread.",
  shake: "The shake that was found: the way that one point of the scene took across the photo.",
};
const FILES = { "compare": "side by side", "kernel-picture": "kernel as a picture", "kernel-array": "kernel as an array", "report": "report" };

function finish(status, at) {
  $("download").href = `${at}/files/picture`;
  $("actual-label").hidden = false;
  $("story").hidden = false;
  $("words").replaceChildren(...status.words.flatMap(({ label, text, meaning }) => {
    const term = document.createElement("dt"), what = document.createElement("dd"), small = document.createElement("small");
    term.textContent = label;
    what.append(label === "Again" ? Object.assign(document.createElement("code"), { textContent: text }) : text);
    small.textContent = meaning;
    if (meaning) what.append(small);
    return [term, what];
  }));
  $("glossary").querySelector("dl").replaceChildren(...Object.entries(status.glossary).flatMap(([word, meaning]) =>
    [["dt", word], ["dd", meaning]].map(([tag, textContent]) => Object.assign(document.createElement(tag), { textContent }))));
  $("glossary").hidden = false;
  const links = Object.entries(FILES).filter(([name]) => status.files.includes(name)).map(([name, text]) =>
    Object.assign(document.createElement("a"), { href: `${at}/files/${name}`, download: "", textContent: text }));
  $("more").querySelector("span").replaceChildren(...links.flatMap((link, place) => place ? [", ", link] : [link]));
  $("more").hidden = false;
}

// --- looking ------------------------------------------------------------------------------------------------------

function slide() {
  const at = Number($("slider").value);
  $("stage").style.setProperty("--at", `${at}%`);
  $("slider").setAttribute("aria-valuetext", `left ${at} percent your photo, the rest restored`);
}

function fit() {
  // Small photos are shown as large as their result; both lie on one another in any case.
  const result = $("after"), wide = $("compare").clientWidth, high = 0.75 * innerHeight;
  const [width, height] = [result.naturalWidth, result.naturalHeight];
  if (!width || !wide) return;
  const actual = $("actual").checked;
  const share = actual ? 1 / devicePixelRatio : Math.min(wide / width, high / height, 3);
  $("before").style.width = `${Math.round(width * share)}px`;
  $("before").style.height = `${Math.round(height * share)}px`;
}

function setActual(on) {
  $("actual").checked = on;
  $("scroll").classList.toggle("actual", on);
  $("scroll").tabIndex = on ? 0 : -1;
  fit();
}

// --- leaving ------------------------------------------------------------------------------------------------------

function back(error) {
  order = null;
  history.replaceState(null, "", location.pathname);
  $("result").hidden = true;
  $("form").hidden = false;
  $("photo").value = "";
  choose(null).then(() => error && complain(error));
  $("photo").focus();
}

function again() {
  ask(`orders/${order}`, { method: "DELETE" }).catch(() => {}); // gone already: all the same
  back();
}

// --- what happens -------------------------------------------------------------------------------------------------

for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && about && !order && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
$("photo").addEventListener("change", () => choose($("photo").files[0]));
$("form").addEventListener("submit", (event) => { event.preventDefault(); start(false); });
$("smaller").addEventListener("click", () => start(true));
$("dial").addEventListener("input", tellDial);
$("stop").addEventListener("click", () => ask(`orders/${order}/stop`, { method: "POST" }).then(look, (error) => say(error.message)));
$("again").addEventListener("click", again);
$("slider").addEventListener("input", slide);
$("actual").addEventListener("change", () => setActual($("actual").checked));
addEventListener("resize", fit);
setInterval(() => { if (order) fetch(`orders/${order}`).catch(() => {}); }, 60000); // still here: keep it

ask("about").then((found) => {
  about = found;
  offer();
  slide();
  if (location.hash.length > 1) follow(location.hash.slice(1));
}, complain);
