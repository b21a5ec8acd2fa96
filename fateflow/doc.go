// Package fateflow implements the protocol that FATE-Flow 2.2.0 schedulers and participants speak among
// themselves (/v2/partner and /v2/scheduler), next to the BFIA protocol of package bfia.
//
// A FATE-Flow scheduler sends one command for each role and party, where BFIA has one for each party. It
// writes jobs in a language of its own and numbers the attempts of a task as versions from 0. [Translate]
// turns its job into a BFIA document, [Attempt] a version into an attempt, and [Participant] serves its
// commands through the [Party] interface. [NewReport] and [SendReport] report the state of a part to it.
//
// The package does no I/O and imports only bfia.
package fateflow
