// What can be done to jobs and runs: each in a dialog that says first what it will do.

import { html, signal, useEffect, useState } from './lib.js';
import { count, field_of_instant, instant_of_field, plural, short, utc, viewer_zone } from './format.js';
import { me, now, post } from './api.js';
import { At, Dialog, Fault, Field, Icon, Loading, toast } from './ui.js';
import { EditSchedule } from './edit.js';

/** The dialog that is open: `{kind, number, jobs | filter, job, run, done}`. */
export const open_action = signal(null);
let asked_number = 0;

/** Opens the dialog of an action. */
export const ask = (kind, subject) => { open_action.value = { kind, number: ++asked_number, ...subject }; };
/** Closes this dialog, and no other one that was opened since. */
const closes = (asked) => () => { if (open_action.value === asked) open_action.value = null; };

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
  cancel: 'Runs in progress are told to stop, on all nodes if the backend tells them.',
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

/** Until when a pause lasts: `at`, or for ever without one. `text`: what the field of another time says. */
const FOREVER = { choice: '', at: null, text: '' };

/** What is wrong with the time that was written; `null` if nothing is. */
function fault_of_until({ choice, text }) {
  if (choice !== 'own') return null;
  const at = instant_of_field(text);
  if (!at) return 'write a date and a time';
  return Date.parse(at) <= now.value ? 'it has passed' : null;
}

