// Parts of the page of a job that ask for themselves.

import { html, useEffect, useMemo, useState } from '../lib.js';
import { count, duration, field_of_instant, instant_of_field, millis, plural, short, utc, viewer_zone, words,
  zoned } from '../format.js';
import { now, useAnswer } from '../api.js';
import { looks_every } from '../live.js';
import { run_link } from '../route.js';
import { Answered, At, Badge, Card, Empty, Gaps } from '../ui.js';
import { PreviewLines, Warnings } from '../preview.js';
import { Plot } from '../plots.js';

/** The schedule of a job as `api/preview` takes it; `null` if that is not known. */
function written_schedule(job) {
  const stored = job.definition?.schedule;
  if (typeof stored === 'string') return stored;
  if (stored) return JSON.stringify(stored);
  // A job of the code has its schedule in words: of a cron expression they say it all.
  const [, expression] = /^cron ([^()]+?)(?: \([^()]*\))?$/.exec(job.schedule) || [];
  return expression || null;
}

/** The schedule in words, and the fire times to come. */
export function Schedule({ job, next }) {
  const text = written_schedule(job);
  const zone = job.timezone || 'UTC';
  const answer = useAnswer('preview', { schedule: text, zone, count: 7 }, { skip: !text, every: 60_000 });
  const said = answer.data?.describe || job.schedule;
  const lines = (next || []).map((at) => (
    { at, local: (zoned(at, zone) || utc(at)).replace(' ', 'T'), offset: '', notes: [] }));
  const known = answer.data || { lines, cut: false };
  const preview = { ...known, lines: known.lines.filter((line) => Date.parse(line.at) >= now.value) };
  return html`<${Card} title="Schedule" end=${html`<span>${zone}</span>`}><div class="stack">
    <p><strong>${said}</strong>${said !== job.schedule && html` <code class="muted">${job.schedule}</code>`}</p>
    <${Warnings} warnings=${preview.warnings} />
    ${job.pause && html`<p class="muted small">It is paused: these are the fire times of the schedule.</p>`}
    ${known.lines.length === 0 && !job.next_fire_time ? html`<p class="muted">No fire time is to come.</p>`
      : html`<${PreviewLines} preview=${preview} zone=${zone} />`}
  </div><//>`;
}

const BAD = new Set(['failed', 'panicked', 'timed_out', 'lost']);

/** How long the last runs took, and how late they were. */
export function Durations({ runs }) {
  const ended = useMemo(() => (runs || []).filter((run) => run.started_at && run.took).reverse(), [runs]);
  if (ended.length < 2) return null;
  const times = ended.map((run) => Date.parse(run.started_at));
  // Two runs of one millisecond share a place: uPlot wants growing times.
  for (let n = 1; n < times.length; n += 1) if (times[n] <= times[n - 1]) times[n] = times[n - 1] + 1;
  const took = (is_shown) => ended.map((run) => (is_shown(run) ? Math.max(0.05, millis(run.took)) : null));
  const late = ended.map((run) => millis(run.lateness) || 0);
  const longest = Math.max(...ended.map((run) => millis(run.took)));
  const failed = ended.filter((run) => BAD.has(run.outcome)).length;
  const said = `The last ${plural(ended.length,
    'run')}: at most ${duration(longest)} long, at most ${duration(Math.max(...late))} late, ${failed} failed.`;
  return html`<${Card} title="Durations and lateness" end=${html`<span>${plural(ended.length, 'run')}</span>`}>
    <${Plot} times=${times} summary=${said} unit=${(ms) => duration(ms)} height=${150} logarithmic series=${[
      { label: 'succeeded', tone: 'ok', kind: 'points', values: took((run) => run.outcome === 'succeeded') },
      { label: 'failed', tone: 'bad', kind: 'points', values: took((run) => BAD.has(run.outcome)) },
      { label: 'cancelled', tone: 'calm', kind: 'points', values: took((run) => run.outcome === 'cancelled') }]} />
    <${Plot} times=${times} summary=${said} unit=${(ms) => duration(ms)} height=${92}
      series=${[{ label: 'late', tone: 'warn', kind: 'line', values: late }]} />
    <p class="small muted">${said}</p><//>`;
}

const ANSWERS = {
  ran: ['ok', 'ran'], running: ['run', 'runs'], skipped: ['warn', 'skipped'], vetoed: ['warn', 'vetoed'],
    lost: ['bad', 'lost'],
  exhausted: ['', 'exhausted'], not_decided: ['run', 'not decided yet'], not_known: ['warn', 'not known'],
    not_fire_time: ['', 'no fire time'],
};

const second_of = (time) => new Date(Math.floor(time / 1_000) * 1_000).toISOString();

