/* Programs along wavefronts: every place of an item is computed once, front after front.

   The key of a place is x + s·y; a front is all places of one key.  What later fronts read is kept in *rings* of the last
   fronts: maps in float64, rows that `causal_taps` reads in 16 bits, where products find them. */
"use strict";

ARDM.define(function (ardm) {
  const { ELEMENTWISE, Linear, Matrix, Refusal, Rows, Mixtures, matrices, mostOf, describe, within } = ardm;
  const cellsOf = (op) =>
    Array.from({ length: op.t.cells.shape[0] }, (_, k) => [op.t.cells.data[2 * k], op.t.cells.data[2 * k + 1]]);
  const same = (op, [a]) => a.most;

  const SPECIAL = {
    known: { most: (op, [a]) => a.most + 1, planes: (op, [a]) => a.planes },
    causal_window: { kind: "places", planes: (op, [a]) => a.planes * op.t.cells.shape[0], most: same },
    causal_taps: { kind: "places", planes: (op, [a]) => a.planes * op.t.cells.shape[0], most: same },
    at_site: { kind: "rows", most: same },
    earlier: { kind: "rows", planes: (op, inputs, C) => C, most: (op) => op.n.limit },
    pick: { planes: () => 1, most: same },
    linear: { planes: (op) => op.t.weight.shape[op.t.weight.shape.length - 1], most: (op, [a]) => mostOf(op, a) },
  };

  /* Numbers of the last fronts, in rows of places.  cells: [dy, dx] of those that a place reads. */
  class Ring {
    constructor(walk, cells) {
      Object.assign(this, { walk, count: cells.length });
      this.dy = Int32Array.from(cells, ([dy]) => dy);
      this.dx = Int32Array.from(cells, ([, dx]) => dx);
      this.fronts = 1 + Math.max(...cells.map(([dy, dx]) => -(dx + walk.slope * dy)));
      this.rows = this.fronts * walk.most;
    }

    /* The row of a place: the places of a front lie in at most `most` rows of the item, one below the other. */
    row(y, key) {
      return (key % this.fronts) * this.walk.most + (y % this.walk.most);
    }

    /* The row of cell k of a place, −1 outside. */
    cell(y, key, k) {
      const dy = this.dy[k],
        dx = this.dx[k],
        { slope, width } = this.walk,
        x = key - slope * y + dx;
      return y + dy < 0 || x < 0 || x >= width ? -1 : this.row(y + dy, key + dx + slope * dy);
    }
  }

  /* The rows around each place of maps, in float64. */
  class WindowRing extends Ring {
    constructor(walk, op, planes) {
      super(walk, cellsOf(op));
      this.planes = planes;
      this.data = new Float64Array(this.rows * planes);
    }

    put(a) {
      const { walk, planes, data } = this;
      for (let i = 0, from = 0; i < walk.count; i++)
        for (let p = 0, to = this.row(walk.first + i, walk.key) * planes; p < planes; p++) data[to++] = a[from++];
    }

    run(out) {
      const { walk, planes, data, count: n } = this;
      for (let i = 0, at = 0; i < walk.count; i++, at += planes * n)
        for (let k = 0; k < n; k++) {
          const row = this.cell(walk.first + i, walk.key, k);
          for (let p = 0; p < planes; p++) out[at + p * n + k] = row < 0 ? 0 : data[row * planes + p];
        }
    }
  }

  /* `causal_taps` and the `linear` that reads it. */
  class TapsRing extends Ring {
    constructor(walk, op, linear, a) {
      super(walk, cellsOf(op));
      [this.matrix] = matrices(walk.products, linear, a, this.count, (cell, i) => cell * a.planes + i);
      if (!(this.matrix instanceof Matrix) || this.matrix.limbs > 1)
        throw new Refusal(`Model ${walk.model.name} needs taps beyond 16 bits.`);
      this.store = new Rows(walk.products, a.planes, this.rows, walk.most, this.count);
      this.sums = walk.products.take((walk.most + 3) * this.matrix.panels * 32);
    }

    run(a, out) {
      const { walk, store, count, matrix } = this,
        { stride, nothing, data } = store,
        { words } = walk.products;
      for (let i = 0; i < walk.count; i++) store.put(a, 1, this.row(walk.first + i, walk.key), i);
      let at = store.cells / 4;
      for (let i = 0; i < walk.count; i++)
        for (let k = 0; k < count; k++) {
          const row = this.cell(walk.first + i, walk.key, k);
          words[at++] = row < 0 ? nothing : data + row * stride;
        }
      for (let i = walk.count; i % 4; i++) for (let k = 0; k < count; k++) words[at++] = nothing;
      matrix.multiply(store.cells, walk.count, this.sums, out);
    }
  }

  /* One pass over an item (C, height, width).  values (C, height · width): filled by `decode`, read by `encode`. */
  class WaveWalk {
    constructor(model, height, width, native) {
      Object.assign(this, { model, height, width, slope: model.wave, channels: model.channels });
      this.products = new ardm.Products(native);
      this.most = Math.min(height, Math.ceil(width / this.slope)); // places of a front
      this.values = new Uint16Array(model.channels * height * width);
      this.shapes = describe(model, SPECIAL);
      Object.assign(this, { held: {}, views: {}, seen: -1 });
      for (const [name, { planes }] of Object.entries(this.shapes))
        this.held[name] = new Float64Array(planes * this.most);
      this.mixtures = new Mixtures(model, this.most);
      this.sort();
      this.rewind();
    }

    rewind() {
      Object.assign(this, {
        key: -1,
        keys: this.width + this.slope * (this.height - 1),
        first: 0,
        count: 0,
        passed: 0,
      });
    }

    /* Which operations run when: on maps, on places, on rows.  A `linear` of `causal_taps` is one step with it. */
    sort() {
      const { model, shapes } = this;
      this.steps = { map: [], places: [], rows: [] };
      for (const op of model.ops) this.steps[shapes[op.out].kind].push(this.step(op));
      this.windows = this.steps.places.filter((step) => step.ring instanceof WindowRing);
    }

    step(op) {
      const { shapes, model } = this,
        a = shapes[op.inputs[0]];
      if (op.name === "causal_window") return { op, ring: new WindowRing(this, op, a.planes) };
      if (op.name === "causal_taps") {
        const readers = model.ops.filter((other) => other.inputs.includes(op.out));
        if (readers.some((other) => other.name !== "linear"))
          throw new Refusal(`Model ${model.name} reads taps in another way.`);
        return { op, skip: true };
      }
      if (op.name !== "linear") return { op };
      const taps = model.ops.find((other) => other.name === "causal_taps" && other.out === op.inputs[0]);
      if (taps) return { op, taps, ring: new TapsRing(this, taps, op, shapes[taps.inputs[0]]) };
      return { op, linear: new Linear(this.products, op, a, this.most) };
    }

    /* The numbers of the current places for a value. */
    of(name) {
      if (this.seen !== this.count) {
        this.seen = this.count;
        for (const [value, { planes }] of Object.entries(this.shapes))
          this.views[value] = this.held[value].subarray(0, planes * this.count);
      }
      return this.views[name];
    }

    /* Go to the next front; false after the last. */
    advance() {
      if (++this.key >= this.keys) return false;
      this.first = Math.max(0, Math.ceil((this.key - this.width + 1) / this.slope));
      this.count = Math.max(0, Math.min(this.height - 1, Math.floor(this.key / this.slope)) - this.first + 1);
      return true;
    }

    /* Whether the walk has passed place i of a plane. */
    knows(i) {
      return (i % this.width) + this.slope * Math.floor(i / this.width) <= this.key;
    }

    /* The index of place i of the front in a plane. */
    place(i) {
      const y = this.first + i;
      return y * this.width + this.key - this.slope * y;
    }

    /* The maps where the first `known` channels of the current places are known, the others not. */
    maps(known) {
      const { channels: C, values, model, height, width } = this,
        value = this.of("value"),
        depth = this.of("depth");
      for (let i = 0; i < this.count; i++)
        for (let c = 0, place = this.place(i); c < C; c++) {
          value[i * C + c] = c < known ? 2 * values[c * height * width + place] - (model.classes - 1) : 0;
          depth[i * C + c] = c < known ? 1 : 0;
        }
      for (const step of this.steps.map) this.run(step);
    }

    /* Add the current places, known, to the rings of maps. */
    settle() {
      this.maps(this.channels);
      for (const { op, ring } of this.windows) ring.put(this.of(op.inputs[0]));
    }

    run({ op, ring, linear, taps, skip }, channel = 0) {
      if (skip) return;
      const out = this.of(op.out),
        inputs = op.inputs.map((name) => this.of(name)),
        C = this.channels;
      if (taps) ring.run(this.of(taps.inputs[0]), out);
      else if (ring) ring.run(out);
      else if (linear) linear.run(inputs[0], this.count, channel, out);
      else if (op.name === "at_site") out.set(inputs[0]);
      else if (op.name === "pick") for (let i = 0; i < this.count; i++) out[i] = inputs[0][i * C + channel];
      else if (op.name === "known")
        inputs[0].forEach((v, i) => (out[i] = inputs[1][i] ? (v + this.model.classes - 1) / 2 : this.model.classes));
      else if (op.name === "earlier") earlier(op, inputs, out, C, channel);
      else ELEMENTWISE[op.name].run(op, inputs, out, this.count);
    }

    /* The distributions of a channel at the current places. */
    ask(channel) {
      this.maps(channel);
      for (const step of this.steps.rows) this.run(step, channel);
      const [columns, centre] = this.model.head.inputs;
      this.mixtures.load(this.of(columns), this.of(centre), this.count);
    }

    /* Whole fronts until `enough()`.  channels: that are coded; one alone is written to all.
       code(channel, stage, i): one symbol.  Returns whether something is left. */
    go(channels, code, settled, enough) {
      while (this.advance()) {
        if (!this.count) continue;
        for (const step of this.steps.places) this.run(step);
        for (const channel of channels) {
          this.ask(channel);
          for (let s = 0; s < this.mixtures.stages.length; s++)
            for (let i = 0; i < this.count; i++) code(channel, s, i);
          settled(channel);
        }
        this.settle();
        this.passed += this.count;
        if (enough()) return true;
      }
      return false;
    }

    /* Decode fronts from a source, until `enough()`; false at the end. */
    decode(source, channels, enough) {
      const { mixtures, values } = this,
        area = this.height * this.width;
      const settled = (channel) => {
        const all = channels.length > 1 ? [channel] : Array.from({ length: this.channels }, (_, c) => c);
        for (let i = 0; i < this.count; i++) for (const c of all) values[c * area + this.place(i)] = mixtures.prefix[i];
      };
      return this.go(channels, (channel, s, i) => mixtures.decode(i, s, source), settled, enough);
    }

    /* Encode `values` to an encoder, likewise. */
    encode(encoder, channels, enough) {
      const { mixtures, values } = this,
        area = this.height * this.width;
      const code = (channel, s, i) => mixtures.encode(i, s, values[channel * area + this.place(i)], encoder);
      return this.go(channels, code, () => {}, enough);
    }
  }

  function earlier(op, [v, m], out, C, channel) {
    const { fraction, by, limit } = op.n,
      half = Math.floor(2 ** by / 2);
    out.fill(0);
    for (let i = 0; i < out.length; i += C)
      for (let j = 0; j < channel; j++)
        out[i + j] = within(Math.floor((2 ** fraction * v[i + j] - m[i + j] + half) * 2 ** -by), -limit, limit);
  }

  Object.assign(ardm, { WaveWalk });
});
