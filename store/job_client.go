package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"
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
