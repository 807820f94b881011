// Another schedule for a job: shown before it is saved.

import { html, useEffect, useState } from './lib.js';
import { get, post } from './api.js';
import { At, Dialog, Fault, Field, toast } from './ui.js';
import { PreviewLines, Warnings } from './preview.js';

const ZONES = (() => {
  try {
    return ['UTC', ...Intl.supportedValuesOf('timeZone')];
  } catch {
    return ['UTC'];
  }
})();

/** What a field shows of a schedule as data: of a plain cron expression its text. */
function text_of(schedule) {
  if (schedule === undefined || schedule === null) return { text: '', zone: '' };
  if (typeof schedule === 'string') return { text: schedule, zone: '' };
  const { cron, timezone, ...others } = schedule;
  if (typeof cron === 'string' && Object.keys(others).length === 0) return { text: cron, zone: timezone || '' };
  return { text: JSON.stringify(schedule, null, 1), zone: '' };
}

/** Whether the text is a schedule as JSON, which names its zone itself. */
const is_data = (text) => text.trim().startsWith('{');

/** The schedule that the fields say. */
function schedule_of(text, zone) {
  const said = text.trim();
  if (is_data(text)) return JSON.parse(said);
  return zone.trim() ? { cron: said, timezone: zone.trim() } : said;
}

function usePreview(text, zone) {
  const [state, set_state] = useState({ preview: null, error: null });
  useEffect(() => {
    // What is shown of another text counts no more.
    set_state((before) => ({ ...before, is_old: true }));
    if (!text.trim()) {
      set_state({ preview: null, error: null });
      return undefined;
    }
    const control = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const schedule = schedule_of(text, zone);
        const written = typeof schedule === 'string' ? schedule : JSON.stringify(schedule);
        const params = { schedule: written, zone: (is_data(text) ? '' : zone) || schedule.timezone, count: 6 };
        set_state({ preview: await get('preview', params, control.signal), error: null, zone: params.zone });
      } catch (error) {
        if (error.name !== 'AbortError') set_state({ preview: null, error });
      }
    }, 250);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [text, zone]);
  return state;
}

/** Asks for another schedule of a job, shows when it fires, then what would change, and saves it. */
export function EditSchedule({ asked, close, Note }) {
  const { job, editable } = asked;
  const [form, set_form] = useState(() => text_of(job.definition?.schedule));
  const [note, set_note] = useState('');
  const [dry, set_dry] = useState(null);
  const [error, set_error] = useState(null);
  const [busy, set_busy] = useState(false);
  const { preview, error: fault, zone, is_old } = usePreview(form.text, form.zone);
  const change = (name) => (event) => {
    set_form({ ...form, [name]: event.target.value });
    set_dry(null);
    set_error(null);
  };
  const send = async (dry_run) => {
    set_busy(true);
    set_error(null);
    try {
      const schedule = schedule_of(form.text, form.zone);
      const stands = editable === 'stored' ? { version: job.version } : { schedule_was: job.schedule };
      const answer = await post('actions/edit',
        { job: job.name, patch: { schedule }, ...stands, ...(note && { note }), dry_run });
      if (dry_run) {
        set_dry(answer);
      } else {
        toast(`${job.name} has another schedule`);
        close();
        asked.done?.();
      }
    } catch (problem) {
      set_dry(null);
      set_error(problem);
    }
    set_busy(false);
  };
  return html`<${Dialog} wide title=${`Change the schedule of ${job.name}`} close=${close} submit=${() => send(!dry)}
    busy=${busy}
      action=${dry ? 'Save this schedule' : 'See what changes'} blocked=${!preview || is_old || Boolean(fault)}
      foot=${editable === 'schedule' ? 'A job of the code: the change lasts until the application starts again.' : ''}>
    <p class="note-box">Now: <strong>${job.schedule}</strong></p>
    <div class="two">
      <${Field} label="Schedule" hint=${'A cron expression, or a schedule as JSON: {"every": "5m"}'}
        fault=${fault && `${fault.message}`}>
        ${(field) => html`<textarea ...${field} class="input mono" rows="2" spellcheck=${false} value=${form.text}
          placeholder="0 9 * * 1-5" onInput=${change('text')}></textarea>`}<//>
      <${Field} label="Time zone" hint=${is_data(form.text) ? 'A schedule as JSON names its zone itself.'
        : 'An IANA name. Empty: UTC, or the one that the schedule names.'}>
        ${(field) => html`<input ...${field} list="zones" placeholder="Europe/Lisbon" disabled=${is_data(form.text)}
          value=${is_data(form.text) ? '' : form.zone}
          onInput=${change('zone')} autocomplete="off" spellcheck=${false} />`}<//>
    </div>
    <datalist id="zones">${ZONES.map((name) => html`<option value=${name} />`)}</datalist>
    ${fault?.faults?.length > 0 && html`<${Fault}
      error=${{ title: 'It is no schedule', faults: fault.faults, cure: fault.cure }} />`}
    ${preview && !dry && html`<div class="stack"><p>It fires <strong>${preview.describe}</strong>.</p>
      <${Warnings} warnings=${preview.warnings} /><${PreviewLines} preview=${preview} zone=${zone} /></div>`}
    ${dry && html`<${Change} dry=${dry} />`}
    <${Note} note=${note} set_note=${set_note} asked="Why" />
    ${error && html`<${Fault} error=${error} />`}
  <//>`;
}

function Change({ dry }) {
  const side = (label, one, tone) => html`<div class=${`note-box ${tone} stack`}>
    <div><span class="muted small">${label}</span><br /><strong>${one.schedule}</strong></div>
    <ol class="small">${(one.next || []).slice(0, 5).map((at) => html`<li key=${at}><${At} at=${at} /></li>`)}</ol>
      </div>`;
  return html`<div class="stack"><div class="two">${side('Before', dry.before, '')}
    ${side('After', dry.after, 'run')}</div>
    <${Warnings} warnings=${dry.warnings} /></div>`;
}
