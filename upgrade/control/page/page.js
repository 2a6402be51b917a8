// The status page. It follows the stream of the admin listener, through upgrades, and
// shows what it says. All text from there is set as text, never as markup.

import { Chart, most } from './charts.js';
import { duration, few, make, number, plain, plural, set, time } from './words.js';

const $ = (id) => document.getElementById(id);
const kept = 300; // seconds of figures

// What is known.
let view = null; // the latest
let received = 0; // when it came, by performance.now()
let access = 'none', page = null;
let reports = [];
const seconds = new Map(); // pid → time → second
const marks = new Map(); // id → mark
let lastID = 0;

/* The stream. */

let source = null, failures = 0, lostSince = null;
let heardAt = 0, openedAt = 0; // by performance.now()

function connect() {
  source?.close();
  openedAt = performance.now();
  // EventSource sends Last-Event-ID only when it comes again by itself.
  source = new EventSource(lastID ? `/events?after=${lastID}` : '/events');
  const on = (name, take) => source.addEventListener(name, (e) => {
    take(JSON.parse(e.data), e);
    heard();
  });
  on('begin', begin);
  on('reports', (list) => { reports = list; showReports(); });
  on('mark', (m, e) => { marks.set(m.id, m); lastID = Math.max(lastID, Number(e.lastEventId)); });
  on('view', look);
  source.onerror = () => {
    lostSince ??= Date.now();
    if (++failures < 3 && source.readyState !== EventSource.CLOSED) return; // it tries by itself
    source.close();
    setTimeout(connect, Math.min(5000, 250 * 2 ** Math.min(failures, 8)));
  };
}

function heard() {
  failures = 0;
  lostSince = null;
  heardAt = performance.now();
}

function begin(b) {
  access = b.access;
  page ??= b.page;
  $('newer').hidden = page === b.page;
  for (const s of b.seconds) remember(s);
}

function look(v) {
  view = v;
  received = performance.now();
  for (const s of v.seconds) remember(s);
  forget();
  show();
}

function remember(s) {
  if (!seconds.has(s.pid)) seconds.set(s.pid, new Map());
  seconds.get(s.pid).set(s.t, s);
}

// forget bounds what a page keeps that is open for days.
function forget() {
  const oldest = clock() - kept;
  for (const [pid, list] of seconds) {
    for (const t of list.keys()) if (t < oldest) list.delete(t);
    if (!list.size) seconds.delete(pid);
  }
  for (const id of [...marks.keys()].sort((a, b) => a - b)) {
    if (marks.size <= 100) break;
    marks.delete(id);
  }
}

// clock is the service's, in seconds: that of this machine may be another.
const clock = () => Date.parse(view.time) / 1000 + (performance.now() - received) / 1000;
const since = (time) => Math.max(0, clock() - Date.parse(time) / 1000) * 1000;

const phases = { spawn: 'Spawn', start: 'Start, warm-up', gate: 'Gate', canary: 'Canary', takeover: 'Takeover', probation: 'Probation', commit: 'Commit', drain: 'Drain' };

/* What the page says of the upgrade. */

const runs = () => view.upgrade?.result === 'running';
const serving = () => view.lives.find((l) => l.state !== 'draining') ?? view.lives.at(-1);
const next = () => runs() && view.lives.length > 1 ? view.lives.at(-1) : null;

// role is what a generation does, in words.
function role(life) {
  const phase = view.upgrade?.phase;
  if (life.state === 'draining') return 'drains';
  if (life === next()) {
    return { gate: 'is probed', canary: 'on trial, shares the traffic', takeover: 'takes over', probation: 'on trial, has the traffic', commit: 'commits' }[phase] ?? 'starts';
  }
  if (runs()) return { takeover: 'hands over', probation: 'waits', commit: 'waits' }[phase] ?? 'serves';
  return { serving: 'serves', upgrading: 'serves', starting: 'starts', withdrawing: 'is about to stop', stopping: 'stops', stopped: 'has stopped' }[life.state] ?? life.state;
}

// sentence says where the upgrade stands. It is read out, so it changes with phases only.
function sentence() {
  const u = view.upgrade;
  if (view.queued) return ['An upgrade is requested and waits for its time.', ''];
  if (!u) return ['No upgrade so far.', 'soft'];
  const name = `Upgrade ${u.number}`;
  if (u.result === 'failed') return [`${name} failed: ${u.reason}. Generation ${serving().generation} goes on.`, 'bad'];
  if (u.result === 'succeeded') {
    const old = u.phase === 'drain' && view.lives.length > 1 ? ` Generation ${view.lives[0].generation} drains.` : '';
    return [`${name} succeeded: generation ${serving().generation} serves.${old}`, 'good'];
  }
  return [`${name} runs: ${(phases[u.phase] ?? u.phase ?? '').toLowerCase()}.`, ''];
}

