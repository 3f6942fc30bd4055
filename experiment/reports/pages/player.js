// Plays clips as moving skeletons. All players of a page share one clock and one direction of view.
"use strict";

const RATE = 30; // frames a second, a Kinect's
const HOLD = 0.5; // seconds for which the last frame stays
const ABSENT = 255; // a body that is not in a frame
const SMALLEST = 1.6; // metres that are shown at least

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("data").textContent);
const view = { playing: true, speed: 1, turn: 0, numbers: false, axes: false, time: 0 };
const players = new Map(); // canvas -> clip

/** A new element with these properties and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The coordinates of a clip in metres, frame by frame, and the room that it takes. */
function decoded(clip) {
  if (clip.poses) return clip.poses;
  const { frames, bodies, low, step, bytes, across = [-1, 0] } = clip.motion;
  const levels = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const size = levels.length / frames / bodies; // coordinates of a body
  const poses = [];
  const least = [Infinity, Infinity, Infinity];
  const most = [-Infinity, -Infinity, -Infinity];
  for (let place = 0; place < levels.length; place += size) {
    const body = levels.subarray(place, place + size);
    if (body.every((level) => level === ABSENT)) {
      poses.push(null);
      continue;
    }
    const pose = Float32Array.from(body, (level, i) => low[i % 3] + step * level);
    pose.forEach((value, i) => {
      least[i % 3] = Math.min(least[i % 3], value);
      most[i % 3] = Math.max(most[i % 3], value);
    });
    poses.push(pose);
  }
  const middle = least.map((value, axis) => (value + most[axis]) / 2);
  const width = Math.hypot(most[0] - least[0], most[1] - least[1]);
  const front = Math.atan2(across[1], across[0]);
  return (clip.poses = { poses, frames, bodies, middle, front, width, height: most[2] - least[2] });
}

/** The pose of a body at a moment between two frames, or null where it is absent. */
function between({ poses, frames, bodies }, moment, body) {
  const first = Math.floor(moment);
  const one = poses[first * bodies + body];
  const two = poses[Math.min(first + 1, frames - 1) * bodies + body];
  return one && two ? one.map((value, i) => value + (moment - first) * (two[i] - value)) : one;
}

/** Which side of the body a joint is on, as the name of a colour. */
function side(joint) {
  const mirrored = page.skeleton.swap[joint];
  return joint === mirrored ? "middle" : joint < mirrored ? "left-side" : "right-side";
}

function draw(canvas, clip, colours) {
  const density = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  if (!wide) return;
  canvas.width = wide * density;
  canvas.height = high * density;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.lineCap = "round";

  const found = decoded(clip);
  const seconds = clip.frames / RATE;
  const part = Math.min((view.time % (seconds + HOLD)) / seconds, 1);
  const moment = part * (found.frames - 1);
  canvas.dataset.moment = moment.toFixed(2);

  const scale = Math.min(
    (wide - 40) / Math.max(found.width, SMALLEST / 2),
    (high - 24) / Math.max(found.height, SMALLEST),
  );
  const angle = found.front + (view.turn * Math.PI) / 180;
  const [across, along] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  const at = (x, y, z) => [
    wide / 2 + 8 + (x - found.middle[0]) * across + (y - found.middle[1]) * along,
    high / 2 - (z - found.middle[2]) * scale,
  ];
  ruler(context, colours, scale, high);
  if (view.axes) axes(context, colours, [across / scale, along / scale], wide, high);
  for (let body = found.bodies - 1; body >= 0; body--) {
    const pose = between(found, moment, body);
    if (!pose) continue;
    const places = page.skeleton.parents.map((_, j) => at(...pose.subarray(3 * j, 3 * j + 3)));
    context.lineWidth = Math.max(1.5, Math.min(wide, high) / 90);
    page.skeleton.parents.forEach((parent, joint) => {
      context.strokeStyle = context.fillStyle = colours[body ? "second" : side(joint)];
      context.beginPath();
      context.moveTo(...places[joint]);
      context.lineTo(...places[parent]);
      context.stroke();
      context.beginPath();
      context.arc(...places[joint], context.lineWidth * 0.9, 0, 2 * Math.PI);
      context.fill();
    });
    if (view.numbers && wide > 150) {
      context.font = "10px system-ui, sans-serif";
      places.forEach(([x, y], joint) => {
        context.lineWidth = 3;
        context.strokeStyle = colours.panel;
        context.strokeText(joint, x + 4, y - 3);
        context.fillStyle = colours.ink;
        context.fillText(joint, x + 4, y - 3);
      });
    }
  }
}

