// All jobs: searched, filtered and sorted by the node, shown in a window, so that ten thousand cost what fifty do.

import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../lib.js';
import { count, plural, words } from '../format.js';
import { address, get, me, useAnswer } from '../api.js';
import { alone, is_reset, useLive } from '../live.js';
import { job_link, route, set_params } from '../route.js';
import { Answered, Choice, Due, Empty, Fault, Head, Icon, JOB_STATES, Search, Spark, State, Tags, When,
  unnamed_words } from '../ui.js';
import { ACTIONS, ask, may } from '../actions.js';

const PAGE = 200;
const ROW = 52;
/** Rows above and below what is seen that are made too. */
const SPARE = 12;
const STEP = 6;

/** The rows of the jobs that are asked for, page by page, kept up to date. */
function useJobs(filter) {
  const first = useAnswer('jobs', { ...filter, limit: PAGE }, { every: 60_000 });
  const [more, set_more] = useState({ rows: [], next: undefined, of: null });
  const busy = useRef(false);
  const stale = useRef(false);
  const [fault, set_fault] = useState(null);
  const asked = JSON.stringify(filter);
  const mine = more.of === asked ? more : { rows: [], next: undefined };
  const is_answered = first.of === address('jobs', { ...filter, limit: PAGE });
  const next = !is_answered ? null : mine.next === undefined ? first.data?.next : mine.next;
  const [changed, set_changed] = useState(new Map());
  const forget = (jobs, asked_at) => set_changed((before) => {
    const after = new Map(before);
    for (const { name } of jobs) if (after.get(name)?.at < asked_at) after.delete(name);
    return after;
  });
  const page_after = async (after) => {
    const asked_at = Date.now();
    const page = await get('jobs', { ...filter, limit: 1_000, after });
    forget(page.jobs, asked_at);
    return page;
  };
  const once = async (act) => {
    if (busy.current) return;
    busy.current = true;
    try {
      await act();
      set_fault(null);
    } catch (error) {
      set_fault(error);
    }
    busy.current = false;
  };
  const load = useCallback(() => next && once(async () => {
    const page = await page_after(next);
    set_more((before) => {
      const is_first = before.of !== asked;
      return { rows: [...(is_first ? [] : before.rows), ...page.jobs], next: page.next, of: asked,
        start: is_first ? next : before.start };
    });
  }), [next, asked]);
  /** Reads the rows beyond the first page again, as many as there were; till then these stay. */
  const refill = (start) => once(async () => {
    stale.current = false;
    const wanted = mine.rows.length;
    const rows = [];
    let cursor = start;
    while (cursor && rows.length < wanted) {
      const page = await page_after(cursor);
      rows.push(...page.jobs);
      cursor = page.next;
    }
    set_more((before) => (before.of === asked ? { rows, next: cursor ?? null, of: asked, start } : before));
  });
  const again = () => {
    stale.current = true;
    first.reload();
  };
  const waiting = useRef(new Map());
  useLive((kind, data) => {
    if (kind === 'jobs') {
      const at = Date.now();
      for (const row of data.changed || []) waiting.current.set(row.name, { row, at });
      for (const name of data.removed || []) waiting.current.set(name, { row: null, at });
      set_changed((before) => {
        const after = new Map([...before, ...waiting.current]);
        waiting.current = new Map();
        return after;
      });
    }
    if (is_reset(kind, data, 'jobs')) again();
  });
  // What was heard before the page was asked for is in it.
  useEffect(() => { if (first.data) forget(first.data.jobs, first.asked_at); }, [first.data]);
  // The rows beyond the first page begin elsewhere now, or are not known to be right any more.
  useEffect(() => {
    if (mine.rows.length === 0) stale.current = false;
    else if (is_answered && (stale.current || mine.start !== first.data.next)) refill(first.data.next);
  }, [first.data]);
  const rows = useMemo(() => {
    const seen = new Set();
    const all = [];
    for (const row of [...(first.data?.jobs || []), ...mine.rows]) {
      const current = changed.has(row.name) ? changed.get(row.name).row : row;
      if (current && !seen.has(row.name)) all.push(current);
      seen.add(row.name);
    }
    return all;
  }, [first.data, mine.rows, changed]);
  return { first, rows, next, load, fault, again };
}