/** Why it did, or did not, run at an instant. */
export function Explain({ job, at, zone, choose }) {
  const [asked, set_asked] = useState('');
  const is_hour = at?.startsWith('hour:');
  useEffect(() => {
    if (!at) return;
    set_asked(field_of_instant(is_hour ? at.slice(5) : at));
    document.querySelector('.explain')?.scrollIntoView({ block: 'nearest' });
  }, [at]);
  const instant = is_hour ? at.slice(5) : at;
  const params = is_hour ? { job, from: new Date(Date.parse(instant) - 3_600_000).toISOString(), to: instant }
    : { job, at: instant };
  const answer = useAnswer('explain', params, { skip: !at });
  const send = (event) => {
    event.preventDefault();
    const chosen = instant_of_field(asked);
    if (chosen) choose(chosen);
  };
  return html`<${Card} title="Explain an instant" class="explain"><div class="stack">
    <form class="row" onSubmit=${send}>
      <label class="row tight"><span class="small muted">In your time, ${viewer_zone}</span>
        <input class="input" type="datetime-local" step="1" required value=${asked}
          onInput=${(event) => set_asked(event.target.value)} /></label>
      <button class="btn" type="submit">Explain</button>
      <button class="btn plain" type="button"
        onClick=${() => choose(`hour:${second_of(now.value)}`)}>The last hour</button>
      ${at && html`<button class="btn plain" type="button" onClick=${() => choose('')}>Close</button>`}
    </form>
    ${!at && html`<p
      class="muted small">Why did it run then, or why not? Choose an instant, or a fire time in the tables of this
      page.</p>`}
    ${at && html`<${Answered} answer=${answer}>
      ${(data) => html`<ul class="stack">
      ${data.explanations.map((one) => html`<${Explanation} key=${one.at} one=${one} zone=${zone} />`)}
      ${data.next && html`<li class="small muted">There are more, from ${utc(data.next)} UTC on.</li>`}
      ${data.explanations.length === 0 && html`<li class="muted">Nothing was due in this time.</li>`}</ul>`}<//>`}
  </div><//>`;
}

function Explanation({ one, zone }) {
  const [tone, label] = ANSWERS[one.answer] || ['', words(one.answer)];
  return html`<li class="stack note-box"><div class="row tight"><${Badge} tone=${tone}>${label}<//><strong>
    <${At} at=${one.at} zone=${zone} /></strong>
      ${one.run && html`<a class="mono small" href=${run_link(one.run)}>run ${short(one.run)}</a>`}</div>
    <div class="wrap-any">${one.text}</div>
    ${one.evidence?.length > 0 && html`<details>
      <summary class="small muted">How this is known: ${plural(one.evidence.length, 'record')}</summary>
      <ul class="small stack evidence">
        ${one.evidence.map((evidence, n) => html`<li key=${n} class="wrap-any">${evidence}</li>`)}</ul></details>`}
        </li>`;
}

const TONES = { skipped: 'warn', vetoed: 'warn', trigger_refused: 'bad', leader_gap: 'bad', run_lost: 'bad',
  clock_stepped: 'warn', records_dropped: 'bad' };

/** What started nothing, and why. */
export function Decisions({ job, round, explain }) {
  const answer = useAnswer('decisions', { job, limit: 20 }, { every: looks_every.value });
  useEffect(() => { if (round) answer.reload(); }, [round]);
  return html`<${Card} bare title="Decisions that started nothing"><${Answered} answer=${answer}>
    ${(page) => (page.decisions.length === 0
    ? html`<${Empty} title="Each tick has run">
      <p>Skipped ticks, vetoes of hooks, refused triggers and lost runs are listed here, each with its reason.</p><//>`
    : html`<div class="table-wrap"><table class="cards"><thead><tr><th scope="col">Decided</th>
      <th scope="col">What</th><th scope="col">Why</th><th scope="col" class="opt">Fire time</th></tr></thead>
      <tbody>${page.decisions.map((one, n) => html`<tr
        key=${`${one.at} ${n}`}><td class="nowrap small"><${At} at=${one.at} /></td>
        <td class="nowrap"><${Badge} tone=${TONES[one.decision] || ''}>${words(one.decision)}
          ${one.count > 1 ? ` ×${count(one.count)}${one.at_least ? ' or more' : ''}` : ''}<//></td>
        <td class="wrap-any">${[one.reason && words(one.reason), one.text].filter(Boolean).join(': ')}
          ${one.by && html` <span class="muted small">by ${one.by}</span>`}
          ${one.from && ` from ${utc(one.from)} to ${utc(one.to)} UTC`}
          ${one.run && html` <a class="mono small" href=${run_link(one.run)}>run ${short(one.run)}</a>`}</td>
        <td class="opt nowrap small">${one.fire_time
          ? html`<button type="button" class="btn plain small" title="Explain this fire time"
          onClick=${() => explain(one.fire_time)}><${At} at=${one.fire_time} /></button>` : '–'}</td></tr>`)}</tbody>
          </table></div>
      ${(page.dropped || page.complete_from) && html`<footer><${Gaps} page=${page} what="decisions" /></footer>`}`)}
        <//><//>`;
}
