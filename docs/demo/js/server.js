/* What the worker does: one task at a time, in slices, so that it can be stopped and shows how far it is. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, Model, Decoding, Encoding, Filling, fingerprint, inflate, fromBase64, hex } = ardm;
  const SLICE = 40; // milliseconds between two pictures of progress, and more for large ones
  const SHOWN = 5000; // pixels that progress may copy in a millisecond of work

  /* The frame of a file, or of an item of an archive. */
  const frameOf = ({ bytes, item }) => (item === undefined ? ardm.readFrame(bytes) : new ardm.Archive(bytes).item(item));

  /* What is worth saying about a file before it is decoded. */
  function factsOf({ frame: { form, steps, entries, pieces }, model }) {
    const { width, height, planes, size, check, origin } = form;
    const name = model && model.name,
      identity = model && hex(model.identity);
    return {
      width,
      height,
      planes,
      size,
      check,
      origin,
      calls: steps.calls,
      name,
      identity,
      regions: pieces.length,
      about: Object.keys(entries),
    };
  }

  const TASKS = {
    decode: {
      open: (given, models) =>
        new Decoding(frameOf(given), (short) => [...models.values()].find((model) => model.short === short)),
      facts: factsOf,
      shown: (job) => ({ pixels: job.pixels() }),
      result: (job) => ({ samples: job.samples }),
    },
    encode: {
      open: (given, models) => new Encoding(given.picture, models.get(given.model), given.check),
      facts: () => ({}),
      shown: () => ({}),
      result: (job) => ({ file: job.file }),
    },
    fill: {
      open: (given, models) => new Filling(models.get(given.model), given),
      facts: ({ plan: { starts, cost, least, count } }) => ({ starts, cost, least, count }),
      shown: (job) => ({ pixels: job.pixels() }),
      result: (job) => ({ values: job.walk.values, known: job.walk.network.known, pixels: job.pixels() }),
    },
  };

  const told = (error) => (error instanceof Refusal ? error.message : `This page failed: ${error.message}.`);

  /* Answer the messages of a page.  {model, short, packed, limit}: a model,
     the beginning of its identity, and its bytes.  {id, task, …}: a task, which ends the one before it.
     {stop}.  {steps}: go on with the task for as many slices, or pause it at 0.

     pace: milliseconds that a task takes at least; then a slice is a front or a call, so that the order can be seen.
     steps: how many slices there are before it pauses. */
  ardm.serve = function (scope) {
    const models = new Map();
    let current = null;

    function add({ model, short, packed, limit }) {
      const loaded = new Model(inflate(fromBase64(packed), limit));
      if (fingerprint(loaded) !== loaded.golden)
        throw new Refusal(`This browser computes other numbers than the model ${model}, so it decodes nothing.`);
      Object.assign(loaded, { name: model, short });
      models.set(model, loaded);
    }

    function begin({ id, task, pace = 0, steps = Infinity, ...given }) {
      const rules = TASKS[task],
        job = rules.open(given, models);
      current = { id, job, rules, pace, steps, spent: 0, waiting: false };
      scope.postMessage({ id, facts: rules.facts(job) });
      slice(current);
    }

    function slice(run) {
      const { id, job, rules, pace } = run,
        started = performance.now(),
        until = started + Math.max(SLICE, job.total / SHOWN);
      if (run !== current || run.waiting) return;
      try {
        if (run.steps < 1) return pause(run);
        run.steps--;
        const left = job.run(() => pace > 0 || performance.now() >= until),
          { done, total } = job;
        run.spent += performance.now() - started;
        if (!left)
          return scope.postMessage({
            id,
            done,
            total,
            seconds: run.spent / 1000,
            ...rules.shown(job),
            ...rules.result(job),
            finished: true,
          });
        scope.postMessage({ id, done, total, seconds: run.spent / 1000, ...rules.shown(job) });
        run.waiting = true;
        setTimeout(
          () => ((run.waiting = false), slice(run)),
          Math.max(0, pace / total - (performance.now() - started)),
        );
      } catch (error) {
        scope.postMessage({ id, error: told(error) });
      }
    }

    function pause({ id, job, rules }) {
      scope.postMessage({ id, done: job.done, total: job.total, ...rules.result(job), paused: true });
    }

    scope.onmessage = ({ data }) => {
      try {
        if (data.packed) (add(data), scope.postMessage({ model: data.model }));
        else if (data.stop) current = null;
        else if ("steps" in data && !data.task) current && ((current.steps = data.steps), slice(current));
        else begin(data);
      } catch (error) {
        scope.postMessage({ id: data.id, model: data.model, error: told(error) });
      }
    };
  };
});