/* The parts of the page. */

function show() {
  const s = serving(), u = view.upgrade;
  set($('title'), runs() ? `Generation ${s.generation} is being upgraded` : `Generation ${s.generation} ${role(s)}`);
  document.title = runs() ? `Upgrade: ${u.phase} · Holdfast` : `Generation ${s.generation} · Holdfast`;
  const [text, tone] = sentence();
  set($('say'), text);
  $('say').dataset.tone = tone;
  showSteps();
  showMoves();
  showLives();
  showRequests();
  showCharts();
  tick();
}

function showSteps() {
  const list = $('steps');
  const steps = view.upgrade?.steps ?? Object.keys(phases).map((phase) => ({ phase }));
  while (list.children.length < steps.length) {
    list.append(make('li', {}, make('div', { className: 'track' }, make('div', { className: 'fill' })), make('b'), make('span', { className: 'figure' })));
  }
  list.querySelectorAll('.track').forEach((t) => t.setAttribute('aria-hidden', 'true'));
  steps.forEach((step, i) => {
    const li = list.children[i], u = view.upgrade;
    const state = step.failed ? 'failed' : u?.phase === step.phase ? 'now' : step.began ? 'done' : step.off ? 'off' : 'todo';
    li.dataset.state = state;
    li.dataset.phase = step.phase;
    if (state === 'now') li.setAttribute('aria-current', 'step');
    else li.removeAttribute('aria-current');
    set(li.querySelector('b'), phases[step.phase] ?? step.phase);
    if (state !== 'now') {
      const took = step.began && step.ended ? duration(Date.parse(step.ended) - Date.parse(step.began)) : '';
      set(li.querySelector('span'), { failed: took ? `failed, ${took}` : 'failed', done: took, off: 'off', todo: step.limit_ms ? `≤ ${plain(step.limit_ms)}` : '–' }[state]);
      li.querySelector('.fill').style.width = state === 'done' || state === 'failed' ? '100%' : '0';
    }
  });
}

// tick moves what moves by itself, between two views.
function tick() {
  if (!view) return showLink();
  const s = serving(), u = view.upgrade;
  set($('subtitle'), `build ${s.build || 'unknown'}, pid ${s.pid}, up ${duration(since(s.started))}`);
  const step = u?.steps.find((x) => x.phase === u.phase);
  if (step?.began) {
    const spent = since(step.began), li = $('steps').querySelector('[data-state="now"]');
    if (li) {
      set(li.querySelector('span'), step.limit_ms ? `${duration(spent)} of ${plain(step.limit_ms)}` : duration(spent));
      li.querySelector('.fill').style.width = `${step.limit_ms ? Math.max(4, Math.min(100, spent / step.limit_ms * 100)) : 50}%`;
    }
  }
  const began = u?.steps.find((x) => x.began)?.began;
  set($('clock'), began && (runs() || u.phase) ? `${duration(since(began))} since it began` : '');
  for (const e of document.querySelectorAll('[data-since]')) set(e, duration(since(e.dataset.since)));
  for (const e of document.querySelectorAll('[data-age]')) set(e, duration(Number(e.dataset.age) + performance.now() - received));
  showLink();
  showButton();
}

function showLink() {
  const now = performance.now(), quiet = now - heardAt;
  // A generation that makes way for the next is no loss; nor is a late view.
  const lost = !view || quiet > 3000 || lostSince !== null && Date.now() - lostSince > 700;
  $('link').dataset.state = document.body.dataset.link = lost ? 'lost' : 'live';
  if (!lost) {
    set($('link-text'), 'live');
    set($('link-age'), `${(quiet / 1000).toFixed(1)} s ago`);
  } else if (view) {
    set($('link-text'), `no connection since ${time(Date.now() - quiet)}, trying again`);
    set($('link-age'), '');
  } else {
    set($('link-text'), lostSince ? `no connection since ${time(lostSince)}, trying again` : 'connecting …');
  }
  // A tunnel that is dead and does not say so.
  if (now - Math.max(heardAt, openedAt) > 10000 && source.readyState !== EventSource.CLOSED) connect();
}

function showMoves() {
  const m = view.upgrade?.moves;
  $('moves').hidden = !m;
  if (!m) return;
  const all = m.moved + m.left;
  $('moves-fill').style.width = `${all ? m.moved / all * 100 : 100}%`;
  const old = runs() || view.lives.length > 1;
  set($('moves-text'), `${plural(m.moved, 'connection')} moved` + (old ? `, ${number.format(m.left)} remaining` : '') + (m.refused ? `, ${number.format(m.refused)} refused` : ''));
}

