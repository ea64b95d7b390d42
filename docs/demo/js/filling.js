/* Filling what is hidden, and sampling: the order of an any-order model, in as many network calls as are wanted.

   The losses of a model say what the next value costs when t are known.  The schedule of some calls is the cheapest by
   them, found exactly by dynamic programming. */
"use strict";

ARDM.define(function (ardm) {
  const { OrderWalk, Chance } = ardm;
  const SLOPE = 1e-10; // nats

  /* Where each of `calls` calls begins, 0 first: the least Σ (t − s) losses[s] over calls s..t of all schedules.

     losses: of each value, in order, not increasing.  A slope too small to matter spreads calls over equal losses.  Starts
     grow with what is to be revealed, so each row of the table is found by halving. */
  function cheapest(fitted, calls) {
    const n = fitted.length,
      back = [],
      losses = fitted.map((loss, k) => loss + (n - k) * SLOPE);
    let before = new Float64Array(n + 1).fill(Infinity),
      now = new Float64Array(n + 1);
    before[0] = 0;
    for (let k = 0; k < calls; k++) {
      const from = new Int32Array(n + 1);
      now.fill(Infinity);
      solve(k + 1, n, k, n - 1, from);
      back.push(from);
      [before, now] = [now, before];
    }
    const starts = [];
    for (let t = n, k = calls - 1; k >= 0; k--) starts.unshift((t = back[k][t]));
    const cost = starts.reduce((sum, s, k) => sum + ((k + 1 < calls ? starts[k + 1] : n) - s) * fitted[s], 0);
    return { starts, cost };

    /* now[t] for t = low … high, whose last call begins within first … last. */
    function solve(low, high, first, last, from) {
      if (low > high) return;
      const t = (low + high) >> 1;
      let best = Infinity,
        where = first;
      for (let s = first; s <= Math.min(last, t - 1); s++) {
        const cost = before[s] + (t - s) * losses[s];
        if (cost < best) ((best = cost), (where = s));
      }
      ((now[t] = best), (from[t] = where));
      solve(low, t - 1, first, where, from);
      solve(t + 1, high, where, last, from);
    }
  }

  /* The sites of an item that are hidden (C · height · width), in the order of the model: where it repeats, row by row. */
  function inOrder(model, height, width, hidden) {
    const { ranks } = model.tensors,
      [, h, w] = ranks.shape,
      area = height * width;
    const rank = (i) =>
      ranks.data[(Math.floor(i / area) * h + (Math.floor((i % area) / width) % h)) * w + ((i % width) % w)];
    const sites = [...hidden.keys()].filter((i) => hidden[i]),
      key = Float64Array.from(sites, (i) => rank(i) * hidden.length + i);
    return key.sort().map((k) => k % hidden.length);
  }

  /* The step of each site, −1 where it is known, and what the schedule costs: in nats, beside one value a call. */
  function planFilling(model, height, width, hidden, calls) {
    const sites = inOrder(model, height, width, hidden),
      all = hidden.length,
      known = all - sites.length;
    const curve = model.tensors.curve.data,
      losses = Float64Array.from(sites, (_, k) => curve[Math.floor(((known + k) * curve.length) / all)] / 65536);
    const { starts, cost } = cheapest(losses, Math.min(calls, sites.length)),
      when = new Int32Array(all).fill(-1);
    for (let k = 0, step = 0; k < sites.length; k++) {
      while (step + 1 < starts.length && starts[step + 1] <= k) step++;
      when[sites[k]] = step;
    }
    return { when, starts, cost, least: losses.reduce((sum, loss) => sum + loss, 0), count: sites.length };
  }

  /* An item being filled, step by step, with the random numbers of a seed. */
  class Filling {
    /* values, hidden (C · height · width). */
    constructor(model, { height, width, values, hidden, calls, seed, temperature = 1 }) {
      this.walk = new OrderWalk(model, height, width, null);
      this.walk.temperature = temperature;
      this.plan = planFilling(model, height, width, hidden, calls);
      this.walk.open(this.plan.when);
      const { network } = this.walk;
      hidden.forEach((is, i) => {
        if (!is) ((network.values[i] = values[i]), (network.known[i] = 1));
      });
      this.source = new Chance(seed);
      this.channels = Array.from({ length: model.channels }, (_, c) => c);
    }

    get done() {
      return this.walk.step;
    }

    get total() {
      return this.walk.steps;
    }

    /* RGBA for the screen: where some channels are known, the others show their mean, and the ground shines through. */
    pixels() {
      const {
          values,
          network: { known },
          height,
          width,
        } = this.walk,
        area = height * width,
        out = new Uint8ClampedArray(4 * area);
      const places = [0, 1, 2].map((c) => (this.channels.length > 1 ? c : 0) * area);
      for (let i = 0; i < area; i++) {
        const seen = places.filter((place) => known[place + i]),
          mean = seen.reduce((sum, place) => sum + values[place + i], 0) / (seen.length || 1);
        places.forEach((place, c) => (out[4 * i + c] = known[place + i] ? values[place + i] : mean));
        out[4 * i + 3] = 85 * seen.length;
      }
      return out;
    }

    /* Fill until `enough()`, asked after each call; whether something is left. */
    run(enough) {
      return this.walk.decode(this.source, this.channels, enough);
    }
  }

  Object.assign(ardm, { Filling });
});
