// What happens, as it happens: one stream of the node for all tabs of a browser, and none while none is seen.
//
// The tab that holds the lock reads the stream and tells the others. A tab that is hidden gives the lock back. Without
// secure context a browser has no locks: then each tab that is seen reads its own stream.

import { computed, signal, useEffect, useRef } from './lib.js';

/** `on`, `connecting`, `off`: whether what is shown is kept up to date. */
export const connection = signal('connecting');

/** Whether this node is the only one: of other nodes the stream tells nothing. */
export const alone = signal(false);
/** How often a list is read again that is not heard of, in milliseconds. */
const LOOKS_EVERY = 7_000;
/** How often lists of records are to be read again, in milliseconds; 0 while the stream tells of all that happens. */
export const looks_every = computed(() => (alone.value && connection.value === 'on' ? 0 : LOOKS_EVERY));

/** Whether events of runs concern `is_it`; those that were left out may. */
export const of_runs = (kind, data, is_it) => kind === 'runs' && (data.left_out > 0 || (data.runs || []).some(is_it));
/** Whether what a view shows is to be read again. A reset that names no view is of all. */
export const is_reset = (kind, data, view) => kind === 'reset' && (!data?.views?.length || data.views.includes(view));

const listeners = new Set();
const base = new URL('.', document.baseURI).pathname;
const channel = 'BroadcastChannel' in window ? new BroadcastChannel(`callsheet-live ${base}`) : null;
const VIEWS = 'overview,jobs,runs';
/** A stream that says nothing for so long, in milliseconds, is dead: heartbeats come every 15 s. */
const SILENT_MAX = 40_000;
/** For how long a tab that listens to another one waits for a word of it, in milliseconds. */
const QUIET_MAX = 45_000;

let last_id = null;
let heard_at = Date.now();
let control = null;

function tell(kind, data) {
  for (const listener of listeners) listener(kind, data);
}

function say(message) {
  channel?.postMessage(message);
  hear(message);
}

function hear(message) {
  heard_at = Date.now();
  if (message.id) last_id = message.id;
  // Whatever is heard comes of a stream that is read: a tab that opened later heard no `on`.
  connection.value = message.connection || 'on';
  if (message.kind) tell(message.kind, message.data);
}

channel?.addEventListener('message', ({ data }) => { if (!document.hidden) hear(data); });

/** The events in what was read, and what is left of it. */
export function events_in(text) {
  const events = [];
  let rest = text.replaceAll('\r\n', '\n');
  for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
    const event = { kind: 'message', data: '' };
    for (const line of rest.slice(0, end).split('\n')) {
      const [, name, value] = /^([a-z]*): ?(.*)$/.exec(line) || [];
      if (name === 'event') event.kind = value;
      else if (name === 'id') event.id = value;
      else if (name === 'data') event.data += (event.data && '\n') + value;
    }
    events.push(event);
    rest = rest.slice(end + 2);
  }
  return { events, rest };
}

async function read(signal_) {
  const headers = { Accept: 'text/event-stream' };
  if (last_id) headers['Last-Event-ID'] = last_id;
  const response = await fetch(`api/events?views=${VIEWS}`, {
    credentials: 'same-origin', cache: 'no-store', headers, signal: signal_,
  });
  if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
  say({ connection: 'on' });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  let silence = null;
  try {
    for (;;) {
      clearTimeout(silence);
      silence = setTimeout(() => reader.cancel().catch(() => {}), SILENT_MAX);
      const { value, done } = await reader.read();
      if (done) return;
      const { events, rest } = events_in(text + value);
      text = rest;
      if (events.length === 0) say({});
      for (const { kind, id, data } of events) {
        if (!data) say({});
        else say({ kind, id, data: JSON.parse(data) });
        if (kind === 'dropped') return;
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

const sleep = (ms, signal_) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal_.addEventListener('abort', () => { clearTimeout(timer); done(); });
});

/** Reads the stream, again and again, until it is aborted. */
async function stream(signal_) {
  let failed = 0;
  while (!signal_.aborted) {
    const began = Date.now();
    try {
      await read(signal_);
    } catch {
      // The next try tells.
    }
    if (signal_.aborted) return;
    failed = Date.now() - began > 10_000 ? 0 : failed + 1;
    if (failed > 1) say({ connection: 'off' });
    else say({ connection: 'connecting' });
    await sleep(Math.min(1_000 * 2 ** failed, 15_000) * (0.7 + Math.random() * 0.6), signal_);
  }
}

function begin() {
  if (control || document.hidden) return;
  control = new AbortController();
  const { signal: mine } = control;
  if (!navigator.locks) {
    stream(mine);
    return;
  }
  navigator.locks.request(`callsheet-live ${base}`, { signal: mine }, () => stream(mine)).catch(() => {});
}

function end() {
  control?.abort();
  control = null;
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    end();
  } else {
    begin();
    // What happened meanwhile was not heard.
    tell('reset', { reason: 'the page was hidden' });
  }
});
window.addEventListener('pagehide', end);
window.addEventListener('pageshow', begin);
setInterval(() => {
  if (!document.hidden && Date.now() - heard_at > QUIET_MAX) connection.value = 'off';
}, 5_000);

/** Starts the stream. */
export const start = begin;

/** Calls `listener(kind, data)` for each event, while the component is shown. */
export function useLive(listener) {
  const current = useRef(listener);
  current.current = listener;
  useEffect(() => {
    const hears = (kind, data) => current.current(kind, data);
    listeners.add(hears);
    return () => listeners.delete(hears);
  }, []);
}
