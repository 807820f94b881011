// What is wrong first, then who leads, what runs, and what is next.

import { html, useState } from '../lib.js';
import { count, duration, millis, plural, short, utc, words } from '../format.js';
import { now, useAnswer } from '../api.js';
import { alone, is_reset, looks_every, of_runs, useLive } from '../live.js';
import { job_link, run_link, to } from '../route.js';
import { Answered, Card, Due, Empty, Fault, Head, Icon, Loading, State, When, state_tone,
  unnamed_words } from '../ui.js';
import { Plot, Terms, node_name } from '../plots.js';
import { Progress, Took, useReloadOn } from './runs.js';

const SPANS = [['1 h', 1, '1m'], ['3 h', 3, '5m'], ['24 h', 24, '20m'], ['7 d', 168, '2h']];

export function Overview() {
  const answer = useAnswer('overview', {}, { every: 30_000 });
  useLive((kind, data) => {
    if (kind === 'overview') answer.set(() => data);
    if (is_reset(kind, data, 'overview')) answer.reload();
  });
  const nodes = useAnswer('nodes', {}, { every: 15_000 });
  return html`<${Head} title="Overview" sub=${answer.data && html`<${Subtitle} overview=${answer.data} />`} />
    <${Answered} answer=${answer}>
      ${(overview) => html`<${Shown} overview=${overview} nodes=${nodes.data?.nodes}
      are_all=${nodes.data?.complete !== false} />`}<//>`;
}

const Subtitle = ({ overview }) => html`answered by ${overview.name
  || short(overview.node)}, backend ${overview.backend}
  ${overview.zone_data ? `, zone data ${overview.zone_data}` : ''}`;

/** Problems that the list of jobs does not show anyway. */
const OF_JOBS = ['overdue', 'failing', 'broken', 'parked', 'conflicting'];
const of_the_node = (problems) => (problems || []).filter((one) => !OF_JOBS.includes(one.problem));

function Shown({ overview, nodes, are_all }) {
  const attention = overview.attention || [];
  const problems = of_the_node(overview.problems);
  return html`<div class="grid">
    <${Verdict} overview=${overview} />
    <${Stats} overview=${overview} nodes=${nodes} are_all=${are_all} />
    ${(attention.length > 0 || problems.length > 0)
      && html`<${Attention} attention=${attention} total=${overview.attention_total ?? attention.length}
        overdue=${overview.overdue_total} unnamed=${overview.overdue_unnamed} problems=${problems} />`}
    <${Activity} nodes=${nodes} />
    <div class="w6 stack"><${States} jobs=${overview.jobs} />
      <${Running} running=${overview.running} nodes=${nodes} /></div>
    <${Next} next=${overview.next || []} jobs=${overview.jobs} />
  </div>`;
}

function Verdict({ overview }) {
  const jobs = overview.attention_total ?? overview.attention?.length ?? 0;
  const more = overview.overdue_unnamed || 0;
  const problems = of_the_node(overview.problems);
  const bad = jobs > 0 || problems.length > 0 || !overview.live;
  const headline = problems.length > 0 ? 'This node has a problem'
    : jobs > 0 ? `${plural(jobs, 'job')}${more > 0 ? ' and more' : ''}
      ${jobs === 1 && more === 0 ? 'needs' : 'need'} attention`
      : overview.healthy ? 'Everything runs as planned' : 'This node is not healthy';
  const detail = problems.length > 0 ? problems[0].reason
    : jobs > 0 ? attention_words(overview)
      : overview.jobs.total === 0 ? 'There is no job yet.'
        : `${plural(overview.jobs.total, 'job')}, none overdue, none failing.`;
  const tone = bad ? 'bad' : overview.healthy ? '' : 'warn';
  return html`<section class=${`card w12 verdict ${tone}`}
    aria-label=${alone.value ? 'State of the scheduler' : 'State, as this node knows it'}>
    <span class=${bad ? 'bad' : 'ok'}><${Icon} name=${bad ? 'alert' : 'check'} size=${22} /></span>
    <div class="grow"><strong>${headline}</strong><div class="muted wrap-any">${detail}</div></div>
    ${overview.warning && html`<span class="small warn">${overview.warning}</span>`}
  </section>`;
}

