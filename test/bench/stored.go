package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// storedFew is the number of ended jobs of the baseline of [measureStored].
const storedFew = 1000

// measureStored measures what the store does again and again, with many ended jobs and with few: lists with
// each of their filters, status, what the overview and the metrics read, housekeeping, and the opening of the
// store when a process starts. Nothing else of Hutong runs.
func measureStored(ctx context.Context, o options, into *report) error {
	dir, err := os.MkdirTemp("", "hutong-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "hutong.db")
	sqlite := storedCase{name: "SQLite", address: "sqlite://" + file, size: func() int64 {
		var total int64
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(file + suffix); err == nil {
				total += info.Size()
			}
		}
		return total
	}}
	if err := sqlite.run(ctx, o, into); err != nil {
		return err
	}
	if o.database == "" {
		return nil
	}
	return storedCase{name: "PostgreSQL", address: o.database}.run(ctx, o, into)
}

// storedCase is a database that measureStored measures.
type storedCase struct {
	name, address string
	size          func() int64 // in bytes; nil if unknown
}

func (s storedCase) run(ctx context.Context, o options, into *report) error {
	db, err := store.Open(ctx, s.address)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	section := into.addSection(fmt.Sprintf("%s with %d ended jobs", s.name, o.ended),
		fmt.Sprintf("with %d", storedFew))
	withFew := map[string]time.Duration{} // medians
	var sizeOfFew int64
	filled := 0
	for _, stored := range []int{storedFew, o.ended} {
		begin, from := time.Now(), filled
		// In blocks, so that several clients can write.
		const block = 100
		err := forEachParallel((stored-from)/block, 4, func(i int) error {
			return fillStore(ctx, db, "guest", "host", from+i*block, from+(i+1)*block)
		})
		if err != nil {
			return fmt.Errorf("failed to fill the store: %w", err)
		}
		filled = stored
		fmt.Printf("%d jobs put into the store in %.0f s\n", stored-from, time.Since(begin).Seconds())
		for _, act := range s.acts(db) {
			took, err := repeated(func(i int) error { return act.do(ctx, i, stored) })
			if err != nil {
				return fmt.Errorf("%s: %w", act.name, err)
			}
			if stored == storedFew {
				withFew[act.name] = took
				continue
			}
			target := atMost(1.5)
			if act.grows {
				target.bound = 0
			}
			section.add(figure{
				name:     act.name,
				measured: formatDuration(took),
				baseline: formatDuration(withFew[act.name]),
				ratio:    float64(took) / float64(withFew[act.name]),
				target:   target,
			})
		}
		if s.size == nil {
			continue
		}
		if stored == storedFew {
			sizeOfFew = s.size() / storedFew
			continue
		}
		each := s.size() / int64(stored)
		section.add(figure{
			name:     "bytes of the database for each job, without what its containers report",
			measured: fmt.Sprintf("%.1f kB", float64(each)/1e3),
			baseline: fmt.Sprintf("%.1f kB", float64(sizeOfFew)/1e3),
			ratio:    float64(each) / float64(sizeOfFew),
		})
	}
	return nil
}

// repeated returns the median time of a function, from as many runs as take a second, and at least five. The
// first run, which may read from disk, does not count.
func repeated(do func(i int) error) (time.Duration, error) {
	if err := do(0); err != nil {
		return 0, err
	}
	var all []time.Duration
	for began := time.Now(); len(all) < 5 || time.Since(began) < time.Second; {
		start := time.Now()
		if err := do(len(all) + 1); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start))
	}
	return median(all), nil
}

// storedAct is an act of the store that do carries out for the i-th time, with a number of jobs in it.
type storedAct struct {
	name string
	do   func(ctx context.Context, i, stored int) error
	// grows is set if its cost is known to grow with the jobs: it has no target.
	grows bool
}

