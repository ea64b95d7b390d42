/* The panel that fills what is erased. */
"use strict";

const Fill = (() => {
  const { $, need, start, stop, proceed, say, paint, accept, number, seconds, readPicture, rgbaOf, thumbnails } = Page;
  const MODEL = "cifar10-any-order";
  const canvas = $("fill-canvas"),
    plan = $("fill-plan");
  const PACE = 25; // milliseconds a call at least
  let size = 32,
    original = null,
    values = null,
    hidden = null,
    cursor = null,
    job = null,
    seed = 1,
    source = null;

  const calls = () => Math.round(500 ** ($("fill-calls").value / 100));
  const area = () => size * size;

  /* --- the picture -------------------------------------------------------------------------------------------------------- */

  /* A square of a picture, drawn at the size that is filled: (3, size, size). */
  function scaled(picture) {
    const side = Math.min(picture.width, picture.height),
      from = document.createElement("canvas"),
      to = document.createElement("canvas");
    paint(from, rgbaOf(picture), picture.width, picture.height);
    to.width = to.height = size;
    const context = to.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(from, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, size, size);
    const rgba = context.getImageData(0, 0, size, size).data,
      out = new Uint8Array(3 * area());
    for (let c = 0; c < 3; c++) for (let i = 0; i < area(); i++) out[c * area() + i] = rgba[4 * i + c];
    return out;
  }

  function show(picture) {
    source = picture;
    stopped();
    original = scaled(picture);
    restore();
  }

  function restore() {
    stopped();
    values = Uint8Array.from(original);
    hidden = new Uint8Array(area());
    draw();
    say("fill", "Erase something.");
  }

  /* The picture, transparent where it is hidden, and the eraser. */
  function draw() {
    const rgba = rgbaOf({ planes: 3, height: size, width: size, samples: values });
    for (let i = 0; i < area(); i++) if (hidden[i]) rgba.fill(0, 4 * i, 4 * i + 4);
    paint(canvas, rgba, size, size);
    if (cursor && document.activeElement === canvas) {
      const context = canvas.getContext("2d");
      context.fillStyle = "rgba(20, 160, 140, 0.55)";
      each(cursor, (i) => context.fillRect(i % size, Math.floor(i / size), 1, 1));
    }
    become("idle");
    chart(null);
  }

  /* Pixels under the eraser at [y, x]. */
  function each([y, x], take) {
    const side = Number($("fill-brush").value),
      first = Math.floor(side / 2);
    for (let v = y - first; v < y - first + side; v++)
      for (let u = x - first; u < x - first + side; u++)
        if (v >= 0 && v < size && u >= 0 && u < size) take(v * size + u);
  }

  function erase(place) {
    if (!hidden) return;
    stopped();
    each(place, (i) => (hidden[i] = 1));
    draw();
    say("fill", `${number(3 * hidden.reduce((sum, is) => sum + is, 0))} values are hidden.`);
  }

  /* --- the plan ----------------------------------------------------------------------------------------------------------- */

  /* How many values each call reveals; those of calls that are done in colour. */
  function chart(shown) {
    const context = plan.getContext("2d"),
      { width, height } = plan,
      style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, width, height);
    if (!shown || !shown.facts) return;
    const { starts, count } = shown.facts,
      sizes = starts.map((t, k) => (k + 1 < starts.length ? starts[k + 1] : count) - t);
    const most = Math.max(...sizes),
      wide = width / sizes.length;
    sizes.forEach((revealed, k) => {
      const tall = Math.max(1, (revealed / most) * (height - 2));
      context.fillStyle = style.getPropertyValue(k < shown.done ? "--accent" : "--bar");
      context.fillRect(k * wide, height - tall, Math.max(1, wide - (wide > 4 ? 1.5 : 0)), tall);
    });
  }

  /* --- filling ------------------------------------------------------------------------------------------------------------ */

  const BUTTON = { idle: "Complete", running: "Pause", paused: "Continue" };

  function become(state) {
    job = state === "idle" ? null : { facts: null, done: 0, ...job, state };
    $("fill-run").textContent = BUTTON[state];
    const none = !job && !hidden.includes(1);
    $("fill-run").disabled = none;
    $("fill-step").disabled = none || state === "running";
  }

  /* End what is being filled; what is not finished stays as it was. */
  function stopped() {
    if (!job) return;
    stop();
    become("idle");
  }

  function report({ facts }, { total, seconds: spent }) {
    const more = 100 * (facts.cost / facts.least - 1);
    const cost = more < 0.05 ? "no more bits" : `${more < 10 ? more.toFixed(1) : Math.round(more)} % more bits`;
    say(
      "fill",
      `${number(facts.count)} values in ${total} network calls, ${seconds(spent)}. By its loss curve, the schedule costs ${cost} than one value a call.`,
    );
  }

  /* Complete what is hidden; steps: the calls before it pauses.  Settles with the values (3, size, size) once complete. */
  async function complete({
    steps = Infinity,
    temperature = $("fill-temperature").value / 100,
    count = calls(),
    chance = seed++,
  } = {}) {
    stopped();
    say("fill", `Loading the model ${MODEL} …`);
    await need(MODEL);
    const all = Uint8Array.from({ length: 3 * area() }, (_, i) => hidden[i % area()]);
    become("running");
    return new Promise((resolve, reject) => {
      const shown = ({ pixels, done, total, seconds: spent }) => {
        job.done = done;
        paint(canvas, pixels, size, size);
        $("fill-progress").value = done / total;
        if (spent) say("fill", `Call ${done} of ${total}, ${seconds(spent / done)} each`);
        chart(job);
      };
      start(
        {
          task: "fill",
          model: MODEL,
          height: size,
          width: size,
          values,
          hidden: all,
          calls: count,
          seed: chance,
          temperature,
          pace: PACE * count,
          steps,
        },
        {
          opened: (facts) => (job.facts = facts),
          shown,
          paused: (found) => (shown(found), become("paused")),
          failed: (line) => (become("idle"), reject(new Error(line))),
          finished: (found) => {
            const ended = job;
            shown(found);
            values = Uint8Array.from(found.values);
            hidden.fill(0);
            become("idle");
            report(ended, found);
            resolve({ ...found, ...ended.facts });
          },
        },
      );
    });
  }

  /* What the button does now. */
  function press(steps) {
    if (!job) return quietly(complete({ steps }));
    if (job.state === "running") return proceed(0);
    become("running");
    return proceed(steps);
  }

  const quietly = (promise) => promise.catch((error) => say("fill", error.message, true));

  /* --- mouse, touch and keys ---------------------------------------------------------------------------------------------- */

  function placeOf(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [Math.floor(((event.clientY - top) / height) * size), Math.floor(((event.clientX - left) / width) * size)];
  }

  canvas.addEventListener(
    "pointerdown",
    (event) => (canvas.setPointerCapture(event.pointerId), (cursor = null), erase(placeOf(event))),
  );
  canvas.addEventListener("pointermove", (event) => event.buttons && erase(placeOf(event)));
  canvas.addEventListener("keydown", (event) => {
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [
      0, 0,
    ];
    const inside = (k) => Math.max(0, Math.min(size - 1, k));
    cursor ||= [size / 2, size / 2];
    if (dy || dx) cursor = [inside(cursor[0] + dy), inside(cursor[1] + dx)];
    else if (event.key === " ") erase(cursor);
    else if (event.key === "Enter" && !$("fill-run").disabled) press(Infinity);
    else return undefined;
    event.preventDefault();
    return job ? undefined : draw();
  });
  canvas.addEventListener("blur", () => job || draw());

  for (const name of ["brush", "calls", "temperature"]) {
    const tell = () => {
      const value = $(`fill-${name}`).value;
      $(`fill-${name}-out`).textContent =
        name === "calls" ? calls() : name === "temperature" ? (value / 100).toFixed(2) : value;
    };
    $(`fill-${name}`).addEventListener("input", tell);
    tell();
  }
  for (const input of document.getElementsByName("fill-size"))
    input.addEventListener("change", () => ((size = Number(input.value)), show(source)));
  $("fill-run").addEventListener("click", () => press(Infinity));
  $("fill-step").addEventListener("click", () => press(1));
  $("fill-all").addEventListener(
    "click",
    () => (stopped(), hidden.fill(1), draw(), say("fill", "Everything is hidden: complete it, and the model draws.")),
  );
  $("fill-restore").addEventListener("click", restore);
  accept($("fill-file"), canvas, async (file) =>
    quietly((async () => show(await readPicture(new Uint8Array(await file.arrayBuffer()))))()),
  );
  thumbnails($("fill-samples"), (name, picture) => show(picture));
  document.addEventListener("opened", ({ detail }) => {
    if (detail === "fill" && !original) show(ARDM.readPng(ARDM.fromBase64(Page.index.pictures.cat)));
  });

  /* Begin with given values and hidden pixels, for a script. */
  function load(side, given, erased) {
    stopped();
    ((size = side), (original = Uint8Array.from(given)), restore());
    hidden = Uint8Array.from(erased);
    draw();
  }

  return { complete, load };
})();
