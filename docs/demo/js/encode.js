/* The panel that encodes. */
"use strict";

const Encode = (() => {
  const {
    $,
    index,
    need,
    start,
    stop,
    say,
    paint,
    save,
    accept,
    bytes,
    number,
    seconds,
    readPicture,
    rgbaOf,
    thumbnails,
  } = Page;
  const MODEL = "pictures-small";
  const canvas = $("encode-canvas");
  let file = null,
    stem = "picture";

  function busy(is) {
    $("encode-stop").disabled = !is;
    $("encode-save").disabled = $("encode-check").disabled = is || !file;
  }

  /* Bars of sizes, in bytes: [name, size, ours]. */
  function compare(sizes) {
    const most = Math.max(...sizes.map(([, size]) => size));
    $("encode-bars").replaceChildren(
      ...sizes.map(([name, size, ours]) => {
        const bar = document.createElement("div"),
          label = document.createElement("span"),
          track = document.createElement("span");
        const line = document.createElement("i"),
          value = document.createElement("b");
        bar.className = ours ? "bar ours" : "bar";
        bar.setAttribute("role", "listitem");
        line.style.width = `${(100 * size) / most}%`;
        (label.append(name), value.append(number(size)), track.append(line), bar.append(label, track, value));
        return bar;
      }),
    );
    $("encode-bars").hidden = false;
  }

  /* Encode a picture.  given: its file, if it has one; sample: its name among the samples.  Settles with the new file. */
  async function encode(picture, { given = null, sample = "", name = "picture", check = 32 } = {}) {
    file = null;
    stem = name.replace(/\.[a-z0-9]+$/i, "");
    stop();
    busy(true);
    $("encode-bars").hidden = true;
    $("encode-progress").value = 0;
    try {
      paint(canvas, rgbaOf(picture), picture.width, picture.height);
      canvas.setAttribute("aria-label", `The picture, ${picture.width} by ${picture.height}`);
      say("encode", `Loading the model ${MODEL} …`);
      await need(MODEL);
      return await run(picture, given, sample, check);
    } catch (error) {
      say("encode", error.message, true);
      busy(false);
      throw error;
    }
  }

  function run(picture, given, sample, check) {
    const { planes, height, width, samples } = picture;
    return new Promise((resolve, reject) => {
      const task = {
        opened: () => say("encode", "Encoding …"),
        shown: ({ done, total }) => {
          $("encode-progress").value = done / total;
          say("encode", `${number(done)} of ${number(total)} pixels`);
        },
        failed: (line) => reject(new Error(line)),
        finished: (found) => {
          file = found.file;
          $("encode-progress").value = 1;
          const bits = (8 * file.length) / (planes * height * width),
            read = picture.exact ? "" : " The browser read its pixels.";
          say(
            "encode",
            `${bytes(file.length)}, ${bits.toFixed(2)} bits a sample, in ${seconds(found.seconds)}.${read}`,
          );
          const isPng = given && ARDM.isPng(given),
            sizes = [["ardm", file.length, true], ...Object.entries(index.sizes[sample] || {})];
          if (given) sizes.push([isPng ? "PNG, as given" : "File, as given", given.length]);
          sizes.push(["Samples", planes * height * width]);
          compare(sizes.filter(([, size]) => size));
          busy(false);
          resolve(file);
        },
      };
      start({ task: "encode", model: MODEL, check, picture: { planes, height, width, samples } }, task);
    });
  }

  const quietly = (promise) => promise.catch((error) => say("encode", error.message, true));

  async function take(chosen) {
    const given = new Uint8Array(await chosen.arrayBuffer());
    return encode(await readPicture(given), { given, name: chosen.name });
  }

  accept($("encode-file"), $("encode-drop"), (chosen) => quietly(take(chosen)));
  thumbnails($("encode-samples"), (sample, picture, given) =>
    quietly(encode(picture, { given, sample, name: sample })),
  );
  $("encode-stop").addEventListener("click", () => (stop(), busy(false), say("encode", "Stopped.")));
  $("encode-save").addEventListener("click", () => save(`${stem}.ardm`, file, "application/octet-stream"));
  $("encode-check").addEventListener("click", () => {
    const again = file;
    Page.open("decode");
    Decode.decode(again, stem).catch(() => {});
  });

  return { encode };
})();
