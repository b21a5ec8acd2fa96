package support

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
)

// runner is what the archive says of a runner.
type runner struct {
	ID           string   `json:"runner_id"`
	Machine      string   `json:"machine"`
	Devices      []string `json:"devices"`
	Slots        int      `json:"slots"`
	HeartbeatAge string   `json:"heartbeat_age"`
	ClockSkewMS  int64    `json:"clock_skew_ms"`
	Draining     bool     `json:"draining"`
	Images       int      `json:"images"`
	CPUMilli     int64    `json:"cpu_milli"`
	Memory       int64    `json:"memory"`
	Disk         int64    `json:"disk"`
	GPU          int64    `json:"gpu"`
}

// state describes the jobs and runners of a party.
func state(ctx context.Context, cfg *party.Config) ([]byte, error) {
	var document struct {
		Schema  string                `json:"schema"`
		Jobs    map[bfia.JobState]int `json:"jobs"`
		Queue   int                   `json:"queue"`
		Runners []runner              `json:"runners"`
	}
	err := withDatabase(ctx, cfg, func(ctx context.Context, db *store.Store) (err error) {
		document.Schema = "complete"
		if err := db.CheckSchema(ctx); err != nil {
			document.Schema = err.Error()
		}
		if document.Jobs, err = db.JobCounts(ctx); err != nil {
			return err
		}
		if document.Queue, err = db.QueueLength(ctx); err != nil {
			return err
		}
		now, err := db.Now(ctx)
		if err != nil {
			return err
		}
		runners, err := db.Runners(ctx, 30*24*time.Hour)
		if err != nil {
			return err
		}
		for _, r := range runners {
			document.Runners = append(document.Runners, runner{ID: r.RunnerID, Machine: r.Machine,
				Devices: r.Devices, Slots: r.Slots,
				HeartbeatAge: now.Sub(r.HeartbeatAt).Round(time.Second).String(), ClockSkewMS: r.ClockSkewMS,
				Draining: r.Draining, Images: len(r.Images), CPUMilli: r.CPUMilli, Memory: r.Memory,
				Disk: r.Disk,
				GPU:  r.GPU})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return asJSON(document)
}

// failure is what the archive says of a failed job.
type failure struct {
	JobID    string           `json:"job_id"`
	EndedAt  *time.Time       `json:"ended_at"`
	Kind     bfia.FailureKind `json:"kind"`
	NodeID   string           `json:"node_id,omitempty"`
	Role     string           `json:"role,omitempty"`
	Task     string           `json:"task_name,omitempty"`
	ExitCode int              `json:"exit_code,omitempty"`
	Message  string           `json:"message,omitempty"`
}

// ownMessage lists the kinds of failures whose messages Hutong alone writes. Those of others may quote an
// algorithm, a partner or a database, and so rows of data.
var ownMessage = []bfia.FailureKind{bfia.FailedMemory, bfia.FailedLogFiles, bfia.FailedImage,
	bfia.FailedVanished,
	bfia.FailedRunnerLost}

// failures describes why the jobs of the last 30 days failed, the last ones first.
func failures(ctx context.Context, cfg *party.Config, now time.Time, limit int) ([]byte, error) {
	document := struct {
		All  int       `json:"failed_in_30_days"`
		Last []failure `json:"last"`
	}{Last: []failure{}}
	err := withDatabase(ctx, cfg, func(ctx context.Context, db *store.Store) error {
		jobs, all, err := db.FailedJobs(ctx, now.Add(-30*24*time.Hour), limit)
		if err != nil {
			return err
		}
		document.All = all
		for _, j := range jobs {
			f := failure{JobID: j.JobID, EndedAt: j.EndedAt, Kind: bfia.FailedUnknown}
			if j.Failure != nil {
				f.Kind, f.NodeID, f.Role, f.Task = j.Failure.Kind, j.Failure.NodeID, j.Failure.Role,
					j.Failure.Task
				f.ExitCode = j.Failure.ExitCode
				if slices.Contains(ownMessage, f.Kind) {
					f.Message = j.Failure.Message
				}
			}
			document.Last = append(document.Last, f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return asJSON(document)
}

// withDatabase calls a function with the party's database, which need not answer.
func withDatabase(ctx context.Context, cfg *party.Config, use func(context.Context,
	*store.Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return fmt.Errorf("failed to open the database: %w", err)
	}
	defer func() { _ = db.Close() }()
	return use(ctx, db)
}
