// Plots over time, and the timeline of terms.

import uPlot from './vendor/uplot.js';
import { html, useEffect, useLayoutEffect, useRef } from './lib.js';
import { clock, duration, short, utc } from './format.js';
import { colours, dark, theme } from './ui.js';
import { now } from './api.js';

const HEIGHT = 170;

/**
 * Series over time. `series`: `{label, tone, values, kind, shown}`, with `kind` of `bars`, `line` or `points`;
 * `shown` are the numbers of the legend, if they are not `values`. `times` in milliseconds. `summary` says in words
 * what is shown.
 */
export function Plot({ times, series, unit, summary, logarithmic = false, height = HEIGHT }) {
  const place = useRef(null);
  const plot = useRef(null);
  const seconds = times.map((time) => time / 1_000);
  const data = [seconds, ...series.map((one) => one.values)];
  const shape = series.map((one) => `${one.label} ${one.kind} ${one.tone}`).join() + logarithmic;
  const current = useRef(null);
  current.current = { series, unit };
  const [, ...schemes] = [null, theme.value, dark.value];

  useLayoutEffect(() => {
    const element = place.current;
    const of = colours();
    const text = (value, n, at) => {
      const { series: shown, unit: said } = current.current;
      if (value === null || value === undefined || at === null) return '';
      return (said || String)(shown[n].shown ? shown[n].shown[at] : value);
    };
    const whole = (_, marks) => marks.map((mark) => (Number.isInteger(Math.log10(mark)) ? mark : null));
    const axis = { stroke: of.muted, grid: { stroke: of.line, width: 1 }, ticks: { show: false },
      font: '11px system-ui' };
    plot.current = new uPlot({
      width: Math.max(200, element.clientWidth), height, padding: [8, 18, 0, 0],
        cursor: { y: false, points: { size: 6 } },
      legend: { live: true, markers: { width: 0, fill: (_, n) => of[current.current.series[n - 1]?.tone] } },
      scales: { y: logarithmic ? { distr: 3 } : { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
      axes: [
        { ...axis, size: 26, values: (_, at) => at.map((second) => clock(second * 1_000).slice(0, 5)), space: 70 },
        { ...axis, size: 52, grid: { ...axis.grid, ...(logarithmic && { filter: whole }) },
          values: (_, at) => at.map((value) => (value === null ? '' : (current.current.unit || String)(value))),
          space: height > 120 ? 34 : 22 },
      ],
      series: [
        { label: '', value: (_, second) => (second ? clock(second * 1_000) : '') },
        ...series.map((one, n) => ({
          label: one.label, stroke: of[one.tone], width: one.kind === 'line' ? 1.8 : 0,
            value: (_, value, __, at) => text(value, n, at),
          fill: one.kind === 'bars' ? of[one.tone] : undefined,
          paths: one.kind === 'bars' ? uPlot.paths.bars({ size: [0.72, 26], align: 0 })
            : one.kind === 'points' ? () => null : undefined,
          points: one.kind === 'points' ? { show: true, size: 6, fill: of[one.tone], stroke: of[one.tone], width: 0 }
            : { show: false },
        })),
      ],
    }, data, element);
    const sized = new ResizeObserver(() => {
      if (element.clientWidth > 0) plot.current?.setSize({ width: element.clientWidth, height });
    });
    sized.observe(element);
    return () => {
      sized.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape, ...schemes, height]);
  useEffect(() => { plot.current?.setData(data); }, [JSON.stringify(data)]);
  return html`<figure><div class="plot" ref=${place} role="img" aria-label=${summary}></div></figure>`;
}

/** Places an element of a timeline, in hundredths of its width. */
function Placed({ from, to, range, children, ...others }) {
  const [first, last] = range;
  const share = (at) => Math.min(100, Math.max(0, (100 * (at - first)) / (last - first)));
  const style = { left: `${share(from)}%`, width: `${share(to) - share(from)}%` };
  return html`<div ...${others} style=${style}>${children}</div>`;
}

/** Who led when, and when nobody did. `name_of`: the name of a node. */
export function Terms({ activity, name_of }) {
  const range = [Date.parse(activity.from), Date.parse(activity.to)];
  const at = (instant, otherwise) => (instant ? Date.parse(instant) : otherwise);
  const terms = activity.terms || [];
  const gaps = activity.gaps || [];
  const nodes = [...new Set(terms.map((term) => term.node))];
  const marks = Array.from({ length: 5 }, (_, n) => range[0] + ((range[1] - range[0]) * n) / 4);
  return html`<div>
    <div class="terms" role="list" aria-label="Terms of leadership, the oldest first">
      ${terms.map((term) => {
        const stands = !term.to || (term === terms.at(-1) && Date.parse(term.to) >= range[1]);
        const ends = stands ? 'and it leads still' : `until ${utc(term.to)} UTC`;
        return html`<${Placed} role="listitem" key=${term.term}
          class=${`term ${nodes.indexOf(term.node) % 2 ? 'other' : ''}`} range=${range}
          from=${at(term.from, range[0])} to=${at(term.to, range[1])}
          title=${`term ${term.term}: ${name_of(term.node)}, from ${utc(term.from)} UTC ${ends}`}
          ><span class="muted">#${term.term}</span> ${name_of(term.node)}<//>`;
      })}
      ${gaps.map((gap) => html`<${Placed} role="listitem" key=${`gap ${gap.from}`} class="gap" range=${range}
        from=${Date.parse(gap.from)}
        to=${Math.max(Date.parse(gap.to), Date.parse(gap.from))}
        title=${`nobody led for ${duration(Date.parse(gap.to) - Date.parse(gap.from))}, from ${utc(gap.from)} UTC`}
        ><span class="hidden">nobody led for ${duration(Date.parse(gap.to) - Date.parse(gap.from))}</span><//>`)}
    </div>
    <div class="axis" aria-hidden="true">${marks.map((mark, n) => html`<${Mark} key=${n} share=${n * 25}
      >${n === 4 && Math.abs(now.value - mark) < 120_000 ? 'now' : clock(mark, range[1]).slice(0, -3)}<//>`)}</div>
    ${gaps.length > 0 && html`<p class="small muted">Without a leader: ${gaps.slice(-4)
      .map((gap) => `${utc(gap.from).slice(11)} for ${duration(Date.parse(gap.to) - Date.parse(gap.from))}`)
      .join(', ')} (UTC).</p>`}
  </div>`;
}

const Mark = ({ share, children }) => html`<span style=${{ left: `${share}%` }}>${children}</span>`;

export const node_name = (nodes) => (id) => {
  const found = nodes?.find((node) => node.node === id);
  return found?.name || short(id);
};
