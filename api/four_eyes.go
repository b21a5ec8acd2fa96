package api

import (
	"context"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/limits"
	"hutong/store"
)

// recordClient records what the caller is about to do to a job: the act happens elsewhere, and afterwards
// nobody could say who it was. undo deletes the record if the act was refused. Where the party requires no
// credentials, nobody is known, and nothing is recorded.
func (s *Server) recordClient(
	ctx context.Context,
	jobID, act string,
) (undo func(context.Context), err error) {
	row, known := jobClient(ctx, jobID, act)
	if !known {
		return func(context.Context) {}, nil
	}
	added, err := s.store.AddJobClient(ctx, row)
	return s.undoClient(row, added), err
}

// recordSubmitter does the same for a job that the caller submits, and writes the entry of that act. It
// refuses a job beyond the caller's limit.
func (s *Server) recordSubmitter(ctx context.Context, jobID string) (undo func(context.Context), err error) {
	row, known := jobClient(ctx, jobID, store.ActSubmitted)
	if !known {
		return func(context.Context) {}, s.recordAct(ctx)
	}
	added, err := s.store.Submit(ctx, row, s.OpenJobs)
	if bfia.CodeOf(err) == bfia.CodeTooMany {
		err = tooMany(&limits.Exceeded{Field: "limits.open_jobs", What: bfia.MessageOf(err),
			After: retryOpenJobs})
	}
	return s.undoClient(row, added), err
}

// retryOpenJobs is when a client with too many open jobs may try again.
const retryOpenJobs = time.Minute

// jobClient returns the record of an act of the caller, if the party knows who it is.
func jobClient(ctx context.Context, jobID, act string) (row store.JobClient, known bool) {
	p := identity.From(ctx)
	return store.JobClient{JobID: jobID, Act: act, Name: p.Name, Credential: p.Credential,
		Proof: string(p.Proof)}, p.Proof != identity.ByNothing && p.Kind == identity.KindClient
}

// undoClient returns a function that deletes a record, if it was added.
func (s *Server) undoClient(row store.JobClient, added bool) func(context.Context) {
	if !added {
		return func(context.Context) {}
	}
	return func(ctx context.Context) {
		if err := s.store.DeleteJobClient(ctx, row); err != nil {
			s.logger.Warn("failed to delete the record of an act that was refused",
				"job_id", row.JobID, "act", row.Act, "client", row.Name, "error", err)
		}
	}
}

// checkFourEyes refuses an approval by a client who submitted the job: a name that equals the submitter's, or
// the same credential under another name.
func (s *Server) checkFourEyes(ctx context.Context, audit *bfia.Audit) error {
	p := identity.From(ctx)
	if !s.FourEyes || audit.Status != bfia.JobReady || p.Proof == identity.ByNothing {
		return nil
	}
	acts, err := s.store.JobClients(ctx, audit.JobID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(acts, func(a store.JobClient) bool {
		return a.Act == store.ActSubmitted && (a.Name == p.Name || a.Credential == p.Credential)
	}) {
		return bfia.Errorf(bfia.CodeForbidden,
			"job_id: %s submitted job %s and can't approve it: someone else with the role %s must "+
				"(jobs.four_eyes)", p.Name, audit.JobID, identity.Approver)
	}
	return nil
}

// nameClients adds to a job's status its project here, and who of this party submitted and approved it. It
// replaces what another party reports there.
func (s *Server) nameClients(ctx context.Context, status *bfia.JobStatus) error {
	acts, err := s.store.JobClients(ctx, status.JobID)
	if err != nil {
		return err
	}
	project, _, err := s.store.JobProject(ctx, status.JobID)
	if err != nil {
		return err
	}
	status.Project = viewProject(project)
	status.SubmittedBy, status.ApprovedBy, status.RejectedBy = nil, nil, nil
	status.ApprovalRule = ""
	for _, a := range acts {
		switch {
		case a.Act == store.ActSubmitted:
			status.SubmittedBy = append(status.SubmittedBy, a.Name)
		case a.Proof == string(identity.ByRule): // its decision is recorded, also if other parties wait
			status.ApprovedBy = append(status.ApprovedBy, a.Name)
			status.ApprovalRule = a.Credential
		case status.State == bfia.JobPending: // the decision did not arrive, or waits to be recorded
		case a.Act == string(bfia.JobReady):
			status.ApprovedBy = append(status.ApprovedBy, a.Name)
		case a.Act == string(bfia.JobRejected):
			status.RejectedBy = append(status.RejectedBy, a.Name)
		}
	}
	return nil
}
