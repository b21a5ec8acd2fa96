package bfia

import (
	"slices"
	"strings"
)

// Verb is what one party asks another to do about a job. [May] decides who may ask it.
type Verb string

// The verbs, by the ends of the protocol's paths.
const (
	VerbCreateAll    Verb = "job/create_all"
	VerbStopAll      Verb = "job/stop_all"
	VerbStatusAll    Verb = "job/status_all"
	VerbTaskCallback Verb = "task/callback"
	VerbAuditConfirm Verb = "job/audit_confirm"
	VerbCapacityHint Verb = "job/resource/capacity_hint"
	VerbPriority     Verb = "job/priority"

	VerbCheck     Verb = "job/check"
	VerbCreate    Verb = "job/create"
	VerbStart     Verb = "job/start"
	VerbTaskStart Verb = "task/start"
	VerbTaskPoll  Verb = "task/poll"
	VerbStop      Verb = "job/stop"
	VerbUndo      Verb = "job/stop (undo)" // job/stop that removes a job that not every party has accepted
	VerbTaskStop  Verb = "task/stop"
	VerbReserve   Verb = "job/resource/apply"
	VerbRelease   Verb = "job/resource/return"

	VerbMessage Verb = "chan/invoke" // a message for a container
)

// JobFacts is what [May] must know of a job. The zero value is a job that the receiver does not know.
type JobFacts struct {
	// Node is the party that received the request, and JobID and TaskID what the request names. They only
	// occur in refusals.
	Node, JobID, TaskID string
	// Known reports whether Node has the job. Creations bring their own document, so they need not know it.
	Known bool
	// Initiator and Scheduler are the parties that submitted the job and that schedule it. A creation names
	// no scheduler unless the job has one.
	Initiator, Scheduler string
	// Delegates are the parties that may schedule the jobs of Initiator in its place, by the configuration of
	// Node.
	Delegates []string
	// Parts are the roles of the job with their parties.
	Parts []Part
	// Role is the part that a callback is about: guest.0, or guest for all parts of that role.
	Role string
}

// position is the set of a party's positions in a job.
type position uint8

const (
	asInitiator position = 1 << iota
	asScheduler          // also, for a creation, a party that may become the scheduler
	asParticipant
	asOwner // of the part that a callback is about

	// asAny is the positions of a party that may know that the job exists.
	asAny = asInitiator | asScheduler | asParticipant
)

// rules maps each verb to the positions, of which any one suffices, and to their name in refusals.
var rules = map[Verb]struct {
	allowed position
	who     string
}{
	VerbCreateAll: {asInitiator, "its initiator"},
	VerbPriority:  {asInitiator, "its initiator"},

	VerbCheck:     {asScheduler, "its initiator, or for a party that may schedule the initiator's jobs"},
	VerbCreate:    {asScheduler, "its initiator, or for a party that may schedule the initiator's jobs"},
	VerbStart:     {asScheduler, "its scheduler"},
	VerbTaskStart: {asScheduler, "its scheduler"},
	VerbTaskPoll:  {asScheduler, "its scheduler"},
	VerbTaskStop:  {asScheduler, "its scheduler"},
	VerbUndo:      {asScheduler, "its scheduler"},
	VerbReserve:   {asScheduler, "its scheduler"},
	VerbRelease:   {asScheduler, "its scheduler"},
	VerbStop:      {asScheduler | asInitiator, "its scheduler and its initiator"},

	VerbStopAll:      {asAny, "the parties of the job"},
	VerbStatusAll:    {asAny, "the parties of the job"},
	VerbTaskCallback: {asOwner, "the party of the role"},
	VerbAuditConfirm: {asParticipant, "the parties with a role in the job"},
	VerbCapacityHint: {asParticipant, "the parties with a role in the job"},
	VerbMessage:      {asParticipant, "the parties with a role in the job"},
}

