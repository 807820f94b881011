// Reads and posts: everything that the page knows comes through here.

import { useEffect, useRef, useState } from './lib.js';
import { signal } from './lib.js';

/** What the API says went wrong: `title`, `detail`, `cure`, `faults`, and the other members of the problem. */
export class Problem extends Error {
  constructor(members) {
    super(members.detail || members.title || 'the request failed');
    Object.assign(this, members);
  }
}

/** Who looks, what is allowed, and the node that answers. */
export const me = signal({ may: { operate: false, edit: false }, bulk_max: 1000 });

/** How much further the clock of the node is than the one of this browser, in milliseconds. */
let ahead = 0;

/** The instant now by the clock of the node, renewed each second while the page is seen. */
export const now = signal(Date.now());
const tick = () => { now.value = Date.now() + ahead; };
setInterval(() => { if (!document.hidden) tick(); }, 1_000);
document.addEventListener('visibilitychange', tick);

function set_clock(instant) {
  const read = Date.parse(instant);
  if (!Number.isNaN(read) && Math.abs(read - Date.now() - ahead) > 1_500) {
    ahead = read - Date.now();
    tick();
  }
}

/** The address of a question, without the members that are empty. */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== '') query.set(name, value);
  }
  const text = query.toString();
  return `api/${path}${text ? `?${text}` : ''}`;
}

async function answer_of(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({
      kind: 'unreachable', title: 'The node does not answer', detail: 'the request did not reach the node',
      cure: 'Is the application running? The page tries again by itself.',
    });
  }
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    // What is no JSON comes from something between this page and the console.
  }
  if (response.ok && body !== null) return body;
  throw new Problem({
    status: response.status, kind: 'internal', title: response.statusText || `Status ${response.status}`,
    detail: body ? undefined : 'the answer is not of the console',
    cure: body ? undefined : 'Look at the proxy or the middleware between this page and the console.',
    ...(body || {}),
  });
}

/** Reads. */
export async function get(path, params, signal_) {
  const request = fetch(address(path, params), {
    credentials: 'same-origin', cache: 'no-store', signal: signal_, headers: { Accept: 'application/json' },
  });
  const body = await answer_of(request);
  if (body.now) set_clock(body.now);
  return body;
}

/** Does something. */
export function post(path, body) {
  return answer_of(fetch(`api/${path}`, {
    method: 'POST', credentials: 'same-origin', cache: 'no-store',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' }, body: JSON.stringify(body),
  }));
}

/** Asks again after a problem, the longer the more often it failed. */
const AGAIN_AFTER = [2_000, 4_000, 8_000, 15_000];

/**
 * The answer to a question, as long as the component is shown: `{data, error, loading, reload, set}`. Another question
 * keeps the former answer until its own is there. `every`: how often it is asked again, in milliseconds.
 */
export function useAnswer(path, params = {}, { every = 0, skip = false } = {}) {
  const asked = skip ? null : address(path, params);
  const [state, set_state] = useState({ data: null, error: null, loading: !skip, of: null });
  const run = useRef(null);
  useEffect(() => {
    if (!asked) return undefined;
    let control = null;
    let timer = null;
    let failed = 0;
    let gone = false;
    const later = (after) => { clearTimeout(timer); timer = setTimeout(ask, after); };
    async function ask() {
      control?.abort();
      const mine = new AbortController();
      control = mine;
      if (document.hidden) return later(1_000);
      try {
        const data = await get(path, params, mine.signal);
        if (gone || mine.signal.aborted) return undefined;
        failed = 0;
        set_state({ data, error: null, loading: false, of: asked });
        if (every) later(every);
      } catch (error) {
        if (gone || error.name === 'AbortError') return undefined;
        set_state((before) => ({ ...before, data: before.of === asked ? before.data : null, error, loading: false }));
        const passes = error.status === undefined || error.status >= 500 || error.status === 429;
        if (passes) later(AGAIN_AFTER[Math.min(failed++, AGAIN_AFTER.length - 1)]);
      }
      return undefined;
    }
    run.current = ask;
    set_state((before) => ({ ...before, loading: before.of !== asked }));
    ask();
    return () => {
      gone = true;
      clearTimeout(timer);
      control?.abort();
    };
  }, [asked, every]);
  const set = (change) => set_state((before) => ({ ...before, data: before.data && change(before.data) }));
  return { ...state, reload: () => run.current?.(), set };
}

/** Calls `act` when the calls to what it returns are over, at most once in `pace` milliseconds. */
export function paced(act, pace) {
  let timer = null;
  let last = 0;
  const call = () => {
    if (timer) return;
    const wait = Math.max(0, last + pace - Date.now());
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      act();
    }, wait);
  };
  call.stop = () => { clearTimeout(timer); timer = null; };
  return call;
}
