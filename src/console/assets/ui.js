// The parts of which the pages are made.

import { html, signal, useEffect, useId, useLayoutEffect, useRef, useState } from './lib.js';
import { distance, duration, local, millis, plural, utc, viewer_zone, words, zoned } from './format.js';
import { now } from './api.js';
import { alone } from './live.js';

const PATHS = {
  overview: 'M2.5 8.5h3l2-5 2.5 9 2-4h1.5',
  jobs: 'M5.5 4h8M5.5 8h8M5.5 12h8M2.5 4h.01M2.5 8h.01M2.5 12h.01',
  runs: 'M4.5 3v10l8-5z',
  nodes: 'M3 3h10v4H3zM3 9h10v4H3zM5.5 5h.01M5.5 11h.01',
  locks: 'M4 7.5h8v5.5H4zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  calendar: 'M2.5 4h11v9.5h-11zM2.5 7h11M5.5 2.5V5M10.5 2.5V5',
  operations: 'M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.5c.5-3 2.5-4 5-4s4.5 1 5 4',
  search: 'M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.5 10.5l3 3',
  check: 'M3.5 8.5l3 3 6-7',
  cross: 'M4 4l8 8M12 4l-8 8',
  alert: 'M8 2.5l6 11H2zM8 6.5v3.5M8 12h.01',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3.5v9l7-4.5z',
  clock: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 5v3l2 1.5',
  minus: 'M4 8h8',
  stop: 'M4.5 4.5h7v7h-7z',
  theme: 'M8 2.5v11a5.5 5.5 0 0 0 0-11zM8 2.5a5.5 5.5 0 0 0 0 11',
  up: 'M4 10l4-4 4 4', down: 'M4 6l4 4 4-4',
  more: 'M3.5 8h.01M8 8h.01M12.5 8h.01',
  link: 'M6 4H3.5v8.5H12V10M9 3.5h3.5V7M12.5 3.5L7.5 8.5',
};

export const Icon = ({ name, size = 16 }) => html`<svg width=${size} height=${size} viewBox="0 0 16 16" fill="none"
  stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"
  ><path d=${PATHS[name]} /></svg>`;

/** The head of a page, with its title for the browser. */
export function Head({ title, crumbs, sub, children }) {
  useEffect(() => { document.title = `${title} · Callsheet`; }, [title]);
  return html`<header class="head">
    <div class="titles">
      ${crumbs && html`<div class="crumbs">${crumbs}</div>`}
      <h1 tabindex="-1" id="title">${title}</h1>
      ${sub && html`<div class="sub">${sub}</div>`}
    </div>
    <div class="row">${children}</div>
  </header>`;
}

export function Card({ title, end, children, footer, class: extra = '', bare = false }) {
  const id = useId();
  return html`<section class=${`card ${extra}`} aria-labelledby=${title ? id : undefined}>
    ${title && html`<header><h2 id=${id}>${title}</h2>${end && html`<div class="end">${end}</div>`}</header>`}
    ${bare ? children : html`<div class="body">${children}</div>`}
    ${footer && html`<footer>${footer}</footer>`}
  </section>`;
}

const STATES = {
  scheduled: ['ok', 'clock'], running: ['run', 'play'], standby: ['', 'minus'], paused: ['calm', 'pause'],
  still_running: ['warn', 'alert'], exhausted: ['', 'check'], conflicting: ['bad', 'alert'], parked: ['bad', 'alert'],
  broken: ['bad', 'cross'], unresponsive: ['bad', 'alert'], removed: ['', 'cross'], overdue: ['bad', 'clock'],
  failing: ['bad', 'cross'],
};
const OUTCOMES = {
  succeeded: ['ok', 'check'], failed: ['bad', 'cross'], panicked: ['bad', 'alert'], timed_out: ['bad', 'clock'],
  cancelled: ['calm', 'stop'], lost: ['warn', 'alert'], in_progress: ['run', 'play'],
};
/** What is said of overdue jobs that the node does not name. */
export const unnamed_words = (n) => `${plural(n, 'overdue expectation')} ${n === 1 ? 'is' : 'are'} of jobs that are
  not named`;

