// Command chaos tests that faults lose, duplicate or corrupt nothing. It runs jobs between three parties
// while it kills, stops and pauses their processes and disturbs the network between them. An independent
// checker then examines the outcome of every job. See docs/operators/reliability.md.
//
// Each party is deployed as in production: separate processes for the API, the control worker, the runner
// worker and the transport, a Temporal namespace, a database and a storage. Two parties have a Docker Engine
// of their own.
//
// All security is on: security.mode strict, tokens, grants, and encryption of what Temporal stores. Each link
// proves its parties in another way (see proofs). Certificates and keys change meanwhile.
//
// With --restore, services of parties are also put back to an earlier state from backups, and the documented
// procedure is followed. restored.go says what must hold for the jobs that this touches.
//
// A seed determines all faults and jobs. The same seed gives the same faults and jobs at the same times.
package main
