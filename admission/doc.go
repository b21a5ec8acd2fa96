// Package admission decides when a job may start. It holds two algorithms, which share one order of jobs:
//
//   - A scheduler's queue ([Queue]): which of its jobs may ask their parties for reservations now.
//   - A party's reservations ([Party]): which job gets slots and resources on the party's runners now.
//
// The order is by priority with aging ([AgingStep]), then fair share between initiators, then creation time.
// A party lets later jobs use what earlier ones can't use now (backfilling). After [HeadReservationAfter] it
// keeps what gets free for the job that has waited longest (a head reservation), so that no large job
// starves.
//
// The package does no I/O. Callers load the state, let it decide, and store the decision in one transaction.
package admission
