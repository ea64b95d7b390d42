/* The panel that decodes. */
"use strict";

const Decode = (() => {
  const { $, index, need, start, stop, say, paint, save, accept, number, bytes, seconds } = Page;
  const SLOW = 1500; // milliseconds that a file takes at least, if its order is to be seen
  const canvas = $("decode-canvas");
  const LISTED = 500; // items of an archive that are listed
  const list = $("decode-items");
  let done = null;

  /* facts of a file, or of an item of an archive: {title, bytes}. */
  function describe({ width, height, planes, size, name, calls, check, about, regions }, { title, bytes: length }) {
    const kinds = ["", "grey", "grey, alpha", "colour", "colour, alpha"],
      pixels = width * height;
    const rows = [
      ["Picture", `${width} × ${height}, ${kinds[planes] || `${planes} planes`}, ${8 * size} bits`],
      [title, `${bytes(length)}: ${((8 * length) / (pixels * planes)).toFixed(2)} bits a sample`],
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

  /* Decode bytes and show them; of an archive, list its items and show the first picture.  Settles when it is done, with the
     samples; rejects with the line that was shown. */
  async function decode(data, name = "picture") {
    list.hidden = true;
    if (!ARDM.isArchive(data)) return show({ bytes: data }, () => ARDM.readFrame(data), name, "File", data.length);
    try {
      return await pick(data, new ARDM.Archive(data));
    } catch (error) {
      say("decode", error.message, true);
      throw error;
    }
  }

  /* List the items of an archive, and show the first picture. */
  function pick(data, archive) {
    const named = (k) => (archive.names ? archive.names[k] : `${archive.header.lines ? "line" : "item"} ${k}`),
      all = Array.from({ length: archive.length }, (_, k) => k),
      pictures = all.filter((k) => archive.form(k).kind === "image");
    const open = (k) => {
      list.querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", one.value === String(k)));
      const title = `Item ${k + 1} of ${archive.length}`,
        stem = named(k).split("/").pop();
      return show({ bytes: data, item: k }, () => archive.item(k), stem, title, archive.bytes(k).length);
    };
    const rows = [...pictures, ...all.filter((k) => archive.form(k).kind !== "image")].slice(0, LISTED).map((k) => {
      const form = archive.form(k),
        row = document.createElement("li"),
        about = document.createElement("span");
      const name = document.createElement(form.kind === "image" ? "button" : "span");
      name.append(named(k));
      about.append(form.kind === "image" ? `${form.width} × ${form.height}` : archive.entry(k) || ARDM.kindOf(form));
      if (form.kind === "image") ((name.value = k), name.addEventListener("click", () => quietly(open(k))));
      row.append(name, about);
      return row;
    });
    if (archive.length > LISTED) {
      const row = document.createElement("li");
      row.append(`and ${number(archive.length - LISTED)} more, which ardm list -v shows`);
      rows.push(row);
    }
    list.replaceChildren(...rows);
    list.hidden = false;
    if (!pictures.length) throw new ARDM.Refusal("This archive holds no pictures. ardm extract restores its items.");
    return open(pictures[0]);
  }

  /* Decode a picture.  given: what the worker gets; read: its frame. */
  async function show(given, read, name, title, length) {
    done = null;
    stop();
    busy(true);
    $("decode-facts").hidden = true;
    $("decode-progress").value = 0;
    try {
      const { form, model } = read(),
        known = index.models.find(({ short }) => short === model);
      paint(canvas, new Uint8ClampedArray(4 * form.width * form.height), form.width, form.height);
      if (known) {
        say("decode", `Loading the model ${known.name} …`);
        await need(known.name);
      }
      return await run(given, name, { title, bytes: length });
    } catch (error) {
      say("decode", error.message, true);
      busy(false);
      throw error;
    }
  }

  function run(given, name, about) {
    let facts = null;
    return new Promise((resolve, reject) => {
      const shown = ({ pixels, done: decoded, total }) => {
        paint(canvas, pixels, facts.width, facts.height);
        $("decode-progress").value = decoded / total;
        say("decode", `${number(decoded)} of ${number(total)} pixels`);
      };
      const task = {
        opened: (found) => describe((facts = found), about),
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
      start({ task: "decode", ...given, pace: $("decode-slow").checked ? SLOW : 0 }, task);
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
