// How figures and times are written, and how elements are made.

export const number = new Intl.NumberFormat('en');

export function duration(ms) {
  if (ms < 1) return ms > 0 ? '<1 ms' : '0 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60e3) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  const two = (n) => String(n).padStart(2, '0');
  if (m < 60) return `${m} min ${two(s % 60)} s`;
  if (h < 24) return `${h} h ${two(m % 60)} min`;
  return `${d} d ${h % 24} h`;
}

// plain is a limit, without the zero behind the point.
export function plain(ms) {
  return duration(ms).replace('.0 s', ' s').replace(' 00 s', '');
}

// few writes a figure with few digits.
export function few(v) {
  if (v >= 100 || v === Math.round(v)) return number.format(Math.round(v));
  return v >= 10 ? v.toFixed(1) : v.toPrecision(2);
}

export const time = (t) => new Date(t).toLocaleTimeString('en-GB');
export const plural = (n, word) => `${number.format(n)} ${word}${n === 1 ? '' : 's'}`;

// set leaves alone what has not changed: it may be read out.
export function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// make makes an element, with its text, properties or attributes, and children.
export function make(tag, { text, ...properties } = {}, ...children) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  for (const [k, v] of Object.entries(properties)) k in e ? e[k] = v : e.setAttribute(k, v);
  e.append(...children);
  return e;
}
