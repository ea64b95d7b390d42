/* The panel that decodes. */
"use strict";

const Decode = (() => {
  const { $, index, need, start, stop, say, paint, save, accept, number, bytes, seconds } = Page;
  const SLOW = 1500; // milliseconds that a file takes at least, if its order is to be seen
  const canvas = $("decode-canvas");
  let done = null;

  function describe({ width, height, planes, size, name, calls, check, about, regions }, length) {
    const kinds = ["", "grey", "grey, alpha", "colour", "colour, alpha"],
      pixels = width * height;
    const rows = [
      ["Picture", `${width} × ${height}, ${kinds[planes] || `${planes} planes`}, ${8 * size} bits`],
      ["File", `${bytes(length)}: ${((8 * length) / (pixels * planes)).toFixed(2)} bits a sample`],
      ["Model", name || "none: stored by classical methods"],
    ];
    if (name) rows.push(["Order", calls ? `${calls} network calls, any order` : "along wavefronts"]);
    rows.push(["Check", check ? `${check} bits${regions > 1 ? `, in ${regions} regions` : ""}` : "none"]);
    if (about.length) rows.push(["Also holds", about.join(", ")]);
    $("decode-facts").tBodies[0].replaceChildren(
      ...rows.map(([name, value]) => {
        const row = document.createElement("tr"),
          head = document.createElement("th"),
          cell = document.createElement("td");
        head.scope = "row";
        (head.append(name), cell.append(value), row.append(head, cell));
        return row;
      }),
    );
    $("decode-facts").hidden = false;
  }

  function busy(is) {
    $("decode-stop").disabled = !is;
    $("decode-save").disabled = is || !done;
  }

  /* Decode bytes and show them.  Settles when it is done, with the samples; rejects with the line that was shown. */
  async function decode(data, name = "picture") {
    done = null;
    stop();
    busy(true);
    $("decode-facts").hidden = true;
    $("decode-progress").value = 0;
    try {
      const { form, model } = ARDM.readFrame(data),
        known = index.models.find(({ short }) => short === model);
      paint(canvas, new Uint8ClampedArray(4 * form.width * form.height), form.width, form.height);
      if (known) {
        say("decode", `Loading the model ${known.name} …`);
        await need(known.name);
      }
      return await run(data, name);
    } catch (error) {
      say("decode", error.message, true);
      busy(false);
      throw error;
    }
  }

  function run(data, name) {
    let facts = null;
    return new Promise((resolve, reject) => {
      const shown = ({ pixels, done: decoded, total }) => {
        paint(canvas, pixels, facts.width, facts.height);
        $("decode-progress").value = decoded / total;
        say("decode", `${number(decoded)} of ${number(total)} pixels`);
      };
      const task = {
        opened: (found) => describe((facts = found), data.length),
        shown,
        failed: (line) => reject(new Error(line)),
        finished: (found) => {
          shown(found);
          done = { ...facts, samples: found.samples, stem: name.replace(/\.ardm$/, "") };
          const checked = facts.check ? "The check matches: every sample is exact." : "This file has no check.";
          say("decode", `Decoded in ${seconds(found.seconds)}. ${checked}`);
          canvas.setAttribute("aria-label", `The picture, ${facts.width} by ${facts.height}`);
          busy(false);
          resolve(done);
        },
      };
      start({ task: "decode", bytes: data, pace: $("decode-slow").checked ? SLOW : 0 }, task);
    });
  }

  const quietly = (promise) => promise.catch(() => {});

  accept($("decode-file"), $("decode-drop"), async (file) => {
    if (file.size > 2 ** 26)
      return say("decode", "This file is larger than 64 MiB; ardm decompress restores it.", true);
    return quietly(decode(new Uint8Array(await file.arrayBuffer()), file.name));
  });
  function offer(title, take) {
    const button = document.createElement("button");
    button.textContent = title;
    button.addEventListener("click", () => quietly(take()));
    $("decode-samples").append(button);
  }

  /* A sample picture, encoded here, so that it suits the models of this page whatever they are. */
  async function encoded(name) {
    const given = ARDM.fromBase64(index.pictures[name]);
    say("decode", "Encoding the sample first …");
    return decode(await Encode.encode({ ...ARDM.readPng(given), exact: true }, { given, sample: name, name }), name);
  }

  offer("a cat, along wavefronts", () => encoded("cat"));
  for (const [name, packed] of Object.entries(index.files)) offer(name, () => decode(ARDM.fromBase64(packed), name));
  $("decode-stop").addEventListener("click", () => (stop(), busy(false), say("decode", "Stopped.")));
  $("decode-save").addEventListener("click", async () =>
    save(`${done.stem}.png`, await ARDM.writePng(done), "image/png"),
  );

  return { decode };
})();
