package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/activities/housekeeping"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/httpclient"
	"hutong/internal/identity"
	"hutong/internal/placement"
	"hutong/workflows"
)

const (
	// markGap is added to the highest mark at the end of a restore. The marks agree only once all of them
	// have the new one, so a restore that was interrupted is found out again.
	markGap = 10
	// noticeBatch bounds the jobs of one workflow of notices.
	noticeBatch = 50
	// probeTimeout bounds the look for a transport that runs.
	probeTimeout = 3 * time.Second
)

// Finish makes the party safe to start after a restore. It ends all jobs that have not ended, here and in
// Temporal, has their partners notified, notes on jobs which outputs are lost, and gives all services a new
// mark. It can be repeated. The party's processes must not run.
func (s *Services) Finish(ctx context.Context) (Plan, error) {
	if err := s.checkTransports(ctx); err != nil {
		return Plan{}, err
	}
	p, err := s.Plan(ctx)
	if err != nil {
		return p, err
	}
	number, at := p.Marks.Highest()+markGap, time.Now()
	for _, j := range p.Jobs {
		if err := s.end(ctx, j, at); err != nil {
			return p, err
		}
	}
	if err := s.endOthers(ctx); err != nil {
		return p, err
	}
	if err := s.noteLost(ctx, p.Lost, at); err != nil {
		return p, err
	}
	if err := s.startNotices(ctx, p.Jobs, number, at); err != nil {
		return p, err
	}
	return p, s.setMarks(ctx, p, number, at)
}

// checkTransports returns an error if a transport of the party runs. It has a spool that is not empty, or was
// emptied under it. One of several also knows which of them held sessions before the restore.
func (s *Services) checkTransports(ctx context.Context) error {
	running := ""
	switch {
	case s.Several:
		found, err := placement.FindRunning(ctx, s.Store)
		if err != nil {
			return fmt.Errorf("failed to look for transports that run: %w", err)
		}
		if found != nil {
			running = found.Name + " at " + found.Address
		}
	case s.Transport != "":
		limited, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		if placement.Probe(limited, httpclient.Direct(), "", "", "http://"+s.Transport) == nil {
			running = "at " + s.Transport
		}
	}
	if running == "" {
		return nil
	}
	return fmt.Errorf("failed to finish the restore, because the transport %s runs: stop all processes of the "+
		"party, empty the spool of each transport, then run this again", running)
}

const endReason = "the party was restored from a backup"

// end ends a job in Temporal and in the database.
func (s *Services) end(ctx context.Context, j Job, at time.Time) error {
	if j.InTemporal {
		if err := terminate(ctx, s.Temporal, j.workflowID(), endReason); err != nil {
			return err
		}
	}
	end := s.Store.EndLostJob
	if j.Scheduled {
		end = s.Store.EndLostScheduleJob
	}
	ended, err := end(ctx, j.JobID, s.failure(j, at), at)
	if ended {
		s.Logger.Warn("ended a job after a restore", "job_id", j.JobID, "scheduled", j.Scheduled)
	}
	return err
}

// failure returns why a restore ends a job.
func (s *Services) failure(j Job, at time.Time) *bfia.Failure {
	f := &bfia.Failure{Kind: bfia.FailedInternal, NodeID: s.Node, Message: fmt.Sprintf(
		"%s was restored from a backup (finished %s) and can't continue the job; submit it again", s.Node,
		at.UTC().Format(time.RFC3339))}
	if j.Outcome != "" {
		f.Message = fmt.Sprintf("%s was restored from a backup (finished %s) that is older than the end of the job; "+
			"by Temporal's record it ended with %s, but its rows are lost", s.Node, at.UTC().Format(time.RFC3339),
			j.Outcome)
	}
	return f
}

// endOthers terminates the workflows of periodic jobs. A control worker starts them again with the rows.
func (s *Services) endOthers(ctx context.Context) error {
	ids, err := s.runningWorkflows(ctx, workflows.PeriodicJobType)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := terminate(ctx, s.Temporal, id, endReason); err != nil {
			return err
		}
	}
	return nil
}

// noteLost notes on jobs that outputs of theirs are lost.
func (s *Services) noteLost(ctx context.Context, lost []Lost, at time.Time) error {
	names := map[string][]string{}
	var ids []string
	for _, l := range lost {
		if l.JobID == "" || l.Kind != lostOutput {
			continue
		}
		if names[l.JobID] == nil {
			ids = append(ids, l.JobID)
		}
		names[l.JobID] = append(names[l.JobID], l.Name)
	}
	for _, id := range ids {
		line := "lost from the storage in a restore: " + strings.Join(names[id], ", ")
		if err := s.Store.AppendJobNote(ctx, id, line); err != nil {
			return err
		}
	}
	return nil
}

// startNotices starts the workflows that notify partners. The party's control worker runs them.
func (s *Services) startNotices(ctx context.Context, jobs []Job, number int64, at time.Time) error {
	var ended []workflows.RestoredJob
	for _, j := range jobs {
		r := workflows.RestoredJob{JobID: j.JobID, Nodes: j.Nodes,
			Failure: s.failure(j, at).ForPartners(bfia.ShareReason)}
		if j.Scheduler != s.Node { // a job of this party's own scheduler ends with that
			r.Scheduler = j.Scheduler
		}
		ended = append(ended, r) // without a partner to notify, its sessions are released
	}
	for i := 0; i*noticeBatch < len(ended); i++ {
		in := workflows.RestoreNoticeInput{Jobs: ended[i*noticeBatch : min((i+1)*noticeBatch, len(ended))]}
		if _, err := s.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: workflows.RestoreNoticeID(number, i), TaskQueue: activities.ControlQueue,
			StaticSummary: "notifies partners of the jobs that a restore has ended",
		}, workflows.RestoreNoticeType, in); err != nil {
			return fmt.Errorf("failed to start the notices to partners: %w", err)
		}
	}
	return nil
}

// setMarks gives all services the same mark, the database last.
func (s *Services) setMarks(ctx context.Context, p Plan, number int64, at time.Time) error {
	if err := housekeeping.WriteStorageMark(ctx, s.Blobs, p.Marks.Deployment, number); err != nil {
		return err
	}
	if err := terminate(ctx, s.Temporal, workflows.RestoreMarkID, endReason); err != nil {
		return err
	}
	mark := workflows.RestoreMark{Deployment: p.Marks.Deployment, Number: number}
	options := workflows.RestoreMarkOptions(mark)
	if _, err := s.Temporal.ExecuteWorkflow(ctx, options, workflows.RestoreMarkType, mark); err != nil {
		return fmt.Errorf("failed to start the workflow of the restore mark: %w", err)
	}
	self := identity.Principal{Kind: identity.KindPartner, Node: s.Node, Proof: identity.ByProcess}
	entry := audit.New(self, audit.FinishRestore, audit.Object{}, audit.Allowed, at)
	entry.Reason = fmt.Sprintf("%d jobs ended, %d objects lost; %s", len(p.Jobs), len(p.Lost),
		strings.Join(p.Problems, "; "))
	if err := s.Store.FinishRestore(ctx, number, at, &entry); err != nil {
		return err
	}
	return s.checkMarks(ctx)
}

// checkMarks returns an error if the marks do not agree after all.
func (s *Services) checkMarks(ctx context.Context) error {
	m, err := s.Marks(ctx)
	if err != nil {
		return err
	}
	if problems := m.Problems(); len(problems) > 0 {
		return errors.New("failed to finish the restore, because a process of the party runs: stop all, then run " +
			"this again: " + strings.Join(problems, "; "))
	}
	return nil
}
