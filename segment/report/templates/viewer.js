"use strict";
// Slices and volumes of the scans that are embedded in the page, shown by NiiVue.
(() => {
  const section = document.getElementById("viewer");
  if (!section) return;
  const { colours } = JSON.parse(document.getElementById("viewer-labels").textContent);
  const note = section.querySelector(".note");
  const stage = section.querySelector(".stage");
  const where = section.querySelector(".where");
  const opacity = section.querySelector("input[type=range]");
  const MULTIPLANAR = 3, RENDER = 4;
  const SLICE_OF_KEY = {
    ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1], // axial slices
    ArrowRight: [1, 0, 0], ArrowLeft: [-1, 0, 0], // sagittal
    PageUp: [0, 1, 0], PageDown: [0, -1, 0], // coronal
  };
  const ROTATION_OF_KEY = { ArrowUp: [0, 10], ArrowDown: [0, -10], ArrowRight: [10, 0], ArrowLeft: [-10, 0] };
  const state = { scan: 0, masks: "both", view: "slices" };
  let starting = null; // promise of the viewer, created on first use
  let shown = null; // index of the visible scan
  let drawing = Promise.resolve(); // resolves when the last selection is drawn

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };

  // The content security policy lists the hash of this script and allows no other to be inserted.
  const niivue = async () => {
    const text = new TextDecoder().decode(await unpack(document.getElementById("niivue").textContent));
    return new Promise((found, failed) => {
      addEventListener("niivue", (event) => found(event.detail), { once: true });
      addEventListener("securitypolicyviolation", () => failed(new Error("its script was blocked")), { once: true });
      const script = document.createElement("script");
      script.type = "module";
      script.textContent = text;
      document.head.append(script);
    });
  };

  const start = async () => {
    const Niivue = await niivue();
    const viewer = new Niivue({
      isRadiologicalConvention: true, // the patient's left on the right, as in the pictures
      sagittalNoseLeft: true,
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 1, 1, 0.6],
      crosshairWidthUnit: "mm",
      crosshairGap: 6,
      show3Dcrosshair: false,
      multiplanarShowRender: 1,
      tileMargin: 2,
      loadingText: "",
      logLevel: "error",
      dragAndDropEnabled: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
    });
    // With both masks the prediction is an outline; NiiVue has one outline setting for all volumes, read when drawing each.
    const refresh = viewer.refreshLayers.bind(viewer);
    viewer.refreshLayers = (volume, layer) => {
      viewer.opts.atlasOutline = state.masks === "both" && volume.name === "prediction.nii" ? 1 : 0;
      return refresh(volume, layer);
    };
    viewer.onLocationChange = ({ mm }) => {
      const [x, y, z] = [...mm].slice(0, 3).map((value) => value.toFixed(1));
      where.textContent = `Crosshair: x ${x}, y ${y}, z ${z} mm (right, anterior, superior)`;
    };
    const canvas = document.createElement("canvas");
    stage.append(canvas);
    await viewer.attachToCanvas(canvas);
    return viewer;
  };

  const opacities = () => {
    const value = Number(opacity.value);
    const both = state.masks === "both";
    return [
      state.view === "volume" ? 0.25 : 1,
      state.masks === "prediction" ? 0 : value,
      state.masks === "reference" ? 0 : both && state.view === "slices" ? Math.min(value, 0.02) : value,
    ];
  };

  const apply = (viewer) => {
    opacities().forEach((value, index) => { viewer.volumes[index].opacity = value; });
    viewer.opts.sliceType = state.view === "volume" ? RENDER : MULTIPLANAR;
    viewer.updateGLVolume();
  };

  const load = async (viewer, index) => {
    const data = JSON.parse(document.getElementById(`volumes-${index}`).textContent);
    const names = ["image", "reference", "prediction"];
    const files = await Promise.all(names.map(async (name) => ({ url: await unpack(data[name]), name: `${name}.nii` })));
    await viewer.loadVolumes(files); // buffers instead of URLs: nothing is fetched
    for (const volume of viewer.volumes.slice(1)) volume.setColormapLabel(lut());
    viewer.opts.crosshairWidth = data.extent * 0.005; // about one pixel
    viewer.scene.crosshairPos = viewer.mm2frac(data.centre);
    shown = index;
  };

  const lut = () => ({
    R: colours.map(([red]) => red),
    G: colours.map(([, green]) => green),
    B: colours.map(([, , blue]) => blue),
    A: colours.map((_, index) => (index ? 255 : 0)),
    I: colours.map((_, index) => index),
  });

  const draw = async () => {
    const viewer = await (starting ??= start());
    if (shown !== state.scan) await load(viewer, state.scan);
    apply(viewer);
    viewer.createOnLocationChange();
    viewer.drawScene();
    section.dataset.shown = [shown, state.masks, state.view, opacity.value].join(" ");
    note.hidden = true;
  };

  const show = () => {
    for (const button of section.querySelectorAll("button[data-key]")) {
      const { key, value } = button.dataset;
      button.setAttribute("aria-pressed", String(String(state[key]) === value));
    }
    // Sequentially: volumes of two scans must not be mixed.
    drawing = drawing.then(draw).catch((error) => {
      stage.hidden = true;
      note.hidden = false;
      note.textContent = `The viewer could not start (${error.message}). The pictures above show the same scans.`;
    });
  };

  const choose = (key, value) => {
    state[key] = value;
    show();
  };

  const steer = async (event) => {
    const moves = state.view === "volume" ? ROTATION_OF_KEY : SLICE_OF_KEY;
    const move = moves[event.key];
    if (event.key !== "Tab") event.stopPropagation(); // NiiVue has its own keys
    if (!move || event.ctrlKey || event.altKey || event.metaKey || shown === null) return;
    event.preventDefault();
    const viewer = await starting;
    if (state.view === "slices") viewer.moveCrosshairInVox(...move);
    else viewer.setRenderAzimuthElevation(viewer.scene.renderAzimuth + move[0], viewer.scene.renderElevation + move[1]);
  };

  const scan = (value) => choose("scan", Number(value));

  const connect = () => {
    for (const button of section.querySelectorAll("button[data-key]")) {
      const { key, value } = button.dataset;
      button.addEventListener("click", () => (key === "scan" ? scan(value) : choose(key, value)));
    }
    opacity.addEventListener("input", show);
    stage.addEventListener("keydown", steer, { capture: true });
    for (const row of document.querySelectorAll("tr[data-scan]")) {
      const cell = row.cells[0];
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Show in the viewer";
      button.append(...cell.childNodes);
      cell.append(button);
      row.addEventListener("click", () => {
        scan(row.dataset.scan);
        section.scrollIntoView({ block: "start" });
        stage.focus({ preventScroll: true });
      });
    }
  };

  if (!document.createElement("canvas").getContext("webgl2") || !("DecompressionStream" in globalThis)) {
    note.textContent = "This browser cannot show the viewer (it needs WebGL 2). The pictures above show the same scans.";
    return;
  }
  note.textContent = "Loading …";
  section.querySelector(".controls").hidden = false;
  stage.hidden = false;
  connect();
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    show();
  }, { rootMargin: "200px" }).observe(section);
})();