/** The states of jobs, in the order in which filters show them. */
export const JOB_STATES = ['scheduled', 'running', 'paused', 'failing', 'overdue', 'standby', 'still_running',
  'exhausted',
  'conflicting', 'parked', 'broken', 'unresponsive'];
export const RUN_OUTCOMES = ['in_progress', 'succeeded', 'failed', 'panicked', 'timed_out', 'cancelled', 'lost'];

export const Badge = ({ tone = '', icon, children, title }) => html`<span class=${`badge ${tone}`} title=${title}
  >${icon && html`<${Icon} name=${icon} size=${11} />`}${children}</span>`;

export function State({ state }) {
  const [tone, icon] = STATES[state] || ['', 'minus'];
  return html`<${Badge} tone=${tone} icon=${icon}>${words(state)}<//>`;
}
export const state_tone = (state) => (STATES[state] || [''])[0];

export function Outcome({ run }) {
  const outcome = run.outcome || (run.unknown_outcome ?? (run.is_stale ? 'not known' : 'in_progress'));
  const [tone, icon] = OUTCOMES[outcome] || ['warn', 'alert'];
  return html`<${Badge} tone=${tone} icon=${icon}>${words(outcome)}<//>`;
}

/** The instant in UTC, in the zone of the job, and in that of the one who looks: for a title. */
export function instant_title(at, zone) {
  const lines = [`${utc(at, true)} UTC`, `${local(at)} ${viewer_zone}`];
  const there = zone && zone !== 'UTC' && zone !== viewer_zone && zoned(at, zone);
  if (there) lines.splice(1, 0, `${there} ${zone}`);
  return lines.join('\n');
}

