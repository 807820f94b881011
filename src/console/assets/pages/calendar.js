// When everything fires: the coming day by quarters of an hour, or the coming week by hours.

import { html, useMemo, useState } from '../lib.js';
import { count, local, plural, utc, viewer_zone } from '../format.js';
import { useAnswer } from '../api.js';
import { is_reset, useLive } from '../live.js';
import { job_link, route, set_params } from '../route.js';
import { Answered, Card, Empty, Head } from '../ui.js';

/** How often it is asked for again, in milliseconds. */
const REFRESH = 60_000;
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

export function Calendar() {
  const is_week = route.value.params.view === 'week';
  // From now on, by the clock of the node: it goes on with the time.
  const answer = useAnswer('calendar', is_week ? { hours: 168, bucket: '1h' } : { hours: 24, bucket: '15m' },
    { every: REFRESH });
  useLive((kind, data) => { if (is_reset(kind, data, 'jobs')) answer.reload(); });
  const view = (name, label) => html`<button type="button"
    aria-pressed=${(is_week ? 'week' : '') === name ? 'true' : 'false'} onClick=${() => set_params({ view: name })}>
    ${label}</button>`;
  return html`<${Head} title="Calendar" sub=${`What fires when, in your time, ${viewer_zone}.`}>
      <div class="seg" role="group" aria-label="Time shown">${view('', 'Next day')}
        ${view('week', 'Next week')}</div><//>
    <${Answered} answer=${answer}>
      ${(calendar) => html`<${Shown} calendar=${calendar} is_week=${is_week} key=${String(is_week)} />`}<//>`;
}

/** The shade of a count, from 0 to 5: by its place between the least and the most, as powers. */
function shade(n, least, most) {
  if (n === 0) return 0;
  if (most <= least) return 3;
  return 1 + Math.floor((4.999 * Math.log(n / least)) / Math.log(most / least));
}

/**
 * The buckets by the hours, or the days, of the clock of the one who looks. What the clock shows a second time, when
 * it is set back, has a row of its own.
 */
export function rows_of(buckets, is_week) {
  const rows = new Map();
  for (const bucket of buckets) {
    const at = new Date(bucket.at);
    const column = is_week ? at.getHours() : Math.floor(at.getMinutes() / 15);
    const text = local(at);
    let label = is_week ? `${DAYS[at.getDay()]} ${text.slice(5, 10)}` : `${text.slice(11, 13)}:00`;
    let key = text.slice(0, is_week ? 10 : 13);
    if (rows.get(key)?.cells.has(column)) {
      label = `${label} again`;
      key = `${key} again`;
    }
    if (!rows.has(key)) rows.set(key, { label, cells: new Map() });
    rows.get(key).cells.set(column, bucket);
  }
  return [...rows.values()];
}

/** The heads of the columns. Where the clock differs from UTC by a part of an hour, buckets begin within its hours. */
export function columns_of(buckets, is_week) {
  if (!is_week) return [':00', ':15', ':30', ':45'];
  const minutes = buckets.length > 0 ? new Date(buckets[0].at).getMinutes() : 0;
  const within = minutes === 0 ? '' : `:${String(minutes).padStart(2, '0')}`;
  return Array.from({ length: 24 }, (_, n) => `${String(n).padStart(2, '0')}${within}`);
}

/** The buckets without the jobs that fire so often that nothing else would be seen; `all` counts these too. */
function without_frequent({ buckets, frequent }) {
  const often = new Set((frequent || []).map((one) => one.job));
  return (buckets || []).map((bucket) => {
    const left_out = (bucket.jobs || []).filter((one) => often.has(one.job));
    const rest = left_out.reduce((sum, one) => sum - one.count, bucket.count);
    return { ...bucket, all: bucket.count, count: Math.max(0, rest) };
  });
}

