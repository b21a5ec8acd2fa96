// Package channel lets two containers of one task talk, each through its own party's transport (API_SPECS, part 3,
// section 6, and part 4, section 3).
//
// The transport gives little: push one message to a topic at a node, pop one message from a topic. A [Link] makes of it
// a connection between two roles that is in order, whole and prompt to fail:
//
//   - A topic is named by task, direction and step, as in "<task_id>/guest.0/host.0/signed", so that neither two tasks of one
//     session nor two roles on one node take each other's messages.
//   - Every topic counts its chunks from 0, and a message is cut into chunks of at most 1 MiB. The receiver puts
//     chunks in order by that number and drops those that it has seen, so a push that was repeated after a lost answer does no harm.
//   - A program that was started again in the middle is recognised by its run, and ends the task rather than confuse it.
//   - Every push and every pop carries an x-ptp-message-id, the same when it is repeated. A transport that knows the header
//     can drop the second push, and can answer the second pop with what the first one lost on its way.
//   - A side that fails says so on a topic of its own, which the other side watches all the time: it ends at once and with
//     the reason, whatever it was doing or waiting for. See [Error] for what a reason may say.
//
// What comes from the partner is not trusted: sizes are bounded, and nothing is decoded but a JSON head and plain bytes.
package channel
