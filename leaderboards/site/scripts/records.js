"use strict";
/* Records as people read them: facts of a mapping, and all that is known of one result. */
(() => {
  const { general } = sslbench;
  const PLAIN = 1e15; // whole numbers from here on are written with an exponent

  // Bytes in MB, counts with separators, mappings as "key value".
  const written = (name, value) => {
    if (value === null) return "unknown";
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (Array.isArray(value)) return value.map((item) => written(name, item)).join(", ");
    if (typeof value === "object") {
      return Object.entries(value).map(([key, item]) => `${key} ${written(key, item)}`).join(", ");
    }
    if (typeof value !== "number") return String(value);
    if (name.endsWith("bytes")) return `${Math.round(value / 1e6).toLocaleString("en")} MB`;
    return Number.isInteger(value) && Math.abs(value) < PLAIN ? value.toLocaleString("en") : general(value, 6);
  };
  const says = (value) => value !== null && value !== undefined && value !== ""
    && !(typeof value === "object" && !Object.keys(value).length);
  // [name, text] of each value that says something.
  const facts = (values) => Object.entries(values).filter(([, value]) => says(value))
    .map(([name, value]) => [name.replace(/_bytes$/, "").replaceAll("_", " "), written(name, value)]);

  const words = (metric) => {
    const known = sslbench.board().words;
    const name = metric.toLowerCase();
    return Object.hasOwn(known, name) ? known[name] : metric.replaceAll("_", " ");
  };
  const metrics = (found) => Object.entries(found).map(([name, { value, low, high, n, interval }]) => [
    words(name), general(value, 6), ...[low, high].map((end) => (end === null ? "" : general(end, 6))),
    n === null ? "" : n.toLocaleString("en"), interval ?? "",
  ]);
  const without = (values, ...names) =>
    Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));

  // A result of data/models/KEY.js with what it shares with others, in the order of telling.
  const result = (model, one) => {
    const shared = sslbench.get("shared");
    const setting = shared.settings[one.setting];
    const record = model.models[one.model];
    const trained = record.pretrain ?? {};
    const fields = Object.keys(setting.fields).length ? setting.fields : { fields: "all at their defaults" };
    return {
      seed: `${trained.seed === undefined ? "" : `pre-training seed ${trained.seed}, `}evaluation seed ${setting.seed}`,
      value: one.details.metrics[setting.headline].value,
      command: `${model.commands[one.model]} ${setting.command}`,
      warnings: setting.warnings,
      metrics: metrics(one.details.metrics),
      sections: [
        ["Protocol", facts({ task: setting.task, version: setting.version, ...fields })],
        ["Data", facts({ spec: setting.spec.slice(setting.spec.indexOf("@") + 1), ...shared.data[one.data] })],
        ["Model", facts(without(record, "pretrain"))],
        ["Pre-training", facts(Object.keys(trained).length ? trained : { record: "none" })],
        ["Cost", facts(one.details.cost)],
        ["Identity", facts({ cell: one.digest, weights: record.weights, "data manifest": setting.manifest, seed: setting.seed })],
        ["Provenance", facts({ ...one.own, ...shared.made[one.made] })],
      ],
    };
  };
  // All results of a model in a column, by seed.
  const results = (model, column) => model.results[column.index].map((one) => result(model, one))
    .sort((a, b) => a.seed.localeCompare(b.seed, "en", { numeric: true }));
  sslbench.records = { facts, results, without };
})();
