// Runs, the newest first, as they happen.

import { html, useEffect, useMemo, useRef, useState } from '../lib.js';
import { duration, instant_of_field, millis, short } from '../format.js';
import { address, get, now, paced, useAnswer } from '../api.js';
import { is_reset, looks_every, of_runs, useLive } from '../live.js';
import { job_link, route, run_link, set_params } from '../route.js';
import { Answered, Choice, Empty, Fault, Gaps, Head, More, Outcome, RUN_OUTCOMES, Search, When } from '../ui.js';
import { node_name } from '../plots.js';

/** The most rows that a list keeps while new ones come; beyond that it starts again with the newest. */
const ROWS_MAX = 5_000;

/**
 * The list after its newest page was read again: rows that are older than that page stay. Where the page does not reach
 * the rows that were there, they go, so that the list has no hole.
 */
function renewed(before, page, rows, key) {
  const start = { rows, next: page.next ?? null, is_longer: false };
  if (!before?.is_longer || !page.next) return start;
  const renews = new Set(rows.map(key));
  const last = before.rows.findLastIndex((row) => renews.has(key(row)));
  if (last < 0) return start;
  const all = [...rows, ...before.rows.slice(last + 1)];
  return all.length > ROWS_MAX ? start : { rows: all, next: before.next, is_longer: true };
}

/** The list with an older page at its end. */
function longer(before, page, rows, key) {
  const seen = new Set(before.rows.map(key));
  return { ...before, rows: [...before.rows, ...rows.filter((row) => !seen.has(key(row)))], next: page.next ?? null,
    is_longer: true };
}

/**
 * Pages of records, the newest first: `more()` reads older ones, and the newest is read again now and then. `list`: the
 * member that holds them.
 */
export function usePages(path, params, list, key) {
  const first = useAnswer(path, params, { every: looks_every.value });
  const kept = useRef({ rows: [], next: null, of: null, page: null });
  if (first.data && kept.current.page !== first.data) {
    const before = kept.current.of === first.of ? kept.current : null;
    kept.current = { ...renewed(before, first.data, first.data[list] || [], key), of: first.of, page: first.data };
  }
  const [loading, set_loading] = useState(false);
  const [fault, set_fault] = useState(null);
  const { rows, next, of } = kept.current;
  const more = async () => {
    if (of !== address(path, params)) return;
    set_loading(true);
    try {
      const page = await get(path, { ...params, after: next });
      // The list may have begun again meanwhile.
      if (kept.current.of === of && kept.current.next === next) {
        kept.current = { ...kept.current, ...longer(kept.current, page, page[list] || [], key) };
      }
      set_fault(null);
    } catch (error) {
      set_fault(error);
    }
    set_loading(false);
  };
  return { first, rows, next, more, loading, fault };
}

/** Asks again when `concerns` says that an event does, or after a reset of `view`, at most every two seconds. */
export function useReloadOn(reload, concerns, view = 'runs') {
  const current = useRef(reload);
  current.current = reload;
  const later = useMemo(() => paced(() => current.current(), 2_000), []);
  useEffect(() => later.stop, []);
  useLive((kind, data) => {
    if (is_reset(kind, data, view) || concerns(kind, data)) later();
  });
}

export function Runs() {
  const { params } = route.value;
  const { job, outcome, node, from, to } = params;
  const pages = usePages('runs',
    { job, outcome, node, from: instant_of_field(from), to: instant_of_field(to), limit: 50 }, 'runs',
    (run) => run.run);
  const nodes = useAnswer('nodes', {}, { every: 30_000 });
  const known = nodes.data?.nodes || [];
  useReloadOn(pages.first.reload, (kind, data) => of_runs(kind, data, (one) => !job || one.job === job));
  const is_filtered = Boolean(job || outcome || node || from || to);
  const field = (name, label) => html`<label class="row tight keep small muted">${label}
    <input class="input" type="datetime-local" value=${params[name] || ''}
      onChange=${(event) => set_params({ [name]: event.target.value })} /></label>`;
  return html`<${Head} title="Runs" sub="An execution of a job: of a tick, of a trigger, or of a backfill." />
    <div class="toolbar" role="search">
      <${Search} label="Runs of the job named…" value=${job} onChange=${(text) => set_params({ job: text })} />
      <${Choice} label="Outcome" value=${outcome} options=${RUN_OUTCOMES}
        onChange=${(value) => set_params({ outcome: value })} />
      <select class="input" aria-label="Node" value=${node || ''}
        onChange=${(event) => set_params({ node: event.target.value })}>
        <option value="">Node: any</option>
        ${known.map((one) => html`<option value=${one.node} selected=${one.node === node}>
          ${one.name || short(one.node)}</option>`)}
        ${node && !known.some((one) => one.node === node)
          && html`<option value=${node} selected>${short(node)}</option>`}
      </select>
      ${field('from', 'from')}${field('to', 'to')}
      ${is_filtered && html`<button class="btn plain" type="button"
        onClick=${() => set_params({ job: '', outcome: '', node: '', from: '', to: '' })}>Clear</button>`}
    </div>
    <${Answered} answer=${pages.first}>${(page) => html`<section class="card" aria-label="Runs">
      ${pages.rows.length === 0 ? html`<${None} is_filtered=${is_filtered} outcome=${outcome} next=${pages.next} />`
        : html`<${RunTable} runs=${pages.rows} name_of=${node_name(known)} />`}
      <footer><${More} next=${pages.next} loading=${pages.loading} more=${pages.more} /> <${Gaps} page=${page}
        what="runs" /></footer>
      ${pages.fault && html`<${Fault} error=${pages.fault} />`}
    </section>`}<//>`;
}

