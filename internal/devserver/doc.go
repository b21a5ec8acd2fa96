// Package devserver runs Temporal and any number of parties in one process, for development, tests and the
// demo.
//
// [StartTemporalServer] embeds Temporal's own server on a SQLite file. A developer installs nothing, and
// workflows behave as in production. The build tag slim leaves the server out. [Start] adds the parties.
package devserver
