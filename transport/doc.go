// Package transport carries messages between the containers of different parties (BFIA API_SPECS part 4,
// transport layer, v1.2.0).
//
// A container calls its own party's transport only. It pushes a message and names the node that receives it.
// If the receiver is another node, the transport forwards the message to that node's transport. The
// receiver's transport puts the message into a queue, and a container of the receiver pops it there. Each
// session and topic has one queue, first in, first out.
//
//	container A --push--> transport A --invoke--> transport B <--pop-- container B
//
// Guarantees:
//
//   - Order. Messages leave a queue in the order in which their pushes were answered. Forwarding to a partner
//     is serial for each session, topic and target, retries included.
//   - Durability. A push is answered when its message is in the spool, a folder on disk, where it stays until
//     it is read. The process may be killed at any moment; the next one recovers the spool. Nothing is synced
//     (fsync), so a crash of the machine can lose what its kernel had not written. Torn ends of files are cut
//     off and logged.
//   - Pushed once. Every message between parties has an id (x-ptp-message-id). A push whose id the queue has
//     seen, also before a restart, succeeds and is dropped. So the retry of a push that had arrived makes no
//     duplicate. A queue remembers its last 256 ids. A container may repeat a push to which it gave an id.
//     Without an id it must not, since it can't know whether the push arrived.
//   - Read once, by a reader that gives each pop an id. If an answer is lost, the same pop, repeated, gets
//     the same message again, also after a restart: which pop gets the message is recorded before the answer.
//     The reader's next pop, with another id, confirms the message.
//   - Never lost, for readers without ids; duplicated only if the process is killed. A queue answers one
//     reader at a time. A message is given only to a reader that is still connected, and returns to the front
//     of its queue if the answer can't be written. Bytes that the reader's kernel accepted count as read,
//     which is recorded afterwards. A kill between the two delivers the message twice. The reverse order
//     could lose a message, and its reader would wait for ever.
//   - Authorized. Config.Authorize decides about every call, by the caller that the listener has determined.
//     That caller is the source of its messages, whatever node they name. A container's token never leaves
//     its party.
//   - Bounded. Bytes for all bodies (unread, being read, or in transit to a partner) are allocated before
//     the body is received, from the budget of the session and from the total. A session may hold no more
//     than it leaves free for others, so a reader that is stuck fills its own session only. A partner may
//     hold half of the total, in all sessions. A push waits for its allocation until its deadline. These
//     are bytes on disk. In memory a call takes some 100 KiB and an unread message some 100 bytes,
//     whatever its size.
//
// A session is a whole job: config.session_id is the same for all its tasks. So a container's release clears
// queues and wakes their readers, but the next task can still use the session. Only the job's end
// ([Transport.ReleaseSession]) or a long idle time closes a session.
//
// FATE's containers give no ids and repeat nothing. If a transport restarts during one of their calls, the
// call fails, and with it the task.
//
// This package is the front: the HTTP and gRPC handlers, and forwarding to partners. Package queue holds the
// queues and the spool and knows no HTTP. Package wire reads and writes the messages in bounded memory,
// package status holds the codes. Package ptp is generated code for clients in Go.
package transport
