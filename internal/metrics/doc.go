// Package metrics holds the Prometheus metrics of one party in one process.
//
//   - definitions.go lists all metrics of Hutong, with the allowed values of their labels;
//   - metrics.go creates them, and replaces label values that are not allowed by "other";
//   - observe.go holds the functions that count what happens;
//   - rows.go reads at scrape time what the database says;
//   - gauges.go reads at scrape time what the process holds;
//   - temporal.go exports the metrics of Temporal's SDK.
//
// No label names a job, a task or a path. A label names a partner only if a route or a contract does. So the
// number of series has a bound that callers can't exceed.
package metrics
