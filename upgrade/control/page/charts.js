// The small charts: what was answered in each of the last seconds, one area or line for
// each generation, with the phases of upgrades marked. SVG, so that they take their
// colors from the style sheet.

// From so many to so many seconds are shown: what is known of them.
const least = 30;
export const most = 180;

const ns = 'http://www.w3.org/2000/svg';
const height = 112, top = 16, bottom = 110;

// Chart is one of them. measure gives the value of a second, or null for none, of a
// generation that answered n of the total; stacked adds the generations up; text writes
// a value.
export class Chart {
  constructor({ name, unit, measure, stacked, text, tone }) {
    Object.assign(this, { name, unit, measure, stacked, text });
    this.width = 300;
    this.root = document.createElement('figure');
    this.root.className = 'chart' + (tone ? ' ' + tone : '');
    const caption = add(this.root, 'figcaption');
    add(caption, 'span', 'label').textContent = name;
    const value = add(caption, 'span', 'value');
    this.value = add(value, 'span');
    add(value, 'small').textContent = ' ' + unit;
    this.svg = this.root.appendChild(document.createElementNS(ns, 'svg'));
    this.svg.setAttribute('role', 'img');
    this.svg.setAttribute('preserveAspectRatio', 'none');
    const axis = add(this.root, 'div', 'axis');
    axis.setAttribute('aria-hidden', 'true');
    this.from = add(axis, 'span');
    add(axis, 'span').textContent = 'now';
    new ResizeObserver(([e]) => { this.width = Math.max(120, Math.round(e.contentRect.width)); }).observe(this.svg);
  }

  // draw shows the seconds up to now. lives is a list of [pid, tone], the oldest first,
  // seconds a map of pid to a map of time to second, bands and marks are those of
  // upgrades.
  draw(now, lives, seconds, bands, marks) {
    const known = Math.min(now, ...[...seconds.values()].flatMap((list) => [...list.keys()]));
    const span = Math.max(least, Math.min(most, now - known));
    const from = now - span, x = (t) => (t - from) / span * this.width;
    const lines = [];
    const base = new Map();
    let peak = 0, latest = null;
    for (const [pid, tone] of lives) {
      const points = [];
      for (let t = Math.floor(from); t < now; t++) {
        const v = this.of(pid, t, seconds);
        if (v === null) {
          points.push(null);
          continue;
        }
        const low = this.stacked ? base.get(t) ?? 0 : 0;
        if (this.stacked) base.set(t, low + v);
        points.push([t + 0.5, low, low + v]);
        peak = Math.max(peak, low + v);
      }
      lines.push([tone, points]);
    }
    for (let t = Math.floor(now) - 1; t >= now - 4 && latest === null; t--) latest = this.at(t, lives, seconds);
    const max = nice(peak), y = (v) => bottom - v / max * (bottom - top);

    const parts = [];
    for (const b of bands) {
      const left = Math.max(0, x(b.from)), right = x(Math.min(now, b.to));
      if (right > 0) parts.push(shape('rect', 'band' + (b.failed ? ' failed' : ''), { x: left, y: top, width: Math.max(1, right - left), height: height - top }));
    }
    for (const v of [0, max / 2, max]) parts.push(shape('line', 'grid', { x1: 0, x2: this.width, y1: y(v), y2: y(v) }));
    for (const [tone, points] of lines) {
      for (const run of runs(points)) {
        const path = (points, i) => points.map((p) => `${x(p[0]).toFixed(1)} ${y(p[i]).toFixed(1)}`).join('L');
        // A generation that lived for a second is to be seen, too.
        run.unshift([run[0][0] - 0.5, ...run[0].slice(1)]);
        run.push([run.at(-1)[0] + 0.5, ...run.at(-1).slice(1)]);
        const g = shape('g', '', {});
        g.dataset.tone = tone;
        if (this.stacked) {
          g.append(shape('path', 'area', { d: `M${path(run, 2)}L${path(run.toReversed(), 1)}Z` }));
        }
        g.append(shape('path', 'curve', { d: `M${path(run, 2)}` }));
        parts.push(g);
      }
    }
    let before = -9;
    for (const m of marks) {
      const at = x(m.at);
      if (m.at < from || !m.kind && at - before < 3) continue; // one line for phases that took no time
      before = at;
      parts.push(shape('line', 'mark ' + m.kind, { x1: at, x2: at, y1: top, y2: height }));
    }
    const scale = shape('text', '', { x: 0, y: 11 });
    scale.textContent = this.text(max);
    parts.push(scale);
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${height}`);
    this.svg.replaceChildren(...parts);

    const said = latest === null ? '–' : this.text(latest);
    if (this.value.textContent !== said) this.value.textContent = said;
    this.root.dataset.some = peak > 0;
    const ago = span % 60 ? `${Math.round(span)} s ago` : `${span / 60} min ago`;
    if (this.from.textContent !== ago) this.from.textContent = ago;
    this.svg.setAttribute('aria-label', `${this.name}: ${said} ${this.unit} now, at most ${this.text(peak)} since ${ago}`);
  }

  // of is the value of one generation in one second.
  of(pid, t, seconds) {
    const s = seconds.get(pid)?.get(t);
    if (!s) return null;
    let total = 0;
    for (const list of seconds.values()) total += list.get(t)?.n ?? 0;
    return this.measure(s, total);
  }

  // at is the value of one second over all generations: their sum, or the worst.
  at(t, lives, seconds) {
    let all = null;
    for (const [pid] of lives) {
      const v = this.of(pid, t, seconds);
      if (v !== null) all = this.stacked ? (all ?? 0) + v : Math.max(all ?? 0, v);
    }
    return all;
  }
}

// runs are the stretches of points without a gap.
function runs(points) {
  const all = [];
  let run = [];
  for (const p of [...points, null]) {
    if (p) run.push(p);
    else if (run.length) {
      all.push(run);
      run = [];
    }
  }
  return all;
}

// nice is a round number that is not below v.
function nice(v) {
  if (v <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 4, 5, 8, 10].find((n) => n * unit >= v) * unit;
}

function add(to, tag, name) {
  const e = to.appendChild(document.createElement(tag));
  if (name) e.className = name;
  return e;
}

function shape(tag, name, attributes) {
  const e = document.createElementNS(ns, tag);
  if (name) e.setAttribute('class', name.trim());
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}
