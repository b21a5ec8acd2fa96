// Package transport is the channel between the containers of different parties
// (BFIA API_SPECS part 4, transport layer, v1.2.0).
//
// A container speaks to its own party's transport only. It pushes a message
// with the node that shall get it; the transport puts it into a queue of its
// own, or hands it to the target node's transport, which does. The container on
// the other side pops it there. A queue is a session and a topic, first in,
// first out.
//
//	container A --push--> transport A --invoke--> transport B <--pop-- container B
//
// What is guaranteed:
//
//   - Order. Messages of one queue leave in the order in which their pushes
//     were answered. The hop to a partner is serial for each session, topic and
//     target, retries included.
//   - Once. Every message between parties carries an id (x-ptp-message-id); an
//     id that a queue has seen is answered good and dropped. So a retry whose
//     first try arrived is not doubled. A queue remembers its last 256 ids.
//   - No loss to a reader that left. A message is given only to a reader that
//     is still there, one reader of a queue at a time, and returns to the front
//     when the answer can't be written. What the reader's kernel has accepted
//     counts as read: the protocol has no acknowledgement.
//   - Bounded memory. All bodies, queued, being read or under way to a partner,
//     are reserved before they are read: in their session's account, and in the
//     total. A session may hold no more than what it leaves free for others, so
//     a reader that is stuck fills its own session and nobody else's. A push
//     waits for room until its deadline.
//
// What is not: messages live in memory and are lost with the process; the job's
// tasks fail then and are run again.
//
// One session is a whole job: config.session_id is the same for all its tasks.
// So a container's release empties queues and wakes their readers, but leaves
// the session usable for the next task. Only the job's end
// ([Transport.ReleaseSession]) or a long silence closes a session for good.
//
// broker.go, queue.go, session.go and budget.go know no HTTP; handler.go, body.go,
// invoke.go and forward.go put HTTP around them.
package transport
