// Package api serves a party's HTTP endpoints with Fiber: for its clients and containers (north-south in the
// BFIA specification) and for other parties (east-west). routes.go is the one table of endpoints.
//
// A handler checks the request, then starts, signals or updates a workflow, or reads rows. Activities write
// all rows about jobs. The one exception is a job's document, which a handler stores before it starts the
// workflow that reads it.
//
// Every answer is the protocol's JSON envelope, even to a malformed request. Other parties read only its
// code, so they get HTTP 200 as soon as the body could be read. Clients get the HTTP status that fits the
// code.
package api