function Until({ until, set }) {
  const hour = 3_600_000;
  const morning = new Date(now.value + 24 * hour);
  morning.setHours(9, 0, 0, 0);
  const choices = [['', 'until somebody resumes it'], [hour, 'for 1 hour'], [4 * hour, 'for 4 hours'],
    ['morning', 'until tomorrow, 09:00'], ['own', 'until another time']];
  const { choice, at, text } = until;
  const write = (said) => set({ choice: 'own', at: instant_of_field(said), text: said });
  const choose = (event) => {
    const chosen = event.target.value;
    if (chosen === '') set(FOREVER);
    else if (chosen === 'own') write(field_of_instant(now.value + hour));
    else {
      const end = chosen === 'morning' ? morning : new Date(now.value + Number(chosen));
      set({ choice: chosen, at: end.toISOString(), text: '' });
    }
  };
  return html`<div class="two">
    <${Field} label="How long">${(field) => html`<select ...${field} value=${choice} onChange=${choose}>
      ${choices.map(([value, label]) => html`<option value=${value}>${label}</option>`)}</select>`}<//>
    ${choice === 'own' && html`<${Field} label="Until" hint=${`in your time, ${viewer_zone}`}
      fault=${fault_of_until(until)}>${(field) => html`<input ...${field} type="datetime-local" step="1" required
      value=${text} onInput=${(event) => write(event.target.value)} />`}<//>`}
    ${choice !== 'own' && at && html`<div class="field"><span class="label">That is</span><span>
      <${At} at=${at} /> <span class="muted small">${utc(at)} UTC</span></span></div>`}
  </div>`;
}

/** The body of the request for what the dialog is about. */
const subject_of = ({ jobs, filter }) => (jobs ? { jobs } : { filter });

function useCount(asked, kind, is_one) {
  const [answer, set_answer] = useState({ count: is_one ? 1 : null, jobs: asked.jobs || [] });
  const [error, set_error] = useState(null);
  const [round, set_round] = useState(0);
  useEffect(() => {
    if (is_one) return undefined;
    let gone = false;
    set_answer({ count: null, jobs: [] });
    const unless_gone = (act) => (value) => { if (!gone) act(value); };
    post(`actions/${kind}`, { ...subject_of(asked), dry_run: true })
      .then(unless_gone((dry) => { set_answer(dry); set_error(null); }), unless_gone(set_error));
    return () => { gone = true; };
  }, [round]);
  return { ...answer, error, again: () => set_round(round + 1) };
}

/** What became of runs that were to stop: how many there were. */
function told_cancelled(what, done) {
  const runs = done.filter((one) => one.run).length;
  toast(`${what}: ${runs === 0 ? 'no run was in progress' : `${plural(runs, 'run')} told to stop`}`);
}

function told(kind, answer, asked, total) {
  const { failed = [], done = [] } = answer;
  const action = ACTIONS[kind];
  if (failed.length === 0) {
    const runs = done.filter((one) => one.run);
    const what = asked.jobs?.length === 1 ? asked.jobs[0] : plural(total, 'job');
    if (kind === 'cancel') {
      told_cancelled(what, done);
      return;
    }
    toast(runs.length === 1 && kind === 'run' ? `${what}: ${runs[0].text || 'started'}` : `${what}: ${action.done}`);
    return;
  }
  const first = failed.slice(0, 3).map((one) => `${one.job}: ${one.problem?.detail || one.problem?.title}`).join('; ');
  toast(`${plural(failed.length, 'job')} of ${total} could not be ${action.done}. ${first}`, 'bad');
}

/** What was shown of many: their number, and the digest of their names. */
const seen = ({ count: number, digest }) => ({ count: number, ...(digest && { digest }) });

/** An action on one job, or on many. */
function JobsAction({ asked, close }) {
  const { kind } = asked;
  const action = ACTIONS[kind];
  const is_one = asked.jobs?.length === 1;
  const [note, set_note] = useState('');
  const [until, set_until] = useState(FOREVER);
  const [own, set_own] = useState('');
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const counted = useCount(asked, kind, is_one);
  const max = counted.max ?? me.value.bulk_max ?? 1_000;
  const over = counted.count > max;
  const submit = async () => {
    const body = { ...subject_of(asked), ...(note && { note }), ...(until.at && { until: until.at }) };
    if (!is_one) Object.assign(body, seen(counted));
    const raw = {};
    if (kind === 'run' && own.trim()) {
      try {
        JSON.parse(own);
        // As it is written: numbers beyond 2^53 would be others.
        raw.arguments = own.trim();
      } catch (fault) {
        set_error({ title: 'The arguments are not JSON', message: fault.message,
          cure: 'Write an object, such as {"to": "alice"}.' });
        return;
      }
    }
    set_busy(true);
    try {
      const answer = await post(`actions/${kind}`, body, raw);
      told(kind, answer, asked, counted.count);
      close();
      asked.done?.();
    } catch (problem) {
      set_error(problem);
      // They are others by now: this is shown before it is asked for again.
      if (!is_one && problem.status === 409) counted.again();
    }
    set_busy(false);
  };
  const title = is_one ? `${action.one} ${asked.jobs[0]}`
    : `${action.many} ${counted.count === null ? '…' : plural(counted.count, 'job')}`;
  return html`<${Dialog} title=${title} close=${close} submit=${submit}
    action=${is_one ? action.label : `${action.label}: ${count(counted.count)}`}
      danger=${action.danger} busy=${busy}
      blocked=${counted.count === null || over || counted.count === 0 || Boolean(fault_of_until(until))}>
    <p class="muted">${EXPLAIN[kind]}</p>
    ${!is_one && html`<${Counted} counted=${counted} max=${max} over=${over} />`}
    ${kind === 'pause' && html`<${Until} until=${until} set=${set_until} />`}
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
function CancelRun({ asked, close }) {
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
function Backfill({ asked, close }) {
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
      ...(!dry_run && dry.digest && { digest: dry.digest }),
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
      if (problem.status === 409) set_dry(null);
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

/** The last fire time, if it is among those that were listed; otherwise how many more there are. */
function last_words({ fire_times = [], count: total }) {
  return total > fire_times.length ? `and ${count(total - 6)} more` : `${utc(fire_times.at(-1))} UTC`;
}

function Dry({ dry }) {
  const left_out = Array.isArray(dry.left_out) ? dry.left_out.length : dry.left_out;
  return html`<div class=${`note-box ${dry.count ? 'run' : 'warn'} stack`}>
    <div><strong>${plural(dry.count, 'fire time')}
      </strong> would run${left_out ? `; ${left_out} are left out, since they ran already` : ''}.</div>
    ${dry.count > 0 && html`<div class="small">
      ${(dry.fire_times || []).slice(0, 6).map((at) => html`<span key=${at}><${At} at=${at} /> </span>`)}
      ${dry.count > 6 ? `… ${last_words(dry)}` : ''}</div>`}
  </div>`;
}

/** Stops a backfill. */
function CancelBackfill({ asked, close }) {
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const submit = async () => {
    set_busy(true);
    try {
      await post('actions/cancel-backfill', { backfill: asked.backfill });
      toast(`${asked.job}: the backfill is told to stop`);
      close();
      asked.done?.();
    } catch (problem) {
      set_error(problem);
    }
    set_busy(false);
  };
  return html`<${Dialog} title=${`Stop a backfill of ${asked.job}`} close=${close} submit=${submit}
    action="Stop the backfill" danger busy=${busy}>
    <p class="muted">Fire times that have not run yet are left out. Its runs in progress go on.</p>
    ${error && html`<${Fault} error=${error} />`}
  <//>`;
}

const DIALOGS = { 'cancel-run': CancelRun, 'cancel-backfill': CancelBackfill, backfill: Backfill };

/** The dialog that is open, if one is. */
export function ActionDialog() {
  const asked = open_action.value;
  if (!asked) return null;
  const close = closes(asked);
  if (asked.kind === 'edit') {
    return html`<${EditSchedule} asked=${asked} close=${close} Note=${Note} key=${asked.number} />`;
  }
  const Shown = DIALOGS[asked.kind] || JobsAction;
  return html`<${Shown} asked=${asked} close=${close} key=${asked.number} />`;
}

/** A button that opens the dialog of an action; it is not there for those who may not. */
export function ActionButton({ kind, subject, main, label }) {
  if (!may(kind)) return null;
  const action = ACTIONS[kind] || {};
  return html`<button type="button" class=${`btn ${main ? 'main' : ''}`} onClick=${() => ask(kind, subject)}>
    ${action.icon && html`<${Icon} name=${action.icon} size=${13} />`}${label || action.label}</button>`;
}

