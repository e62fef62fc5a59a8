/** Points as pixels: drawing, finding and enclosing them. No page, no events: numbers in, numbers out. */

/** @typedef {{x: number, y: number, scale: number}} View what stands in the middle of the canvas, and pixels per unit */

/** Where points lie on the canvas: the pixel of x is `ax * x + bx`. @param {View} view @param {number} w @param {number} h */
export function placed(view, w, h) {
  return { ax: view.scale, bx: w / 2 - view.x * view.scale, ay: -view.scale, by: h / 2 + view.y * view.scale };
}

/** Offsets and cover of a disc's pixels, for points that are few enough to be round. @param {number} radius */
function disc(radius) {
  const reach = Math.ceil(radius), found = [];
  for (let y = -reach; y <= reach; y++)
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(x, y)));
      if (cover > 0) found.push({ x, y, cover: Math.round(255 * cover) });
    }
  return found;
}

/**
 * Draws points into pixels: round ones while they are few, squares of two or three pixels beyond.
 * @param {Uint32Array} out w·h pixels, already holding the background
 * @param {Float32Array} xy 2n coordinates
 * @param {Uint32Array} colours n colours; 0 is not drawn
 * @param {View} view @param {number} w @param {number} h @param {number} radius in pixels
 */
export function drawPoints(out, w, h, xy, colours, view, radius) {
  const { ax, bx, ay, by } = placed(view, w, h), n = colours.length;
  if (n > 20000) return drawSquares(out, w, h, xy, colours, { ax, bx, ay, by }, radius > 2 ? 3 : 2);
  const stamp = disc(radius), edge = Math.ceil(radius);
  for (let i = 0; i < n; i++) {
    const colour = colours[i], x = (xy[2 * i] * ax + bx) | 0, y = (xy[2 * i + 1] * ay + by) | 0;
    if (!colour || x < edge || y < edge || x >= w - edge || y >= h - edge) continue;
    const r = colour & 255, g = (colour >> 8) & 255, b = (colour >> 16) & 255, at = y * w + x;
    for (const { x: dx, y: dy, cover } of stamp) {
      const o = at + dy * w + dx;
      if (cover === 255) { out[o] = colour; continue; }
      const under = out[o], rest = 255 - cover;
      out[o] = (0xff000000 | (((b * cover + ((under >> 16) & 255) * rest) / 255) << 16)
        | (((g * cover + ((under >> 8) & 255) * rest) / 255) << 8) | ((r * cover + (under & 255) * rest) / 255)) >>> 0;
    }
  }
}

/** @param {Uint32Array} out @param {number} w @param {number} h @param {Float32Array} xy @param {Uint32Array} colours
 *  @param {{ax: number, bx: number, ay: number, by: number}} at @param {number} side */
function drawSquares(out, w, h, xy, colours, at, side) {
  const { ax, bx, ay, by } = at, n = colours.length;
  for (let i = 0; i < n; i++) {
    const x = (xy[2 * i] * ax + bx) | 0, y = (xy[2 * i + 1] * ay + by) | 0;
    if (x <= 0 || y <= 0 || x >= w - 2 || y >= h - 2) continue;
    const c = colours[i], o = y * w + x;
    if (!c) continue;
    out[o] = c; out[o + 1] = c; out[o + w] = c; out[o + w + 1] = c;
    if (side > 2) { out[o - 1] = c; out[o + w - 1] = c; out[o - w] = c; out[o - w + 1] = c; out[o - w - 1] = c; }
  }
}

/**
 * Shades pixels by how many points fall near them, on a logarithmic scale: in shades, or in the mean of the points' colours,
 * which pale where the points are few.
 * @param {Uint32Array} out @param {number} w @param {number} h @param {Float32Array} xy @param {Uint32Array} colours 0 is left out
 * @param {View} view @param {Uint32Array | null} shades from few to many
 */