/** An instant as its distance, counted on each second; the instant itself is its title. */
export function When({ at, zone }) {
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${at} title=${instant_title(at, zone)}>${distance(at, now.value)}</time>`;
}

/** A fire time to come as its distance; one that has come is due. */
export const Due = ({ at, zone }) => (Date.parse(at) <= now.value
  ? html`<span class="run" title=${instant_title(at, zone)}>due</span>` : html`<${When} at=${at} zone=${zone} />`);

/** An instant as date and clock of the one who looks. */
export const At = ({ at, zone, seconds = true }) => (at
  ? html`<time datetime=${at} title=${instant_title(at, zone)}>${local(at).slice(0, seconds ? 19 : 16)}</time>`
  : html`<span class="muted">–</span>`);

/** The last runs as bars: the taller the longer, the newest at the right. */
export function Spark({ runs }) {
  const shown = (runs || []).slice(0, 10).reverse();
  if (shown.length === 0) return html`<span class="muted small">
    ${alone.value ? 'no run yet' : 'no run here'}</span>`;
  const of = new Map();
  for (const run of shown) of.set(run.outcome, (of.get(run.outcome) || 0) + 1);
  const label = `last ${plural(shown.length, 'run')}: ${[...of].map(([outcome, n]) => `${n} ${words(outcome)}`)
    .join(', ')}`;
  const lengths = shown.map((run) => Math.log1p(Math.max(0, millis(run.took) ?? 0)));
  const most = Math.max(...lengths, 0.001);
  return html`<svg class="spark" viewBox="0 0 92 22" role="img" aria-label=${label}>
    ${Array.from({ length: 10 - shown.length },
      (_, n) => html`<rect class="none" x=${n * 9.3} y="19" width="7" height="2" rx="1" />`)}
    ${shown.map((run, n) => {
      const height = 5 + 15 * (lengths[n] / most);
      return html`<rect class=${run.outcome} x=${(n + 10 - shown.length) * 9.3} y=${21 - height} width="7"
        height=${height} rx="1.5"
        ><title>${words(run.outcome)}, ${duration(run.took)}, ${utc(run.started_at)} UTC</title></rect>`;
    })}
  </svg>`;
}
export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong>${children}</div>`;
export const Loading = () => html`<p class="loading" role="status">Loading…</p>`;

/** What went wrong with a question, and what to do. */
export function Fault({ error, retry }) {
  return html`<div class="note-box bad stack" role="alert">
    <div><strong>${error.title || 'It did not work'}</strong>
      ${error.message && error.message !== error.title ? `: ${error.message}` : ''}</div>
    ${error.cure && html`<div>${error.cure}</div>`}
    ${error.faults?.length > 0 && html`<ul class="stack">${error.faults.map((fault) => html`<li class="wrap-any"
      ><code>${fault.value}</code>: ${fault.rule}${fault.cure ? `; ${fault.cure}` : ''}</li>`)}</ul>`}
    ${retry && html`<div><button class="btn small" type="button" onClick=${retry}>Try again</button></div>`}
  </div>`;
}

/** The answer, or that it is awaited, or why there is none. */
export function Answered({ answer, children }) {
  if (answer.data) {
    return html`${answer.error && html`<div class="stack"><${Fault} error=${answer.error} retry=${answer.reload} />
      <span></span></div>`}${children(answer.data)}`;
  }
  if (answer.error) return html`<${Fault} error=${answer.error} retry=${answer.reload} />`;
  return html`<${Loading} />`;
}

/** That records of this time are missing, if some are. */
export function Gaps({ page, what }) {
  if (!page.complete_from && !page.dropped && !page.unread) return null;
  const said = [];
  if (page.complete_from) {
    said.push(`All ${what} are kept from ${utc(page.complete_from)} UTC on; older ones may be missing.`);
  }
  if (page.dropped) said.push(`${plural(page.dropped,
    'record')} of this time were dropped: the history did not take them.`);
  if (page.unread) said.push(`${plural(page.unread, 'record')} of a newer version could not be read.`);
  return html`<p class="small muted">${said.join(' ')}</p>`;
}

/** Colours of the scheme as a canvas needs them. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const probe = document.createElement('i');
  document.body.append(probe);
  const of = (name) => {
    probe.style.color = style.getPropertyValue(name);
    return getComputedStyle(probe).color;
  };
  const found = Object.fromEntries(['ok', 'bad', 'warn', 'run', 'calm',
    'idle'].map((tone) => [tone, of(`--${tone}-fill`)]));
  Object.assign(found, { line: of('--line'), muted: of('--muted') });
  probe.remove();
  return found;
}

/** What this browser remembers; nothing where it may not store. */
export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
export function remember(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch {
    // It holds until the page is left.
  }
}

/** `light`, `dark` or the empty text: as the system has it. */
export const theme = signal(recall('callsheet-theme') || '');
export const dark = signal(matchMedia('(prefers-color-scheme: dark)').matches);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', (event) => { dark.value = event.matches; });
export function set_theme(name) {
  theme.value = name;
  remember('callsheet-theme', name);
  show_theme();
}
export function show_theme() {
  if (theme.value) document.documentElement.dataset.theme = theme.value;
  else delete document.documentElement.dataset.theme;
}

const toasts = signal([]);
let toast_number = 0;

/** Says something for a few seconds; a problem stays until it is closed. */
export function toast(text, tone = 'ok') {
  const number = ++toast_number;
  toasts.value = [...toasts.value.slice(-3), { number, text, tone }];
  if (tone === 'ok') setTimeout(() => close_toast(number), 6_000);
}
const close_toast = (number) => { toasts.value = toasts.value.filter((one) => one.number !== number); };

export const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${toasts.value.map(({ number, text, tone }) => html`<div class=${`toast ${tone}`} key=${number}
    role=${tone === 'ok' ? undefined : 'alert'}><span class="grow">${text}</span>
    <button class="btn plain small" aria-label="Close this message" onClick=${() => close_toast(number)}>
      <${Icon} name="cross" size=${12} /></button></div>`)}
</div>`;

/** Closes a dialog by a click beside it. A drag that began inside of it, such as the choice of a text, does not. */
export function outside(element, close) {
  return {
    onPointerDown: (event) => { element.began_at = event.target; },
    onClick: (event) => {
      if (event.target === element.current && element.began_at === element.current) close();
    },
  };
}

/** A dialog that keeps the focus, and gives it back. */
export function Dialog({ title, close, submit, action, danger, busy, blocked, children, wide, foot }) {
  const element = useRef(null);
  const id = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    element.current.querySelector('.body input, .body select, .body textarea, footer .btn')?.focus();
    return () => before?.focus?.();
  }, []);
  const send = (event) => {
    event.preventDefault();
    if (!busy && !blocked) submit?.();
  };
  return html`<dialog ref=${element} class=${wide ? 'wide' : ''} aria-labelledby=${id}
      onCancel=${(event) => { event.preventDefault(); close(); }} ...${outside(element, close)}>
    <form onSubmit=${send}>
      <header><h2 id=${id}>${title}</h2>
        <button type="button" class="btn plain icon" aria-label="Close" onClick=${close}>
          <${Icon} name="cross" size=${14} /></button></header>
      <div class="body" tabindex="-1">${children}</div>
      <footer>${foot && html`<span class="grow small muted">${foot}</span>`}
        <button type="button" class="btn" onClick=${close}>${submit ? 'Cancel' : 'Close'}</button>
        ${submit && html`<button type="submit" class=${`btn ${danger ? 'danger' : 'main'}`}
          disabled=${busy || blocked}>${busy ? 'Working…' : action}</button>`}
      </footer>
    </form>
  </dialog>`;
}

/** A labelled control. `children` gets the attributes that tie the control to its texts. */
export function Field({ label, hint, fault, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(' ') || undefined;
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children({ id, 'aria-describedby': described, 'aria-invalid': fault ? 'true' : undefined, class: 'input' })}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${fault && html`<span class="fault" id=${`${id}-fault`} role="alert">${fault}</span>`}
  </div>`;
}

