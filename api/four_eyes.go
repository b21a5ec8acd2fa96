package api

import (
	"context"
	"slices"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// recordClient records what the caller is about to do to a job: the act happens elsewhere, and afterwards
// nobody could say who it was. undo deletes the record if the act was refused. Where the party requires no
// credentials, nobody is known, and nothing is recorded.
func (s *Server) recordClient(
	ctx context.Context,
	jobID, act string,
) (undo func(context.Context), err error) {
	p := identity.From(ctx)
	undo = func(context.Context) {}
	if p.Proof == identity.ByNothing || p.Kind != identity.KindClient {
		return undo, nil
	}
	row := store.JobClient{JobID: jobID, Act: act, Name: p.Name, Credential: p.Credential,
		Proof: string(p.Proof)}
	added, err := s.store.AddJobClient(ctx, row)
	if err != nil || !added {
		return undo, err
	}
	return func(ctx context.Context) {
		if err := s.store.DeleteJobClient(ctx, row); err != nil {
			s.logger.Warn(
				"failed to delete the record of an act that was refused",
				"job_id",
				jobID,
				"act",
				act,
				"client",
				p.Name,
				"error",
				err,
			)
		}
	}, nil
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

// nameClients adds to a job's status who of this party submitted and approved it. It replaces what another
// party reports there.
func (s *Server) nameClients(ctx context.Context, status *bfia.JobStatus) error {
	acts, err := s.store.JobClients(ctx, status.JobID)
	if err != nil {
		return err
	}
	status.SubmittedBy, status.ApprovedBy, status.RejectedBy = nil, nil, nil
	for _, a := range acts {
		switch {
		case a.Act == store.ActSubmitted:
			status.SubmittedBy = append(status.SubmittedBy, a.Name)
		case status.State == bfia.JobPending: // the decision did not arrive, or waits to be recorded
		case a.Act == string(bfia.JobReady):
			status.ApprovedBy = append(status.ApprovedBy, a.Name)
		case a.Act == string(bfia.JobRejected):
			status.RejectedBy = append(status.RejectedBy, a.Name)
		}
	}
	return nil
}
