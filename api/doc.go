// Package api serves a party's HTTP endpoints: its clients' and containers' (north-south) and other parties'
// (east-west). A handler checks what came, then starts or signals a workflow, or reads rows; it writes nothing about a
// job itself, but for the job's document, which is put down before the workflow that reads it begins.
//
// routes.go is the one table of what is served. Every answer, also to nonsense, is the protocol's JSON envelope: for
// other parties with HTTP 200 whenever the protocol was reached, since peers read only its code; for clients with the
// status that fits.
package api
