// Package fateclient implements what FATE's clients expect of a FATE-Flow 2.2.0: the flow command line, the
// SDK and the pipeline of fate_client, and FATE-Board.
//
// [ParseSubmission] and [Submission.Document] turn a job of such a client into a BFIA document. [NewJob] and
// [NewTask] turn a party's rows into the rows that the clients read, and [StatusOfJob] a state into one of
// the five words that they know. [Codes] are the numbers that they expect in answers. [Refusals] lists the
// endpoints that have no meaning at a party, with what to use instead.
//
// The package does no I/O and imports only bfia and fateflow.
package fateclient
