/* The golden fingerprint of a model (docs/exact.md): a network is used once it has reproduced it. */
"use strict";

ARDM.define(function (ardm) {
  const { Sha256, WaveWalk, OrderWalk, stepsOf, hex } = ardm;

  function pattern(model, values, height, width) {
    const { channels: C, classes: K } = model;
    for (let c = 0, at = 0; c < C; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++, at++)
          values[at] =
            (7 * y + 5 * x + 31 * c + 4 * ((y * x * (3 + c)) % 23) + (x > Math.floor(width / 2) ? 40 * (y % 3) : 0)) %
            K;
  }

  /* Widths as int64, little-endian. */
  function add(sha, tables) {
    for (const table of tables) {
      const bytes = new Uint8Array(8 * table.length);
      table.forEach((width, j) => {
        for (let b = 0; b < 4; b++) bytes[8 * j + b] = width >>> (8 * b);
      });
      sha.add(bytes);
    }
  }

  function along(model, sha, height, width, together) {
    const walk = new WaveWalk(model, height, width),
      area = height * width,
      stages = walk.mixtures.stages.map(() => []);
    pattern(model, walk.values, height, width);
    const code = (channel, s, i) => {
      const table = walk.mixtures.likeliest(i, s);
      if (together) stages[s][channel * area + walk.place(i)] = table;
      else add(sha, [table]);
    };
    walk.go(
      Array.from({ length: model.channels }, (_, c) => c),
      code,
      () => {},
      () => false,
    );
    stages.forEach((tables) => add(sha, tables));
  }

  function inSteps(model, sha) {
    const [height, width] = Math.max(...model.size) ? model.size : [24, 40];
    const walk = new OrderWalk(model, height, width, { calls: model.calls }),
      { network } = walk;
    const last = walk.steps - 1,
      when = walk.when,
      area = height * width;
    for (const step of new Set([Math.floor(last / 4), Math.floor(last / 2), last])) {
      pattern(model, network.values, height, width);
      when.forEach((at, i) => (network.known[i] = at < step ? 1 : 0));
      network.look();
      const asked = [...when.keys()].filter((i) => when[i] === step).slice(0, 64),
        { mixtures } = network;
      const parts = Array.from({ length: model.channels }, (_, c) =>
        asked.filter((i) => Math.floor(i / area) === c).map((i) => i % area),
      );
      const states = parts.map((sites, c) => (network.ask(c, sites), mixtures.save(sites.length)));
      for (let s = 0; s < mixtures.stages.length; s++)
        parts.forEach((sites, c) => {
          mixtures.restore(states[c]);
          add(
            sha,
            sites.map((_, r) => mixtures.likeliest(r, s)),
          );
          states[c] = mixtures.save(sites.length);
        });
    }
  }

  /* 64 hexadecimal digits, to be compared with `model.golden`. */
  function fingerprint(model) {
    const sha = new Sha256();
    if (!model.wave) inSteps(model, sha);
    else {
      along(model, sha, 12, 20, true);
      along(model, sha, 6, 9, false);
    }
    return hex(sha.digest());
  }

  Object.assign(ardm, { fingerprint });
});
