/* The parts of the decoder, kept as functions so that a worker can be made of their source.

   A page that is opened from a folder may neither import modules nor fetch files.  So every part is a classic script that
   calls ARDM.define, and `ARDM.source()` is one script of all of them, from which the page makes its worker. */
"use strict";

var ARDM = {
  parts: [],

  /* Run a part now, and keep it for the worker.  part: a function of ARDM, which adds its functions to it. */
  define(part) {
    ARDM.parts.push(part);
    part(ARDM);
  },

  /* A script that defines the same parts. */
  source() {
    const parts = ARDM.parts.map((part) => `(${part})(ARDM);`);
    return ['"use strict";', "var ARDM = {};", ...parts].join("\n");
  },
};
