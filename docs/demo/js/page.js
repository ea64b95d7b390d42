/* The page: tabs, the worker, models that are loaded when they are needed, and what all panels share. */
"use strict";

const Page = (() => {
  const $ = (id) => document.getElementById(id);
  const index = {};
  const models = new Map(); // name → promise, settled once the worker has proved the model
  const tasks = new Map(); // id → what hears of it
  let worker = null,
    last = 0;

  /* What the scripts of the data call. */
  ARDM.receiveIndex = (found) => Object.assign(index, found);
  ARDM.receiveModel = (name, packed) =>
    send({ model: name, packed, short: describe(name).short, limit: describe(name).bytes });

  const describe = (name) => index.models.find((model) => model.name === name);

  /* --- the worker ------------------------------------------------------------------------------------------------------- */

  function send(message, moved = []) {
    if (!worker) {
      const source = new Blob([ARDM.source(), "\nARDM.serve(self);"], { type: "text/javascript" });
      worker = new Worker(URL.createObjectURL(source));
      worker.onmessage = ({ data }) => hear(data);
      worker.onerror = (event) => hear({ id: last, error: `This page failed: ${event.message}.` });
    }
    worker.postMessage(message, moved);
  }

  function hear(data) {
    if (data.model !== undefined) return models.get(data.model).settle(data.error);
    const task = tasks.get(data.id);
    if (!task) return;
    if (data.error) task.failed(data.error);
    else if (data.facts) task.opened(data.facts);
    else if (data.finished) task.finished(data);
    else if (data.paused) task.paused(data);
    else task.shown(data);
    if (data.error || data.finished) tasks.delete(data.id);
  }

  /* The model of a name, in the worker: its script is added to the page once. */
  function need(name) {
    if (!models.has(name)) {
      const waiting = {};
      waiting.promise = new Promise((resolve, reject) => {
        waiting.settle = (error) => (error ? reject(new Error(error)) : resolve(name));
      });
      models.set(name, waiting);
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => waiting.settle(`The file data/${name}.js is missing beside this page.`);
      document.head.append(script);
      waiting.promise.then(prove, () => models.delete(name));
    }
    return models.get(name).promise;
  }

  function prove() {
    const names = [...models.keys()].map((name) => `<code>${name}</code>`).join(", ");
    $("proof").innerHTML =
      `Proved in this browser: ${names}. Each reproduced its <a href="../exact/index.html#the-file-of-a-model">golden fingerprint</a>.`;
  }

  /* Start a task of the worker, which ends the one before it.  task: {opened, shown, finished, failed}. */
  function start(message, task, moved = []) {
    stop();
    const id = ++last;
    tasks.set(id, task);
    send({ ...message, id }, moved);
    return id;
  }

  function stop() {
    tasks.clear();
    if (worker) send({ stop: true });
  }

  /* Go on with the current task for as many slices; 0 pauses it. */
  const proceed = (steps) => send({ steps });

  /* --- for all panels --------------------------------------------------------------------------------------------------- */

  const number = (n) => n.toLocaleString("en").replace(/,/g, "\u202f");
  const bytes = (n) => `${number(n)} bytes`;
  const seconds = (s) => (s < 1 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`);

  function say(panel, line, bad = false) {
    const status = $(`${panel}-status`);
    status.textContent = line;
    status.classList.toggle("bad", bad);
    status.dataset.state = bad ? "bad" : "";
  }

  function paint(canvas, pixels, width, height) {
    if (canvas.width !== width || canvas.height !== height) ((canvas.width = width), (canvas.height = height));
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  }

  function save(name, data, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([data], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /* Call `take(file)` for a file chosen or dropped. */
  function accept(input, area, take) {
    input.addEventListener("change", () => input.files[0] && (take(input.files[0]), (input.value = "")));
    for (const kind of ["dragenter", "dragover"])
      area.addEventListener(kind, (event) => (event.preventDefault(), area.classList.add("over")));
    for (const kind of ["dragleave", "drop"]) area.addEventListener(kind, () => area.classList.remove("over"));
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    });
  }

  /* A picture as {planes, height, width, samples, exact}: of a PNG as its bytes say; of others as the browser reads them. */
  async function readPicture(data) {
    if (ARDM.isPng(data)) {
      const found = ARDM.readPng(data);
      if (found) return { ...found, exact: true };
    }
    let bitmap;
    try {
      bitmap = await createImageBitmap(new Blob([data]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch (error) {
      throw new ARDM.Refusal("This browser reads no picture in this file.");
    }
    const { width, height } = bitmap;
    if (width * height > 2 ** 22)
      throw new ARDM.Refusal(`This picture has ${width} × ${height} pixels; this page takes at most 4 million.`);
    const canvas = Object.assign(document.createElement("canvas"), { width, height }),
      context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return { ...planesOf(context.getImageData(0, 0, width, height).data, width, height), exact: false };
  }

  /* RGBA to one plane where it is grey, three where it is opaque, else four. */
  function planesOf(rgba, width, height) {
    const area = width * height;
    let grey = true,
      opaque = true;
    for (let i = 0; i < rgba.length; i += 4) {
      if (rgba[i] !== rgba[i + 1] || rgba[i] !== rgba[i + 2]) grey = false;
      if (rgba[i + 3] !== 255) opaque = false;
    }
    const planes = opaque ? (grey ? 1 : 3) : 4,
      samples = new Uint8Array(planes * area);
    for (let c = 0; c < planes; c++) for (let i = 0; i < area; i++) samples[c * area + i] = rgba[4 * i + c];
    return { planes, height, width, samples };
  }

  function rgbaOf({ planes, height, width, samples }) {
    const area = width * height,
      out = new Uint8ClampedArray(4 * area);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) out[4 * i + c] = samples[(planes >= 3 ? c : 0) * area + i];
      out[4 * i + 3] = planes % 2 ? 255 : samples[(planes - 1) * area + i];
    }
    return out;
  }

  /* Buttons with the sample pictures; take(name, picture). */
  function thumbnails(place, take) {
    for (const [name, packed] of Object.entries(index.pictures)) {
      const picture = ARDM.readPng(ARDM.fromBase64(packed)),
        button = document.createElement("button");
      const canvas = document.createElement("canvas");
      paint(canvas, rgbaOf(picture), picture.width, picture.height);
      button.append(canvas);
      button.title = `${name}, ${picture.width} × ${picture.height}`;
      button.setAttribute("aria-label", `Sample picture: ${name}`);
      button.addEventListener("click", () =>
        place.querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", one === button)),
      );
      button.addEventListener("click", () => take(name, { ...picture, exact: true }, ARDM.fromBase64(packed)));
      place.append(button);
    }
  }

  /* --- tabs ------------------------------------------------------------------------------------------------------------- */

  const tabs = [...document.querySelectorAll('[role="tab"]')];

  function open(name) {
    for (const tab of tabs) {
      const chosen = tab.getAttribute("aria-controls") === name;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !chosen;
    }
    history.replaceState(null, "", `#${name}`);
    document.dispatchEvent(new CustomEvent("opened", { detail: name }));
  }

  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => open(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", ({ key }) => {
      const next = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: tabs.length - 1 }[key];
      if (next === undefined) return;
      const to = tabs[(next + tabs.length) % tabs.length];
      to.focus();
      to.click();
    });
  });
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  addEventListener("DOMContentLoaded", () => {
    const name = location.hash.slice(1);
    open(tabs.some((tab) => tab.getAttribute("aria-controls") === name) ? name : "decode");
  });

  return {
    $,
    index,
    need,
    start,
    stop,
    proceed,
    number,
    bytes,
    seconds,
    say,
    paint,
    save,
    accept,
    readPicture,
    rgbaOf,
    thumbnails,
    open,
  };
})();
