// Package queue holds the messages of a transport: queues for each session and topic, spooled to disk.
//
// It knows no HTTP. A [Broker] owns one spool folder and all sessions; a [Session] is the queues of one job.
// A body is written into a [Body] as it arrives, on bytes that were allocated before ([Session.Allocate]),
// and pushed into a topic's queue. A reader gets a [Delivery], which it acknowledges or requeues.
//
// Locks: Broker.mu guards all state in memory and is held for a few pointer moves only, never during I/O. The
// log of each queue has a mutex of its own (topicQueue.logMu), which is locked before Broker.mu and never
// while that is held.
package queue