// Each generation keeps its tone: it alternates from one pid to the next.
const tones = new Map();
function tone(pid) {
  if (!tones.has(pid)) tones.set(pid, tones.size ? 1 - [...tones.values()].at(-1) : 0);
  for (const old of tones.keys()) { // those of long ago
    if (tones.size <= 16) break;
    tones.delete(old);
  }
  return tones.get(pid);
}

function showLives() {
  const entry = (name, value, data) => {
    const dd = make('dd', { text: value, title: value });
    Object.assign(dd.dataset, data);
    return make('div', {}, make('dt', { text: name }), dd);
  };
  const count = (c, key) => c ? number.format(c[key]) : 'not known';
  $('lives').replaceChildren(...view.lives.map((l) => {
    const c = l.connections;
    const li = make('li', {},
      make('h3', { text: `Generation ${l.generation}` }, make('span', { text: role(l) })),
      make('dl', {},
        entry('pid', String(l.pid)), entry('build', l.build || 'not known'),
        l.started ? entry('age', duration(since(l.started)), { since: l.started }) : entry('age', 'not known'),
        entry('connections', count(c, 'open')), entry('waiting / hijacked', c ? `${number.format(c.silent)} / ${number.format(c.hijacked)}` : 'not known'),
        entry('in flight', count(c, 'requests'))));
    li.dataset.tone = tone(l.pid);
    li.dataset.pid = l.pid;
    return li;
  }));
}

function showRequests() {
  const all = view.lives.flatMap((l) => (l.requests ?? []).map((q) => ({ ...q, generation: l.generation })));
  all.sort((a, b) => b.age_ms - a.age_ms);
  const total = view.lives.reduce((n, l) => n + (l.connections?.requests ?? 0), 0);
  const shown = all.slice(0, 12);
  set($('requests-note'), shown.length < total ? `the ${shown.length} longest of ${number.format(total)}` : plural(total, 'request'));
  $('requests').replaceChildren(...shown.map((q) => {
    const age = make('td', { className: 'num', text: duration(q.age_ms) });
    age.dataset.age = q.age_ms;
    return make('tr', {}, age, make('td', { text: q.method }),
      make('td', { className: 'wide mono', text: q.path + (q.hijacked ? ' (hijacked)' : '') }), make('td', { className: 'num', text: String(q.generation) }));
  }));
  if (!shown.length) $('requests').append(make('tr', {}, make('td', { className: 'empty', colSpan: 4, text: 'Nothing at this moment.' })));
}

// A generation with next to no traffic has no latency beside one that has it all.
const charts = [
  new Chart({ name: 'Requests', unit: 'per s', stacked: true, text: few, measure: (s) => s.n }),
  new Chart({ name: 'Errors', unit: '5xx per s', stacked: true, text: few, tone: 'alarm', measure: (s) => s.f ?? 0 }),
  new Chart({ name: 'Latency, p95', unit: 'ms', text: few, measure: (s, total) => s.n && s.n * 20 >= total ? (s.p95 ?? 0) / 1000 : null }),
];
$('charts').append(...charts.map((c) => c.root));

function showCharts() {
  // The second that runs is not known yet.
  const now = Math.floor(clock());
  const first = ([, list]) => Math.min(...list.keys());
  const lives = [...seconds].sort((a, b) => first(a) - first(b)).map(([pid]) => [pid, tone(pid)]);
  const bands = [], lines = [];
  let open = null;
  for (const m of [...marks.values()].sort((a, b) => a.id - b.id)) {
    const at = m.id / 1e6;
    if (m.kind === 'phase' && m.phase !== 'drain') {
      if (open?.upgrade !== m.upgrade) bands.push(open = { upgrade: m.upgrade, from: at, to: Infinity });
      lines.push({ at, kind: '' });
    } else if (m.kind === 'outcome') {
      if (open?.upgrade === m.upgrade) Object.assign(open, { to: at, failed: m.result === 'failed' });
      lines.push({ at, kind: m.result === 'failed' ? 'failed' : 'end' });
    }
  }
  if (open && !runs() && open.to === Infinity) open.to = open.from;
  const visible = bands.filter((b) => b.to > now - most);
  set($('legend'), visible.length ? 'upgrades are shaded, with a line where a phase begins' : '');
  for (const c of charts) c.draw(now, lives, seconds, visible, lines.filter((l) => l.at > now - most && l.at <= now));
}

/* The last upgrades. */

const unfolded = new Set();

