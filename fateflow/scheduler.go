package fateflow

import (
	"context"

	"hutong/bfia"
)

// Scheduler gives [ReceiveReport] access to the jobs that a party schedules.
type Scheduler interface {
	// ReceiveCallback receives a participant's report of the state of a part. It refuses a participant that
	// does not hold the part's role, and a task that the party does not schedule.
	ReceiveCallback(ctx context.Context, participant string, report bfia.TaskReport) error
}

// ReceiveReport receives a participant's report in FATE-Flow's form. sender is the party that sent it.
func ReceiveReport(ctx context.Context, s Scheduler, sender string, report Report) error {
	for _, f := range []struct{ name, value string }{
		{"task_id", report.TaskID}, {"role", report.Role}, {"party_id", report.PartyID},
	} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	if sender != report.PartyID {
		return bfia.Errorf(bfia.CodeForbidden, "party_id: is %s, but the report comes from %s",
			report.PartyID, sender)
	}
	state, err := ParseState(report.Status)
	if err != nil {
		return err
	}
	return s.ReceiveCallback(ctx, sender,
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
