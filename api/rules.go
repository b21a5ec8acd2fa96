package api

import (
	"context"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
)

// may returns why a party may not do something to a job, or nil. It logs refusals.
func (s *Server) may(sender string, verb bfia.Verb, job bfia.JobFacts) error {
	job.Node = s.Node
	err := bfia.May(sender, verb, job)
	if err != nil {
		s.logger.Warn("refused a partner", "partner", cut(sender), "verb", string(verb),
			"job_id", cut(job.JobID), "task_id", cut(job.TaskID), "known", job.Known, "reason", err)
	}
	return err
}

// mayCreate decides about a request that brings the document of a job. scheduler is that of a job which
// exists already, or "".
func (s *Server) mayCreate(sender string, verb bfia.Verb, doc *bfia.Document, scheduler string) error {
	initiator := doc.Config.Initiator.NodeID
	return s.may(sender, verb, bfia.JobFacts{JobID: doc.JobID, Initiator: initiator, Scheduler: scheduler,
		Delegates: s.delegates(initiator)})
}

// delegates returns the parties that may schedule the jobs of an initiator. This party itself always may: as
// a scheduler it takes jobs from their initiators only.
func (s *Server) delegates(initiator string) []string {
	delegates := append(slices.Clone(s.Schedulers[initiator]), s.Node)
	if initiator == s.Node {
		delegates = append(delegates, s.Scheduler)
	}
	return delegates
}

// participantFacts returns what the rules need of a job in which this party takes part. A job that it does
// not know has no facts and no row.
func (s *Server) participantFacts(ctx context.Context, jobID string) (bfia.JobFacts, *store.Job, error) {
	facts := bfia.JobFacts{JobID: jobID}
	job, err := s.store.Job(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return facts, nil, nil
	}
	if err != nil {
		return facts, nil, err
	}
	facts.Known, facts.Initiator, facts.Scheduler = true, job.InitiatorNode, job.SchedulerNode
	for _, node := range job.PartyNodes {
		facts.Parts = append(facts.Parts, bfia.Part{NodeID: node})
	}
	return facts, &job, nil
}

// jobFor returns a job in which this party takes part, for a party that may do something to it.
func (s *Server) jobFor(ctx context.Context, sender string, verb bfia.Verb, jobID string) (*store.Job,
	error) {
	on(ctx, audit.Job, jobID)
	facts, job, err := s.participantFacts(ctx, jobID)
	if err != nil {
		return nil, err
	}
	return job, s.may(sender, verb, facts)
}

// taskFor returns this party's parts of a task, of one role or all, for a party that may do something to it.
func (s *Server) taskFor(ctx context.Context, sender string, verb bfia.Verb, taskID, role string,
) ([]store.Task, error) {
	if err := bfia.CheckID("task_id", taskID); err != nil {
		return nil, err
	}
	all, err := s.store.TasksByID(ctx, taskID)
	if err != nil {
		return nil, err
	}
	facts := bfia.JobFacts{}
	if len(all) > 0 {
		if facts, _, err = s.participantFacts(ctx, all[0].JobID); err != nil {
			return nil, err
		}
	}
	facts.TaskID = taskID
	if err := s.may(sender, verb, facts); err != nil {
		return nil, err
	}
	return s.partsOf(all, taskID, role)
}

// scheduledJobFor returns a job that this party schedules, for a party that may do something to it.
func (s *Server) scheduledJobFor(ctx context.Context, sender string, verb bfia.Verb, jobID string,
) (store.ScheduleJob, error) {
	on(ctx, audit.Job, jobID)
	job, err := s.store.ScheduleJob(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return job, s.may(sender, verb, bfia.JobFacts{JobID: jobID})
	}
	if err != nil {
		return job, err
	}
	facts := bfia.JobFacts{JobID: jobID, Known: true, Initiator: job.InitiatorNode, Scheduler: s.Node}
	for _, node := range job.ParticipantNodes {
		facts.Parts = append(facts.Parts, bfia.Part{NodeID: node})
	}
	return job, s.may(sender, verb, facts)
}

// scheduledTaskFor returns a task that this party schedules, for the party that holds a role in its job.
func (s *Server) scheduledTaskFor(ctx context.Context, sender, taskID, role string) (store.ScheduleTask,
	error) {
	facts := bfia.JobFacts{TaskID: taskID, Role: role}
	task, err := s.store.ScheduleTaskByID(ctx, taskID)
	switch {
	case bfia.CodeOf(err) == bfia.CodeNotFound:
		return task, s.may(sender, bfia.VerbTaskCallback, facts)
	case err != nil:
		return task, err
	}
	doc, err := s.document(ctx, task.JobID)
	if err != nil {
		return task, err
	}
	facts.Known, facts.JobID, facts.Scheduler = true, task.JobID, s.Node
	facts.Initiator, facts.Parts = doc.Config.Initiator.NodeID, doc.Config.Parts()
	return task, s.may(sender, bfia.VerbTaskCallback, facts)
}

// jobIDWindow is how long after the time in its id a job may be created. It covers the clocks and the time
// zones of other software, which writes local times.
const jobIDWindow = 48 * time.Hour

// refuseOldJob refuses a job that this party does not know, but has removed or may have had: its id is older
// than the time for which ended jobs are kept, or than the restore of a backup that lacks it. Otherwise a
// recorded creation could be sent again once the job is removed, and the job would run twice.
func (s *Server) refuseOldJob(ctx context.Context, jobID string) error {
	removed, err := s.store.JobRemovedAt(ctx, jobID)
	if err != nil {
		return err
	}
	if removed != nil { // by a client, or since a project keeps its jobs for a shorter time than the party
		return bfia.Errorf(bfia.CodeConflict, "job_id: %s removed the job %s on %s; submit it under a new id",
			s.Node, jobID, removed.Format(time.RFC3339))
	}
	created, ok := bfia.JobIDTime(jobID)
	if !ok {
		return nil
	}
	mark, err := s.store.RestoreMark(ctx)
	if err != nil {
		return err
	}
	if mark.RestoredAt != nil && !created.After(*mark.RestoredAt) {
		return bfia.Errorf(bfia.CodeConflict, "job_id: %s is of before %s, when %s was restored from a backup, "+
			"so the job may have run; submit it under a new one", jobID,
			mark.RestoredAt.Format(time.RFC3339), s.Node)
	}
	if s.Retention == 0 || time.Since(created) <= s.Retention+jobIDWindow {
		return nil
	}
	return bfia.Errorf(bfia.CodeConflict, "job_id: %s is of %s; %s keeps jobs for %s only and accepts no "+
		"older id; submit the job under a new one", jobID, created.Format(time.DateOnly), s.Node, s.Retention)
}
