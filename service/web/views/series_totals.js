// Success rate and cost of a provider or model: sums of its series' buckets, which cover the whole range.

import * as format from "../format.js";
import { knows } from "../panel.js";

export function showSeriesTotals(totals, points, metadata) {
  const sum = (field) => points.reduce((all, point) => all + Number(point[field] ?? 0), 0);
  const [all, failed, cost] = [sum("total_requests"), sum("failed_requests"), sum("total_cost_usd")];
  const counted = all > 0 && knows(metadata, "failed_requests");
  totals.set("Success rate", counted ? format.percent((all - failed) / all) : format.NONE, {
    note: counted ? `${format.count(failed)} failed` : "",
  });
  const priced = knows(metadata, "total_cost_usd");
  totals.set("Cost", priced ? format.dollars(cost) : format.NONE, {
    note: priced && all > 0 ? `${format.dollars(cost / all)} a request` : "",
  });
}
