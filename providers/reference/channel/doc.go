// Package channel connects two containers of one task, each through the transport of its own party
// (API_SPECS, part 3, section 6, and part 4, section 3).
//
// The transport offers two operations: push a message to a topic at a node, and pop a message from a topic. A
// [Link] builds a connection between two roles on top of them. It delivers complete messages in order and
// reports failures promptly:
//
//   - A topic is named by task, direction and step, such as "<task_id>/guest.0/host.0/signed". So two tasks
//     of one session, or two roles on one node, never receive each other's messages.
//   - Each topic numbers its chunks from 0, and a message is cut into chunks of at most 1 MiB. The receiver
//     orders chunks by number and drops duplicates. Repeating a push after a lost response is therefore
//     harmless.
//   - Each chunk carries a random id of the sender's process. If a program restarts in the middle of a task,
//     the receiver detects the new id and fails the task.
//   - Each push and pop carries an x-ptp-message-id, which stays the same when the request is repeated. A
//     transport that supports the header can drop the second push, and can answer the second pop with the
//     message that the first one lost.
//   - A party that fails reports it on a topic of its own, which the other side polls all the time. The other
//     side ends at once with the reason, whatever it was doing. See [Error] for what a reason may contain.
//
// Data from the partner is not trusted: sizes are limited, and nothing but a JSON head and plain bytes is
// decoded.
package channel
