// The console: its frame, and the page that the address names.

import { html, render, useEffect, useRef } from './lib.js';
import { count, duration } from './format.js';
import { get, me, useAnswer } from './api.js';
import { alone, connection, start, useLive } from './live.js';
import { route, to } from './route.js';
import { Head, Icon, Empty, Toasts, set_theme, show_theme, theme } from './ui.js';
import { Help, PAGES, Palette, help_open, listen, palette_open } from './keys.js';
import { ActionDialog } from './actions.js';
import { Overview } from './pages/overview.js';
import { Jobs } from './pages/jobs.js';
import { JobPage } from './pages/job.js';
import { Runs } from './pages/runs.js';
import { RunPage } from './pages/run.js';
import { Nodes } from './pages/nodes.js';
import { Locks } from './pages/locks.js';
import { Calendar } from './pages/calendar.js';
import { Operations } from './pages/operations.js';

const SHOWN = { overview: Overview, jobs: Jobs, job: JobPage, runs: Runs, run: RunPage, nodes: Nodes, locks: Locks,
  calendar: Calendar, operations: Operations };
/** The entry of the navigation that a page belongs to. */
const ENTRY = { job: 'jobs', run: 'runs' };

const Missing = () => html`<${Head} title="No such page" /><section class="card">
  <${Empty} title="This address names no page"><p><a href=${to('overview')}>Go to the overview</a>.</p><//></section>`;

const Mark = () => html`<svg viewBox="0 0 32 32" aria-hidden="true">
  <rect width="32" height="32" rx="8" fill="#3f5bd9" /><path d="M9 10h9M9 16h14M9 22h6" stroke="#fff"
  stroke-width="3" stroke-linecap="round" /><circle cx="23" cy="10" r="2.2" fill="#7ee2a8" /></svg>`;

/** The age of what is shown that is said, in milliseconds. */
const OLD = 5_000;

function Navigation() {
  const answer = useAnswer('overview', {}, { every: 60_000 });
  useLive((kind, data) => { if (kind === 'overview') answer.set(() => data); });
  const overview = answer.data;
  const current = ENTRY[route.value.name] || route.value.name;
  const age = overview ? Date.parse(overview.now) - Date.parse(overview.as_of) : 0;
  const attention = overview?.attention_total ?? overview?.attention?.length ?? 0;
  useEffect(() => { if (overview) alone.value = overview.role === 'local'; }, [overview?.role]);
  const tally = (name) => {
    if (name === 'overview' && attention > 0) return html`<span
      class="tally bad">${attention}${overview.overdue_unnamed > 0 ? '+' : ''}
      <span class="hidden"> need attention</span></span>`;
    if (name === 'runs' && overview?.running > 0) return html`<span class="tally run">${overview.running}
      <span class="hidden"> in progress</span></span>`;
    if (name === 'jobs' && overview?.jobs) return html`<span class="tally">${count(overview.jobs.total)}
      <span class="hidden"> jobs</span></span>`;
    return null;
  };
  return html`<nav aria-label="Pages"><ul>${PAGES.map(([name, label]) => html`<li key=${name}>
    <a href=${to(name)} aria-current=${current === name ? 'page' : undefined}><${Icon} name=${name} />${label}
      ${tally(name)}</a></li>`)}</ul>
    ${age > OLD && html`<p class="small warn">The jobs as they were ${duration(age)} before: looking at all of them
      takes long.</p>`}</nav>`;
}

const LIVE = { on: ['ok', 'live'], connecting: ['warn', 'connecting'], off: ['bad', 'not live'] };
const THEMES = { '': ['light', 'as the system'], light: ['dark', 'light'], dark: ['', 'dark'] };

function Foot() {
  const { user, right, version } = me.value;
  const [tone, label] = LIVE[connection.value];
  const [next, said] = THEMES[theme.value];
  return html`<div class="foot">
    <span class="live" role="status"><span class=${`dot ${tone} ${tone === 'warn' ? 'pulse' : ''}`}></span>
      ${label}</span>
    <div class="who">${user ? html`<strong class="wrap-any">${user}</strong><br />` : ''}may ${right || 'read'}
      ${version ? html`<br />callsheet ${version}` : ''}</div>
    <div class="row keep tight">
      <button type="button" class="btn small" onClick=${() => { palette_open.value = true; }}>
        <${Icon} name="search" size=${12} /><span class="hidden">Go to a job, a page or an action</span>
        <kbd class="long">Ctrl K</kbd></button>
      <button type="button" class="btn small" onClick=${() => set_theme(next)} aria-label=${`Colours: ${said}. Change`}
        title=${`Colours: ${said}`}><${Icon} name="theme" size=${14} /></button>
      <button type="button" class="btn small long" onClick=${() => { help_open.value = true; }}
        aria-label="Keys of this page">?</button>
    </div></div>`;
}

function App() {
  const { name } = route.value;
  const key = `${name} ${route.value.params.job || ''} ${route.value.params.run || ''}`;
  const Page = SHOWN[name] || Missing;
  const main = useRef(null);
  const first = useRef(true);
  // The job of the list of runs is a filter, not another page.
  const page_key = ['job', 'run'].includes(name) ? key : name;
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    main.current.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [page_key]);
  return html`<div class="shell">
    <a class="skip-link" href="#title"
      onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>To the content</a>
    <header class="side"><a class="brand" href=${to('overview')}><${Mark} />Callsheet</a><${Navigation} />
      <${Foot} /></header>
    <main ref=${main} tabindex="-1"><${Page} key=${page_key} /></main>
    <${ActionDialog} />${palette_open.value && html`<${Palette} />`}${help_open.value && html`<${Help} />`}<${Toasts} />
  </div>`;
}

show_theme();
listen();
const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
start();
const whoami = () => get('me').then((answer) => { me.value = answer; }, () => setTimeout(whoami, 5_000));
whoami();