function attention_words({ attention, attention_total, overdue_unnamed }) {
  const of = new Map();
  for (const { why } of attention) of.set(why, (of.get(why) || 0) + 1);
  const named = [...of].map(([why, n]) => `${n} ${words(why)}`).join(', ');
  const rest = attention_total - attention.length;
  const parts = [named, rest > 0 && `${count(rest)} more`, overdue_unnamed > 0 && unnamed_words(overdue_unnamed)];
  return parts.filter(Boolean).join(', ');
}

function nodes_words(nodes, are_all) {
  const ill = nodes.filter((node) => node.healthy === false).length;
  if (ill > 0) return `${ill} with problems`;
  return are_all ? 'no problem is known' : 'that this one has heard of';
}

function Stats({ overview, nodes, are_all }) {
  const name_of = node_name(nodes);
  const jobs = overview.jobs;
  const stat = (label, value, note, href) => html`<section class="card w3 stat stretch" aria-label=${label}>
    <span class="label">${label}</span><span class="value cut">
      ${href ? html`<a href=${href}>${value}</a>` : value}</span><span class="note">${note}</span></section>`;
  const leader = overview.role === 'local' ? ['this process', 'No other node takes part.']
    : overview.leader ? [name_of(overview.leader),
      `${overview.term ? `term ${overview.term}` : 'another node'}${overview.role === 'leader' ? ', this node' : ''}`]
      : ['nobody', html`<span class="bad">Jobs of the leader wait for the next term.</span>`];
  return html`<div class="w12 grid pair">
    ${stat('Leader', leader[0], leader[1], to('nodes'))}
    ${stat('Nodes', nodes ? count(nodes.length) : '–', nodes ? nodes_words(nodes, are_all) : '', to('nodes'))}
    ${stat(alone.value ? 'Running' : 'Running on this node', count(overview.running),
      overview.waiting
        ? `${plural(overview.waiting, 'run')} waiting` : 'none waiting', to('runs', { outcome: 'in_progress' }))}
    ${stat('Jobs', count(jobs.total),
      html`${count(jobs.scheduled + jobs.running + jobs.standby)} active, ${count(jobs.paused)} paused`, to('jobs'))}
  </div>`;
}

const ATTENTION = { overdue: 'bad', failing: 'bad', broken: 'bad', parked: 'bad', conflicting: 'bad',
  unresponsive: 'bad', still_running: 'warn' };

function Attention({ attention, total, overdue, unnamed, problems }) {
  const [all, set_all] = useState(false);
  const shown = all ? attention : attention.slice(0, 6);
  return html`<${Card} class="w12" bare title="What needs attention"
    end=${total > 0 && plural(total, 'job')}>
    <ul class="list top">
      ${problems.map((one) => html`<li key=${one.problem + (one.since || '')}><span class="bad">
        <${Icon} name="alert" /></span>
        <div class="grow"><div class="wrap-any"><strong>${words(one.problem)}</strong>: ${one.reason}</div>
          <div class="muted small wrap-any">${one.cure}</div></div>
        ${one.since && html`<span class="muted small nowrap"><${When} at=${one.since} /></span>`}</li>`)}
      ${shown.map((one) => html`<li key=${`${one.job} ${one.why}`} data-row=""><${State} state=${one.why} />
        <div class="grow"><a class="name wrap-any" data-open="" href=${job_link(one.job)}>
          ${one.job}</a> <span class=${`small wrap-any ${ATTENTION[one.why] || ''}`}>${one.text}</span></div>
        ${one.since && html`<span class="muted small nowrap"><${When} at=${one.since} /></span>`}</li>`)}
    </ul>
    ${attention.length > 6 && html`<div class="body">
      <button class="btn small" type="button" onClick=${() => set_all(!all)}>
      ${all ? 'Show fewer' : total > attention.length ? `Show the worst ${attention.length}`
        : `Show all ${total}`}</button>
      </div>`}
    ${unnamed > 0 && html`<p class="body small warn">${plural(overdue, 'expectation')} of jobs are not met.
      The node names the first ${count(overdue - unnamed)}; ${unnamed_words(unnamed)}.</p>`}
  <//>`;
}