func (s storedCase) acts(db *store.Store) []storedAct {
	page := func(name string, filter func(stored int) store.JobFilter) storedAct {
		read := func(ctx context.Context, _, stored int) error {
			f := filter(stored)
			f.Limit = cmp.Or(f.Limit, 100)
			_, err := db.Jobs(ctx, f)
			return err
		}
		return storedAct{name: "a page of the list: " + name, do: read}
	}
	always := func(f store.JobFilter) func(int) store.JobFilter {
		return func(int) store.JobFilter { return f }
	}
	flow := "flow7"
	longAgo := storedAt(0).Add(-time.Hour)
	return []storedAct{
		page("the newest", always(store.JobFilter{})),
		page("from the middle", func(stored int) store.JobFilter {
			cursor := store.JobCursor{CreatedAt: storedAt(stored / 2), JobID: storedID(stored / 2)}
			return store.JobFilter{Before: &cursor}
		}),
		// As many as a flow has with few jobs.
		page("10 of a flow", always(store.JobFilter{FlowID: &flow, Limit: 10})),
		page("the running ones", always(store.JobFilter{States: []bfia.JobState{bfia.JobRunning}})),
		page("the ended ones", always(store.JobFilter{States: []bfia.JobState{bfia.JobFinished}})),
		page("the failed ones", always(store.JobFilter{Outcomes: []bfia.Outcome{bfia.OutcomeFailed}})),
		page("of a partner", always(store.JobFilter{Partner: "guest"})),
		page("of a partner without jobs", always(store.JobFilter{Partner: "nobody"})),
		page("of a role", always(store.JobFilter{Role: "guest"})),
		page("of a day", func(stored int) store.JobFilter {
			at := storedAt(stored / 2)
			return store.JobFilter{Since: at, Until: at.Add(24 * time.Hour)}
		}),
		page("by the beginning of the id", func(stored int) store.JobFilter {
			return store.JobFilter{Prefix: storedID(stored / 2)[:20]}
		}),
		page("by a text that all have", always(store.JobFilter{Text: "guest"})),
		page("by a text that none has", always(store.JobFilter{Text: "nothing"})),
		{name: "the rows of a job's status", do: func(ctx context.Context, i, stored int) error {
			id := storedID(i * 7919 % stored)
			_, err := db.ScheduleJob(ctx, id)
			if err == nil {
				_, err = db.ScheduleTasks(ctx, id)
			}
			if err == nil {
				_, err = db.ScheduleParts(ctx, id)
			}
			return err
		}},
		{name: "the overview's numbers of jobs", do: func(ctx context.Context, _, _ int) error {
			_, err := db.JobCounts(ctx)
			return err
		}, grows: true},
		{name: "the overview's failed jobs", do: func(ctx context.Context, _, _ int) error {
			_, _, err := db.FailedJobs(ctx, longAgo, 10)
			return err
		}},
		{name: "what the metrics read", do: func(ctx context.Context, _, _ int) error {
			_, err := db.Snapshot(ctx, "guest")
			return err
		}},
		{name: "the length of the queue", do: func(ctx context.Context, _, _ int) error {
			_, err := db.QueueLength(ctx)
			return err
		}},
		{name: "housekeeping: lost jobs", do: func(ctx context.Context, _, _ int) error {
			if _, err := db.UnfinishedJobs(ctx, time.Now(), "", 100); err != nil {
				return err
			}
			_, err := db.UnfinishedScheduleJobs(ctx, time.Now(), "", 100)
			return err
		}},
		{name: "housekeeping: reservations of ended jobs", do: func(ctx context.Context, _, _ int) error {
			_, err := db.EndedJobsWithReservation(ctx, time.Now())
			return err
		}},
		{name: "housekeeping: expired jobs (none)", do: func(ctx context.Context, _, _ int) error {
			_, err := db.ExpiredJobs(ctx, longAgo, "", 100)
			return err
		}},
		{name: "housekeeping: unused rows", do: func(ctx context.Context, _, _ int) error {
			for _, remove := range []func(context.Context, time.Time) (int, error){db.RemoveUnusedDocuments,
				db.RemoveUnusedJobClients, db.RemoveUnusedSubmissions, db.RemoveUnusedJobPermits} {
				if _, err := remove(ctx, longAgo); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "the opening of the store", do: func(ctx context.Context, _, _ int) error {
			other, err := store.Open(ctx, s.address)
			if err != nil {
				return err
			}
			defer func() { _ = other.Close() }()
			return other.CheckSchema(ctx)
		}},
	}
}