function Shown({ calendar, is_week }) {
  const buckets = useMemo(() => without_frequent(calendar), [calendar]);
  const most = Math.max(0, ...buckets.map((one) => one.count));
  const busiest = buckets.reduce((best, one) => (one.count > (best?.count || 0) ? one : best), null);
  const [at, set_at] = useState(null);
  const chosen = buckets.find((one) => one.at === at) || busiest;
  const total = buckets.reduce((sum, one) => sum + one.count, 0);
  if (buckets.every((one) => one.all === 0)) {
    return html`<section class="card"><${Empty} title="Nothing fires in this time">
      <p>The calendar counts the fire times of all jobs that are not paused, so that you see
      where everything happens at once, most often at 00:00. A <code>jitter</code> in their
      schedules spreads such jobs.</p><//></section>`;
  }
  const even = total / buckets.length;
  const often = calendar.frequent?.length || 0;
  return html`<div class="grid">
    <${Card} class=${is_week ? 'w12' : 'w7'}
      title=${`${count(total)} fire times of ${plural(calendar.jobs - often, 'job')}`}
      end=${html`<${Scale} most=${most} />`}>
      <div class="heat"><${Grid} columns=${columns_of(buckets, is_week)} buckets=${buckets} is_week=${is_week}
        most=${most} chosen=${chosen} choose=${set_at} /></div>
      ${often > 0 && html`<p class="small muted">${plural(often, 'job')} ${often === 1 ? 'fires' : 'fire'} too often
        for the map, and ${often === 1 ? 'is' : 'are'} left out of it.</p>`}
      ${calendar.cut && html`<p
        class="small warn">Not all jobs are counted: there are too many, or counting took too long.</p>`}
    <//>
    <div class=${`${is_week ? 'w12' : 'w5'} stack`}>
      ${chosen && html`<${Chosen} bucket=${chosen}
        most=${chosen === busiest && most > 3 * even && most > 3 ? even : 0} />`}
      ${calendar.frequent?.length > 0 && html`<${Frequent} frequent=${calendar.frequent} />`}
    </div>
  </div>`;
}

const Scale = ({ most }) => html`<span class="scale"
  aria-hidden="true">0 ${[1, 2, 3, 4, 5].map((n) => html`<i key=${n} class=${`h${n}`}></i>`)} ${count(most)}</span>`;

function Grid({ columns, buckets, is_week, most, chosen, choose }) {
  const rows = rows_of(buckets, is_week);
  const least = Math.min(most, ...buckets.map((one) => one.count).filter((n) => n > 0));
  const cell = (bucket, column) => {
    if (!bucket) return html`<td key=${column}></td>`;
    const label = `${local(bucket.at).slice(5, 16)}: ${plural(bucket.count, 'fire time')}`;
    return html`<td key=${column}>
      <button type="button" class=${`h${shade(bucket.count, least, most)}`} title=${label} aria-label=${label}
      aria-pressed=${bucket === chosen ? 'true' : 'false'} onClick=${() => choose(bucket.at)}>
        ${bucket.count > 0 ? compact(bucket.count) : ''}</button></td>`;
  };
  return html`<table><caption class="hidden">Fire times by ${is_week ? 'hour' : 'quarter of an hour'}</caption>
    <thead><tr><td></td>${columns.map((column) => html`<th scope="col" key=${column}>${column}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.label}><th scope="row">${row.label}</th>
      ${columns.map((column, n) => cell(row.cells.get(n), column))}</tr>`)}</tbody></table>`;
}

const compact = (n) => (n < 1_000 ? String(n) : n < 10_000 ? `${(n / 1_000).toFixed(1)}k`
  : `${Math.round(n / 1_000)}k`);

function Chosen({ bucket, most }) {
  return html`<${Card} bare title=${`${local(bucket.at).slice(0, 16)}`}
    end=${html`<span title=${`${utc(bucket.at)} UTC`}>${plural(bucket.all, 'fire time')}</span>`}>
    ${most > 0 && html`<p
      class="note-box flush warn">The busiest time: ${count(Math.round(bucket.count / most))} times the mean.
      A <code>jitter</code> in their schedules spreads jobs.</p>`}
    ${bucket.jobs?.length > 0 ? html`<ul class="list">
      ${bucket.jobs.map((one) => html`<li key=${one.job} data-row=""><span class="grow cut">
      <a data-open="" href=${job_link(one.job)}>${one.job}</a></span><span class="muted small">
      ${count(one.count)}</span></li>`)}</ul>`
      : html`<${Empty} title="Nothing fires then" />`}
  <//>`;
}

function Frequent({ frequent }) {
  return html`<${Card} bare title="Too frequent for the map"><ul class="list">
    ${frequent.map((one) => html`<li key=${one.job}><span class="grow cut"><a href=${job_link(one.job)}>
    ${one.job}</a></span>
    <span class="muted small">every ${one.every}</span></li>`)}</ul><//>`;
}
