// One job: when it fires, what it does, what became of it, and what can be done to it.

import { html, Fragment, useEffect, useState } from '../lib.js';
import { count, duration, plural, short, utc, words } from '../format.js';
import { me, useAnswer } from '../api.js';
import { alone, is_reset, looks_every, of_runs, useLive } from '../live.js';
import { route, run_link, set_params, to } from '../route.js';
import { Answered, At, Badge, Card, Due, Empty, Head, Icon, Outcome, State, Tags, When } from '../ui.js';
import { ActionButton, ask, may } from '../actions.js';
import { usePageActions } from '../keys.js';
import { node_name } from '../plots.js';
import { Progress, RunTable, useReloadOn } from './runs.js';
import { OperationTable } from './operations.js';
import { Decisions, Durations, Explain, Schedule } from './job_parts.js';

export function JobPage() {
  const { job: name } = route.value.params;
  const answer = useAnswer('job', { job: name }, { every: looks_every.value || 30_000 });
  const [round, set_round] = useState(0);
  const again = () => {
    answer.reload();
    set_round((n) => n + 1);
  };
  useLive((kind, data) => {
    const row = kind === 'jobs' && data.changed?.find((one) => one.name === name);
    if (row) answer.set((before) => ({ ...before, job: { ...before.job, ...row } }));
    if ((kind === 'jobs' && data.removed?.includes(name)) || is_reset(kind, data, 'jobs')) answer.reload();
  });
  useReloadOn(again, (kind, data) => of_runs(kind, data, (one) => one.job === name));
  const job = answer.data?.job;
  usePageActions(job ? palette_actions(job, answer.data, again) : [], [job?.name, job?.pause, me.value]);
  return html`<${Head} title=${name || 'Job'} crumbs=${html`<a href=${to('jobs')}>Jobs</a>`}
      sub=${job && html`<${Subtitle} job=${job} />`}>
      ${job && html`<${Buttons} job=${job} answer=${answer.data} again=${again} />`}<//>
    <${Answered} answer=${answer}>
      ${(data) => html`<${Shown} data=${data} round=${round} again=${again} key=${data.job.name} />`}<//>`;
}

function palette_actions(job, data, again) {
  const subject = { jobs: [job.name], done: again };
  const all = [['run', `Run ${job.name} now`], job.pause ? ['resume', `Resume ${job.name}`]
    : ['pause', `Pause ${job.name}`], ['cancel', `Cancel the runs of ${job.name}`]]
    .filter(([kind]) => may(kind)).map(([kind, label]) => ({ label, act: () => ask(kind, subject) }));
  if (may('edit') && data.editable !== 'no') all.push({ label: `Change the schedule of ${job.name}`,
    act: () => ask('edit', { job, editable: data.editable, done: again }) });
  return all;
}

const Subtitle = ({ job }) => html`<span class="row tight">
  <${State} state=${job.state} />${job.overdue && html`<${State} state="overdue" />`}
  ${job.failures > 0 && html`<${Badge} tone="bad" icon="cross">${plural(job.failures, 'failure')} in a row
    ${alone.value ? '' : ' on this node'}<//>`}
  ${job.stored && html`<${Badge} title="Its definition is in the catalogue, for all nodes">stored<//>`}
  <${Tags} tags=${job.tags} />
  ${job.next_fire_time && !job.pause
    && html`<span>next <${Due} at=${job.next_fire_time} zone=${job.timezone} /></span>`}</span>`;

function Buttons({ job, answer, again }) {
  const subject = { jobs: [job.name], done: again };
  const edit = { job, editable: answer.editable, done: again };
  const more = [['cancel', 'Cancel runs', subject], ['skip-missed', 'Skip what was missed', subject],
    ['remove', 'Remove the job', subject]].filter(([kind]) => may(kind));
  return html`<${Fragment}>
    <${ActionButton} kind="run" main subject=${{ ...subject, task: job.task, task_arguments: job.task_arguments }} />
    <${ActionButton} kind=${job.pause ? 'resume' : 'pause'} subject=${subject} />
    ${may('edit') && answer.editable !== 'no'
      && html`<${ActionButton} kind="edit" subject=${edit} label="Change schedule" />`}
    <${ActionButton} kind="backfill" subject=${{ job: job.name, done: again }} label="Backfill" />
    ${more.length > 0 && html`<${Menu} label="More actions"
      entries=${more.map(([kind, label, about]) => ({ label, act: () => ask(kind, about) }))} />`}
  <//>`;
}

