// Who did what, to which job, and why.

import { html } from '../lib.js';
import { instant_of_field, words } from '../format.js';
import { useAnswer } from '../api.js';
import { is_reset, useLive } from '../live.js';
import { job_link, route, set_params } from '../route.js';
import { Answered, At, Badge, Empty, Fault, Gaps, Head, More, Search } from '../ui.js';
import { node_name } from '../plots.js';
import { usePages } from './runs.js';

const TONES = { paused: 'calm', resumed: 'ok', triggered: 'run', backfilled: 'run', cancelled: 'warn',
  backfill_cancelled: 'warn', removed: 'bad', deleted: 'bad', changed: 'accent', stored: 'accent' };

export function Operations() {
  const { params } = route.value;
  const { job, from, to } = params;
  const pages = usePages('operations', { job, from: instant_of_field(from), to: instant_of_field(to), limit: 100 },
    'operations', (one) => `${one.node} ${one.number} ${one.at}`);
  const nodes = useAnswer('nodes', {}, { every: 60_000 });
  useLive((kind, data) => { if (is_reset(kind, data, 'runs')) pages.first.reload(); });
  const field = (name, label) => html`<label class="row tight keep small muted">${label}
    <input class="input" type="datetime-local" value=${params[name] || ''}
      onChange=${(event) => set_params({ [name]: event.target.value })} /></label>`;
  return html`<${Head} title="Operations" sub="Who did what to which job, and why." />
    <div class="toolbar" role="search">
      <${Search} label="Operations on the job named…" value=${job} onChange=${(text) => set_params({ job: text })} />
      ${field('from', 'from')}${field('to', 'to')}</div>
    <${Answered} answer=${pages.first}>${(page) => html`<section class="card" aria-label="Operations">
      ${pages.rows.length === 0 ? html`<${Empty}
        title=${job || from || to ? 'No operation is like this' : 'Nobody has done anything yet'}>
          <p>Each pause, trigger, change, backfill and removal is recorded with its time, who asked for it and the
          reason that was given.</p><//>`
        : html`<${OperationTable} rows=${pages.rows} name_of=${node_name(nodes.data?.nodes)} />`}
      <footer><${More} next=${pages.next} loading=${pages.loading} more=${pages.more} /> <${Gaps} page=${page}
        what="operations" /></footer>
      ${pages.fault && html`<${Fault} error=${pages.fault} />`}
    </section>`}<//>`;
}

export function OperationTable({ rows, name_of, without_job = false }) {
  return html`<div class="table-wrap"><table class="cards">
    <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th>
      ${!without_job && html`<th scope="col">Job</th>`}
      <th scope="col">Why</th><th scope="col" class="opt2">Exactly</th>
        <th scope="col" class="opt">Node</th></tr></thead>
    <tbody>${rows.map((one) => html`<tr key=${`${one.node} ${one.number} ${one.at}`} data-row="">
      <td class="nowrap small"><${At} at=${one.at} /></td>
      <td class="nowrap">${one.by || html`<span class="muted">the application</span>`}</td>
      <td><${Badge} tone=${TONES[one.operation] || ''}>${words(one.operation)}<//></td>
      ${!without_job && html`<td class="name-cell"><a class="cut name" data-open="" href=${job_link(one.job)}>
        ${one.job}</a></td>`}
      <td class="wrap-any">${one.note || html`<span class="muted">–</span>`}</td>
      <td class="opt2 wrap-any small muted mono">${one.detail || ''}</td>
      <td class="opt small nowrap">${name_of(one.node)}</td></tr>`)}</tbody></table></div>`;
}