export function Jobs() {
  const { params } = route.value;
  const { search, state, tag, task, sort, order } = params;
  const filter = { search, state, tag, task, sort, order };
  const jobs = useJobs(filter);
  const { first, rows } = jobs;
  const [lists, set_lists] = useState({ tags: [], tasks: [] });
  useEffect(() => { if (first.data?.tags) set_lists({ tags: first.data.tags, tasks: first.data.tasks || [] }); },
    [first.data]);
  const [chosen, set_chosen] = useState(new Set());
  const [everything, set_everything] = useState(false);
  useEffect(() => { set_chosen(new Set()); set_everything(false); }, [JSON.stringify(filter)]);
  const matched = first.data?.matched ?? rows.length;
  const is_filtered = Boolean(search || state || tag || task);
  const clear = () => set_params({ search: '', state: '', tag: '', task: '' });
  const done = () => { set_chosen(new Set()); set_everything(false); jobs.again(); };
  return html`<${Head} title="Jobs"
    sub=${first.data ? html`${is_filtered ? `${count(matched)} of ` : ''}${plural(first.data.total, 'job')}` : ' '} />
    <div class="toolbar" role="search">
      <${Search} label="Search name, tag or schedule" value=${search}
        onChange=${(text) => set_params({ search: text })} />
      <${Choice} label="State" value=${state} options=${JOB_STATES}
        onChange=${(value) => set_params({ state: value })} />
      ${(lists.tags.length > 0 || tag)
        && html`<${Choice} label="Tag" value=${tag} options=${lists.tags}
        onChange=${(value) => set_params({ tag: value })} />`}
      ${(lists.tasks.length > 0 || task)
        && html`<${Choice} label="Task" value=${task} options=${lists.tasks}
        onChange=${(value) => set_params({ task: value })} />`}
      ${is_filtered && html`<button class="btn plain" type="button" onClick=${clear}>Clear</button>`}
    </div>
    <${Bulk} chosen=${chosen} everything=${everything} set_everything=${set_everything} matched=${matched}
      filter=${{ search, state, tag, task }} done=${done}
      clear=${() => { set_chosen(new Set()); set_everything(false); }}
        can_extend=${chosen.size > 0 && chosen.size === rows.length && matched > rows.length
        || (chosen.size > 0 && chosen.size === rows.length && is_filtered)} />
    <${Answered} answer=${first}>${(page) => (rows.length === 0
      ? html`<section class="card"><${None} total=${page.total} clear=${clear} /></section>`
      : html`<${Window} jobs=${jobs} rows=${rows} matched=${matched} chosen=${chosen} set_chosen=${set_chosen}
        sort=${sort || 'name'} order=${order || 'asc'} />`)}<//>
    ${state === 'overdue' && first.data?.overdue_unnamed > 0 && html`<p class="small warn">Not all overdue jobs are
      here: ${unnamed_words(first.data.overdue_unnamed)}.</p>`}
    ${jobs.fault && html`<${Fault} error=${jobs.fault} retry=${jobs.load} />`}`;
}

function None({ total, clear }) {
  if (total > 0) {
    return html`<${Empty} title="No job is like this"><p>The filter leaves out all ${count(total)} jobs.</p>
      <button class="btn" type="button" onClick=${clear}>Show all jobs</button><//>`;
  }
  return html`<${Empty} title="There is no job yet">
    <p>A job is a name, a schedule and what it runs. Add it when the application starts, or at runtime with
    <code>jobs.add(…)</code>.
      A stored job is data in the catalogue, which all nodes run.</p>
    <pre class="text">Callsheet::builder()
    .job(Job::new("report", cron("0 3 * * *").timezone("Europe/Lisbon")).run(report))
    .start()
    .await?</pre><//>`;
}

/** What can be done with those that are chosen. */
function Bulk({ chosen, everything, set_everything, matched, filter, done, clear, can_extend }) {
  if (chosen.size === 0 || !(may('pause') || may('remove'))) return null;
  const subject = everything
    ? { filter: Object.fromEntries(Object.entries(filter).filter(([, value]) => value)), done }
    : { jobs: [...chosen], done };
  const max = me.value.bulk_max;
  return html`<div class="toolbar" role="region" aria-label="Actions on the chosen jobs">
    <strong>${everything ? plural(matched, 'job') : plural(chosen.size, 'job')} chosen</strong>
    ${can_extend && !everything && html`<button class="btn plain small" type="button"
      onClick=${() => set_everything(true)}>Choose all ${count(matched)} that match</button>`}
    ${Object.entries(ACTIONS).filter(([kind]) => may(kind))
      .map(([kind, action]) => html`<button key=${kind} type="button" class="btn small"
      onClick=${() => ask(kind, subject)}>
      <${Icon} name=${action.icon} size=${12} />${action.label}</button>`)}
    <button class="btn plain small" type="button" onClick=${clear}>Choose none</button>
    ${(everything ? matched : chosen.size) > max
      && html`<span class="small warn">At most ${count(max)} are changed at once.</span>`}
  </div>`;
}

function Sort({ by, label, sort, order, class: extra = '' }) {
  const is_it = sort === by;
  const next = is_it && order === 'asc' ? 'desc' : 'asc';
  return html`<th scope="col" class=${extra}
    aria-sort=${is_it ? (order === 'asc' ? 'ascending' : 'descending') : undefined}>
    <button type="button" class="sort" onClick=${() => set_params({ sort: by, order: next })}>${label}
      ${is_it && html`<${Icon} name=${order === 'asc' ? 'up' : 'down'} size=${11} />`}</button></th>`;
}

