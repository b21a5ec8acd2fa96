// Package probe implements the component Probe. It runs inside of containers, where algorithms run, and
// checks everything that they need, at all parties of a job at once. A job of this one component finds faults
// before they make a real job fail.
//
// Checks, by their names in the report:
//
//   - environment: all variables are set without which no component works (API_SPECS, part 3, sections 3.3
//     and 3.4). Other missing variables that the specification requires are listed in "note".
//   - storage: a document can be written to the address of the report and read back. Nothing else is touched.
//   - callback: the address answers HTTP. The check sends a GET, accepts any response, and reports no task.
//   - transport_from, for each other party: its message of 1 MiB arrived here complete.
//   - transport_to, for each other party: a message of 1 MiB from here arrived there complete.
//   - clock, for each other party with which both directions work: its clock and the own one differ by at
//     most the parameter max_clock_offset. The check measures five round trips and uses the shortest one.
//
// Each pair of parties exchanges these messages. Both sides do the same:
//
//	hello    a nonce, the time, 1 MiB and its SHA-256
//	receipt  whether the other party's hello arrived
//	ping     nonce and number, first from the party whose role sorts first; pong repeats them and adds the
//	         times of arrival and departure; then in the other direction
//	done     the report is written
//
// # Report
//
// The report is one JSON document under the output "probe":
//
//	{
//	  "component": "Probe",
//	  "role": "guest.0",
//	  "node_id": "JG0100001100000010",
//	  "ok": false,                                  whether all checks passed
//	  "passed": 5, "failed": 1,                     numbers of checks
//	  "time": "2026-11-22T09:59:13.39Z",            end of the probe
//	  "checks": [
//	    {"name": "environment", "ok": true, "note": "missing, but not required here: config.trace_id"},
//	    {"name": "storage", "ok": true, "milliseconds": 1.2},
//	    {"name": "callback", "ok": true, "milliseconds": 0.8},
//	    {"name": "transport_from", "peer": "host.0", "peer_node_id": "JG01...", "ok": true},
//	    {"name": "transport_to", "peer": "host.0", "peer_node_id": "JG01...", "ok": true,
//	     "milliseconds": 3.1},                      the shortest round trip
//	    {"name": "clock", "peer": "host.0", "peer_node_id": "JG01...", "ok": false, "why": "...",
//	     "offset_milliseconds": 61000.2,            positive: the peer's clock is ahead
//	     "uncertainty_milliseconds": 1.6}           half of that round trip
//	  ]
//	}
//
// "why" is present if and only if "ok" is false. The task fails if a check failed, and its last log line
// names the failed checks. The log also contains each check as soon as its result is known.
//
// A scheduler stops all parties as soon as one fails. Therefore no party ends before those that it can reach
// have written their reports. A report describes its own party's view; what a peer could not do is in the
// peer's report.
package probe
