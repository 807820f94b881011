// When a schedule fires: each instant in the schedule's zone, in UTC, and in the zone of the one who looks.

import { html } from './lib.js';
import { distance, local, utc, viewer_zone } from './format.js';
import { now } from './api.js';
import { Icon } from './ui.js';

const civil = (text) => String(text || '').slice(0, 19).replace('T', ' ');
/** Without seconds, if none has any. */
const shortened = (lines) => (lines.every((line) => line.at.slice(17, 19) === '00') ? (text) => text.slice(0, 16)
  : (text) => text);

/** `preview`: an answer of `api/preview`; `zone`: of which its lines are. */
export function PreviewLines({ preview, zone }) {
  const shows_zone = zone && zone !== 'UTC';
  const cut = shortened(preview.lines);
  if (preview.lines.length === 0) {
    return html`<p class="note-box warn">It never fires ${preview.cut ? 'within the time that was looked at'
      : 'again'}.</p>`;
  }
  return html`<div class="stack">
    <div class="table-wrap"><table class="preview">
      <caption class="hidden">The next fire times</caption>
      <thead><tr>${shows_zone && html`<th scope="col">${zone}</th>`}
        <th scope="col" class=${shows_zone ? 'opt' : ''}>UTC</th>
        <th scope="col" class="opt">yours, ${viewer_zone}</th><th scope="col" class="num">from now</th></tr></thead>
      <tbody>${preview.lines.map((line) => html`<tr key=${line.at}>
        ${shows_zone && html`<td class="nowrap">${cut(civil(line.local))} <span class="muted small">
          ${line.offset}</span>
          ${line.notes?.map((note) => html`<div class="small warn noted" key=${note}>
            <${Icon} name="alert" size=${11} /> ${note}</div>`)}</td>`}
        <td class=${shows_zone ? 'opt nowrap' : 'nowrap'}>${cut(utc(line.at))}
          ${!shows_zone && line.notes?.map((note) => html`<div class="small warn" key=${note}>${note}</div>`)}</td>
        <td class="opt nowrap">${cut(local(line.at))}</td>
        <td class="num nowrap muted">${distance(line.at, now.value)}</td>
      </tr>`)}</tbody>
    </table></div>
    ${preview.cut && html`<p class="small muted">There are more: looking for them took too long.</p>`}
  </div>`;
}

export const Warnings = ({ warnings }) => (warnings?.length
  ? html`<ul class="note-box warn stack">
    ${warnings.map((warning) => html`<li key=${warning}><${Icon} name="alert" size=${12} /> ${warning}</li>`)}</ul>`
  : null);
