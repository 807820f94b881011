// One run: what became of each attempt, and what its body said.

import { html, Fragment, useEffect, useState } from '../lib.js';
import { duration, measure, millis, short, words } from '../format.js';
import { me, useAnswer } from '../api.js';
import { looks_every, of_runs } from '../live.js';
import { job_link, route, to } from '../route.js';
import { Answered, At, Card, Empty, Head, Icon, Outcome } from '../ui.js';
import { ActionButton, ask } from '../actions.js';
import { usePageActions } from '../keys.js';
import { node_name } from '../plots.js';
import { Progress, Took, origin_words, useReloadOn } from './runs.js';

export function RunPage() {
  const id = route.value.params.run;
  const [is_over, set_over] = useState(false);
  const answer = useAnswer('run', { run: id }, { every: is_over ? 0 : looks_every.value });
  const nodes = useAnswer('nodes');
  const run = answer.data?.run;
  useEffect(() => set_over(Boolean(run?.ended_at)), [run?.ended_at]);
  useReloadOn(answer.reload, (kind, data) => of_runs(kind, data, (one) => one.run === id));
  const again = run && { jobs: [run.job], done: answer.reload };
  usePageActions(run && me.value.may.operate ? [{ label: `Run ${run.job} again`, act: () => ask('run', again) }] : [],
    [run?.job, me.value]);
  return html`<${Head} title=${run ? `Run ${short(id)}` : 'Run'}
    crumbs=${run && html`<a href=${job_link(run.job)}>${run.job}</a>`}
      sub=${run && html`<span class="row tight"><${Outcome} run=${run} /><span class="mono small wrap-any">
        ${id}</span></span>`}>
      ${run && html`<${Fragment}>
        ${!run.ended_at && me.value.may.operate
          && html`<button class="btn" type="button"
          onClick=${() => ask('cancel-run', { run: id, job: run.job, done: answer.reload })}>
          <${Icon} name="stop" size=${13} />Cancel</button>`}
        <${ActionButton} kind="run" label="Run again" subject=${again} /><//>`}
    <//>
    <${Answered} answer=${answer}>
      ${(data) => html`<${Shown} run=${data.run} name_of=${node_name(nodes.data?.nodes)} />`}<//>`;
}

function Shown({ run, name_of }) {
  const late = millis(run.lateness) || 0;
  return html`<div class="grid">
    ${run.is_stale && html`<p
      class="note-box warn w12">Its node has not said for five minutes that it runs: its end was not recorded, or the
      node is dead.</p>`}
    <div class="w8 stack">
      ${run.error && html`<${Card} title=${run.outcome === 'panicked' ? 'Panic' : 'Error'}>
        <${ErrorChain} text=${run.error} /><//>`}
      ${(run.report || run.progress !== null && run.progress !== undefined || run.measures?.length > 0)
        && html`<${Card} title="What the body said">
        <div class="stack">
          ${run.progress !== null && run.progress !== undefined && html`<${Progress} value=${run.progress} />`}
          ${run.report && html`<pre class="text">${run.report}</pre>`}
          ${run.measures?.length > 0 && html`<div class="table-wrap"><table><caption class="hidden">Measures</caption>
            <thead><tr><th scope="col">Measure</th><th scope="col" class="num">Value</th></tr></thead>
            <tbody>${run.measures.map((one) => html`<tr key=${one.name}><td class="wrap-any">${one.name}</td>
              <td class="num mono">${measure(one.value)}</td></tr>`)}</tbody></table></div>`}
        </div><//>`}
      <${Attempts} run=${run} />
    </div>
    <div class="w4 stack">
      <${Card} title="Facts"><dl class="facts">
        <dt>Job</dt><dd><a href=${job_link(run.job)}>${run.job}</a></dd>
        <dt>Why</dt><dd>${origin_words(run)}${run.origin?.own_arguments ? ', with arguments of its own' : ''}</dd>
        <dt>Fire time</dt><dd><${At} at=${run.fire_time} /></dd>
        <dt>Started</dt><dd><${At} at=${run.started_at} /></dd>
        <dt>Ended</dt><dd><${At} at=${run.ended_at} /></dd>
        <dt>Took</dt><dd><${Took} run=${run} /></dd>
        <dt>Late</dt><dd class=${late >= 1000 ? 'warn' : ''}>${late > 0 ? duration(late) : 'no'}
          ${run.fire_time && late >= 1000
            && html` <a class="small" href=${to('job', { job: run.job, at: run.fire_time })}>explain</a>`}</dd>
        ${run.cancelled && html`<dt>Cancelled</dt><dd>${words(run.cancelled)}</dd>`}
        <dt>Node</dt><dd>${name_of(run.node)}</dd>
        ${run.term && html`<dt>Term</dt><dd class="mono">${run.term}</dd>`}
        ${run.token && html`<dt>Fencing token</dt><dd class="mono">${run.token}</dd>`}
        <dt>Lock key</dt><dd class="mono">${run.key}${run.slot > 0 ? `, slot ${run.slot}` : ''}</dd>
      </dl><//>
      ${run.fire_time && html`<${Card} title="Around it"><ul class="stack small">
        <li><a href=${to('job', { job: run.job, at: run.fire_time })}>Explain this fire time</a></li>
        <li><a href=${to('runs', { job: run.job })}>All runs of the job</a></li></ul><//>`}
    </div>
  </div>`;
}

/** The error, and below it each cause. */
export function ErrorChain({ text }) {
  const [first, ...causes] = String(text).split(/\n?caused by: /);
  if (causes.length === 0) return html`<pre class="text">${text}</pre>`;
  return html`<div class="stack"><pre class="text">${first.trim()}</pre>
    <ol class="stack">${causes.map((cause,
      n) => html`<li key=${n}><div class="small muted">caused by</div><pre class="text">${cause.trim()}</pre></li>`)}
      </ol></div>`;
}

function Attempts({ run }) {
  const before = run.attempts || [];
  const last = { attempt: run.attempt, ended_at: run.ended_at, took: run.took, outcome: run.outcome, error: run.error };
  const all = [...before, last];
  return html`<${Card} bare title="Attempts"
    end=${run.attempt > all.length ? `the last ${all.length} of ${run.attempt}` : String(run.attempt)}>
    ${!run.started_at && !run.ended_at
      ? html`<${Empty} title="It has not started"><p>It waits for a slot, or for the lock key.</p><//>`
      : html`<div class="table-wrap"><table class="cards"><thead><tr><th scope="col" class="num">Try</th>
        <th scope="col">Outcome</th><th scope="col">Ended</th><th scope="col" class="num">Took</th>
        <th scope="col">Error</th></tr></thead>
      <tbody>${all.map((one) => html`<tr key=${one.attempt}><td class="num">${one.attempt}</td><td>
        <${Outcome} run=${one} /></td><td class="nowrap"><${At} at=${one.ended_at} /></td>
        <td class="num nowrap">${one.took ? duration(one.took) : html`<${Took} run=${run} />`}</td>
          <td class="wrap-any small">${one.error ? one.error.split('\n')[0] : ''}</td></tr>`)}</tbody></table></div>`}
  <//>`;
}
