package bfia

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// mayPlain is the plain model of [May]: the sentences of the security design, one by one.
func mayPlain(caller string, verb Verb, job JobFacts) bool {
	if caller == "" {
		return false
	}
	initiator, scheduler := caller == job.Initiator, caller == job.Scheduler
	participates, owns := false, false
	for _, part := range job.Parts {
		if part.NodeID == caller {
			participates = true
			owns = owns || job.Role == part.Role || job.Role == part.Self()
		}
	}
	switch verb {
	case VerbCreateAll:
		return initiator
	case VerbCreate, VerbCheck:
		delegated := initiator || slices.Contains(job.Delegates, caller)
		return job.Initiator != "" && delegated && (job.Scheduler == "" || scheduler)
	}
	if !job.Known {
		return false
	}
	switch verb {
	case VerbStart, VerbTaskStart, VerbTaskPoll, VerbTaskStop, VerbUndo, VerbReserve, VerbRelease:
		return scheduler
	case VerbStop:
		return scheduler || initiator
	case VerbPriority:
		return initiator
	case VerbStopAll, VerbStatusAll:
		return scheduler || initiator || participates
	case VerbTaskCallback:
		return owns
	case VerbAuditConfirm, VerbCapacityHint, VerbMessage:
		return participates
	}
	return false
}

func drawFacts(t *rapid.T) (caller string, verb Verb, job JobFacts) {
	nodes := []string{"", "A", "B", "C", "D"}
	node := rapid.SampledFrom(nodes)
	job = JobFacts{Node: "A", JobID: "J", TaskID: rapid.SampledFrom([]string{"", "T"}).Draw(t, "task"),
		Known: rapid.Bool().Draw(t, "known"), Initiator: node.Draw(t, "initiator"),
		Scheduler: node.Draw(t, "scheduler"),
		Delegates: rapid.SliceOfN(node, 0, 3).Draw(t, "delegates"),
		Role: rapid.SampledFrom([]string{"", "guest", "guest.0", "host", "host.0", "host.1"}).
			Draw(t, "role")}
	for i, n := range rapid.SliceOfN(rapid.SampledFrom(nodes[1:]), 0, 3).Draw(t, "hosts") {
		job.Parts = append(job.Parts, Part{"host", i, n})
	}
	if n := node.Draw(t, "guest"); n != "" {
		job.Parts = append(job.Parts, Part{"guest", 0, n})
	}
	verb = rapid.SampledFrom(append(Verbs(), "", "job/delete")).Draw(t, "verb")
	return node.Draw(t, "caller"), verb, job
}

func TestPropertyMayEqualsThePlainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caller, verb, job := drawFacts(t)
		err := May(caller, verb, job)
		require.Equal(t, mayPlain(caller, verb, job), err == nil, "%q %s %+v: %v", caller, verb, job, err)
		if err != nil {
			require.Contains(t, []Code{CodeForbidden, CodeNotFound, CodeBadRequest}, CodeOf(err))
		}
	})
}

// TestPropertyStrangersLearnNothing compares the refusal for a job in which the caller has no part with that
// for a job that does not exist.
func TestPropertyStrangersLearnNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, verb, job := drawFacts(t)
		const stranger = "Z"
		if verb.creates() || !slices.Contains(Verbs(), verb) {
			return
		}
		require.Equal(t,
			May(stranger, verb, JobFacts{Node: job.Node, JobID: job.JobID, TaskID: job.TaskID}),
			May(stranger, verb, job))
	})
}

func TestMayMessages(t *testing.T) {
	job := JobFacts{Node: "N", JobID: "J", Known: true, Initiator: "A", Scheduler: "S",
		Parts: []Part{{"guest", 0, "A"}, {"host", 0, "B"}, {"host", 1, "C"}}}
	callback := job
	callback.Role = "host.1"
	task := job
	task.TaskID = "T"
	for _, c := range []struct {
		caller string
		verb   Verb
		job    JobFacts
		code   Code
		text   string
	}{
		{"", VerbStart, job, CodeForbidden,
			"job/start is for partners that prove who they are; this request proves none"},
		{"B", VerbStart, job, CodeForbidden, "job/start of job J is for its scheduler; B is a participant"},
		{"A", VerbTaskStart, job, CodeForbidden,
			"task/start of job J is for its scheduler; A is its initiator and a participant"},
		{"S", VerbPriority, job, CodeForbidden, "job/priority of job J is for its initiator; S is its scheduler"},
		{"Z", VerbStart, job, CodeNotFound, "job_id: N knows no job J in which Z takes part"},
		{"Z", VerbTaskPoll, task, CodeNotFound, "task_id: N knows no task T of a job in which Z takes part"},
		{"B", VerbTaskCallback, callback, CodeForbidden, "role: host.1 is not a role of B in job J"},
		{"Z", VerbCreateAll, job, CodeForbidden,
			"config.initiator.node_id: is A, but Z submits the job; only the initiator may"},
		{"Z", VerbCreate, job, CodeForbidden, "config.initiator.node_id: is A, whose jobs Z may not schedule " +
			"at N; to allow that, N adds Z to routes.A.schedulers"},
		{"A", VerbCreate, job, CodeForbidden, "job_id: the scheduler of job J is not A"},
		{"A", VerbCreate, JobFacts{}, CodeBadRequest, "config.initiator.node_id: is required"},
		{"A", "job/delete", job, CodeForbidden, `"job/delete" is not a verb of the protocol`},
	} {
		err := May(c.caller, c.verb, c.job)
		assert.Equal(t, c.code, CodeOf(err), "%s %s", c.caller, c.verb)
		assert.EqualError(t, err, c.text)
	}
}
