// Package placement finds the transport that holds a session, for a party with several.
//
// Each transport has a volume, its spool. A session is placed on the volume of a live transport at its first
// use, and stays there. The party's database records it: of several processes that place a session at the
// same time, the first one wins. All sessions of a job are on one volume.
//
// A process that opens a volume serves its sessions from then on, at its own address. The volume's lock
// keeps others away. A lock can be lost, and a volume copied, so a process also writes its instance to the
// database: a fencing token. Another process that takes over the volume replaces it, and the process before
// it stops. Between the work of a call and its acknowledgement, a process that was paused asks whether it was
// replaced. While no process has the volume open, calls of its sessions are refused with status.NoInstance,
// which callers retry.
//
// An epoch in the database and in the volume grows with each takeover, and every minute. A volume with a
// lower one is an old copy, or that of a process which was replaced: no process serves it again.
//
// A volume may never come back. What was placed on it is forgotten when it has been silent for long, except
// the sessions of jobs in progress: their messages are lost, so a person must stop them.
package placement