function showReports() {
  const focused = document.activeElement?.dataset.key;
  const list = reports.toReversed();
  for (const key of unfolded) if (!list.some((o) => keyOf(o) === key)) unfolded.delete(key);
  $('reports').replaceChildren(...list.flatMap((o, i) => {
    const key = keyOf(o), good = o.result === 'succeeded';
    const button = make('button', { type: 'button', text: String(o.number), 'aria-expanded': String(unfolded.has(key)), 'aria-controls': `more-${i}`, 'aria-label': `Upgrade ${o.number}, details` });
    button.dataset.key = key;
    const more = details(o, i);
    more.hidden = !unfolded.has(key);
    button.onclick = () => {
      unfolded.has(key) ? unfolded.delete(key) : unfolded.add(key);
      more.hidden = !unfolded.has(key);
      button.setAttribute('aria-expanded', String(!more.hidden));
    };
    const outcome = make('td', { className: 'wide' }, make('span', { className: good ? 'good' : 'bad', text: good ? 'succeeded' : `failed in ${o.phase}` }));
    if (o.reason) outcome.append(`: ${o.reason}`);
    const row = make('tr', {}, make('td', {}, button), make('td', { text: when(o.requested) }), outcome,
      make('td', { className: 'num', text: o.ended ? duration(Date.parse(o.ended) - Date.parse(o.began)) : '' }),
      make('td', { className: 'num', text: o.connections ? `${number.format(o.connections.moved)} of ${number.format(o.connections.open)}` : '–' }));
    row.dataset.result = o.result;
    return [row, more];
  }));
  if (!list.length) $('reports').append(make('tr', {}, make('td', { className: 'empty', colSpan: 5, text: 'None so far.' })));
  if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
}

const keyOf = (o) => `${o.number}-${o.from_pid}`;

function when(t) {
  const d = new Date(t);
  return d.toDateString() === new Date().toDateString() ? time(d) : d.toLocaleString('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
}

function details(o, i) {
  const dl = make('dl');
  const entry = (name, value) => value && dl.append(make('dt', { text: name }), make('dd', { text: value }));
  const life = (g, pid, build) => pid ? `generation ${g ?? '?'}, pid ${pid}${build ? `, build ${build}` : ''}` : '';
  entry('from', life(o.from_generation, o.from_pid, o.from_build));
  entry('to', life(o.to_generation, o.to_pid, o.to_build));
  entry('asked by', (o.by ?? '') + (o.forced ? ', forced' : ''));
  entry('phases', Object.entries(o.phases_ms ?? {}).sort(([a], [b]) => order(a) - order(b)).map(([p, ms]) => `${p} ${duration(ms)}`).join(', '));
  const c = o.connections;
  if (c) entry('connections', ['open', 'moved', 'closed', 'retired', 'dropped', 'refused', 'cut'].filter((k) => c[k] || k === 'open' || k === 'moved').map((k) => `${number.format(c[k])} ${k}`).join(', '));
  if (o.stderr?.length) dl.append(make('dt', { text: 'stderr' }), make('dd', {}, make('pre', { text: o.stderr.join('\n'), tabIndex: 0 })));
  return make('tr', { className: 'more', id: `more-${i}` }, make('td', { colSpan: 5 }, dl));
}

const order = (phase) => (Object.keys(phases).indexOf(phase) + 9) % 9;

/* The button. */

let asking = false;

// obstacle says why no upgrade can be asked for now; empty: it can.
function obstacle() {
  if (!view || $('link').dataset.state === 'lost') return 'not connected';
  if (asking) return 'asked';
  if (access === 'none') return 'upgrades over TCP need --token-file: use the Unix socket';
  if (runs()) return 'an upgrade runs';
  if (view.queued) return 'an upgrade is queued';
  if (serving().state !== 'serving') return `the service is ${serving().state}`;
  return '';
}

function showButton() {
  const why = obstacle();
  $('upgrade').disabled = why !== '';
  const drains = view.lives.length > 1 && !runs();
  set($('why'), why || (drains ? `begins when generation ${view.lives[0].generation} has drained` : 'starts the binary that is on disk now'));
}

$('upgrade').onclick = () => {
  set($('ask-text'), `The binary on disk takes over from generation ${serving().generation}, if it proves itself. If it does not, this one goes on.`);
  $('token-row').hidden = access !== 'token';
  $('token').required = access === 'token';
  set($('ask-error'), '');
  $('ask').showModal();
  (access === 'token' && !$('token').value ? $('token') : $('ask-yes')).focus();
};
$('ask-no').onclick = () => $('ask').close();

$('ask-form').onsubmit = async (e) => {
  e.preventDefault();
  if (asking) return;
  asking = true;
  try {
    const headers = access === 'token' ? { Authorization: `Bearer ${$('token').value}` } : {};
    // Not waited for: the stream tells what comes of it.
    const r = await fetch('/upgrade?wait=0', { method: 'POST', headers });
    if (r.ok) {
      $('ask').close();
      set($('say'), 'The upgrade is requested.');
    } else {
      set($('ask-error'), r.status === 401 ? 'This is not the bearer token.' : (await r.json()).error.message);
      $('token').select();
    }
  } catch {
    set($('ask-error'), 'There was no answer. Look whether the upgrade has begun before you ask again.');
  } finally {
    asking = false;
  }
};

setInterval(tick, 200);
connect();
