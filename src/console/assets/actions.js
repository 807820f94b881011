// What can be done to jobs and runs: each in a dialog that says first what it will do.

import { html, signal, useEffect, useState } from './lib.js';
import { count, field_of_instant, instant_of_field, plural, short, utc, viewer_zone } from './format.js';
import { me, now, post } from './api.js';
import { At, Dialog, Fault, Field, Icon, Loading, toast } from './ui.js';
import { EditSchedule } from './edit.js';

/** The dialog that is open: `{kind, jobs | filter, job, run, done}`. */
export const open_action = signal(null);
const close = () => { open_action.value = null; };

/** Opens the dialog of an action. */
export const ask = (kind, subject) => { open_action.value = { kind, ...subject }; };

/** Whether the one who looks may do it. */
export const may = (kind) => (kind === 'remove' || kind === 'edit' ? me.value.may.edit : me.value.may.operate);

export const ACTIONS = {
  run: { label: 'Run now', one: 'Run', many: 'Run', done: 'asked to run', icon: 'play' },
  pause: { label: 'Pause', one: 'Pause', many: 'Pause', done: 'paused', icon: 'pause' },
  resume: { label: 'Resume', one: 'Resume', many: 'Resume', done: 'resumed', icon: 'play' },
  cancel: { label: 'Cancel runs', one: 'Cancel the runs of', many: 'Cancel the runs of', done: 'told to stop',
    icon: 'stop', danger: true },
  'skip-missed': { label: 'Skip missed', one: 'Skip what was missed by', many: 'Skip what was missed by',
    done: 'skipped what was missed', icon: 'minus' },
  remove: { label: 'Remove', one: 'Remove', many: 'Remove', done: 'removed', icon: 'cross', danger: true },
};
const EXPLAIN = {
  run: 'A run starts now. It takes no tick of the schedule, and the overlap policy holds.',
  pause: 'No tick runs until the job is resumed. What is running goes on.',
  resume: 'Ticks run again. Ticks that are held run or are skipped as the misfire policy says.',
  cancel: 'Runs in progress on this node are told to stop.',
  'skip-missed': 'Ticks that were missed, or are held by a pause, are skipped. It fires again at the next one to come.',
  remove: 'The job leaves this node, and the catalogue if it is stored there. Its history stays.',
};

const NOTE_MAX = 1_000;

function Note({ note, set_note, asked }) {
  const bytes = new TextEncoder().encode(note).length;
  return html`<${Field} label=${asked || 'Reason'} hint="It is kept in the record of operations, with your name."
    fault=${bytes > NOTE_MAX ? `it has ${bytes} bytes: at most ${NOTE_MAX} are kept` : null}>
    ${(field) => html`<input ...${field} value=${note} onInput=${(event) => set_note(event.target.value)}
      autocomplete="off" />`}<//>`;
}