/** A choice in a toolbar. */
export function Choice({ label, value, options, onChange }) {
  return html`<select class="input" aria-label=${label} value=${value || ''}
    onChange=${(event) => onChange(event.target.value)}>
    <option value="">${label}: any</option>
    ${options.map((option) => html`<option value=${option} selected=${option === value}>${words(option)}</option>`)}
    ${value && !options.includes(value) && html`<option value=${value} selected>${words(value)}</option>`}
  </select>`;
}

/** A field to search with, which waits until the typing pauses. */
export function Search({ label, value, onChange }) {
  const [typed, set_typed] = useState(value || '');
  const timer = useRef(null);
  const sent = useRef(value || '');
  useEffect(() => {
    if ((value || '') !== sent.current) { sent.current = value || ''; set_typed(value || ''); }
  }, [value]);
  const type = (event) => {
    const text = event.target.value;
    set_typed(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => { sent.current = text; onChange(text); }, 200);
  };
  return html`<div class="search"><${Icon} name="search" size=${14} />
    <input class="input" type="search" placeholder=${label} aria-label=${label} value=${typed} onInput=${type}
      data-search="" autocomplete="off" spellcheck=${false} />
    ${!typed && html`<kbd aria-hidden="true">/</kbd>`}</div>`;
}

export const More = ({ next, loading, more }) => (next
  ? html`<button class="btn small" disabled=${loading} onClick=${more}>${loading ? 'Loading…' : 'Show older'}</button>`
  : html`<span class="small muted">That is all.</span>`);

export const Tags = ({ tags, pick }) => (tags || []).map((tag) => (pick
  ? html`<button type="button" class="tag" key=${tag} title=${`Show jobs with the tag ${tag}`}
    onClick=${() => pick(tag)}>${tag}</button>`
  : html`<span class="tag" key=${tag}>${tag}</span>`));
