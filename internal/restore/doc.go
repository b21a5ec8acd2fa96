// Package restore finds out that a service of a party was restored from a backup, and makes the party safe to
// start again: it ends the jobs that can't continue and reports what is lost.
//
// A party counts up a number, the restore mark, in Temporal, its storage and its database, in this order. So
// while nothing was restored, Temporal and the storage have the number of the database or the next one.
package restore