// Verbs returns all verbs, sorted.
func Verbs() []Verb {
	var verbs []Verb
	for verb := range rules {
		verbs = append(verbs, verb)
	}
	slices.Sort(verbs)
	return verbs
}

// May returns nil if a party may do something to a job, and otherwise an [Error]. caller is the node id that
// the caller has proved; the receiver's own node is a caller like any other.
//
// A refusal names what is wrong: CodeForbidden. A caller that has no part in the job gets CodeNotFound with
// the same message as for a job that does not exist, so that nobody can probe for the jobs of others.
func May(caller string, verb Verb, job JobFacts) error {
	rule, known := rules[verb]
	if !known {
		return Errorf(CodeForbidden, "%q is not a verb of the protocol", string(verb))
	}
	if caller == "" {
		return Errorf(CodeForbidden, "%s is for partners that prove who they are; this request proves none",
			verb)
	}

	if verb.creates() {
		return mayCreate(caller, verb, job)
	}
	position := job.position(caller)
	switch {
	case !job.Known || position&asAny == 0:
		return job.unknownTo(caller)
	case position&rule.allowed != 0:
		return nil
	case verb == VerbTaskCallback:
		return Errorf(CodeForbidden, "role: %s is not a role of %s in job %s", job.Role, caller, job.JobID)
	}
	return Errorf(CodeForbidden, "%s of job %s is for %s; %s is %s", verb, job.JobID, rule.who, caller,
		position)
}

// creates reports whether a request brings the job's document with it.
func (v Verb) creates() bool { return v == VerbCreateAll || v == VerbCreate || v == VerbCheck }

// mayCreate decides about a request that brings the job's document. The caller has written the document, so
// refusals may quote it.
func mayCreate(caller string, verb Verb, job JobFacts) error {
	const initiator = "config.initiator.node_id"
	switch {
	case job.Initiator == "":
		return Errorf(CodeBadRequest, "%s: is required", initiator)
	case verb == VerbCreateAll && caller != job.Initiator:
		return Errorf(CodeForbidden, "%s: is %s, but %s submits the job; only the initiator may", initiator,
			job.Initiator, caller)
	case verb == VerbCreateAll:
		return nil
	case caller != job.Initiator && !slices.Contains(job.Delegates, caller):
		return Errorf(CodeForbidden, "%s: is %s, whose jobs %s may not schedule at %s; to allow that, %[4]s "+
			"adds %[3]s to routes.%[2]s.schedulers", initiator, job.Initiator, caller, job.Node)
	case job.Scheduler != "" && job.Scheduler != caller:
		return Errorf(CodeForbidden, "job_id: the scheduler of job %s is not %s", job.JobID, caller)
	}
	return nil
}

// position returns the positions of a party in a job.
func (f JobFacts) position(node string) position {
	var p position
	if node == f.Initiator {
		p |= asInitiator
	}
	if node == f.Scheduler {
		p |= asScheduler
	}
	for _, part := range f.Parts {
		if part.NodeID != node {
			continue
		}
		p |= asParticipant
		if f.Role == part.Role || f.Role == part.Self() {
			p |= asOwner
		}
	}
	return p
}

// String describes the positions: "its initiator and a participant".
func (p position) String() string {
	var names []string
	for _, n := range []struct {
		of   position
		name string
	}{{asInitiator, "its initiator"}, {asScheduler, "its scheduler"}, {asParticipant, "a participant"}} {
		if p&n.of != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " and ")
}

// unknownTo returns the refusal of a job that does not exist, as far as a caller may know.
func (f JobFacts) unknownTo(caller string) error {
	if f.TaskID != "" {
		return Errorf(CodeNotFound, "task_id: %s knows no task %s of a job in which %s takes part", f.Node,
			f.TaskID, caller)
	}
	return Errorf(CodeNotFound, "job_id: %s knows no job %s in which %s takes part", f.Node, f.JobID, caller)
}
