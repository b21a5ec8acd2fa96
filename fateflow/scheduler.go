package fateflow

import (
	"context"
	"slices"

	"hutong/bfia"
)

// Scheduler gives [ReceiveReport] access to the jobs that a party schedules.
type Scheduler interface {
	// JobOfTask returns the id of a task's job, or an error with the code [bfia.CodeNotFound].
	JobOfTask(ctx context.Context, taskID string) (jobID string, err error)
	// Participants returns the node ids of a job's participants.
	Participants(ctx context.Context, jobID string) ([]string, error)
	// ReceiveCallback receives a participant's report of the state of a part.
	ReceiveCallback(ctx context.Context, jobID, participant string, report bfia.TaskReport) error
}

// ReceiveReport receives a participant's report in FATE-Flow's form. node is the id of the party that
// receives it, and sender the id that the request names as its origin, or "".
func ReceiveReport(ctx context.Context, s Scheduler, node, sender string, report Report) error {
	for _, f := range []struct{ name, value string }{
		{"task_id", report.TaskID}, {"role", report.Role}, {"party_id", report.PartyID},
	} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	if sender != "" && sender != report.PartyID {
		return bfia.Errorf(bfia.CodeForbidden, "party_id: is %s, but the report comes from %s",
			report.PartyID, sender)
	}
	state, err := ParseState(report.Status)
	if err != nil {
		return err
	}

	jobID, err := s.JobOfTask(ctx, report.TaskID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "task_id: %s schedules no task %s", node, report.TaskID)
	}
	if err != nil {
		return err
	}
	participants, err := s.Participants(ctx, jobID)
	if err != nil {
		return err
	}
	if !slices.Contains(participants, report.PartyID) {
		return bfia.Errorf(bfia.CodeForbidden, "party_id: %s takes no part in job %s", report.PartyID, jobID)
	}

	return s.ReceiveCallback(ctx, jobID, report.PartyID,
		bfia.TaskReport{TaskID: report.TaskID, Role: report.Role, Status: state})
}

// RefuseJob returns the refusal of a request to schedule, or rerun, a job in FATE-Flow's own language at a
// node.
func RefuseJob(node string) error {
	return bfia.Errorf(
		bfia.CodeRefused,
		"%s schedules jobs of the BFIA protocol only and reruns none: submit the job with %s, "+
			"or name a FATE-Flow as its scheduler (dag.conf.scheduler_party_id)",
		node,
		bfia.PathCreateAll,
	)
}
