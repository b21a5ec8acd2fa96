// Package dev runs everything on one machine with one command: the workflow engine in this process, and any number of
// parties beside it.
//
// The engine ([StartTemporalServer]) is Temporal's own server on a SQLite file, so that a developer installs nothing and a
// workflow behaves as it does in production. It is left out by the build tag slim. [hutong/internal/namespace.Ensure] is for both
// worlds: it makes what a party needs in any cluster.
package devserver
