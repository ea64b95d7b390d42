/* Programs on whole items, in the steps of an order: files of any-order models, filling and sampling. */
"use strict";

ARDM.define(function (ardm) {
  const { ELEMENTWISE, MAPS, Conv, Linear, Mixtures, damaged, describe, within } = ardm;
  const SITES = 256;

  /* The step of each site of an item (C, height, width): the call of a schedule that its rank falls into. */
  function stepsOf(model, height, width, starts) {
    const { ranks } = model.tensors,
      [C, h, w] = ranks.shape,
      D = ranks.data.length;
    if (starts[0] !== 0 || starts.some((t, k) => (k ? t <= starts[k - 1] : false) || t >= D))
      throw damaged("its schedule is none of its model");
    const step = new Int32Array(D),
      found = new Int32Array(C * height * width);
    for (let t = 0, k = 0; t < D; t++) {
      while (k + 1 < starts.length && starts[k + 1] <= t) k++;
      step[t] = k;
    }
    for (let c = 0, i = 0; c < C; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++, i++) found[i] = step[ranks.data[(c * h + (y % h)) * w + (x % w)]];
    return found;
  }

  /* Arrays that are used again once their values are no longer read. */
  class Arrays {
    constructor() {
      this.free = new Map();
    }

    take(length) {
      const found = this.free.get(length);
      return found && found.length ? found.pop() : new Float64Array(length);
    }

    give(array) {
      if (!this.free.has(array.length)) this.free.set(array.length, []);
      this.free.get(array.length).push(array);
    }
  }

  /* The network of a model on an item.  values (C · height · width); known: whether each is. */
  class Network {
    constructor(model, native) {
      Object.assign(this, { model, channels: model.channels });
      this.products = new ardm.Products(native);
      this.shapes = describe(model, MAPS);
      this.steps = { map: [], rows: [] };
      for (const op of model.ops) this.steps[this.shapes[op.out].kind].push(this.step(op));
      this.mixtures = new Mixtures(model, SITES);
      this.last = new Map();
      const read = new Set(this.steps.rows.flatMap(({ op }) => op.inputs));
      this.steps.map.forEach(({ op }, k) =>
        [op.out, ...op.inputs].forEach((name) => this.last.set(name, read.has(name) ? Infinity : k)),
      );
      read.forEach((name) => this.last.set(name, Infinity));
      this.bare = this.products.top;
    }

    /* A fresh item of a size. */
    open(height, width) {
      this.values = new Uint16Array(this.channels * height * width);
      this.known = new Uint8Array(this.values.length);
      if (height === this.height && width === this.width) return this;
      this.products.release(this.bare);
      Object.assign(this, { height, width, room: 0, maps: {}, shared: new Map(), arrays: new Arrays() });
      return this;
    }

    step(op) {
      const a = this.shapes[op.inputs[0]];
      if (op.name === "conv") return { op, conv: new Conv(this, op, a) };
      if (op.name === "linear") return { op, linear: new Linear(this.products, op, a, SITES) };
      return { op };
    }

    /* Memory for the sums of a product. */
    sums(count, matrix) {
      const bytes = (count + 3) * 32 * matrix.panels;
      if (!(this.room >= bytes)) ((this.room = bytes), (this.summed = this.products.take(bytes)));
      return this.summed;
    }

    /* Compute all maps that rows read, from `values` where `known`. */
    look() {
      const { channels: C, height, width, model } = this,
        area = height * width,
        size = { height, width };
      for (const { data } of Object.values(this.maps)) this.arrays.give(data);
      this.maps = {
        value: { size, data: this.arrays.take(C * area) },
        depth: { size, data: this.arrays.take(C * area) },
      };
      for (let c = 0, at = 0; c < C; c++)
        for (let i = 0; i < area; i++, at++) {
          this.maps.value.data[i * C + c] = this.known[at] ? 2 * this.values[at] - (model.classes - 1) : 0;
          this.maps.depth.data[i * C + c] = this.known[at] ? 1 : 0;
        }
      this.steps.map.forEach((step, k) => {
        this.compute(step);
        for (const name of new Set([step.op.out, ...step.op.inputs])) {
          if (this.last.get(name) !== k) continue;
          this.arrays.give(this.maps[name].data);
          delete this.maps[name];
        }
      });
    }

    compute({ op, conv }) {
      const inputs = op.inputs.map((name) => this.maps[name]),
        { planes } = this.shapes[op.out],
        rule = MAPS[op.name];
      const sizes = inputs.map((input) => input.size),
        size = rule && rule.size ? rule.size(sizes) : sizes[0];
      const data = this.arrays.take(size.height * size.width * planes),
        given = inputs.map((input) => input.data);
      if (conv) conv.run(given[0], data, size);
      else if (op.name === "known")
        given[0].forEach((v, i) => (data[i] = given[1][i] ? (v + this.model.classes - 1) / 2 : this.model.classes));
      else if (rule) rule.run(op, given, data, sizes[0], planes, size);
      else ELEMENTWISE[op.name].run(op, given, data, size.height * size.width);
      this.maps[op.out] = { size, data };
    }

    /* The distributions at sites of one channel, flat positions in a plane, at most SITES. */
    ask(channel, sites) {
      const rows = {},
        count = sites.length;
      for (const { op, linear } of this.steps.rows) {
        const { planes } = this.shapes[op.out],
          out = new Float64Array(count * planes),
          C = this.channels;
        const [a] = op.inputs.map((name) => rows[name] || this.maps[name].data);
        if (op.name === "at")
          sites.forEach((site, r) => out.set(a.subarray(site * planes, (site + 1) * planes), r * planes));
        else if (op.name === "window") this.window(op, a, sites, out);
        else if (op.name === "pick") for (let r = 0; r < count; r++) out[r] = a[r * C + channel];
        else if (op.name === "channel")
          for (let i = 0; i < out.length; i++) out[i] = a[i] + op.t.table.data[channel * planes + (i % planes)];
        else if (linear) linear.run(a, count, channel, out);
        else
          ELEMENTWISE[op.name].run(
            op,
            op.inputs.map((name) => rows[name]),
            out,
            count,
          );
        rows[op.out] = out;
      }
      const [columns, centre] = this.model.head.inputs;
      this.mixtures.load(rows[columns], rows[centre], count);
    }

    window(op, a, sites, out) {
      const { radius, step } = op.n,
        { height, width } = this,
        planes = a.length / height / width,
        side = 2 * radius + 1;
      sites.forEach((site, r) => {
        const y = Math.floor(site / width),
          x = site % width;
        for (let p = 0, at = r * planes * side * side; p < planes; p++)
          for (let i = -radius; i <= radius; i++)
            for (let j = -radius; j <= radius; j++, at++) {
              const [v, u] = [y + i * step, x + j * step],
                inside = v >= 0 && v < height && u >= 0 && u < width;
              out[at] = inside ? a[(v * width + u) * planes + p] : 0;
            }
      });
    }
  }

  /* A walk in steps.  steps: of a file; without them `open` says which site is revealed when (C · height · width), −1
     where it is known. */
  class OrderWalk {
    constructor(model, height, width, steps, native) {
      Object.assign(this, { model, height, width, temperature: 1 });
      model.network ||= new Network(model, native);
      if (!steps) return;
      const starts = steps.starts || model.starts(steps.calls);
      if (!model.tensors.ranks || !starts) throw damaged(`its model has no schedule of ${steps.calls} network calls`);
      this.open(stepsOf(model, height, width, starts));
    }

    open(when) {
      this.network = this.model.network.open(this.height, this.width);
      Object.assign(this, { when, values: this.network.values, step: 0, passed: 0 });
      this.steps = 1 + when.reduce((last, step) => Math.max(last, step), -1);
      return this;
    }

    knows(i) {
      const area = this.height * this.width,
        { known } = this.network;
      for (let c = 0; c < this.model.channels; c++) if (!known[c * area + i]) return false;
      return true;
    }

    /* The sites of the current step, for each channel. */
    sites(channels) {
      const area = this.height * this.width;
      return channels.map((channel) => {
        const found = [];
        for (let i = 0; i < area; i++) if (this.when[channel * area + i] === this.step) found.push(i);
        return { channel, found };
      });
    }

    /* Decode steps from a source until `enough()`, which is asked after each; false at the end. */
    decode(source, channels, enough) {
      for (; this.step < this.steps;) {
        const sites = this.sites(channels);
        this.reveal(sites, source, channels.length === 1);
        this.step++;
        if (sites.some(({ found }) => found.length) && enough()) return this.step < this.steps;
      }
      return false;
    }

    /* Decode the sites of a step: stage after stage, all sites of all channels in each. */
    reveal(sites, source, alone) {
      const parts = [],
        { network } = this,
        { mixtures } = network,
        area = this.height * this.width;
      if (!sites.some(({ found }) => found.length)) return;
      network.look();
      for (const { channel, found } of sites)
        for (let at = 0; at < found.length; at += SITES) parts.push({ channel, found: found.slice(at, at + SITES) });
      const states = parts.map(({ channel, found }) => (network.ask(channel, found), mixtures.save(found.length)));
      const stages = this.temperature === 1 ? mixtures.stages.length : 1;
      for (let s = 0; s < stages; s++)
        parts.forEach(({ found }, k) => {
          mixtures.restore(states[k]);
          for (let r = 0; r < found.length; r++)
            if (this.temperature === 1) mixtures.decode(r, s, source);
            else mixtures.draw(r, this.temperature, source);
          states[k] = mixtures.save(found.length);
        });
      parts.forEach(({ channel, found }, k) =>
        found.forEach((site, r) => {
          for (let c = alone ? 0 : channel; c <= (alone ? this.model.channels - 1 : channel); c++) {
            network.values[c * area + site] = states[k].prefix[r];
            network.known[c * area + site] = 1;
          }
        }),
      );
      this.passed += parts.reduce((sum, { found }) => sum + found.length, 0);
    }
  }

  Object.assign(ardm, { OrderWalk, stepsOf });
});