/** Until when a pause lasts: an instant, or `null` until somebody resumes the job. */
function Until({ value, set }) {
  const [own, set_own] = useState(false);
  const hour = 3_600_000;
  const morning = new Date(now.value + 24 * hour);
  morning.setHours(9, 0, 0, 0);
  const choices = [['', 'until somebody resumes it'], [hour, 'for 1 hour'], [4 * hour, 'for 4 hours'],
    ['morning', 'until tomorrow, 09:00'], ['own', 'until another time']];
  const [chosen, set_chosen] = useState('');
  const choose = (event) => {
    const choice = event.target.value;
    set_chosen(choice);
    set_own(choice === 'own');
    if (choice === '') set(null);
    else if (choice === 'morning') set(morning.toISOString());
    else if (choice === 'own') set(new Date(now.value + hour).toISOString());
    else set(new Date(now.value + Number(choice)).toISOString());
  };
  return html`<div class="two">
    <${Field} label="How long">${(field) => html`<select ...${field} value=${chosen} onChange=${choose}>
      ${choices.map(([choice, text]) => html`<option value=${choice}>${text}</option>`)}</select>`}<//>
    ${own && html`<${Field} label="Until" hint=${`in your time, ${viewer_zone}`}>
      ${(field) => html`<input ...${field} type="datetime-local" step="1"
      value=${field_of_instant(value)} onInput=${(event) => set(instant_of_field(event.target.value))} />`}<//>`}
    ${!own && value && html`<div class="field"><span class="label">That is</span><span>
      <${At} at=${value} /> <span class="muted small">${utc(value)} UTC</span></span></div>`}
  </div>`;
}

/** The body of the request for what the dialog is about. */
const subject_of = ({ jobs, filter }) => (jobs ? { jobs } : { filter });

function useCount(asked, kind, is_one) {
  const [answer, set_answer] = useState({ count: is_one ? 1 : null, jobs: asked.jobs || [] });
  const [error, set_error] = useState(null);
  const [round, set_round] = useState(0);
  useEffect(() => {
    if (is_one) return;
    post(`actions/${kind}`, { ...subject_of(asked), dry_run: true })
      .then((dry) => { set_answer(dry); set_error(null); }, set_error);
  }, [round]);
  return { ...answer, error, again: () => set_round(round + 1) };
}

function told(kind, answer, total) {
  const { failed = [], done = [] } = answer;
  const action = ACTIONS[kind];
  if (failed.length === 0) {
    const runs = done.filter((one) => one.run);
    const what = total === 1 && done[0]?.job ? done[0].job : plural(total, 'job');
    toast(runs.length === 1 && kind === 'run' ? `${what}: ${runs[0].text || 'started'}` : `${what}: ${action.done}`);
    return;
  }
  const first = failed.slice(0, 3).map((one) => `${one.job}: ${one.problem?.detail || one.problem?.title}`).join('; ');
  toast(`${plural(failed.length, 'job')} of ${total} could not be ${action.done}. ${first}`, 'bad');
}

/** An action on one job, or on many. */
function JobsAction({ asked }) {
  const { kind } = asked;
  const action = ACTIONS[kind];
  const is_one = asked.jobs?.length === 1;
  const [note, set_note] = useState('');
  const [until, set_until] = useState(null);
  const [own, set_own] = useState('');
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const counted = useCount(asked, kind, is_one);
  const max = counted.max ?? me.value.bulk_max ?? 1_000;
  const over = counted.count > max;
  const submit = async () => {
    const body = { ...subject_of(asked), ...(note && { note }), ...(until && { until }) };
    if (!is_one) body.count = counted.count;
    if (kind === 'run' && own.trim()) {
      try {
        body.arguments = JSON.parse(own);
      } catch (fault) {
        set_error({ title: 'The arguments are not JSON', message: fault.message,
          cure: 'Write an object, such as {"to": "alice"}.' });
        return;
      }
    }
    set_busy(true);
    try {
      const answer = await post(`actions/${kind}`, body);
      told(kind, answer, counted.count);
      close();
      asked.done?.();
    } catch (problem) {
      set_error(problem);
      if (problem.kind === 'count') counted.again();
    }
    set_busy(false);
  };
  const title = is_one ? `${action.one} ${asked.jobs[0]}`
    : `${action.many} ${counted.count === null ? '…' : plural(counted.count, 'job')}`;
  return html`<${Dialog} title=${title} close=${close} submit=${submit}
    action=${is_one ? action.label : `${action.label}: ${count(counted.count)}`}
      danger=${action.danger} busy=${busy} blocked=${counted.count === null || over || counted.count === 0}>
    <p class="muted">${EXPLAIN[kind]}</p>
    ${!is_one && html`<${Counted} counted=${counted} max=${max} over=${over} />`}
    ${kind === 'pause' && html`<${Until} value=${until} set=${set_until} />`}
    ${kind === 'run' && is_one && asked.task && html`<${Field} label=${`Arguments of ${asked.task}, for this run only`}
      hint="JSON. Empty: those of the job.">
        ${(field) => html`<textarea ...${field} rows="3" class="input mono" spellcheck=${false}
      placeholder=${asked.task_arguments ? JSON.stringify(asked.task_arguments) : ''} value=${own}
        onInput=${(event) => set_own(event.target.value)}></textarea>`}<//>`}
    <${Note} note=${note} set_note=${set_note} asked=${kind === 'pause' ? 'Why' : 'Reason'} />
    ${error && html`<${Fault} error=${error} />`}
  <//>`;
}

function Counted({ counted, max, over }) {
  if (counted.error) return html`<${Fault} error=${counted.error} retry=${counted.again} />`;
  if (counted.count === null) return html`<${Loading} />`;
  const names = (counted.jobs || []).slice(0, 12);
  return html`<div class=${`note-box ${over ? 'bad' : ''}`}>
    <strong>${plural(counted.count, 'job')}</strong>
      ${over ? `: more than ${count(max)} are not changed at once. Narrow the filter.` : ':'}
    ${names.length > 0 && html`<span class="wrap-any"> ${names.join(', ')}
      ${counted.count > names.length ? ` and ${count(counted.count - names.length)} more` : ''}</span>`}
  </div>`;
}

/** Cancels one run. */
function CancelRun({ asked }) {
  const [note, set_note] = useState('');
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const submit = async () => {
    set_busy(true);
    try {
      await post('actions/cancel-run', { run: asked.run, ...(note && { note }) });
      toast(`run ${short(asked.run)} of ${asked.job} is told to stop`);
      close();
      asked.done?.();
    } catch (problem) {
      set_error(problem);
    }
    set_busy(false);
  };
  return html`<${Dialog} title=${`Cancel a run of ${asked.job}`} close=${close} submit=${submit}
    action="Cancel the run" danger busy=${busy}>
    <p class="muted">The run is told to stop. One that does not stop by itself is aborted after the time that the job
    allows.</p>
    <${Note} note=${note} set_note=${set_note} />
    ${error && html`<${Fault} error=${error} />`}
  <//>`;
}

