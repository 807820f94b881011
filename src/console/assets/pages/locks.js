// Which run holds which key, and who waits for it.

import { html } from '../lib.js';
import { count, duration, plural, short } from '../format.js';
import { now, useAnswer } from '../api.js';
import { job_link, run_link } from '../route.js';
import { Answered, At, Badge, Empty, Head } from '../ui.js';
import { node_name } from '../plots.js';
import { useReloadOn } from './runs.js';

export function Locks() {
  const answer = useAnswer('locks', {}, { every: 10_000 });
  const nodes = useAnswer('nodes', {}, { every: 60_000 });
  useReloadOn(answer.reload, (kind) => kind === 'runs');
  const name_of = node_name(nodes.data?.nodes);
  const held = answer.data?.locks.length;
  return html`<${Head} title="Locks"
    sub=${held === undefined ? 'A run holds its lock key until its end is recorded.'
    : html`${plural(held, 'key')} held. A run holds its lock key until its end is recorded.`} />
    <${Answered} answer=${answer}>${({ locks, complete }) => html`<section class="card" aria-label="Locks">
      ${locks.length === 0 ? html`<${Empty} title="No key is held">
        <p>Two runs with the same lock key exclude each other, on all nodes. The key is the job's name, unless
          the job names another one. Each claim gets a fencing token that only grows: hand it to what you write to, so
          that a run that was lost cannot write any more.</p><//>`
        : html`<div class="table-wrap"><table class="cards">
          <thead><tr><th scope="col">Key</th><th scope="col">Held by</th><th scope="col" class="opt">Node</th>
            <th scope="col" class="num">Token</th>
            <th scope="col" class="num">Age</th><th scope="col" class="num">Waiting</th></tr></thead>
          <tbody>${locks.map((lock) => html`<tr key=${`${lock.key} ${lock.run}`} data-row="">
            <td class="name-cell"><span class="mono wrap-any">${lock.key}</span>
              ${lock.is_stale && html` <${Badge} tone="warn" icon="alert">not known whether it runs<//>`}</td>
            <td><a href=${job_link(lock.job)}>
              ${lock.job}</a> <a class="small mono" data-open="" href=${run_link(lock.run)}>${short(lock.run)}</a></td>
            <td class="opt">${name_of(lock.node)}</td><td class="num mono" data-label="token">${count(lock.token)}</td>
            <td class="num nowrap" data-label="age" title=${lock.since}>
              ${lock.since ? duration(Math.max(0, Math.floor((now.value - Date.parse(lock.since)) / 1000) * 1000))
              : '–'}<span class="hidden"> since <${At} at=${lock.since} /></span></td>
            <td data-label="waiting" class=${`num ${lock.waiting > 0 ? 'warn' : 'muted'}`}>
              ${count(lock.waiting)}</td></tr>`)}</tbody></table></div>`}
      ${complete === false && html`<footer
        class="small muted">There may be more: not all runs of other nodes were looked at.</footer>`}
    </section>`}<//>`;
}