function Activity({ nodes }) {
  const [span, set_span] = useState(0);
  const [label, hours, bucket] = SPANS[span];
  const answer = useAnswer('activity', { bucket }, { every: 15_000, fresh: () => ({ from: start_of(hours) }) });
  const choice = html`<div class="seg" role="group" aria-label="Time shown">
    ${SPANS.map(([text], n) => html`<button type="button" aria-pressed=${n === span ? 'true' : 'false'}
    onClick=${() => set_span(n)}>${text}</button>`)}</div>`;
  useLive((kind, data) => {
    if (of_runs(kind, data, (one) => one.event.startsWith('leadership'))) answer.reload();
  });
  if (!answer.data) {
    return html`<${Card} class="w12" title="Ticks" end=${choice}>
      ${answer.error ? html`<p class="muted">${answer.error.message}. ${answer.error.cure || ''}</p>`
      : html`<${Loading} />`}<//>`;
  }
  const activity = answer.data;
  return html`<${Card} class="w6" title="Ticks: started, skipped, late" end=${choice}>
    <${Ticks} activity=${activity} label=${label} /><//>
    <${Card} class="w6" title="Lateness and failures" end=${html`<span class="small">per ${activity.bucket}</span>`}>
      <${Lateness} activity=${activity} label=${label} /><//>
    <${Card} class="w12" title="Terms of leadership"
      end=${html`<span>${plural(activity.terms?.length || 0, 'term')}, ${plural(activity.gaps?.length || 0, 'gap')}
      </span>`}>
      ${activity.terms?.length || activity.gaps?.length
        ? html`<${Terms} activity=${activity} name_of=${node_name(nodes)} />`
        : html`<p class="muted">No term is known of this time. Without a cluster there is none: a single process fires
        all its jobs.</p>`}<//>`;
}

/** A whole minute, a little less than `hours` ago by the clock of the node: more than 7 days are refused. */
const start_of = (hours) => {
  const minute = 60_000;
  return new Date(Math.ceil((now.value + 5_000) / minute) * minute - hours * 60 * minute).toISOString();
};

function Ticks({ activity, label }) {
  const buckets = activity.buckets || [];
  const times = buckets.map((one) => Date.parse(one.at));
  const decided = buckets.map((one) => one.started + one.skipped);
  const due = buckets.map((one, n) => one.due ?? decided[n]);
  const sum = (name) => buckets.reduce((all, one) => all + (one[name] || 0), 0);
  const all = due.reduce((a, b) => a + b, 0);
  const counted = ['started', 'skipped', 'late'].map((name) => `${sum(name)} ${name}`).join(', ');
  const said = `In the last ${label}: ${all} due, ${counted}.`;
  if (all === 0) return html`<${Empty} title="No tick in this time">
    <p>A tick is one job at one fire time. As soon as one is due, it is counted here.</p><//>`;
  return html`<${Plot} times=${times} unit=${count} summary=${said} series=${[
    { label: 'due', tone: 'idle', kind: 'bars', values: due },
    { label: 'skipped', tone: 'warn', kind: 'bars', values: decided, shown: buckets.map((one) => one.skipped) },
    { label: 'started', tone: 'run', kind: 'bars', values: buckets.map((one) => one.started) },
    { label: 'late', tone: 'bad', kind: 'points', values: buckets.map((one) => one.late || null) }]} />
    <p class="small muted">${said}</p>
    ${activity.complete_from && html`<p
      class="small muted">Counts before ${utc(activity.complete_from)} UTC are not complete.</p>`}`;
}

