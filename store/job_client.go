package store

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// ActSubmitted is the act of a [JobClient] that submitted a job. The other acts are decisions: READY approves
// a job, REJECTED ends it.
const ActSubmitted = "submitted"

// JobClient is a client of this party that submitted a job, or decided on it.
type JobClient struct {
	bun.BaseModel `bun:"table:t_job_client,alias:c" json:"-"`

	JobID string `bun:"job_id,pk"`
	Act   string `bun:"act,pk"`
	Name  string `bun:"name,pk"`
	// Credential identifies the client's proof of who it is, without revealing it.
	Credential string    `bun:"credential,pk"`
	Proof      string    `bun:"proof"`
	CreatedAt  time.Time `bun:"created_at"`
}

var _ bun.AfterScanRowHook = (*JobClient)(nil)

// AfterScanRow normalizes the times.
func (c *JobClient) AfterScanRow(context.Context) error {
	normalizeTimes(&c.CreatedAt)
	return nil
}

// AddJobClient records what a client is about to do to a job. The job need not exist yet. added is false if
// that client's act is recorded already.
func (s *Store) AddJobClient(ctx context.Context, c JobClient) (added bool, err error) {
	if err := checkText("job_id", c.JobID, "name", c.Name, "credential", c.Credential); err != nil {
		return false, err
	}
	c.CreatedAt = timeOrNow(c.CreatedAt)
	n, err := affected(s.w.NewInsert().Model(&c).On("CONFLICT (job_id, act, name, credential) DO NOTHING").
		Exec(ctx))
	return n > 0, wrap(err, "record who acts on job %s", c.JobID)
}

// submitter locks what one client submits.
type submitter struct {
	bun.BaseModel `bun:"table:t_submitter,alias:su"`

	Name        string    `bun:"name,pk"`
	SubmittedAt time.Time `bun:"submitted_at"`
}

// submissionSettles is how long a submitted job counts as open although this party has no row of it: its
// creation is in progress, or its outcome is not known. Later it was not created.
const submissionSettles = 5 * time.Minute

// Submit records that a client is about to submit a job, in one transaction with the entry of the pending
// act. If the client has limit open jobs or more, of those that it has submitted itself, it records nothing
// and returns CodeTooMany. 0 is no limit. Of concurrent submissions no more are accepted than the limit
// allows. A repeated submission is accepted; added is false then.
func (s *Store) Submit(ctx context.Context, c JobClient, limit int) (added bool, err error) {
	if err := checkText("job_id", c.JobID, "name", c.Name, "credential", c.Credential); err != nil {
		return false, err
	}
	c.Act, c.CreatedAt = ActSubmitted, timeOrNow(c.CreatedAt)
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		added = false // an earlier try of the transaction
		lock := submitter{Name: c.Name, SubmittedAt: c.CreatedAt}
		if _, err := tx.NewInsert().Model(&lock).On("CONFLICT (name) DO UPDATE").
			Set("submitted_at = EXCLUDED.submitted_at").Exec(ctx); err != nil {
			return err
		}
		if limit > 0 {
			if err := checkOpenJobs(ctx, tx, c, limit); err != nil {
				return err
			}
		}
		n, err := affected(tx.NewInsert().Model(&c).
			On("CONFLICT (job_id, act, name, credential) DO NOTHING").Exec(ctx))
		added = n > 0
		return err
	})
	return added, wrap(err, "record who submits job %s", c.JobID)
}

// checkOpenJobs returns CodeTooMany if a client has as many open jobs as it may, and the job is none of them.
func checkOpenJobs(ctx context.Context, tx bun.Tx, c JobClient, limit int) error {
	const ended = "state IN (?)"
	terminal := bun.List([]bfia.JobState{bfia.JobFinished, bfia.JobRejected})
	var open []string
	err := tx.NewSelect().Model((*JobClient)(nil)).Distinct().Column("c.job_id").
		Where("c.name = ? AND c.act = ?", c.Name, ActSubmitted).
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = c.job_id AND j."+ended+")",
			terminal).
		Where("NOT EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = c.job_id AND j."+ended+")", terminal).
		Where("c.created_at > ? OR EXISTS (SELECT 1 FROM t_schedule_job AS j WHERE j.job_id = c.job_id) OR "+
			"EXISTS (SELECT 1 FROM t_job AS j WHERE j.job_id = c.job_id)",
			normalizeTime(time.Now().Add(-submissionSettles))).
		Scan(ctx, &open)
	if err != nil || len(open) < limit || slices.Contains(open, c.JobID) {
		return err
	}
	return bfia.Errorf(bfia.CodeTooMany, "client %s has %d open jobs, and may have %d", c.Name, len(open),
		limit)
}

// JobClients returns the clients of a job, in the order of their acts.
func (s *Store) JobClients(ctx context.Context, jobID string) ([]JobClient, error) {
	var clients []JobClient
	err := s.w.NewSelect().Model(&clients).Where("job_id = ?", jobID).Order("created_at", "act", "name").
		Scan(ctx)
	return clients, wrap(err, "read who acted on job %s", jobID)
}

// DeleteJobClient deletes the record of an act that was refused.
func (s *Store) DeleteJobClient(ctx context.Context, c JobClient) error {
	_, err := s.w.NewDelete().Model((*JobClient)(nil)).
		Where("job_id = ? AND act = ? AND name = ? AND credential = ?", c.JobID, c.Act, c.Name, c.Credential).
		Exec(ctx)
	return wrap(err, "delete the record of an act on job %s", c.JobID)
}
