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
//   - Kept. A push is answered when its message is in the spool, a folder on disk,
//     and stays there until it is read. The process may be killed at any moment: the next one goes on
//     with what is there. Nothing is synced, so a crash of the whole host can
//     lose what its kernel had not written; torn ends of files are cut off and told.
//   - Pushed once. Every message between parties carries an id (x-ptp-message-id); an
//     id that a queue has seen, also before a restart, is answered good and dropped.
//     So a retry whose first try arrived is not doubled. A queue remembers its last
//     256 ids. A container that gives its pushes ids of its own may repeat them
//     too; one that doesn't must not, as it can't know what became of a push.
//   - Read once, by a reader that gives each pop an id: the same pop, repeated because
//     its answer was lost, gets the same message again, also after a restart: that it
//     gets this message is written down before it is answered.
//     The reader's next pop, with another id, tells that it has it.
//   - Never lost to a reader without ids, and doubled only by a kill. A message is given only to a
//     reader that is still there, one reader of a queue at a time, and returns to the front
//     when the answer can't be written. What the reader's kernel has accepted
//     counts as read, and is then written down: a process that is killed between the two gives the
//     message again. The other order could lose one, which a reader would wait for in vain.
//   - Bounded. All bodies, unread, being read or under way to a partner,
//     are reserved before they are read: in their session's account, and in the
//     total. A session may hold no more than what it leaves free for others, so
//     a reader that is stuck fills its own session and nobody else's. A push
//     waits for room until its deadline. This is room on disk; in memory a call
//     takes some 100 KiB and an unread message some 100 bytes, however large it is.
//
// One session is a whole job: config.session_id is the same for all its tasks.
// So a container's release empties queues and wakes their readers, but leaves
// the session usable for the next task. Only the job's end
// ([Transport.ReleaseSession]) or a long silence closes a session for good.
//
// FATE's containers give no ids and repeat nothing: a transport that is restarted
// under a call of theirs ends that call, and so their task.
//
// broker.go, queue.go, session.go and budget.go are the queues, spool.go, log.go, record.go and
// recover.go what is on disk; they know no HTTP. handler.go, body.go, invoke.go and
// forward.go put HTTP around them, grpc.go and stream.go two more ways in.
package transport
