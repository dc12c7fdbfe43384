"use strict";
// Sends a scan, follows its job, and shows image and mask with NiiVue.
(() => {
  const at = (id) => document.getElementById(id);
  const form = at("send");
  const colours = JSON.parse(at("colours").textContent);
  let starting = null; // promise of the viewer, created on first use
  let job = null; // id of the job that is shown

  const headers = () => (form.token.value ? { authorization: `Bearer ${form.token.value}` } : {});
  const ask = async (path, options = {}) => {
    const answer = await fetch(path, { ...options, headers: headers() });
    if (answer.status === 401) at("secret").hidden = false;
    if (!answer.ok) throw Object.assign(new Error((await answer.json()).detail), { status: answer.status });
    return answer;
  };
  const say = (text, wrong = false) => {
    at("said").textContent = text;
    at("said").className = wrong ? "notice" : "quiet";
  };

  const models = async () => {
    try {
      const found = await (await ask("models")).json();
      form.model.replaceChildren(...Object.keys(found).map((name) => new Option(name)));
      say("");
    } catch (error) {
      say(error.message, error.status !== 503);
      if (error.status === 503) setTimeout(models, 2000); // they are being loaded
    }
  };

  const follow = async (id) => {
    const reader = (await ask(`jobs/${id}/events`)).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", told = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return told;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        told = JSON.parse(part.slice("data: ".length));
        at("progress").value = told.progress;
        say(told.state === "queued" ? "Waiting." : told.state === "running" ? "Predicting." : "");
      }
    }
  };

  const send = async (files) => {
    if (!files.length) return;
    clear();
    try {
      const body = new FormData();
      for (const file of files) body.append("file", file);
      say("Sending.");
      at("progress").hidden = false;
      const asked = new URLSearchParams({ preview: true, model: form.model.value, format: form.format.value });
      job = (await (await ask(`jobs?${asked}`, { method: "POST", body })).json()).id;
      at("cancel").hidden = false;
      const told = await follow(job);
      if (told.state !== "done") throw new Error(told.detail || `The scan was ${told.state}.`);
      say(`Predicted in ${told.seconds} s. ${told.notes.join(" ")}`);
      list(told.volumes_ml);
      await link();
      await view();
    } catch (error) {
      say(error.message, true);
    }
    at("cancel").hidden = true;
    at("progress").hidden = true;
  };

  const clear = () => {
    for (const id of ["mask", "structures", "stage", "faint"]) at(id).hidden = true;
    if (job) ask(`jobs/${job}`, { method: "DELETE" }).catch(() => {}); // forgotten already
    job = null;
    at("progress").value = 0;
  };

  const list = (volumes) => {
    const rows = Object.entries(volumes).map(([name, volume], index) => {
      const row = document.createElement("tr"), head = document.createElement("td"), cell = document.createElement("td");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${colours[(index + 1) % colours.length]})`;
      head.append(swatch, ` ${name}`);
      cell.textContent = volume;
      row.append(head, cell);
      return row;
    });
    at("volumes").tBodies[0].replaceChildren(...rows);
    at("structures").hidden = false;
  };

  const link = async () => {
    const answer = await ask(`jobs/${job}/mask?format=${form.format.value}`);
    const [, name] = answer.headers.get("content-disposition").match(/filename="([^"]+)"/);
    URL.revokeObjectURL(at("mask").href);
    at("mask").href = URL.createObjectURL(await answer.blob());
    at("mask").download = name;
    at("mask").hidden = false;
  };

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };

  // The content security policy lists the hash of this script and allows no other to be inserted.
  const start = async () => {
    const script = document.createElement("script");
    script.type = "module";
    script.textContent = await (await ask("niivue.js")).text();
    const Niivue = await new Promise((found, failed) => {
      addEventListener("niivue", (event) => found(event.detail), { once: true });
      addEventListener("securitypolicyviolation", () => failed(new Error("its script was blocked")), { once: true });
      document.head.append(script);
    });
    const viewer = new Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, show3Dcrosshair: false, backColor: [0, 0, 0, 1],
      crosshairColor: [1, 1, 1, 0.6], crosshairWidthUnit: "mm", crosshairGap: 6,
      multiplanarShowRender: 1, loadingText: "", logLevel: "error", dragAndDropEnabled: false,
    });
    const canvas = document.createElement("canvas");
    at("stage").append(canvas);
    await viewer.attachToCanvas(canvas);
    return viewer;
  };

  const view = async () => {
    const data = await (await ask(`jobs/${job}/preview`)).json();
    if (data === null) return; // a 2D image
    at("stage").hidden = false;
    try {
      const viewer = await (starting ??= start());
      const files = ["image", "prediction"].map(async (name) => ({ url: await unpack(data[name]), name: `${name}.nii` }));
      await viewer.loadVolumes(await Promise.all(files));
      const channel = (index) => colours.map((colour) => colour[index]);
      const opaque = colours.map((_, index) => (index ? 255 : 0));
      viewer.volumes[1].setColormapLabel({ R: channel(0), G: channel(1), B: channel(2), A: opaque, I: colours.map((_, i) => i) });
      viewer.setOpacity(1, Number(at("faint").querySelector("input").value));
      viewer.opts.crosshairWidth = data.extent * 0.005; // about one pixel
      viewer.scene.crosshairPos = viewer.mm2frac(data.centre);
      viewer.updateGLVolume();
      at("faint").hidden = false;
      at("stage").dataset.shown = job;
    } catch (error) {
      starting = null;
      at("stage").hidden = true;
      say(`The viewer could not start (${error.message}). The mask can be downloaded.`, true);
    }
  };

  at("scan").addEventListener("change", () => send([...at("scan").files]));
  at("drop").addEventListener("dragover", (event) => event.preventDefault());
  at("drop").addEventListener("drop", (event) => {
    event.preventDefault();
    send([...event.dataTransfer.files]);
  });
  at("drop").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") at("scan").click();
  });
  at("cancel").addEventListener("click", () => ask(`jobs/${job}`, { method: "DELETE" }).catch((error) => say(error.message, true)));
  at("faint").addEventListener("input", async (event) => (await starting)?.setOpacity(1, Number(event.target.value)));
  form.token.addEventListener("change", models);
  form.format.addEventListener("change", () => {
    if (!at("mask").hidden) link().then(() => say(""), (error) => say(error.message, true)); // as for DICOM SEG of a NIfTI file
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("pagehide", clear);
  models();
})();
