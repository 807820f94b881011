// Which page is shown: the part of the address behind `#`.

import { signal } from './lib.js';

function read() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  let name = 'overview';
  try {
    name = decodeURIComponent(path) || 'overview';
  } catch {
    // A broken address is the overview.
  }
  return { name, params: Object.fromEntries(new URLSearchParams(query || '')) };
}

/** `{name, params}` of the page that is shown. */
export const route = signal(read());
window.addEventListener('hashchange', () => { route.value = read(); });

/** The address of a page; members that are empty are left out. */
export function to(name, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== '') query.set(key, value);
  }
  const text = query.toString();
  return `#/${name}${text ? `?${text}` : ''}`;
}

export function go(name, params) {
  location.hash = to(name, params);
}

/** Changes parameters of this page without a step in the browser's history. */
export function set_params(changes) {
  const { name, params } = route.value;
  history.replaceState(null, '', to(name, { ...params, ...changes }));
  route.value = read();
}

export const job_link = (job) => to('job', { job });
export const run_link = (run) => to('run', { run });
