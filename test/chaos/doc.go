// Command chaos runs many jobs between three institutions while it kills, stops, pauses and parts what they are made of,
// and then has an independent checker look at what became of them: see docs/reliability.md.
//
// Each party is what a production one is: processes of its own (API, control worker, runner worker, transport), a
// namespace of a Temporal server that is a process too, a database, a storage; two have a Docker Engine of their own. The
// faults follow from a seed, which is printed: the same seed gives the same faults and jobs at the same times.
package main
