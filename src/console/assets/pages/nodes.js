// Who takes part: role, version, clock, problems.

import { html } from '../lib.js';
import { duration, millis, plural, short, words } from '../format.js';
import { useAnswer } from '../api.js';
import { is_reset, of_runs, useLive } from '../live.js';
import { to } from '../route.js';
import { Answered, Badge, Card, Empty, Head, When } from '../ui.js';
import { Terms, node_name } from '../plots.js';

/** A clock that is this far from the store's is shown as a warning, in milliseconds. */
const OFFSET_MUCH = 1_000;

export function Nodes() {
  const answer = useAnswer('nodes', {}, { every: 10_000 });
  const activity = useAnswer('activity', { bucket: '10m' }, { every: 30_000 });
  useLive((kind, data) => {
    if (is_reset(kind, data, 'overview') || of_runs(kind, data, (one) => one.event.startsWith('leadership'))) {
      answer.reload();
      activity.reload();
    }
  });
  return html`<${Head} title="Nodes" sub="Each start of the application that shares the store." />
    <${Answered} answer=${answer}>${({ nodes, complete }) => html`<div class="stack">
      ${complete === false && html`<p class="note-box">Only nodes that this one has heard of are listed.</p>`}
      <section class="card" aria-label="Nodes">
        ${nodes.length === 0 ? html`<${Empty} title="No node is known">
        <p>A node is listed as soon as it has a session at the store.</p><//>`
        : html`<${Table} nodes=${nodes} />`}</section>
      ${activity.data && (activity.data.terms?.length > 0 || activity.data.gaps?.length > 0)
        && html`<${Card} title="Terms of leadership, the last 3 hours">
        <${Terms} activity=${activity.data} name_of=${node_name(nodes)} /><//>`}
    </div>`}<//>`;
}

function Role({ role, term }) {
  if (role === 'leader') return html`<${Badge} tone="accent" icon="check">leader<//>
    ${term && html` <span class="small muted">term ${term}</span>`}`;
  if (!role) return html`<span class="muted">–</span>`;
  return html`<${Badge}>${words(role)}<//>`;
}

function Health({ node }) {
  const problems = node.problems || [];
  if (node.healthy === null || node.healthy === undefined) return html`<span class="muted">not known</span>`;
  if (node.healthy && problems.length === 0) return html`<${Badge} tone="ok" icon="check">healthy<//>`;
  return html`<div class="stack">
    ${problems.map((one) => html`<div key=${one.problem}><${Badge} tone="bad" icon="alert">${words(one.problem)}<//>
    <span class="small wrap-any"> ${one.reason}</span><div class="small muted wrap-any">${one.cure}</div></div>`)}
    ${problems.length === 0 && html`<${Badge} tone="bad" icon="alert">not healthy<//>`}</div>`;
}

function Offset({ offset }) {
  const ms = millis(offset);
  if (ms === null) return html`<span class="muted">–</span>`;
  return html`<span class=${Math.abs(ms) >= OFFSET_MUCH ? 'warn' : ''}>${duration(offset)}</span>`;
}

function Table({ nodes }) {
  const versions = new Set(nodes.map((node) => node.version).filter(Boolean));
  return html`<div class="table-wrap"><table class="cards">
    <thead><tr><th scope="col">Node</th><th scope="col">Role</th><th scope="col">Health</th>
      <th scope="col" class="opt">Version</th>
      <th scope="col" class="opt num">Clock offset</th><th scope="col" class="opt2">Zone data</th>
        <th scope="col" class="opt2">Labels</th><th scope="col">Seen</th></tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${node.node} data-row="">
      <td class="name-cell"><a class="name cut" data-open="" href=${to('runs', { node: node.node })}
        title=${`Runs of ${node.node}`}>${node.name || short(node.node)}</a>
        <span class="under mono nowrap">${short(node.node)}${node.this ? ', this one' : ''}</span></td>
      <td class="nowrap"><${Role} role=${node.role} term=${node.term} /></td>
      <td><${Health} node=${node} />${node.ready === false && html` <${Badge} tone="warn">not ready<//>`}</td>
      <td data-label="version" class=${`opt ${versions.size > 1 ? 'warn' : ''}`}>${node.version || '–'}</td>
      <td class="opt num" data-label="clock"><${Offset} offset=${node.clock_offset} /></td>
      <td class="opt2" data-label="zones">${node.zone_data || '–'}</td>
      <td class="opt2"><div class="row tight">
        ${Object.entries(node.labels || {})
        .map(([name, value]) => html`<span class="tag" key=${name}>${name}=${value}</span>`)}</div></td>
      <td class="nowrap muted" data-label="seen"><${When} at=${node.seen_at} /></td></tr>`)}</tbody></table></div>
    ${versions.size > 1 && html`<footer class="small warn">
      ${plural(versions.size, 'version')} run side by side.</footer>`}`;
}
