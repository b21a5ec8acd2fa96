// Package probe is the component Probe: from inside of a container, where algorithms run, it tries out all that they need, at every
// party of a job at once. A job of this one component tells what is wrong before a real one is lost to it.
//
// Checks, by their names in the report:
//
//   - environment: every variable is there without which no component works (API_SPECS, part 3, sections 3.3 and 3.4).
//     Others that the specification demands are told in "note".
//   - storage: a document is written to the output's own address, where the report will lie, and read back. Nothing else is touched.
//   - callback: the address answers HTTP, whatever it says to a GET; no task is reported.
//   - transport_from and transport_to, for each other party: a message of 1 MiB came from it whole; one came there.
//   - clock, for each other party with which both directions work: its clock and one's own differ by no more than the parameter
//     max_clock_offset, as five round trips tell (the best of them counts).
//
// With each other party it exchanges, each side doing the same:
//
//	hello  a nonce, the time, 1 MiB and its SHA-256
//	heard  whether the other's hello came
//	ping   nonce and number, by the party whose role sorts first; pong has them and the times of arrival and of leaving;
//	       then the other way round
//	done   the report is written
//
// # Report
//
// One JSON document under the output "probe":
//
//	{
//	  "component": "Probe",
//	  "role": "guest.0",
//	  "node_id": "JG0100001100000010",
//	  "ok": false,                                  no check failed
//	  "passed": 5, "failed": 1,                     checks
//	  "time": "2026-11-22T09:59:13.39Z",            when it ended
//	  "checks": [
//	    {"name": "environment", "ok": true, "note": "config.trace_id is missing; it is not needed here"},
//	    {"name": "storage", "ok": true, "milliseconds": 1.2},
//	    {"name": "callback", "ok": true, "milliseconds": 0.8},
//	    {"name": "transport_from", "peer": "host.0", "peer_node_id": "JG01...", "ok": true},
//	    {"name": "transport_to", "peer": "host.0", "peer_node_id": "JG01...", "ok": true,
//	     "milliseconds": 3.1},                      of the shortest round trip
//	    {"name": "clock", "peer": "host.0", "peer_node_id": "JG01...", "ok": false, "why": "...",
//	     "offset_milliseconds": 61000.2,            positive: the peer's clock is ahead
//	     "uncertainty_milliseconds": 1.6}           half of that round trip
//	  ]
//	}
//
// "why" is there when "ok" is false, and only then. The task fails when a check failed, and its last log line names what failed. A
// scheduler stops all parties as soon as one fails, so none ends before those that it hears have written their reports; the log has each
// check as soon as it is known. The report tells the truth about its own party; what a peer could not do stands in the peer's.
package probe
