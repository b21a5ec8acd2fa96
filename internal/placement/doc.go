// Package placement finds the transport that holds a session, for a party with several.
//
// Each transport has a volume, its spool. A session is placed on the volume of a live transport at its first
// use, and stays there. The party's database records it: of several processes that place a session at the
// same time, the first one wins. All sessions of a job are on one volume.
//
// A process that opens a volume serves its sessions from then on, at its own address. The volume's lock keeps
// others away. While no process has the volume open, calls of its sessions are refused with
// status.NoInstance, which callers retry.
package placement
