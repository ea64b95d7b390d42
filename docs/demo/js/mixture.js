/* The head: mixtures of logistics as intervals of symbols, in stages of at most 16 alternatives. */
"use strict";

ARDM.define(function (ardm) {
  const { EXP, SIGMOID, TOTAL, Refusal, within } = ardm;
  const ALL = 2 ** 44;

  function stagesOf(base) {
    const found = [];
    for (; base > 1; base = Math.ceil(base / 16)) found.unshift(Math.min(base, 16));
    return found;
  }

  /* ⌊a m / b⌋ for 0 ≤ a ≤ b < 2^38 and 0 ≤ m ≤ 2^24, where the product may leave float64. */
  function scaled(a, m, b) {
    const upper = Math.floor(m / 4096),
      lower = m % 4096,
      first = a * upper,
      quotient = Math.floor(first / b);
    return quotient * 4096 + Math.floor(((first - quotient * b) * 4096 + a * lower) / b);
  }

  /* The distributions of some sites.  A site has a prefix, its symbols so far, and the stage's values lie from F = low to
     high. */
  class Mixtures {
    constructor(model, sites) {
      const { head } = model;
      if (head.name !== "mixture")
        throw new Refusal(`Model ${model.name} has the head ${head.name}, which this page does not have.`);
      this.classes = model.classes;
      this.stages = stagesOf(model.base);
      this.M = head.n.components;
      Object.assign(this, { n: head.n, inverses: head.t.inverse.data, places: head.t.places.data });
      for (const name of ["weight", "mean", "inverse"]) this[name] = new Float64Array(this.M * sites);
      for (const name of ["prefix", "low", "high"]) this[name] = new Float64Array(sites);
    }

    /* Read what the network gives for the first `count` sites, and begin with their first stage. */
    load(columns, centre, count) {
      const { M, n, inverses, places } = this,
        half = (inverses.length - 1) / 2,
        rise = 2 ** n.rise,
        mass = new Float64Array(M);
      for (let r = 0, from = 0, at = 0; r < count; r++, from += 3 * M, at += M) {
        let most = columns[from],
          total = 0,
          rest = 16384,
          largest = 0;
        for (let m = 1; m < M; m++) most = Math.max(most, columns[from + m]);
        for (let m = 0; m < M; m++) {
          total += mass[m] = EXP[Math.min(most - columns[from + m], 767)];
          this.mean[at + m] = within(rise * centre[r] + columns[from + M + m] + places[m], -n.limit, n.limit);
          this.inverse[at + m] = inverses[within(columns[from + 2 * M + m] + half, 0, 2 * half)];
        }
        for (let m = 0; m < M; m++) {
          rest -= this.weight[at + m] = Math.floor((mass[m] * 16384) / total);
          if (this.weight[at + m] > this.weight[at + largest]) largest = m;
        }
        this.weight[at + largest] += rest;
      }
      (this.prefix.fill(0, 0, count), this.low.fill(0, 0, count), this.high.fill(ALL, 0, count));
    }

    /* The distributions and prefixes of the first `count` sites, to go on with after others. */
    save(count) {
      const { weight, mean, inverse, prefix, low, high, M } = this,
        all = { weight, mean, inverse };
      const parts = Object.entries({ ...all, prefix, low, high });
      return Object.fromEntries(parts.map(([name, a]) => [name, a.slice(0, name in all ? count * M : count)]));
    }

    restore(saved) {
      for (const [name, data] of Object.entries(saved)) this[name].set(data);
    }

    /* F at the edge before value g. */
    edge(r, g) {
      if (g <= 0) return 0;
      if (g >= this.classes) return ALL;
      const { M, n, mean, inverse, weight } = this,
        unit = 2 ** (12 - n.fraction - n.bits);
      const place = 2 ** n.fraction * (2 * g - this.classes);
      let sum = 0;
      for (let m = r * M; m < r * M + M; m++) {
        const z = within(Math.floor((place - mean[m]) * inverse[m] * unit) + 98304, 0, 196607),
          t = z >> 6,
          lower = SIGMOID[t];
        sum += weight[m] * (lower + Math.floor(((SIGMOID[t + 1] - lower) * (z & 63)) / 64));
      }
      return sum;
    }

    /* How stage s of site r splits what is left. */
    split(r, s) {
      const size = 16 ** (this.stages.length - 1 - s),
        low = this.prefix[r] * this.stages[s] * size;
      const end = Math.min(low + this.stages[s] * size, this.classes),
        count = Math.ceil((end - low) / size);
      const from = this.low[r],
        to = this.high[r],
        unit = to - from >= 2 ** 38 ? 64 : 1;
      return { r, size, low, count, from, to, unit, all: Math.floor((to - from) / unit) };
    }

    /* F at the edge before alternative j. */
    edgeOf(split, j) {
      return j <= 0 ? split.from : j >= split.count ? split.to : this.edge(split.r, split.low + j * split.size);
    }

    /* Where the interval of alternative j begins, if F is f there. */
    border(split, j, f) {
      const { count, from, unit, all } = split;
      if (j >= count) return TOTAL;
      return j + (all ? scaled(Math.floor((f - from) / unit), TOTAL - count, all) : scaled(j, TOTAL - count, count));
    }

    /* Decode the symbol of stage s of site r. */
    decode(r, s, source) {
      const split = this.split(r, s),
        slot = source.slot();
      let low = 0,
        high = split.count,
        from = split.from,
        to = split.to,
        start = 0,
        end = TOTAL;
      while (high - low > 1) {
        const middle = (low + high) >> 1,
          f = this.edgeOf(split, middle),
          border = this.border(split, middle, f);
        if (border <= slot) ((low = middle), (from = f), (start = border));
        else ((high = middle), (to = f), (end = border));
      }
      source.pop(start, end - start);
      this.descend(r, s, low, from, to);
    }

    /* Draw the whole value of site r with its probabilities to the power 1 / temperature.  For looking at only: powers of
       floats differ from machine to machine. */
    draw(r, temperature, source) {
      const edges = Float64Array.from({ length: this.classes + 1 }, (_, g) => this.edge(r, g)),
        mass = new Float64Array(this.classes);
      let total = 0;
      for (let g = 0; g < this.classes; g++) total += mass[g] = ((edges[g + 1] - edges[g]) / ALL) ** (1 / temperature);
      let left = (source.slot() / TOTAL) * total,
        value = 0;
      while (value < this.classes - 1 && left >= mass[value]) left -= mass[value++];
      this.prefix[r] = value;
    }

    /* Encode that of `value`. */
    encode(r, s, value, encoder) {
      const split = this.split(r, s),
        j = Math.floor(value / split.size) % this.stages[s];
      const from = this.edgeOf(split, j),
        to = this.edgeOf(split, j + 1),
        start = this.border(split, j, from);
      encoder.push(start, this.border(split, j + 1, to) - start);
      this.descend(r, s, j, from, to);
    }

    descend(r, s, j, from, to) {
      this.prefix[r] = this.prefix[r] * this.stages[s] + j;
      ((this.low[r] = from), (this.high[r] = to));
    }

    /* The widths of all alternatives of stage s of site r, given its prefix. */
    widths(r, s) {
      const split = this.split(r, s),
        out = new Float64Array(this.stages[s]);
      let before = 0;
      for (let j = 0; j < split.count; j++) {
        const border = this.border(split, j + 1, this.edgeOf(split, j + 1));
        ((out[j] = border - before), (before = border));
      }
      return out;
    }

    /* Go on with the first of the widest alternatives of stage s; its widths are returned. */
    likeliest(r, s) {
      const widths = this.widths(r, s),
        split = this.split(r, s),
        j = widths.indexOf(Math.max(...widths));
      this.descend(r, s, j, this.edgeOf(split, j), this.edgeOf(split, j + 1));
      return widths;
    }
  }

  Object.assign(ardm, { Mixtures });
});
