// Devices by position on a canvas: no tiles, no outside asset. Shape says the class, colour the state.

const STATES = ["ok", "never", "silent", "alarm"]; // drawn in this order, the worst on top
const RADIUS = 5.5;
const SEVERITIES = ["low", "medium", "high", "critical"];
const FRAME_MS = 40; // of the rings; all else is painted only when it changes
const MOST_RINGS = 200; // that move, the gravest: more are a flood, and a wall's processor has other things to do
const LONGEST = 32; // letters of a name on the map; the whole name stands in the list and the panel

const CORNERS = { // of a regular shape, and the angle of its first corner; a class that is not named is a circle
  flood_gauge: [3, Math.PI / 2],
  weather: [5, -Math.PI / 2],
  water_quality: [6, 0],
  panic_button: [8, Math.PI / 8],
};

/** A colour of style.css, dark or light as the person's system is. */
export function named(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function colour(device) {
  return named(device.state === "alarm" ? (device.severity ?? "high") : device.state);
}

export function outline(shape, context, x, y, r) {
  context.beginPath();
  if (shape === "fire_detector") {
    context.moveTo(x, y - r * 1.25);
    context.lineTo(x + r * 1.15, y + r * 0.9);
    context.lineTo(x - r * 1.15, y + r * 0.9);
  } else if (shape === "streetlight") {
    context.moveTo(x, y - r * 1.2);
    context.lineTo(x + r * 1.2, y);
    context.lineTo(x, y + r * 1.2);
    context.lineTo(x - r * 1.2, y);
  } else if (shape === "water_meter") {
    context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  } else if (shape === "lighting_cabinet") {
    context.rect(x - r * 0.65, y - r * 1.2, r * 1.3, r * 2.4);
  } else if (shape === "camera_health") {
    context.rect(x - r * 1.2, y - r * 0.65, r * 2.4, r * 1.3);
  } else if (CORNERS[shape]) {
    const [corners, turn] = CORNERS[shape];
    for (let n = 0; n < corners; n += 1) {
      const angle = turn + (2 * Math.PI * n) / corners;
      context.lineTo(x + r * 1.15 * Math.cos(angle), y + r * 1.15 * Math.sin(angle));
    }
  } else {
    context.arc(x, y, r, 0, 2 * Math.PI);
  }
  context.closePath();
}

function short(name) {
  const letters = [...name.normalize("NFC")];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("").trimEnd()}…` : name;
}

export class DeviceMap {
  constructor(canvas, onPick) {
    this.canvas = canvas;
    this.screen = canvas.getContext("2d");
    this.context = document.createElement("canvas").getContext("2d"); // the picture, without the rings that move
    this.rings = [];
    this.onPick = onPick;
    this.devices = [];
    this.picked = null;
    this.view = null; // {x, y, scale}: world coordinates of the centre, pixels a world unit
    this.fitted = true;
    this.pointers = new Map();
    this.moved = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  show(devices) {
    const placed = devices.filter((device) => device.latitude !== null && device.longitude !== null);
    this.cosine = Math.cos(((placed[0]?.latitude ?? 0) * Math.PI) / 180);
    this.devices = placed
      .map((device) => ({ ...device, x: device.longitude * this.cosine, y: -device.latitude }))
      .sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state)
        || SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
    if (this.fitted) this.fit();
    this.draw();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    for (const context of [this.screen, this.context]) {
      context.canvas.width = Math.round(this.width * ratio);
      context.canvas.height = Math.round(this.height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 14; // larger on a wall
    this.widths = new Map();
    if (this.fitted) this.fit();
    this.draw();
  }

  fit() {
    this.fitted = true;
    if (!this.devices.length || !this.width) return;
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of this.devices) { // 100,000 are too many to be arguments of Math.min
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
    const least = 0.002; // about 200 m: a single device is not blown up to a metre
    const scale = Math.min(
      (this.width - 60) / Math.max(right - left, least),
      (this.height - 60) / Math.max(bottom - top, least),
    );
    this.view = { x: (left + right) / 2, y: (top + bottom) / 2, scale };
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    if (!this.view) return;
    const [x, y] = this.world(px, py);
    this.fitted = false;
    this.view.scale = Math.min(Math.max(this.view.scale * factor, 1), 5e7);
    const [after, below] = this.world(px, py);
    this.view.x += x - after;
    this.view.y += y - below;
    this.draw();
  }

  centre(key) {
    const device = this.devices.find((each) => each.key === key);
    this.picked = key;
    if (device && this.view) {
      const [x, y] = this.pixel(device);
      if (x < 0 || y < 0 || x > this.width || y > this.height) {
        this.view.x = device.x;
        this.view.y = device.y;
        this.fitted = false;
      }
    }
    this.draw();
  }

  world(px, py) {
    const { x, y, scale } = this.view;
    return [x + (px - this.width / 2) / scale, y + (py - this.height / 2) / scale];
  }

  pixel(device) {
    const { x, y, scale } = this.view;
    return [(device.x - x) * scale + this.width / 2, (device.y - y) * scale + this.height / 2];
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame((now) => {
      this.paint();
      this.ring(now);
    });
  }

  /** Show the rings, below the picture, and go on while there are any. */
  ring(now) {
    const { screen, rings } = this;
    if (this.rung === undefined || now < this.rung || now - this.rung >= FRAME_MS || this.changed) {
      this.rung = now;
      this.changed = false;
      const phase = this.still ? 0.5 : (now % 1400) / 1400;
      screen.clearRect(0, 0, this.width, this.height);
      screen.globalAlpha = 1 - phase;
      screen.lineWidth = 2;
      for (const { x, y, r, shade } of rings) {
        screen.strokeStyle = shade;
        screen.beginPath();
        screen.arc(x, y, r + 4 + phase * 18, 0, 2 * Math.PI);
        screen.stroke();
      }
      screen.globalAlpha = 1;
      if (this.width && this.height) screen.drawImage(this.context.canvas, 0, 0, this.width, this.height);
    }
    if (rings.length && !this.still) this.frame = requestAnimationFrame((time) => this.ring(time));
  }

  paint() {
    const { context } = this;
    context.clearRect(0, 0, this.width, this.height);
    this.rings = [];
    this.changed = true;
    if (!this.view) return;
    this.scaleBar();
    const shades = new Map();
    const shadeOf = (device) => {
      const name = `${device.state} ${device.severity}`;
      if (!shades.has(name)) shades.set(name, colour(device));
      return shades.get(name);
    };
    const [sea, mark] = [named("sea"), named("mark")];
    const ringed = [];
    for (const device of this.devices) {
      const [x, y] = this.pixel(device);
      if (x < -30 || y < -30 || x > this.width + 30 || y > this.height + 30) continue;
      const shade = shadeOf(device);
      const ringing = device.state === "alarm";
      const r = RADIUS * this.unit * (ringing ? 1.7 : 1);
      if (ringing) this.rings.push({ x, y, r, shade });
      outline(device.class, context, x, y, r);
      context.fillStyle = shade;
      context.fill();
      context.lineWidth = device.key === this.picked ? 2.5 : 1;
      context.strokeStyle = device.key === this.picked ? mark : sea;
      context.stroke();
      if (ringing) ringed.push([device, x, y + r + 14 * this.unit]);
    }
    this.rings = this.rings.slice(-MOST_RINGS);
    this.labels(ringed.reverse());
  }

  /** Names where there is room, the worst first: one written over another is read by nobody. */
  labels(ringed) {
    const { context, unit } = this;
    context.font = `600 ${12 * unit}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.lineWidth = 4 * unit;
    context.strokeStyle = named("sea");
    context.fillStyle = named("mark");
    const taken = [];
    for (const [device, where, y] of ringed) {
      const text = short(device.name);
      if (!this.widths.has(text)) this.widths.set(text, context.measureText(text).width);
      const half = this.widths.get(text) / 2 + 2;
      const x = Math.max(Math.min(where, this.width - half), half); // all of it, at the edge too
      const room = taken.every((each) => Math.abs(each.x - x) > each.half + half || Math.abs(each.y - y) > 14 * unit);
      if (!room && device.key !== this.picked) continue;
      taken.push({ x, y, half });
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }

  scaleBar() {
    const metre = this.view.scale / 111320;
    const [length] = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5].filter((m) => m * metre > 60);
    if (!length) return;
    const { context } = this;
    const wide = length * metre;
    const y = this.height - 14;
    context.strokeStyle = context.fillStyle = named("scale");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(this.width - 16 - wide, y);
    context.lineTo(this.width - 16, y);
    context.stroke();
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(length >= 1000 ? `${length / 1000} km` : `${length} m`, this.width - 16, y - 6);
  }

  pick(px, py) {
    let best = null;
    let nearest = 20;
    for (const device of this.devices) {
      const [x, y] = this.pixel(device);
      const distance = Math.hypot(x - px, y - py) - (device.state === "alarm" ? 6 : 0);
      if (distance <= nearest) [best, nearest] = [device, distance];
    }
    this.picked = best?.key ?? null;
    this.onPick(this.picked);
    this.draw();
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      this.moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => {
      pointers.delete(event.pointerId);
      if (this.moved < 6 && this.view) this.pick(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.view) return;
    const dx = event.offsetX - before.offsetX;
    const dy = event.offsetY - before.offsetY;
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers.values()].filter((each) => each.pointerId !== event.pointerId);
      const apart = (each) => Math.hypot(each.offsetX - other.offsetX, each.offsetY - other.offsetY) || 1;
      this.zoom(apart(event) / apart(before), (event.offsetX + other.offsetX) / 2, (event.offsetY + other.offsetY) / 2);
    } else if (this.moved >= 6) {
      this.fitted = false;
      this.view.x -= dx / this.view.scale;
      this.view.y -= dy / this.view.scale;
      this.draw();
    }
    this.pointers.set(event.pointerId, event);
  }

  key(event) {
    const step = 40 / (this.view?.scale ?? 1);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === "+" || event.key === "=") this.zoom(1.3);
    else if (event.key === "-") this.zoom(1 / 1.3);
    else if (event.key in moves && this.view) {
      this.fitted = false;
      this.view.x += moves[event.key][0];
      this.view.y += moves[event.key][1];
      this.draw();
    } else return;
    event.preventDefault();
  }
}