/** A metre, as long as it is in the clip. */
function ruler(context, colours, scale, high) {
  context.strokeStyle = context.fillStyle = colours.quiet;
  context.lineWidth = 1;
  context.font = "10px system-ui, sans-serif";
  const top = high / 2 - scale / 2;
  context.beginPath();
  for (const place of [0, 0.5, 1]) {
    context.moveTo(6, top + place * scale);
    context.lineTo(place === 0.5 ? 10 : 13, top + place * scale);
  }
  context.moveTo(6, top);
  context.lineTo(6, top + scale);
  context.stroke();
  context.fillText("1 m", 9, top - 4);
}

/** The directions of x, y and z in a corner. */
function axes(context, colours, [x, y], wide, high) {
  const left = wide - 34;
  context.strokeStyle = context.fillStyle = colours.quiet;
  for (const [name, across, up] of [["x", x, 0], ["y", y, 0], ["z", 0, 1]]) {
    if (Math.abs(across) + up < 0.15) continue; // points at the viewer
    const bottom = high - (name === "y" ? 12 : 18); // x and y may lie over each other
    context.beginPath();
    context.moveTo(left, bottom);
    context.lineTo(left + 20 * across, bottom - 20 * up);
    context.stroke();
    context.fillText(name, left + 26 * across - 3, bottom - 26 * up + 3);
  }
}

/** A clip that plays, with what there is to say of it below. */
function player(clip, ...caption) {
  const canvas = element("canvas", { role: "img" });
  canvas.setAttribute("aria-label", `clip ${clip.name} playing`);
  players.set(canvas, clip);
  return element("figure", {}, canvas, element("figcaption", {}, ...caption));
}

/** The page's colours as they are now, in light or dark. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["panel", "ink", "quiet", "line", "accent", "left-side", "right-side", "middle", "second"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

let before = null;
function tick(now) {
  if (view.playing && before !== null) view.time += ((now - before) / 1000) * view.speed;
  before = now;
  const colours = palette();
  for (const [canvas, clip] of players) {
    if (canvas.isConnected) draw(canvas, clip, colours);
    else players.delete(canvas);
  }
  requestAnimationFrame(tick);
}

/** Makes the arrow keys go from one of the buttons in a place to the next; Tab leaves the place. */
function rove(place, steps) {
  place.addEventListener("keydown", (event) => {
    const buttons = [...place.querySelectorAll("button")];
    const now = buttons.indexOf(document.activeElement);
    const step = typeof steps === "function" ? steps(event.key) : steps[event.key];
    const next = buttons[now + step];
    if (now < 0 || !next) return;
    event.preventDefault();
    stop(place, next);
    next.focus();
  });
  place.addEventListener("focusin", (event) => event.target.matches("button") && stop(place, event.target));
}

/** The button of a place at which Tab stops. */
function stop(place, button) {
  for (const one of place.querySelectorAll('button[tabindex="0"]')) one.tabIndex = -1;
  if (button) button.tabIndex = 0;
}

function play(playing) {
  view.playing = playing;
  $("play").textContent = playing ? "❚❚ pause" : "▶ play";
}

function turned() {
  view.turn = Number($("turn").value);
  $("degrees").textContent = `${$("turn").value}°`;
}

$("play").addEventListener("click", () => play(!view.playing));
$("speed").addEventListener("change", () => (view.speed = Number($("speed").value)));
$("turn").addEventListener("input", turned);
$("numbers").addEventListener("change", () => (view.numbers = $("numbers").checked));
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.target.matches("button, select, input")) return;
  event.preventDefault();
  play(!view.playing);
});
turned();
play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
requestAnimationFrame(tick);