export function drawDensity(out, w, h, xy, colours, view, shades) {
  const { ax, bx, ay, by } = placed(view, w, h), side = 3, across = Math.ceil(w / side), down = Math.ceil(h / side);
  const counts = new Float32Array(across * down), sums = shades ? null : new Float32Array(3 * across * down);
  for (let i = 0; i < colours.length; i++) {
    const x = (xy[2 * i] * ax + bx) / side, y = (xy[2 * i + 1] * ay + by) / side, c = colours[i];
    if (!c || x < 0 || y < 0 || x >= across || y >= down) continue;
    const cell = (y | 0) * across + (x | 0);
    counts[cell]++;
    if (sums) { sums[3 * cell] += c & 255; sums[3 * cell + 1] += (c >> 8) & 255; sums[3 * cell + 2] += (c >> 16) & 255; }
  }
  const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1)), paper = out[0];
  const full = counts.map((count) => 0.16 + (0.84 * Math.log1p(count)) / most);
  /** @param {number} cell @param {number} k */
  const mixed = (cell, k) => ((/** @type {Float32Array} */ (sums)[3 * cell + k] / counts[cell]) * full[cell] + ((paper >> (8 * k)) & 255) * (1 - full[cell])) | 0;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const cell = ((y / side) | 0) * across + ((x / side) | 0);
      if (counts[cell]) out[y * w + x] = shades ? shades[(255 * full[cell]) | 0] : (0xff000000 | (mixed(cell, 2) << 16) | (mixed(cell, 1) << 8) | mixed(cell, 0)) >>> 0;
    }
}

/** The smallest and largest coordinate of each axis. @param {Float32Array} xy */
export function bounds(xy) {
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
  for (let i = 0; i < xy.length; i += 2) {
    x0 = Math.min(x0, xy[i]); x1 = Math.max(x1, xy[i]);
    y0 = Math.min(y0, xy[i + 1]); y1 = Math.max(y1, xy[i + 1]);
  }
  return x0 <= x1 ? { x0, x1, y0, y1 } : { x0: -1, x1: 1, y0: -1, y1: 1 };
}

/** Finds the nearest of points quickly: they are sorted into squares once. */
export class Nearest {
  /** @param {Float32Array} xy */
  constructor(xy) {
    const n = xy.length / 2, side = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(n / 4))));
    this.xy = xy;
    this.side = side;
    this.box = bounds(xy);
    this.first = new Uint32Array(side * side + 1);
    this.order = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.first[this.cell(xy[2 * i], xy[2 * i + 1]) + 1]++;
    for (let c = 0; c < side * side; c++) this.first[c + 1] += this.first[c];
    const next = this.first.slice();
    for (let i = 0; i < n; i++) this.order[next[this.cell(xy[2 * i], xy[2 * i + 1])]++] = i;
  }

  /** @param {number} x */
  column(x) {
    const { x0, x1 } = this.box;
    return Math.max(0, Math.min(this.side - 1, Math.floor((this.side * (x - x0)) / (x1 - x0 || 1))));
  }

  /** @param {number} y */
  line(y) {
    const { y0, y1 } = this.box;
    return Math.max(0, Math.min(this.side - 1, Math.floor((this.side * (y - y0)) / (y1 - y0 || 1))));
  }

  /** @param {number} x @param {number} y */
  cell(x, y) {
    return this.line(y) * this.side + this.column(x);
  }

  /** The row of the nearest point within a distance, or −1. @param {number} x @param {number} y @param {number} within
   *  @param {(row: number) => boolean} shown */
  find(x, y, within, shown) {
    let best = -1, least = within * within;
    for (let line = this.line(y - within); line <= this.line(y + within); line++)
      for (let column = this.column(x - within); column <= this.column(x + within); column++) {
        const cell = line * this.side + column;
        for (let k = this.first[cell]; k < this.first[cell + 1]; k++) {
          const row = this.order[k], d = (this.xy[2 * row] - x) ** 2 + (this.xy[2 * row + 1] - y) ** 2;
          if (d < least && shown(row)) { least = d; best = row; }
        }
      }
    return best;
  }
}

/** Rows of the points inside a polygon, by the parity of crossings. @param {Float32Array} xy @param {number[][]} corners
 *  @param {(row: number) => boolean} shown */
export function inside(xy, corners, shown) {
  const box = bounds(Float32Array.from(corners.flat())), rows = [], n = corners.length;
  for (let row = 0; row < xy.length / 2; row++) {
    const x = xy[2 * row], y = xy[2 * row + 1];
    if (x < box.x0 || x > box.x1 || y < box.y0 || y > box.y1) continue;
    let odd = false;
    for (let i = 0, j = n - 1; i < n; j = i++) {
      const [xi, yi] = corners[i], [xj, yj] = corners[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
    }
    if (odd && shown(row)) rows.push(row);
  }
  return rows;
}

/** At most `most` corners of a drawn line, evenly taken. @param {number[][]} corners */
export function thinned(corners, most = 48) {
  return corners.length <= most ? corners : Array.from({ length: most }, (_, i) => corners[Math.floor((i * corners.length) / most)]);
}
