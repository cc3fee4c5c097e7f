// The type of a dashboard as JSON, from Grafana's own package of schemas.

import type * as grafana from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";
import type { FieldConfig as TableField, Options as Table } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.d.ts";
import type { FieldConfig as SeriesField, Options as Series } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";

/** JSON has the values of enums. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : number
    : T extends (infer E)[] ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

/** A panel with the options of its type, which the schema of dashboards leaves open; they have defaults. */
type Of<Type extends string, Options, Field> = Omit<grafana.Panel, "type" | "options" | "fieldConfig"> & {
  type: Type;
  options: Partial<Options>;
  fieldConfig: Omit<grafana.FieldConfigSource, "defaults"> & {
    defaults: Omit<grafana.FieldConfig, "custom"> & { custom?: Partial<Field> };
  };
};

type Panel =
  | Of<"stat", Stat, Record<string, never>>
  | Of<"table", Table, TableField>
  | Of<"timeseries", Series, SeriesField>
  | grafana.RowPanel;

export type Dashboard = Plain<Omit<grafana.Dashboard, "panels"> & { panels: Panel[] }>;