function Lateness({ activity, label }) {
  const buckets = activity.buckets || [];
  const late = buckets.map((one) => (one.started > 0 ? millis(one.lateness_max) : null));
  const worst = Math.max(0, ...late.filter((one) => one !== null));
  const failed = buckets.reduce((all, one) => all + (one.failed || 0), 0);
  const said = `In the last ${label}: at most ${duration(worst)} late, ${plural(failed, 'failed run')}.`;
  const times = buckets.map((one) => Date.parse(one.at));
  if (failed === 0 && late.every((one) => one === null)) return html`<${Empty} title="Nothing ran in this time">
    <p>Lateness is the actual start less the fire time.</p><//>`;
  return html`<${Plot} times=${times} summary=${said} unit=${count} height=${82} series=${[
    { label: 'failed', tone: 'bad', kind: 'bars', values: buckets.map((one) => one.failed || 0) }]} />
    <${Plot} times=${times} summary=${said} unit=${(ms) => duration(ms)} height=${88} series=${[
      { label: 'greatest lateness', tone: 'warn', kind: 'line', values: late }]} />
    <p class="small muted">${said}</p>`;
}

function Next({ next, jobs }) {
  return html`<${Card} class="w6" bare title="Next" end=${html`<a href=${to('calendar')}>Calendar</a>`}>
    ${next.length === 0 ? html`<${Empty} title=${jobs.total === 0 ? 'There is no job yet' : 'Nothing is planned'}>
        <p>${jobs.total === 0 ? 'Add one to the builder, or put a stored job into the catalogue:'
          : 'Each job is paused, exhausted, or has no schedule.'}</p>
        ${jobs.total === 0 && html`<pre class="text">Callsheet::builder()
    .job(Job::new("report", cron("0 3 * * *")).run(report))
    .start()
    .await?</pre>`}<//>`
      : html`<ul class="list">${next.map((one) => html`<li key=${`${one.job} ${one.at}`} data-row="">
        <span class="grow cut"><a data-open="" href=${job_link(one.job)}>${one.job}</a></span>
        <span class="muted small nowrap"><${Due} at=${one.at} /></span></li>`)}</ul>`}
  <//>`;
}

/** What runs now, the newest first. */
function Running({ running, nodes }) {
  const answer = useAnswer('runs', { outcome: 'in_progress', limit: 8 }, { every: looks_every.value });
  useReloadOn(answer.reload, (kind) => kind === 'runs');
  const runs = answer.data?.runs || [];
  const name_of = node_name(nodes);
  const is_cut = Boolean(answer.data?.next);
  const total = alone.value ? plural(running || 0, 'run') : `${plural(runs.length, 'run')}${is_cut ? ' or more' : ''}`;
  return html`<${Card} bare title="Running now"
    end=${html`<a href=${to('runs', { outcome: 'in_progress' })}>${answer.data ? total : 'Runs'}</a>`}>
    ${runs.length === 0 ? html`<${None} answer=${answer} />`
      : html`<ul class="list">${runs.map((run) => html`<li key=${run.run} data-row="">
        <span class="dot run pulse"></span>
        <span class="cut"><a data-open="" href=${run_link(run.run)}>${run.job}</a></span>
        <span class="muted small grow cut">on ${name_of(run.node)}</span>
        <span class="quarter"><${Progress} value=${run.progress} /></span><span class="small nowrap">
          <${Took} run=${run} /></span></li>`)}</ul>`}
  <//>`;
}

function None({ answer }) {
  if (!answer.data) return answer.error ? html`<${Fault} error=${answer.error} />` : html`<${Loading} />`;
  return html`<${Empty} title=${answer.data.next ? 'No run in progress is among the newest records'
    : 'Nothing runs right now'} />`;
}

const STATES_SHOWN = ['running', 'scheduled', 'standby', 'paused', 'exhausted', 'still_running', 'conflicting',
  'parked', 'broken', 'unresponsive'];

function States({ jobs }) {
  const shown = STATES_SHOWN.filter((state) => jobs[state] > 0);
  return html`<${Card} title="Jobs by state" end=${html`<a href=${to('jobs')}>All jobs</a>`}>
    <div class="stack">
      <div class="states" aria-hidden="true">
        ${shown.map((state) => html`<i key=${state} class=${state_tone(state)}
        style=${{ flexGrow: String(jobs[state]) }}></i>`)}</div>
      <div class="legend">${shown.map((state) => html`<a key=${state} href=${to('jobs', { state })}>
        <i class=${`swatch ${state_tone(state)}`}></i><b>${count(jobs[state])}</b> ${words(state)}</a>`)}
        ${shown.length === 0 && html`<span>There is none.</span>`}</div>
    </div>
  <//>`;
}
