// Package gate is all that the containers of a party reach: it takes their callbacks, connects them with the
// transport, and gives them their objects of an S3 storage (package gate/storage). A runner serves it at the
// address of its machine on the network of its containers.
//
//	container --callback-------> gate --signal--> workflow of the job
//	          --push, pop, ...->      ----------> transport of the party
//	          --S3 request----->      ----------> bucket of the party
//
// # Who calls
//
// Before anything else the gate determines the [Run] that a request comes from:
//
//   - By the network address of the caller, where the driver knows the address of each container, as Docker
//     does. A container has no rights to send with another address.
//   - By the token of the run (config.token), in the header x-ptp-token or in the path of system.callback.
//     Containers of processes and of pods have no address of their own.
//   - By the user and password in system.storage, for the storage.
//
// If a request has several of them, they must agree. Tokens and passwords are derived from one secret of the
// party ([Keys]), so that any runner can check them after a restart, and are valid while the container runs.
// A token is of no use in another container.
//
// # What a run may do
//
//   - It reports the state of its own part. The gate signals a state only if it changed, and at most
//     maxReports of them, so that a container can't fill the history of a workflow.
//   - It uses the session of its attempt, and sessions that are derived from it. It can't release a session
//     for good.
//   - It reads the objects of its inputs and outputs, and writes those of its outputs.
//
// [Config.Unidentified] lets callers without any identification report and use sessions, for processes of
// vendors that send no token. It is for development.
package gate
