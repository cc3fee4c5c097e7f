// Latency against tokens, of a sample of single requests.

import { chart } from "./charts.js";
import * as format from "./format.js";

/** Latency against tokens, of a sample of single requests; both axes logarithmic, as both spread over decades. */
export function scatter() {
  return chart({
    title: "Latency against tokens",
    note: "A sample of single requests, on logarithmic axes",
    empty: "No requests with tokens and a time in this range.",
    spec({ plot_data: plot }) {
      const points = [];
      for (let index = 0; index < plot.tokens.length; index += 1) {
        const [x, y] = [Number(plot.tokens[index]), Number(plot.latency[index])];
        if (x > 0 && y > 0) points.push({ x, y, at: plot.timestamps[index] });
      }
      if (points.length === 0) return null;
      points.sort((one, other) => one.x - other.x);
      const decades = byDecade(points);
      const tokens = points.map(({ x }) => x);
      return {
        type: "scatter",
        label: `${format.exact(points.length)} requests. ${decades.map(([range, , median]) => `${range} tokens: half took at most ${median}`).join("; ")}.`,
        series: [{ label: "A request", colour: "blue", values: points.map(({ y }) => y) }],
        xs: tokens,
        x: { log: true, title: "Tokens", min: tokens[0] / 1.3, max: tokens.at(-1) * 1.3, format: format.count },
        y: { log: true, format: format.tick },
        show: format.duration,
        at: (index) => `${format.exact(points[index].x)} tokens, ${format.duration(points[index].y)} (${format.moment(points[index].at)})`,
        table: { columns: ["Tokens", "Requests shown", "Median latency"], rows: () => decades },
      };
    },
  });
}

function byDecade(points) {
  const groups = new Map();
  for (const { x, y } of points) {
    const power = Math.floor(Math.log10(x));
    groups.get(power)?.push(y) ?? groups.set(power, [y]);
  }
  return [...groups].sort(([one], [other]) => one - other).map(([power, latencies]) => [
    `${format.count(10 ** power)} to ${format.count(10 ** (power + 1))}`,
    format.exact(latencies.length),
    format.duration(latencies.sort((one, other) => one - other)[Math.floor((latencies.length - 1) / 2)]),
  ]);
}
