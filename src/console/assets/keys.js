// The keyboard: single keys, and the palette.

import { html, signal, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from './lib.js';
import { get } from './api.js';
import { go } from './route.js';
import { Dialog, Icon, outside, recall, remember, set_theme } from './ui.js';

export const PAGES = [
  ['overview', 'Overview', 'o'], ['jobs', 'Jobs', 'b'], ['runs', 'Runs', 'r'], ['nodes', 'Nodes', 'n'],
  ['locks', 'Locks', 'l'], ['calendar', 'Calendar', 'c'], ['operations', 'Operations', 'p'],
];

const single_keys = signal(recall('callsheet-keys') !== 'off');
export const palette_open = signal(false);
export const help_open = signal(false);

/** What the page that is shown offers to the palette: `{label, act}`. */
export const page_actions = signal([]);

export function usePageActions(actions, deps) {
  useEffect(() => {
    page_actions.value = actions;
    return () => { page_actions.value = []; };
  }, deps);
}

const rows = () => [...document.querySelectorAll('[data-row]')].filter((row) => row.offsetParent !== null);

/** The row that the keys are at. It is an attribute of its own: a row that is drawn again gets its class anew. */
const CURRENT = 'data-current';

/** Moves through the rows of the page. */
function move(by) {
  const all = rows();
  if (all.length === 0) return;
  const focused = document.activeElement?.closest('[data-row]');
  const marked = all.findIndex((row) => row.hasAttribute(CURRENT));
  const at = marked < 0 ? all.indexOf(focused) : marked;
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))];
  for (const row of all) row.toggleAttribute(CURRENT, row === next);
  const link = next.querySelector('[data-open]');
  (link || next).focus({ preventScroll: true });
  next.scrollIntoView({ block: 'nearest' });
}

const types = (element) => element?.closest?.('input:not([type="checkbox"]), textarea, select, [contenteditable]');
let leader_key = 0;

function pressed(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    palette_open.value = !palette_open.value;
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === 'Escape' && types(event.target) && !event.target.closest('dialog')) {
    event.target.blur();
    return;
  }
  if (!single_keys.value || types(event.target) || document.querySelector('dialog[open]')) return;
  const { key } = event;
  const after_g = Date.now() - leader_key < 1_200;
  leader_key = 0;
  if (after_g) {
    const page = PAGES.find(([, , letter]) => letter === key);
    if (page) {
      event.preventDefault();
      go(page[0]);
    }
    return;
  }
  const does = {
    '/': () => {
      const field = document.querySelector('[data-search]');
      if (field) field.focus();
      else palette_open.value = true;
    },
    'j': () => move(1),
    'k': () => move(-1),
    'x': () => document.querySelector(`[${CURRENT}] input[type="checkbox"]`)?.click(),
    'g': () => { leader_key = Date.now(); },
    '?': () => { help_open.value = true; },
  }[key];
  if (does) {
    event.preventDefault();
    does();
  }
}

export function listen() {
  document.addEventListener('keydown', pressed);
}

const matches = (text, typed) => typed.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));

/** What can be gone to, and done, by its name. */
export function Palette() {
  const [typed, set_typed] = useState('');
  const [jobs, set_jobs] = useState([]);
  const [at, set_at] = useState(0);
  const element = useRef(null);
  const id = useId();
  const close = () => { palette_open.value = false; };
  useLayoutEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  useEffect(() => {
    const control = new AbortController();
    const timer = setTimeout(() => get('jobs', { search: typed, limit: 20 }, control.signal)
      .then((page) => set_jobs(page.jobs), () => {}), typed ? 120 : 0);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [typed]);
  const entries = useMemo(() => {
    const pages = PAGES.map(([name, label]) => ({ label, kind: 'page', icon: name, act: () => go(name) }));
    const themes = [['', 'Colours as the system'], ['light', 'Light colours'], ['dark', 'Dark colours']]
      .map(([name, label]) => ({ label, kind: 'view', icon: 'theme', act: () => set_theme(name) }));
    const help = { label: 'Keys of this page', kind: 'help', icon: 'more', act: () => { help_open.value = true; } };
    const run = /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(typed.trim())
      ? [{ label: `Run ${typed.trim()}`, kind: 'run', icon: 'runs', act: () => go('run', { run: typed.trim() }) }] : [];
    const actions = page_actions.value.map((one) => ({ kind: 'action', icon: 'play', ...one }));
    const fixed = [...actions, ...pages, help, ...themes].filter((one) => matches(one.label, typed));
    const found = jobs.map((job) => ({ label: job.name, kind: 'job', icon: 'jobs',
      act: () => go('job', { job: job.name }) }));
    return typed ? [...run, ...found, ...fixed] : [...fixed, ...found];
  }, [typed, jobs, page_actions.value]);
  const chosen = Math.min(at, entries.length - 1);
  const pick = (entry) => {
    close();
    if (entry) setTimeout(entry.act);
  };
  const key = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      event.preventDefault();
      set_at((entries.length + chosen + by) % Math.max(1, entries.length));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      pick(entries[chosen]);
    }
  };
  useEffect(() => {
    element.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen, entries]);
  return html`<dialog class="palette" ref=${element} aria-label="Go to"
    onCancel=${(event) => { event.preventDefault(); close(); }}
    ...${outside(element, close)}>
    <input class="input" role="combobox" aria-expanded="true" aria-controls=${id}
      aria-label="Go to a job, a page or an action"
      aria-activedescendant=${entries.length ? `${id}-${chosen}` : undefined}
        placeholder="Go to a job, a page or an action" autofocus
      autocomplete="off" spellcheck=${false} value=${typed} onKeyDown=${key}
      onInput=${(event) => { set_typed(event.target.value); set_at(0); }} />
    <ul role="listbox" id=${id} aria-label="What there is">
      ${entries.map((entry, n) => html`<li role="option" id=${`${id}-${n}`} key=${`${entry.kind} ${entry.label}`}
        aria-selected=${n === chosen ? 'true' : 'false'}
        onClick=${() => pick(entry)} onMouseMove=${() => set_at(n)}><${Icon} name=${entry.icon} size=${14} />
        <span class="cut">${entry.label}</span><span class="kind">${entry.kind}</span></li>`)}
      ${entries.length === 0 && html`<li role="option" aria-selected="false" aria-disabled="true"
        class="muted">Nothing has this name.</li>`}
    </ul>
  </dialog>`;
}

export function Help() {
  const keys = [
    ['Ctrl K', 'Palette: go to a job, a page or an action'], ['/', 'Search'], ['j  k', 'Next row, row before'],
    ['Enter', 'Open the row'], ['x', 'Choose the row, for actions on many jobs'],
    ...PAGES.map(([, label, letter]) => [`g ${letter}`, label]), ['?', 'This list'], ['Esc', 'Close, leave a field'],
  ];
  const change = (event) => {
    single_keys.value = event.target.checked;
    remember('callsheet-keys', event.target.checked ? '' : 'off');
  };
  return html`<${Dialog} title="Keys" close=${() => { help_open.value = false; }}>
    <dl class="facts">${keys.map(([key, text]) => html`<dt><kbd>${key}</kbd></dt><dd>${text}</dd>`)}</dl>
    <label class="check"><input type="checkbox" checked=${single_keys.value}
      onChange=${change} /> Single keys do something</label>
  <//>`;
}
