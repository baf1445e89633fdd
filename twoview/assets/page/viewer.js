"use strict";
// The page of a result: videos, a 3D figure and curves that follow one slider. `motion.js` computes, this draws.
// Everything that the page shows comes from the JSON in the element `content`, whose texts are never read as html.

const { three, uPlot } = globalThis.libraries;
const content = JSON.parse(document.getElementById("content").textContent);
const $ = (id) => document.getElementById(id);
const START = content.times[0];
const END = content.times[content.times.length - 1];
const SPEEDS = [0.25, 0.5, 1];

function element(tag, properties = {}, parent = null) {
  const made = Object.assign(document.createElement(tag), properties);
  if (parent) parent.append(made);
  return made;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const SIDES = { l: "left", r: "right", m: "middle" };

// ---- what is shown ---------------------------------------------------------------------------------------------

const shown = { skeleton: true, ghost: true, cameras: true, follow: false };

document.title = content.title;
$("title").textContent = content.title;
$("facts").textContent = content.facts.join(" · ");
if (content.notes.length) {
  $("notes").hidden = false;
  for (const note of content.notes) element("p", { className: "notice", textContent: note }, $("notes"));
}

// An entry of the legend, with a box to tick where it can be hidden.
function legend(text, { mark = "", key = "" } = {}) {
  const entry = element(key ? "label" : "span", {}, $("legend"));
  if (key) {
    const box = element("input", { type: "checkbox", checked: shown[key] }, entry);
    box.addEventListener("change", () => {
      shown[key] = box.checked;
      player.draw();
    });
  }
  if (mark) element("i", {}, entry).style.background = `var(--${mark})`;
  entry.append(text);
}

// ---- videos ----------------------------------------------------------------------------------------------------

class Video {
  constructor(row, number) {
    Object.assign(this, row);
    const stored = $(`video-${number}`);
    this.box = element("div", { className: "video" }, $("videos"));
    if (!stored) {
      element("p", { textContent: `${row.name}: ${row.why}` }, this.box);
      this.player = null;
      return;
    }
    const bytes = Uint8Array.from(atob(JSON.parse(stored.textContent)), (letter) => letter.charCodeAt(0));
    stored.remove();
    this.player = element("video", { muted: true, playsInline: true, preload: "auto" }, this.box);
    this.player.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    this.overlay = element("canvas", { width: 2 * row.size[0], height: 2 * row.size[1] }, this.box);
    this.overlay.style.objectFit = "contain";
    element("span", { className: "tag", textContent: row.name }, this.box);
    this.current = 0; // seconds of the copy that are on the screen
    this.wanted = null;
    this.player.addEventListener("error", () => {
      this.player = null;
      this.box.textContent = "";
      element("p", { textContent: `${row.name}: this browser does not play H.264 video.` }, this.box);
    });
    this.player.addEventListener("seeked", () => this.seekWanted());
    this.player.addEventListener("loadeddata", () => this.seekWanted());
    if ("requestVideoFrameCallback" in this.player) {
      const note = (_, frame) => {
        this.current = frame.mediaTime;
        if (this.player) this.player.requestVideoFrameCallback(note);
      };
      this.player.requestVideoFrameCallback(note);
    } else {
      this.player.addEventListener("timeupdate", () => { this.current = this.player.currentTime; });
    }
  }

  // Show the frame at page time t; of several wishes during one search the last counts.
  seek(t) {
    if (!this.player) return;
    const at = motion.seekTime(this, t);
    this.box.style.opacity = at === null ? 0.25 : 1;
    if (at === null) return;
    this.wanted = at;
    this.seekWanted();
  }

  seekWanted() {
    const { player, wanted } = this;
    if (!player || wanted === null || player.seeking || player.readyState < 1) return;
    this.wanted = null;
    if (Math.abs(player.currentTime - wanted) > 1e-4) player.currentTime = wanted;
  }

  // While playing: start, stop, and keep beside the page's time.
  follow(t, speed, leads) {
    if (!this.player) return;
    const at = motion.seekTime(this, t);
    this.box.style.opacity = at === null ? 0.25 : 1;
    if (at === null) {
      this.player.pause();
      return;
    }
    const behind = at - this.player.currentTime;
    if (this.player.paused) {
      if (Math.abs(behind) > 0.02) this.player.currentTime = at;
      this.player.play().catch(() => {});
    } else if (!leads && Math.abs(behind) > 0.25 && !this.player.seeking) {
      this.player.currentTime = at;
    }
    const nudge = leads ? 0 : Math.max(-0.3, Math.min(0.3, 2 * behind));
    this.player.playbackRate = (speed / this.rate) * (1 + nudge);
  }

  // The page's time by this video, while it plays; null while it does not.
  pageTime() {
    const { player } = this;
    if (!player || player.paused || player.seeking || player.readyState < 3 || player.ended) return null;
    const current = "requestVideoFrameCallback" in player ? this.current : player.currentTime;
    return motion.pageTime(this, current);
  }

  stop() {
    if (this.player) this.player.pause();
  }

  // Draw the 2D pose of a frame over the video.
  draw(index) {
    if (!this.overlay || !this.player) return;
    const { width, height } = this.overlay;
    const pen = this.overlay.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!this.xy || !shown.skeleton) return;
    const xy = this.xy[index];
    const score = this.score[index];
    const known = score.map((value, j) => value > 0 && xy[2 * j] !== null);
    const place = (j) => [(xy[2 * j] / 10 + 0.5) * 2, (xy[2 * j + 1] / 10 + 0.5) * 2];
    pen.lineCap = "round";
    const wide = Math.max(3, Math.min(9, this.extent() / 45));
    for (const [outline, extra] of [[true, 3], [false, 0]]) {
      for (const [a, b] of this.bones) {
        if (!known[a] || !known[b]) continue;
        pen.globalAlpha = 0.25 + 0.75 * Math.min(1, Math.min(score[a], score[b]) / 50);
        pen.strokeStyle = outline ? "rgb(255 255 255 / 75%)" : color(SIDES[this.sides[b]]);
        pen.lineWidth = wide + extra;
        pen.beginPath();
        pen.moveTo(...place(a));
        pen.lineTo(...place(b));
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
  }

  // How tall the drawn person is, in px of the overlay, for the width of lines.
  extent() {
    if (this.tall) return this.tall;
    const heights = this.xy.map((row) => {
      const ys = row.filter((value, i) => i % 2 === 1 && value !== null);
      return ys.length > 4 ? (Math.max(...ys) - Math.min(...ys)) / 5 : 0;
    });
    this.tall = Math.max(60, ...heights);
    return this.tall;
  }
}

const videos = content.videos.map((row, number) => new Video(row, number));

// On a wide page the videos stand beside the figure, two of them side by side or one above the other, whichever shows
// them larger; on a narrow one above it. Pictures get no more room than they fill.
function placeVideos() {
  const shapes = videos.map((video) => (video.player ? video.size[0] / video.size[1] : 16 / 9));
  const pictures = $("pictures");
  const [width, tallest] = [pictures.clientWidth, Math.max(320, Math.min(0.66 * window.innerHeight, 680))];
  const sum = shapes.reduce((total, shape) => total + shape, 0);
  const stacked = 1 / shapes.reduce((total, shape) => total + 1 / shape, 0); // width per height, one above the other
  const narrow = width < 800;
  const share = shapes.length ? 0.6 : 0;
  const row = narrow || motion.besides(shapes, share * width, tallest);
  const aspect = row ? sum : stacked;
  const height = shapes.length ? Math.max(320, Math.min(tallest, (share * width) / aspect)) : tallest;
  $("videos").classList.toggle("row", row);
  if (narrow) {
    pictures.style.height = "";
    $("videos").style.width = "";
    $("videos").style.height = `${Math.min(0.34 * window.innerHeight, width / aspect)}px`;
  } else {
    pictures.style.height = `${height}px`;
    $("videos").style.width = shapes.length ? `${Math.min(share * width, height * aspect)}px` : "0";
    $("videos").style.height = "100%";
  }
  videos.forEach((video, i) => { video.box.style.flexGrow = 10 * (row ? shapes[i] : 1 / shapes[i]); });
}
placeVideos();

// ---- the room with the figure ----------------------------------------------------------------------------------

const BOX = motion.box(content.figures, content.perUnit) || { low: [-0.5, 0, -0.5], high: [0.5, 1, 0.5] };
const MIDDLE = BOX.low.map((low, i) => (low + BOX.high[i]) / 2);
const REACH = Math.max(0.8 * content.size, Math.hypot(BOX.high[0] - BOX.low[0], BOX.high[2] - BOX.low[2]) / 2);
const TALL = BOX.high[1] - Math.min(0, BOX.low[1]);
const VIEWS = { "three-quarter": [0.62, 0.22], front: [0, 0.08], side: [Math.PI / 2, 0.08], top: [0, 1.53] };
const FAR = REACH > 1.3 * content.size; // the athlete goes away from where they began
const WHOLE = "with cameras";
shown.follow = REACH > 2.5 * content.size;

const bonesOf = (frame) => {
  const joints = content.skeleton.sides.split("").map((_, j) => motion.joint(frame, j, content.perUnit));
  return { joints, bones: content.skeleton.bones.filter(([a, b]) => joints[a] && joints[b]) };
};
const certaintyAt = (index, j) => {
  const rows = content.figures[0].certainty;
  return rows ? (rows[index][j] ?? 0) / 100 : 1;
};

// Drawn by the graphics card.
class Room {
  constructor(stage) {
    this.stage = stage;
    this.renderer = new three.WebGLRenderer({ antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(2, window.devicePixelRatio || 1));
    this.renderer.shadowMap.enabled = true;
    this.renderer.domElement.setAttribute("role", "img");
    this.renderer.domElement.setAttribute("aria-label", "3D figure of the athlete; drag to turn it");
    stage.append(this.renderer.domElement);
    this.scene = new three.Scene();
    this.eye = new three.PerspectiveCamera(35, 1, 0.01 * content.size, 200 * content.size);
    this.controls = new three.OrbitControls(this.eye, this.renderer.domElement);
    this.controls.addEventListener("change", () => { this.dirty = true; });
    this.light();
    this.figures = content.figures.map((_, number) => this.figure(number > 0));
    this.cameras = content.cameras.map((camera) => this.frustum(camera));
    this.floor();
    this.recolor();
    this.resize();
    this.look("three-quarter");
  }

  light() {
    this.sky = new three.HemisphereLight("#ffffff", "#9aa3b0", 2.1);
    const sun = new three.DirectionalLight("#ffffff", 1.7);
    const far = 2 * Math.max(REACH, TALL);
    sun.position.set(MIDDLE[0] + 0.5 * far, 1.6 * far, MIDDLE[2] + 0.6 * far);
    sun.target.position.set(MIDDLE[0], 0, MIDDLE[2]);
    sun.castShadow = true;
    sun.shadow.mapSize.set(1024, 1024);
    Object.assign(sun.shadow.camera, { left: -far, right: far, top: far, bottom: -far, near: 0.01 * far, far: 5 * far });
    this.scene.add(this.sky, sun, sun.target);
  }

  figure(ghost) {
    const group = new three.Group();
    const wide = 0.021 * content.size * (ghost ? 0.8 : 1);
    const rod = new three.CylinderGeometry(wide, wide, 1, 12, 1, true);
    const ball = new three.SphereGeometry(wide * 1.25, 16, 12);
    const part = (shape, side) => {
      const mesh = new three.Mesh(shape, new three.MeshLambertMaterial({ transparent: true }));
      mesh.castShadow = !ghost;
      mesh.userData.color = ghost ? "ghost" : SIDES[side];
      group.add(mesh);
      return mesh;
    };
    const { bones, sides, head } = content.skeleton;
    const made = { group, ghost, rods: bones.map(([, b]) => part(rod, sides[b])), balls: [] };
    for (let j = 0; j < sides.length; j += 1) {
      const mesh = part(ball, sides[j]);
      if (j === head) mesh.scale.setScalar(2.6);
      made.balls.push(mesh);
    }
    this.scene.add(group);
    return made;
  }

  floor() {
    const reach = 1.35 * REACH + 0.35 * content.size;
    const step = motion.gridStep(reach, content.size, content.meters);
    const count = Math.ceil(reach / step);
    const points = [];
    for (let i = -count; i <= count; i += 1) {
      points.push(i * step, 0, -count * step, i * step, 0, count * step);
      points.push(-count * step, 0, i * step, count * step, 0, i * step);
    }
    const middle = [Math.round(MIDDLE[0] / step) * step, 0, Math.round(MIDDLE[2] / step) * step];
    this.grid = this.lines(points, "line");
    this.grid.position.set(...middle);
    this.gridStep = step;
    const size = 2 * count * step;
    this.shade = new three.Mesh(new three.PlaneGeometry(size, size), new three.ShadowMaterial({ opacity: 0.18 }));
    this.shade.rotation.x = -Math.PI / 2;
    this.shade.position.set(middle[0], 0.002 * content.size, middle[2]);
    this.shade.receiveShadow = true;
    this.scene.add(this.shade);
  }

  lines(points, name) {
    const shape = new three.BufferGeometry();
    shape.setAttribute("position", new three.BufferAttribute(new Float32Array(points), 3));
    const made = new three.LineSegments(shape, new three.LineBasicMaterial());
    made.userData.color = name;
    this.scene.add(made);
    return made;
  }

  frustum(camera) {
    const made = this.lines(new Array(48).fill(0), "accent");
    const label = element("canvas", { width: 256, height: 64 });
    const sprite = new three.Sprite(new three.SpriteMaterial({ map: new three.CanvasTexture(label), depthTest: false }));
    sprite.scale.set(0.8 * content.size, 0.2 * content.size, 1);
    this.scene.add(sprite);
    return { camera, made, label, sprite };
  }

  recolor() {
    this.scene.traverse((one) => {
      if (one.userData.color) one.material.color.set(color(one.userData.color));
    });
    for (const { camera, label, sprite } of this.cameras) {
      const pen = label.getContext("2d");
      pen.clearRect(0, 0, 256, 64);
      Object.assign(pen, { font: "600 34px system-ui, sans-serif", textAlign: "center", fillStyle: color("soft") });
      pen.fillText(camera.name, 128, 44, 250);
      sprite.material.map.needsUpdate = true;
    }
    this.dirty = true;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.eye.aspect = width / height;
    this.eye.updateProjectionMatrix();
    this.dirty = true;
  }

  look(name) {
    const camera = content.cameras.find((one) => `from ${one.name}` === name);
    if (camera) {
      const points = motion.window(camera.windows, player.time).points;
      const apex = points.slice(0, 3);
      const away = [0, 1, 2].map((i) => (points[3 + i] + points[6 + i] + points[9 + i] + points[12 + i]) / 4 - apex[i]);
      const length = Math.hypot(...away);
      const far = away.reduce((sum, value, i) => sum + ((MIDDLE[i] - apex[i]) * value) / length, 0);
      this.eye.position.set(...apex);
      this.controls.target.set(...apex.map((value, i) => value + (away[i] / length) * Math.max(far, length)));
      this.eye.fov = camera.tall;
    } else {
      const [yaw, pitch] = VIEWS[name] || VIEWS["three-quarter"];
      const follows = shown.follow && this.root && name !== WHOLE;
      const reach = follows ? 0.8 * content.size : REACH;
      const middle = [follows ? this.root[0] : MIDDLE[0], 0.47 * TALL, follows ? this.root[2] : MIDDLE[2]];
      let half = Math.max(0.62 * TALL, (0.62 * TALL * Math.sin(pitch) + 1.1 * reach) / Math.min(1, this.eye.aspect) / 1.3);
      if (name === WHOLE) {
        for (const { windows } of content.cameras) {
          const [x, , z] = motion.window(windows, player.time).points;
          half = Math.max(half, 0.75 * Math.hypot(x - middle[0], z - middle[2]));
        }
      }
      this.eye.fov = 35;
      const far = (1.12 * half) / Math.tan((this.eye.fov * Math.PI) / 360);
      this.controls.target.set(...middle);
      this.eye.position.set(
        middle[0] + far * Math.sin(yaw) * Math.cos(pitch),
        middle[1] + far * Math.sin(pitch),
        middle[2] + far * Math.cos(yaw) * Math.cos(pitch),
      );
    }
    this.eye.updateProjectionMatrix();
    this.controls.update();
    this.dirty = true;
  }

  // Move the eye with the athlete, over the floor.
  follow(index) {
    const root = motion.joint(content.figures[0].joints[index], content.skeleton.root, content.perUnit);
    if (!root) return;
    if (shown.follow && this.root) {
      const moved = new three.Vector3(root[0] - this.root[0], 0, root[2] - this.root[2]);
      this.eye.position.add(moved);
      this.controls.target.add(moved);
    }
    this.root = root;
  }

  draw(index, time) {
    this.follow(index);
    content.figures.forEach(({ joints: frames }, number) => this.place(this.figures[number], frames[index], index));
    for (const { camera, made, sprite } of this.cameras) {
      made.visible = sprite.visible = shown.cameras;
      const p = motion.window(camera.windows, time).points;
      const at = (i) => p.slice(3 * i, 3 * i + 3);
      const ends = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1].flatMap(at);
      made.geometry.attributes.position.array.set(ends);
      made.geometry.attributes.position.needsUpdate = true;
      made.geometry.computeBoundingSphere();
      sprite.position.set(p[0], p[1] + 0.18 * content.size, p[2]);
    }
    this.dirty = true;
  }

  place(figure, frame, index) {
    figure.group.visible = !figure.ghost || shown.ghost;
    const { joints } = bonesOf(frame);
    const sure = (j) => (figure.ghost ? 0.42 : 0.1 + 0.9 * certaintyAt(index, j));
    figure.balls.forEach((mesh, j) => {
      mesh.visible = joints[j] !== null;
      if (!mesh.visible) return;
      mesh.position.set(...joints[j]);
      mesh.material.opacity = sure(j);
    });
    figure.rods.forEach((mesh, i) => {
      const [a, b] = content.skeleton.bones[i];
      mesh.visible = joints[a] !== null && joints[b] !== null;
      if (!mesh.visible) return;
      const from = new three.Vector3(...joints[a]);
      const along = new three.Vector3(...joints[b]).sub(from);
      const length = along.length();
      mesh.position.copy(from).addScaledVector(along, 0.5);
      mesh.scale.set(1, Math.max(length, 1e-6), 1);
      if (length > 1e-9) mesh.quaternion.setFromUnitVectors(new three.Vector3(0, 1, 0), along.divideScalar(length));
      mesh.material.opacity = Math.min(sure(a), sure(b));
    });
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    this.renderer.render(this.scene, this.eye);
  }
}

// The same without WebGL: lines on a canvas.
class PlainRoom {
  constructor(stage) {
    $("plain").hidden = false;
    this.canvas = element("canvas", {}, stage);
    this.stage = stage;
    this.gridStep = motion.gridStep(1.35 * REACH, content.size, content.meters);
    this.near = 1;
    this.look("three-quarter");
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      this.yaw -= (event.clientX - last[0]) * 0.01;
      this.pitch = Math.max(-0.2, Math.min(1.55, this.pitch + (event.clientY - last[1]) * 0.01));
      last = [event.clientX, event.clientY];
      this.dirty = true;
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { last = null; });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.near = Math.max(0.2, Math.min(8, this.near * Math.exp(-event.deltaY * 0.001)));
      this.dirty = true;
    }, { passive: false });
    this.resize();
  }

  look(name) {
    const chosen = VIEWS[name] || VIEWS.front;
    [this.yaw, this.pitch] = chosen;
    this.dirty = true;
  }

  recolor() {
    this.dirty = true;
  }

  resize() {
    this.canvas.width = 2 * this.stage.clientWidth;
    this.canvas.height = 2 * this.stage.clientHeight;
    this.dirty = true;
  }

  draw(index) {
    this.index = index;
    this.dirty = true;
  }

  render() {
    if (!this.dirty || this.index === undefined) return;
    this.dirty = false;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const scale = this.near * Math.min((0.78 * height) / TALL, (0.42 * width) / REACH);
    const view = { yaw: this.yaw, pitch: this.pitch, scale, target: [MIDDLE[0], 0.5 * TALL, MIDDLE[2]] };
    const at = (point) => {
      const [x, y, depth] = motion.project(point, view);
      return [x + width / 2, y + height / 2, depth];
    };
    const line = (a, b, name, wide, alpha = 1) => {
      Object.assign(pen, { strokeStyle: color(name), lineWidth: wide, globalAlpha: alpha, lineCap: "round" });
      pen.beginPath();
      pen.moveTo(a[0], a[1]);
      pen.lineTo(b[0], b[1]);
      pen.stroke();
    };
    const count = Math.ceil((1.35 * REACH) / this.gridStep);
    for (let i = -count; i <= count; i += 1) {
      const [a, b] = [i * this.gridStep, count * this.gridStep];
      line(at([MIDDLE[0] + a, 0, MIDDLE[2] - b]), at([MIDDLE[0] + a, 0, MIDDLE[2] + b]), "line", 2);
      line(at([MIDDLE[0] - b, 0, MIDDLE[2] + a]), at([MIDDLE[0] + b, 0, MIDDLE[2] + a]), "line", 2);
    }
    const wide = 0.036 * content.size * scale;
    content.figures.map((figure, number) => [figure, number > 0]).reverse().forEach(([figure, ghost]) => {
      if (ghost && !shown.ghost) return;
      const { joints, bones } = bonesOf(figure.joints[this.index]);
      const seen = joints.map((point) => point && at(point));
      bones.sort((one, other) => seen[other[1]][2] - seen[one[1]][2]).forEach(([a, b]) => {
        const sure = ghost ? 0.5 : 0.1 + 0.9 * Math.min(certaintyAt(this.index, a), certaintyAt(this.index, b));
        if (!ghost) line(seen[a], seen[b], "panel", wide * 1.5, sure);
        line(seen[a], seen[b], ghost ? "ghost" : SIDES[content.skeleton.sides[b]], ghost ? wide * 0.7 : wide, sure);
      });
    });
    pen.globalAlpha = 1;
  }
}