/** Runs fire times of the past. */
function Backfill({ asked }) {
  const hour = 3_600_000;
  const [form, set_form] = useState({
    from: field_of_instant(now.value - 24 * hour), to: field_of_instant(now.value), again: false, max_concurrent: '1',
      spacing: '0s', note: '',
  });
  const [dry, set_dry] = useState(null);
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const change = (name) => (event) => {
    set_form({ ...form, [name]: name === 'again' ? event.target.checked : event.target.value });
    set_dry(null);
  };
  const send = async (dry_run) => {
    set_error(null);
    set_busy(true);
    const { again, spacing, note } = form;
    const body = {
      job: asked.job, from: instant_of_field(form.from), to: instant_of_field(form.to), again, spacing,
      max_concurrent: Number(form.max_concurrent), ...(note && { note }), dry_run,
    };
    try {
      if (!body.from || !body.to) throw Object.assign(new Error('write both as date and time'),
        { title: 'An instant is missing' });
      const answer = await post('actions/backfill', body);
      if (dry_run) {
        set_dry(answer);
      } else {
        toast(`${asked.job}: a backfill of ${plural(dry.count, 'fire time')} began`);
        close();
        asked.done?.();
      }
    } catch (problem) {
      set_error(problem);
    }
    set_busy(false);
  };
  const ready = dry && dry.count > 0;
  return html`<${Dialog} title=${`Backfill ${asked.job}`} close=${close} submit=${() => send(!ready)} busy=${busy}
      action=${ready ? `Run ${plural(dry.count, 'fire time')}` : 'Count the fire times'}
        blocked=${dry && dry.count === 0}>
    <p class="muted">Fire times of the past run now, by the schedule as it is. First they are counted; nothing runs
    before you have seen the count.</p>
    <div class="two">
      <${Field} label="From" hint=${`in your time, ${viewer_zone}`}>
        ${(field) => html`<input ...${field} type="datetime-local" step="1" value=${form.from}
        onInput=${change('from')} />`}<//>
      <${Field} label="To, not included">
        ${(field) => html`<input ...${field} type="datetime-local" step="1" value=${form.to}
        onInput=${change('to')} />`}<//>
      <${Field} label="Runs at once">
        ${(field) => html`<input ...${field} type="number" min="1" value=${form.max_concurrent}
        onInput=${change('max_concurrent')} />`}<//>
      <${Field} label="Spacing" hint="between two starts, such as 10s">
        ${(field) => html`<input ...${field} value=${form.spacing} onInput=${change('spacing')} />`}<//>
    </div>
    <label class="check"><input type="checkbox" checked=${form.again}
      onChange=${change('again')} /> Also those that ran already</label>
    <${Note} note=${form.note} set_note=${(note) => set_form({ ...form, note })} />
    ${dry && html`<${Dry} dry=${dry} />`}
    ${error && html`<${Fault} error=${error} />`}
  <//>`;
}

function Dry({ dry }) {
  const left_out = Array.isArray(dry.left_out) ? dry.left_out.length : dry.left_out;
  return html`<div class=${`note-box ${dry.count ? 'run' : 'warn'} stack`}>
    <div><strong>${plural(dry.count, 'fire time')}
      </strong> would run${left_out ? `; ${left_out} are left out, since they ran already` : ''}.</div>
    ${dry.count > 0 && html`<div class="small">
      ${(dry.fire_times || []).slice(0, 6).map((at) => html`<span key=${at}><${At} at=${at} /> </span>`)}
      ${dry.count > 6 ? `… ${utc(dry.fire_times[dry.fire_times.length - 1])} UTC` : ''}</div>`}
  </div>`;
}

/** Stops a backfill. */
export async function cancel_backfill(backfill, done) {
  try {
    await post('actions/cancel-backfill', { backfill });
    toast('the backfill is told to stop');
    done?.();
  } catch (problem) {
    toast(`${problem.message}${problem.cure ? `: ${problem.cure}` : ''}`, 'bad');
  }
}

const DIALOGS = { 'cancel-run': CancelRun, backfill: Backfill };

/** The dialog that is open, if one is. */
export function ActionDialog() {
  const asked = open_action.value;
  if (!asked) return null;
  if (asked.kind === 'edit') return html`<${EditSchedule} asked=${asked} close=${close} Note=${Note} />`;
  const Shown = DIALOGS[asked.kind] || JobsAction;
  return html`<${Shown} asked=${asked} key=${asked.kind} />`;
}

/** A button that opens the dialog of an action; it is not there for those who may not. */
export function ActionButton({ kind, subject, main, label }) {
  if (!may(kind)) return null;
  const action = ACTIONS[kind] || {};
  return html`<button type="button" class=${`btn ${main ? 'main' : ''}`} onClick=${() => ask(kind, subject)}>
    ${action.icon && html`<${Icon} name=${action.icon} size=${13} />`}${label || action.label}</button>`;
}

