package main

import (
	"context"
	"fmt"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// storedEvery is the time between two stored jobs.
const storedEvery = 4 * time.Minute

// fillStore adds ended jobs to a party's store, as their scheduler and as a participant, the newest of them
// before now. Some of them failed at the partner, and some were stopped.
func fillStore(ctx context.Context, db *store.Store, now time.Time, count int) error {
	for i := count; i > 0; i-- {
		if err := addEnded(ctx, db, now.Add(-time.Duration(i)*storedEvery), i); err != nil {
			return fmt.Errorf("failed to store the ended job %d: %w", i, err)
		}
	}
	return nil
}

// addEnded adds one job of one task that has ended.
func addEnded(ctx context.Context, db *store.Store, created time.Time, i int) error {
	id, started, ended := bfia.NewJobID(created, 0), created.Add(2*time.Second), created.Add(time.Minute)
	outcome, state, reason := bfia.OutcomeSuccess, bfia.TaskSuccess, ""
	var failure *bfia.Failure
	switch {
	case i%10 == 3:
		outcome, state = bfia.OutcomeFailed, bfia.TaskFailed
		failure = &bfia.Failure{Kind: bfia.FailedExit, NodeID: hostNode, Role: "host.0", Task: "train",
			ExitCode: 3}
		reason = "task train failed at " + hostNode + " (host.0): exit code 3"
	case i%25 == 7:
		outcome, state, reason = bfia.OutcomeStopped, bfia.TaskFailed, "stopped by "+guestNode
		failure = &bfia.Failure{Kind: bfia.FailedStopped, NodeID: guestNode, By: "alice"}
	}
	flow := fmt.Sprintf("flow-%02d", i%40)

	scheduled := store.ScheduleJob{JobID: id, FlowID: flow, State: bfia.JobFinished, InitiatorRole: "guest",
		InitiatorNode: guestNode, SyncType: "callback", Reason: reason, Outcome: outcome, Failure: failure,
		ParticipantNodes: []string{guestNode, hostNode},
		CreatedAt:        created, StartedAt: &started, EndedAt: &ended}
	taskID := bfia.TaskID(id, "train")
	tasks := []store.ScheduleTask{{TaskID: taskID, Name: "train", Component: "HeteroLR", Provider: "hutong",
		Version: "1.0.0", Attempt: 1, State: state, StartedAt: &started, EndedAt: &ended}}
	var parts []store.SchedulePart
	for role, node := range map[string]string{"guest": guestNode, "host": hostNode} {
		parts = append(parts, store.SchedulePart{TaskID: taskID, Role: role, NodeID: node, State: state,
			StartedAt: &started, EndedAt: &ended})
	}
	if err := db.CreateScheduleJob(ctx, scheduled, tasks, parts); err != nil {
		return err
	}

	job := store.Job{JobID: id, FlowID: flow, State: bfia.JobFinished, Roles: []string{"guest.0"},
		InitiatorNode: guestNode, SchedulerNode: guestNode, PartyNodes: []string{guestNode, hostNode},
		Reason: reason, Outcome: outcome, Failure: failure,
		CreatedAt: created, StartedAt: &started, EndedAt: &ended}
	return db.CreateJob(ctx, job, []store.Task{{Name: "train", Role: "guest", TaskID: taskID, Attempt: 1,
		Component: "HeteroLR", Provider: "hutong", Version: "1.0.0", State: state, StartedAt: &started,
		EndedAt: &ended}})
}