function makeRoom() {
  if (location.hash === "#plain") return new PlainRoom($("stage"));
  try {
    return new Room($("stage"));
  } catch (error) {
    $("stage").replaceChildren();
    return new PlainRoom($("stage"));
  }
}

// ---- curves of angles ------------------------------------------------------------------------------------------

class Panel {
  constructor(row, parent) {
    this.row = row;
    this.box = element("div", { className: "panel", title: row.about }, parent);
    element("h3", { textContent: row.title }, this.box);
    const line = element("p", {}, this.box);
    this.values = row.curves.map(({ side }) => {
      const value = element("span", {}, line);
      value.style.color = color(side || "middle");
      return value;
    });
    const whole = row.curves.map(({ side, degrees }) => [side, motion.range(degrees)]);
    line.title = whole.map(([side, [low, high]]) => `${side} ${low} to ${high} degrees`).join(", ");
    this.holder = element("div", { className: "plot" }, this.box);
  }

  // Make the plot where there is none yet; it needs the width of a visible box.
  show() {
    const width = this.holder.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.destroy();
    const axis = { stroke: color("faint"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const curves = this.row.curves.map(({ side }) => ({
      stroke: color(side || "middle"), width: 1.6, spanGaps: false, points: { show: false },
    }));
    this.plot = new uPlot({
      width, height: 116, legend: { show: false }, cursor: { show: false }, padding: [6, 8, 0, 0],
      scales: {
        x: { time: false, range: () => [START, END > START ? END : START + 1] },
        y: { range: (_, low, high) => {
          const pad = Math.max(3, 0.08 * (high - low));
          return low === null ? [0, 1] : [low - pad, high + pad];
        } },
      },
      axes: [{ ...axis, size: 22, gap: 2 }, { ...axis, size: 38, gap: 2, space: 26 }],
      series: [{}, ...curves],
    }, [content.times, ...this.row.curves.map(({ degrees }) => degrees)], this.holder);
    this.marks = Object.values(content.events).map((moment) => [moment, element("div", { className: "happening" }, this.plot.over)]);
    this.now = element("div", { className: "now" }, this.plot.over);
    const go = (event) => {
      const left = event.clientX - this.plot.over.getBoundingClientRect().left;
      player.go(this.plot.posToVal(left, "x"));
    };
    this.plot.over.addEventListener("pointerdown", (event) => {
      this.plot.over.setPointerCapture(event.pointerId);
      go(event);
    });
    this.plot.over.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    this.values.forEach((value, i) => { value.style.color = color(this.row.curves[i].side || "middle"); });
  }

  draw(index, time) {
    if (!this.plot) return;
    for (const [moment, mark] of [[time, this.now], ...this.marks]) { // the plot knows its places only once it is drawn
      mark.style.transform = `translateX(${this.plot.valToPos(moment, "x")}px)`;
    }
    this.values.forEach((value, i) => {
      const { side, degrees } = this.row.curves[i];
      const shownValue = degrees[index] === null ? "–" : `${Math.round(degrees[index])}°`;
      value.textContent = `${side} ${shownValue}`.trim();
    });
  }
}

function makePanels() {
  if (!content.angles.length) return [];
  $("curves").hidden = false;
  const rest = content.angles.filter(({ first }) => !first);
  const more = $("more");
  more.hidden = rest.length === 0;
  more.querySelector("summary").textContent = `${rest.length} more angles`;
  const panels = content.angles.map((row) => new Panel(row, row.first ? $("panels") : more.querySelector(".panels")));
  more.addEventListener("toggle", () => player.resize());
  return panels;
}

// ---- the player ------------------------------------------------------------------------------------------------

const player = {
  time: START,
  playing: false,
  speed: 1,
  last: 0,

  // Go to a moment and show it exactly.
  go(t) {
    player.time = Math.max(START, Math.min(END, t));
    if (!player.playing) for (const video of videos) video.seek(player.time);
    else for (const video of videos) if (video.player) video.player.pause();
    player.draw();
  },

  step(n) {
    player.stop();
    player.go(motion.step(content.times, player.time, n));
  },

  start() {
    if (player.time >= END - 1e-6) player.time = START;
    player.playing = true;
    $("play").textContent = "Stop";
  },

  stop() {
    if (!player.playing) return;
    player.playing = false;
    $("play").textContent = "Play";
    for (const video of videos) video.stop();
    player.go(content.times[motion.nearest(content.times, player.time)]);
  },

  setSpeed(speed) {
    player.speed = speed;
    for (const button of $("speeds").children) button.setAttribute("aria-pressed", String(+button.value === speed));
  },

  // Once per picture on the screen.
  tick(now) {
    const passed = Math.min(0.1, (now - player.last) / 1000);
    player.last = now;
    if (player.playing) {
      const leader = videos.find((video) => video.player && motion.seekTime(video, player.time) !== null);
      const led = leader && leader.pageTime();
      const waits = leader && leader.player && led === null;
      const held = waits && (leader.player.seeking || leader.player.readyState < 3);
      let next = player.time + (held ? 0 : passed * player.speed);
      if (led !== null && led !== undefined && Math.abs(led - player.time) < 0.5) next = Math.max(led, player.time);
      if (leader && leader.player.ended) next = player.time + passed * player.speed;
      if (next >= END) {
        if ($("repeat").checked && END > START) {
          next = START;
          for (const video of videos) video.stop();
        } else {
          player.time = END;
          player.stop();
        }
      }
      if (player.playing) {
        player.time = next;
        for (const video of videos) video.follow(next, player.speed, video === leader);
        player.draw();
      }
    }
    room.render();
    requestAnimationFrame(player.tick);
  },

  draw() {
    const index = motion.nearest(content.times, player.time);
    player.index = index;
    for (const video of videos) video.draw(index);
    room.draw(index, player.time);
    for (const panel of panels) panel.draw(index, player.time);
    $("missing").hidden = content.figures[0].joints[index].some((value) => value !== null);
    $("clock").textContent = `${player.time.toFixed(3)} s`;
    $("slider").value = player.time;
    $("slider").setAttribute("aria-valuetext", `${player.time.toFixed(2)} seconds`);
  },

  resize() {
    placeVideos();
    room.resize();
    for (const panel of panels) panel.show();
    player.draw();
  },
};

const room = makeRoom();
const panels = makePanels();

// ---- buttons, keys and colors ----------------------------------------------------------------------------------

Object.assign($("slider"), { min: START, max: END, value: START });
$("slider").addEventListener("input", () => player.go(+$("slider").value));
$("play").addEventListener("click", () => (player.playing ? player.stop() : player.start()));
$("back").addEventListener("click", () => player.step(-1));
$("forth").addEventListener("click", () => player.step(1));
for (const speed of SPEEDS) {
  const button = element("button", { type: "button", value: speed, textContent: `${speed}×` }, $("speeds"));
  button.addEventListener("click", () => player.setSpeed(speed));
}
player.setSpeed(1);
const fromCameras = content.cameras.map((camera) => `from ${camera.name}`);
for (const name of [...Object.keys(VIEWS), ...(fromCameras.length && room instanceof Room ? [...fromCameras, WHOLE] : [])]) {
  const button = element("button", { type: "button", textContent: name }, $("views"));
  button.addEventListener("click", () => room.look(name));
}
legend("left", { mark: "left" });
legend("right", { mark: "right" });
if (content.figures.length > 1) legend("before", { mark: "ghost", key: "ghost" });
if (content.figures[0].certainty) legend("pale: uncertain");
legend(content.meters ? `floor squares ${room.gridStep} m` : "no scale, shape only");
if (videos.some((video) => video.xy)) legend("skeleton over video", { key: "skeleton" });
if (content.cameras.length && room instanceof Room) legend("cameras", { key: "cameras" });
if (FAR && room instanceof Room) legend("follow", { key: "follow" });

for (const [from, to] of motion.gaps(content.times, content.figures[0].joints)) {
  const mark = element("b", { title: "no 3D" }, $("marks"));
  mark.style.left = `${(100 * (from - START)) / (END - START)}%`;
  mark.style.width = `${(100 * (to - from)) / (END - START)}%`;
}
for (const [side, spans] of Object.entries(content.contacts)) {
  for (const [from, to] of spans) {
    const mark = element("u", { className: side, title: `${side} foot on the floor` }, $("marks"));
    mark.style.left = `${(100 * (from - START)) / (END - START)}%`;
    mark.style.width = `${(100 * (to - from)) / (END - START)}%`;
  }
}
const stands = Object.values(content.contacts).some((spans) => spans.length);
if (stands) legend("feet on the floor: bars below the slider");
$("timeline").classList.toggle("both", stands && Object.keys(content.events).length > 0);
let taken = -Infinity; // up to here there is a label, px
for (const [name, moment] of Object.entries(content.events).sort((one, other) => one[1] - other[1])) {
  const share = (moment - START) / (END - START);
  const mark = element("span", { textContent: name, title: name }, $("marks"));
  mark.style.left = `${100 * share}%`;
  const [at, wide, all] = [share * $("marks").clientWidth, mark.offsetWidth, $("marks").clientWidth];
  const flips = at + wide > all;
  if ((flips ? at - wide : at) < taken + 4) mark.textContent = "\u00a0";
  else taken = flips ? at : at + wide;
  mark.classList.toggle("flip", flips);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.matches("button:focus-visible, summary, [type=checkbox]:focus-visible")) return;
  const steps = event.shiftKey ? 10 : 1;
  if (event.key === " ") player.playing ? player.stop() : player.start();
  else if (event.key === "ArrowRight") player.step(steps);
  else if (event.key === "ArrowLeft") player.step(-steps);
  else if (event.key === "Home") player.go(START);
  else if (event.key === "End") player.go(END);
  else if (["1", "2", "3"].includes(event.key)) player.setSpeed(SPEEDS[+event.key - 1]);
  else return;
  event.preventDefault();
});

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function recolor() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  room.recolor();
  player.resize();
}
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  recolor();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);

new ResizeObserver(() => player.resize()).observe($("pictures"));
recolor();
player.go(START);
requestAnimationFrame(player.tick);
