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

/** Whole numbers beyond 2^53 as they are written, where the browser can keep them. */
const exact = (_, value, context) => (JSON.rawJSON && typeof value === 'number' && !Number.isSafeInteger(value)
  && /^-?\d+$/.test(context?.source) ? JSON.rawJSON(context.source) : value);

async function answer_of(request, reviver) {
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
    body = text ? JSON.parse(text, reviver) : null;
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
  // Only the page of a job shows arguments, which may hold such numbers.
  const body = await answer_of(request, path === 'job' ? exact : undefined);
  if (body.now) set_clock(body.now);
  return body;
}

/** Does something. `raw`: members whose values are JSON text already, which is sent as it is. */
export function post(path, body, raw = {}) {
  const members = Object.entries(body).filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  for (const [name, text] of Object.entries(raw)) members.push(`${JSON.stringify(name)}:${text}`);
  return answer_of(fetch(`api/${path}`, {
    method: 'POST', credentials: 'same-origin', cache: 'no-store',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' }, body: `{${members.join()}}`,
  }));
}

/** Asks again after a problem, the longer the more often it failed. */
const AGAIN_AFTER = [2_000, 4_000, 8_000, 15_000];
/** A question that has no answer after so long, in milliseconds, has failed. */
const ANSWER_MAX = 30_000;

/** Reads, and gives up after a while. */
async function get_in_time(path, params, control) {
  let is_late = false;
  const deadline = setTimeout(() => { is_late = true; control.abort(); }, ANSWER_MAX);
  try {
    return await get(path, params, control.signal);
  } catch (error) {
    if (!is_late) throw error;
    throw new Problem({ kind: 'unreachable', title: 'The node does not answer',
      detail: `there was no answer within ${ANSWER_MAX / 1_000} s`, cure: 'The page tries again by itself.' });
  } finally {
    clearTimeout(deadline);
  }
}

/** How long to wait after a problem, the `failed`-th in a row, in milliseconds; 0 if asking again does not help. */
function wait_after(error, failed, every) {
  const passes = error.status === undefined || error.status >= 500 || error.status === 429;
  return passes ? AGAIN_AFTER[Math.min(failed - 1, AGAIN_AFTER.length - 1)] : every;
}

/**
 * The answer to a question, as long as the component is shown: `{data, error, loading, of, asked_at, reload, set}`.
 * Another question keeps the former answer until its own is there; `of` is the address of the question that `data`
 * answers. `every`: how often it is asked again, in milliseconds. `fresh`: parameters that are made for each request.
 * One request is in flight at a time: a reload meanwhile is one more after it.
 */
export function useAnswer(path, params = {}, { every = 0, skip = false, fresh } = {}) {
  const asked = skip ? null : address(path, params);
  const [state, set_state] = useState({ data: null, error: null, loading: !skip, of: null, asked_at: 0 });
  const run = useRef(null);
  useEffect(() => {
    if (!asked) return undefined;
    const control = { current: null };
    let timer = null;
    let failed = 0;
    let is_busy = false;
    let again = false;
    let gone = false;
    async function once() {
      const asked_at = Date.now();
      control.current = new AbortController();
      try {
        const data = await get_in_time(path, { ...params, ...fresh?.() }, control.current);
        if (gone) return 0;
        failed = 0;
        set_state({ data, error: null, loading: false, of: asked, asked_at });
        return every;
      } catch (error) {
        if (gone) return 0;
        failed += 1;
        set_state((before) => ({ ...before, data: before.of === asked ? before.data : null, error, loading: false }));
        return wait_after(error, failed, every);
      }
    }
    async function ask() {
      clearTimeout(timer);
      if (is_busy) {
        again = true;
        return;
      }
      if (document.hidden) {
        timer = setTimeout(ask, 1_000);
        return;
      }
      is_busy = true;
      again = false;
      const wait = await once();
      is_busy = false;
      if (gone) return;
      if (again) ask();
      else if (wait) timer = setTimeout(ask, wait);
    }
    run.current = ask;
    set_state((before) => ({ ...before, loading: before.of !== asked }));
    ask();
    return () => {
      gone = true;
      clearTimeout(timer);
      control.current?.abort();
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