function None({ is_filtered, outcome, next }) {
  if (next) return html`<${Empty} title="No run like this is among the newest records">
    <p>“Show older” looks further back.</p><//>`;
  if (outcome === 'in_progress') return html`<${Empty} title="Nothing runs right now">
    <p>A run is listed here from its start to its end.</p><//>`;
  if (is_filtered) return html`<${Empty} title="No run is like this">
    <p>Take a filter away, or look further back.</p><//>`;
  return html`<${Empty} title="Nothing has run yet">
    <p>Each run is recorded with its attempts, its error, and what its body reported. The first one appears
    here as soon as a job is due, or when you choose “Run now” on a job.</p><//>`;
}

/** Why there was a run, in a word. */
export function origin_words(run) {
  const { kind, by } = run.origin || {};
  if (kind === 'trigger') return by ? `trigger by ${by}` : 'trigger';
  if (kind === 'backfill') return by ? `backfill by ${by}` : 'backfill';
  return kind === 'tick' ? 'tick' : 'not known';
}

/** How long it took, or takes so far. */
export function Took({ run }) {
  if (run.took) return duration(run.took);
  if (!run.started_at || run.ended_at) return html`<span class="muted">–</span>`;
  if (run.is_stale) return html`<span class="muted">not known</span>`;
  return html`<span class="run">
    ${duration(Math.max(0, Math.floor((now.value - Date.parse(run.started_at)) / 1_000) * 1_000))}</span>`;
}

export function Progress({ value }) {
  if (value === null || value === undefined) return null;
  const share = Math.round(Math.min(1, Math.max(0, value)) * 100);
  return html`<div class="row tight keep">
    <div class="bar grow" role="progressbar" aria-label="Progress" aria-valuenow=${share} aria-valuemin="0"
    aria-valuemax="100"
    ><i style=${{ width: `${share}%` }}></i></div><span class="small">${share} %</span></div>`;
}

const LATE = 1_000;

export function RunTable({ runs, name_of, without_job = false }) {
  return html`<div class="table-wrap"><table class="cards">
    <thead><tr>
      ${!without_job && html`<th scope="col">Job</th>`}<th scope="col">Outcome</th><th scope="col">Started</th>
      <th scope="col" class="num">Took</th><th scope="col" class="opt num">Late</th>
        <th scope="col" class="opt2">Why</th>
      <th scope="col" class="opt">Node</th><th scope="col" class="opt2 c-rest">What it said</th></tr></thead>
    <tbody>${runs.map((run) => {
      const late = millis(run.lateness) || 0;
      const said = run.error ? run.error.split('\n')[0] : run.report;
      return html`<tr key=${run.run} data-row="">
        ${!without_job && html`<td class="name-cell"><a class="name cut" href=${job_link(run.job)} title=${run.job}>
          ${run.job}</a></td>`}
        <td class="nowrap"><a data-open="" href=${run_link(run.run)}><${Outcome} run=${run} />
          <span class="hidden"> run ${short(run.run)} of ${run.job}</span></a>
          ${run.attempt > 1 && html`<span class="small muted" title=${`${run.attempt} tries`}> ×${run.attempt}</span>`}
            </td>
        <td class="nowrap"><${When} at=${run.started_at || run.fire_time} /></td>
        <td class="num nowrap" data-label="took">
          ${run.progress !== null && run.progress !== undefined && !run.ended_at
          ? html`<${Progress} value=${run.progress} />` : html`<${Took} run=${run} />`}</td>
        <td data-label="late" class=${`opt num nowrap ${late >= LATE ? 'warn' : 'muted'}`}>
          ${late > 0 ? duration(late) : '–'}</td>
        <td class="opt2 small muted nowrap">${origin_words(run)}</td>
        <td class="opt small nowrap">${name_of(run.node)}</td>
        <td class="opt2 small c-rest"><div class=${`cut ${run.error ? 'bad' : 'muted'}`} title=${said}>
          ${said || ''}</div></td>
      </tr>`;
    })}</tbody></table></div>`;
}