/** A button that shows more of them. */
function Menu({ label, entries }) {
  const [open, set_open] = useState(false);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => { if (!event.target.closest('.menu') || event.key === 'Escape') set_open(false); };
    const key = (event) => { if (event.key === 'Escape') set_open(false); };
    document.addEventListener('click', away);
    document.addEventListener('keydown', key);
    return () => {
      document.removeEventListener('click', away);
      document.removeEventListener('keydown', key);
    };
  }, [open]);
  return html`<div class="menu">
    <button type="button" class="btn icon" aria-label=${label} aria-expanded=${open ? 'true' : 'false'}
    onClick=${() => set_open(!open)}><${Icon} name="more" /></button>
    ${open && html`<ul>${entries.map((entry) => html`<li key=${entry.label}>
      <button type="button" class="btn plain" onClick=${() => { set_open(false); entry.act(); }}>
      ${entry.label}</button></li>`)}</ul>`}</div>`;
}

function Shown({ data, round, again }) {
  const { job } = data;
  const nodes = useAnswer('nodes', {}, { every: 60_000 });
  const runs = useAnswer('runs', { job: job.name, limit: 200 }, { every: looks_every.value });
  useEffect(() => { if (round) runs.reload(); }, [round]);
  const name_of = node_name(nodes.data?.nodes);
  return html`<div class="grid">
    <${Notices} job=${job} />
    <div class="w8 stack">
      ${(job.active_runs?.length > 0 || job.former_runs?.length > 0) && html`<${Active} job=${job} again=${again} />`}
      <${Schedule} job=${job} next=${data.next_fire_times} />
      <${Explain} job=${job.name} at=${route.value.params.at} zone=${job.timezone}
        choose=${(at) => set_params({ at })} />
      <${Durations} runs=${runs.data?.runs} />
      <${Card} bare title="Runs" end=${html`<a href=${to('runs', { job: job.name })}>All runs</a>`}>
        <${Answered} answer=${runs}>${(page) => (page.runs.length === 0
          ? html`<${Empty} title="It has not run yet"><p>
            ${job.next_fire_time ? html`The first run is <${When} at=${job.next_fire_time} />.`
            : 'It has no fire time to come.'} “Run now” does not wait for it.</p><//>`
          : html`<${RunTable} runs=${page.runs.slice(0, 12)} name_of=${name_of} without_job />`)}<//>
      <//>
      <${Decisions} job=${job.name} round=${round} explain=${(at) => set_params({ at })} />
      <${History} job=${job.name} round=${round} name_of=${name_of} />
    </div>
    <div class="w4 stack">
      <${Status} job=${job} history=${data.history} />
      <${Policies} policies=${data.policies} />
      <${Facts} job=${job} data=${data} />
      <${Backfills} job=${job.name} round=${round} again=${again} />
    </div>
  </div>`;
}

function Notices({ job }) {
  const notices = [];
  if (job.reason) notices.push(html`<div class="note-box bad w12" key="reason"><strong>
    ${words(job.state)}</strong>: ${job.reason}</div>`);
  if (job.pause) {
    const { until, note, by } = job.pause;
    notices.push(html`<div class="note-box calm w12" key="pause"><strong>Paused</strong>${by && html` by ${by}`}
      ${until ? html`, until <${At} at=${until} /> (<${When} at=${until} />)` : ', until it is resumed'}
      ${note && html`: ${note}`}</div>`);
  }
  if (job.held) notices.push(html`<div class="note-box warn w12" key="held">
    ${plural(job.held.count, 'tick')} came due during the pause and ${job.held.count === 1 ? 'waits'
    : 'wait'} for its end: from ${utc(job.held.oldest)} to ${utc(job.held.newest)} UTC.</div>`);
  return notices;
}

function Active({ job, again }) {
  const runs = [...(job.active_runs || []), ...(job.former_runs || [])];
  return html`<${Card} bare title=${alone.value ? 'Running now' : 'Running now on this node'}
    end=${plural(runs.length, 'run')}><ul class="list top">
    ${runs.map((run) => html`<li key=${run.run}>
    <span class="dot run pulse"></span>
    <div class="grow stack"><div class="row tight"><a class="mono" href=${run_link(run.run)}>
      ${short(run.run)}</a> <span class="muted">
      ${words(run.phase?.phase ?? run.phase)}, started <${When} at=${run.started_at} />
      ${run.attempt > 1 ? `, try ${run.attempt}` : ''}</span>
        ${run.cancelled && html`<${Badge} tone="warn">told to stop: ${words(run.cancelled)}<//>`}</div>
      <${Progress} value=${run.progress} />
        ${run.report && html`<div class="small muted wrap-any">${run.report}</div>`}</div>
    ${may('cancel') && !run.cancelled
      && html`<button type="button" class="btn small"
      onClick=${() => ask('cancel-run', { run: run.run, job: job.name, done: again })}>Cancel</button>`}
  </li>`)}</ul><//>`;
}

function Status({ job, history }) {
  if (!history) return html`<${Card} title="So far">
    <p class="muted small">No history is kept, or it has not run.</p><//>`;
  const share = history.runs > 0 ? Math.round((1000 * (history.runs - history.failures)) / history.runs) / 10 : null;
  return html`<${Card} title="So far" end=${share !== null && html`<span>${share} % succeeded</span>`}>
    <dl class="facts">
    <dt>Runs</dt><dd>${count(history.runs)}
      ${history.failures > 0 && html`, <span class="bad">${plural(history.failures, 'failure')}</span>`}</dd>
    <dt>Last run</dt><dd>${history.last_run
      ? html`<a href=${run_link(history.last_run.run)}>
      <${Outcome} run=${history.last_run} /></a> <span class="muted small">
      <${When} at=${history.last_run.at} /></span>` : '–'}</dd>
    <dt>Last success</dt><dd><${When} at=${history.last_success} /></dd>
    <dt>Last failure</dt><dd>${history.last_failure
      ? html`<a href=${run_link(history.last_failure.run)}><${When} at=${history.last_failure.at} /></a>
      ${history.last_failure.error && html`<div class="small bad wrap-any">
        ${history.last_failure.error.split('\n')[0]}</div>`}` : html`<span class="muted">none</span>`}</dd>
    <dt>In a row</dt><dd class=${history.consecutive_failures > 0 ? 'bad' : ''}>
      ${history.consecutive_failures > 0 ? plural(history.consecutive_failures, 'failure') : 'no failure'}</dd>
    <dt>Takes</dt><dd>${history.mean
      ? html`${duration(history.mean)} <span class="muted small">mean</span>, <span
      class="nowrap">${duration(history.p95)} <span
      class="muted small">95 of 100</span></span>` : '–'}</dd>
    ${job.waiting > 0 && html`<dt>Waiting</dt><dd>${plural(job.waiting, 'run')}</dd>`}
    ${history.pruned_to && html`<dt>Kept since</dt><dd><${At} at=${history.pruned_to} /></dd>`}
  </dl><//>`;
}

const Policies = ({ policies }) => html`<${Card} bare title="Policies"><ul class="policies">
  ${(policies || []).map((one) => html`<li key=${one.policy}>
  <span><b>${words(one.policy)}</b> <span class="muted">${one.value}</span></span><span class="small muted">
    ${one.text}</span></li>`)}</ul><//>`;

function Facts({ job, data }) {
  const args = job.task_arguments;
  return html`<${Card} title="Definition" end=${job.version && html`<span>version ${job.version}</span>`}>
    <dl class="facts">
    <dt>Kept in</dt><dd>${job.stored ? 'the catalogue, for all nodes' : 'the code of the application'}</dd>
    ${job.task && html`<dt>Task</dt><dd class="mono">${job.task}</dd>`}
    ${args !== null && args !== undefined
      && html`<dt>Arguments</dt><dd><pre class="text">${JSON.stringify(args, null, 2)}</pre></dd>`}
    <dt>Lock key</dt><dd class="mono">${job.lock_key}</dd>
    ${job.backend && html`<dt>Backend</dt><dd>${job.backend}</dd>`}
    <dt>Fired by</dt><dd>${job.scheduled_text || words(job.scheduled)}</dd>
    ${data.editable === 'no' && html`<dt>Change</dt><dd class="muted small">Its schedule cannot be changed here.</dd>`}
  </dl><//>`;
}

function Backfills({ job, round, again }) {
  const answer = useAnswer('backfills', { job }, { every: looks_every.value });
  useEffect(() => { if (round) answer.reload(); }, [round]);
  const all = answer.data?.backfills || [];
  if (all.length === 0) return null;
  return html`<${Card} bare title="Backfills"><ul class="list top">
    ${all.map((one) => html`<li key=${one.id}><div class="grow stack">
    <div class="row tight"><${Badge} tone=${one.state === 'running' ? 'run' : ''}>
      ${words(one.state)}<//><span class="small muted">${one.by || ''}</span></div>
    <div class="small muted">${utc(one.from).slice(0, 16)} to ${utc(one.to).slice(0, 16)} UTC</div>
    ${one.ticks > 0 && html`<${Progress} value=${one.done / one.ticks} />`}
    ${one.failed > 0 && html`<span class="small bad">${count(one.failed)} failed</span>`}</div>
    ${one.state === 'running' && may('backfill')
      && html`<button type="button" class="btn small"
      onClick=${() => ask('cancel-backfill', { job, backfill: one.id, done: again })}>Stop</button>`}</li>`)}</ul><//>`;
}

function History({ job, round, name_of }) {
  const answer = useAnswer('operations', { job, limit: 10 }, { every: looks_every.value });
  useEffect(() => { if (round) answer.reload(); }, [round]);
  const rows = answer.data?.operations || [];
  if (rows.length === 0) return null;
  return html`<${Card} bare title="Operations" end=${html`<a href=${to('operations', { job })}>All operations</a>`}>
    <${OperationTable} rows=${rows} name_of=${name_of} without_job /><//>`;
}