/** The part of the rows that is seen. */
function Window({ jobs, rows, matched, chosen, set_chosen, sort, order }) {
  const place = useRef(null);
  const [seen, set_seen] = useState([0, 40]);
  const measure = useCallback(() => {
    const element = place.current;
    if (!element) return;
    // In steps, so that not each scrolled row makes the rows anew.
    const first = Math.max(0, STEP * Math.floor(element.scrollTop / ROW / STEP) - SPARE);
    const last = STEP * Math.ceil((element.scrollTop + element.clientHeight) / ROW / STEP) + SPARE;
    set_seen((before) => (before[0] === first && before[1] === last ? before : [first, last]));
    if (last + 60 > rows.length) jobs.load();
  }, [rows.length, jobs.load]);
  useLayoutEffect(measure, [measure]);
  useEffect(() => {
    window.addEventListener('resize', measure);
    return () => window.removeEventListener('resize', measure);
  }, [measure]);
  const [first, last] = [Math.min(seen[0], Math.max(0, rows.length - 1)), Math.min(seen[1], rows.length)];
  const can_choose = may('pause') || may('remove');
  const all = rows.length > 0 && chosen.size === rows.length;
  const choose_all = () => set_chosen(all ? new Set() : new Set(rows.map((row) => row.name)));
  const choose = (name) => set_chosen((before) => {
    const after = new Set(before);
    if (!after.delete(name)) after.add(name);
    return after;
  });
  const columns = can_choose ? 7 : 6;
  return html`<section class="card" aria-label="Jobs">
    <div class="window table-wrap" ref=${place} onScroll=${measure} tabindex="0" role="group" aria-label="Rows of jobs">
      <table class="jobs" aria-rowcount=${matched + 1}>
        <thead><tr>
          ${can_choose && html`<th scope="col" class="c-box">
            <input type="checkbox" aria-label="Choose all rows that are loaded" checked=${all}
            onChange=${choose_all} /></th>`}
          <${Sort} by="name" label="Job" sort=${sort} order=${order} />
          <${Sort} by="state" label="State" class="c-state" sort=${sort} order=${order} />
          <${Sort} by="next" label="Next" class="c-next" sort=${sort} order=${order} />
          <${Sort} by="last" label="Last runs" class="opt c-runs" sort=${sort} order=${order} />
          <${Sort} by="failures" label="Failures" class="opt2 num c-failures" sort=${sort} order=${order} />
          <th scope="col" class="opt2 c-tags">Tags</th>
        </tr></thead>
        <tbody>
          ${first > 0 && html`<tr class="pad" aria-hidden="true"><td colspan=${columns}>
            <${Space} height=${first * ROW} /></td></tr>`}
          ${rows.slice(first, last).map((row,
            n) => html`<${Row} key=${row.name} row=${row} at=${first + n + 2} chosen=${chosen.has(row.name)}
            choose=${can_choose ? choose : null} />`)}
          ${last < rows.length && html`<tr class="pad" aria-hidden="true"><td colspan=${columns}>
            <${Space} height=${(rows.length - last) * ROW} /></td></tr>`}
        </tbody>
      </table>
    </div>
    ${(rows.length < matched || !alone.value) && html`<footer class="small muted">
      ${rows.length < matched
      && html`${count(rows.length)} of ${count(matched)} are loaded; the others come as you scroll. `}
      ${!alone.value && 'Last runs and failures are those of this node.'}</footer>`}
  </section>`;
}

const Space = ({ height }) => html`<div style=${{ height: `${height}px` }}></div>`;

function Row({ row, at, chosen, choose }) {
  const pick = (tag) => set_params({ tag });
  return html`<tr data-row="" class=${chosen ? 'chosen' : ''} aria-rowindex=${at}>
    ${choose && html`<td><input type="checkbox" aria-label=${`Choose ${row.name}`} checked=${chosen}
      onChange=${() => choose(row.name)} /></td>`}
    <td class="name-cell"><a class="name cut" data-open="" href=${job_link(row.name)} title=${row.name}>${row.name}</a>
      <span class="under cut" title=${row.schedule}>${row.schedule}</span></td>
    <td><div class="row tight"><${State} state=${row.state} />
      ${row.overdue && html`<${State} state="overdue" />`}</div></td>
    <td class="nowrap"><${NextFire} row=${row} /></td>
    <td class="opt"><${Spark} runs=${row.last_runs} /></td>
    <td class=${`opt2 num ${row.failures > 0 ? 'bad' : 'muted'}`}>${count(row.failures)}</td>
    <td class="opt2"><div class="row tight"><${Tags} tags=${(row.tags || []).slice(0, 3)} pick=${pick} />
      ${row.tags?.length > 3 && html`<span class="small muted">+${row.tags.length - 3}</span>`}</div></td>
  </tr>`;
}

/** When it fires next, or why it does not. */
export function NextFire({ row }) {
  if (row.pause) return html`<span class="calm small" title=${row.pause.note || undefined}>
    ${row.pause.until ? html`resumes <${When} at=${row.pause.until} />` : 'until resumed'}</span>`;
  if (!row.next_fire_time) return html`<span class="muted">–</span>`;
  return html`<${Due} at=${row.next_fire_time} zone=${row.timezone} />
    ${row.scheduled && !['here', 'by_leader'].includes(row.scheduled)
      && html`<span class="under">${words(row.scheduled)}</span>`}`;
}

