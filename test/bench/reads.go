package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/test/testenv/apiclient"
)

// fewStored is the number of jobs in the store of the baseline of reads: enough for a full page.
const fewStored = 200

// measureReads measures reads each second with many jobs in the store, and with few. It fills the store of
// the running party through the party's own package.
func measureReads(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, slots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	db, err := store.Open(ctx, "sqlite://"+filepath.Join(d.dir, d.guest, "hutong.db"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := fillStore(ctx, db, d.guest, d.host, 0, fewStored); err != nil {
		return err
	}
	c := into.addSection(fmt.Sprintf("Reads: requests each second, with %d jobs in the store", o.stored),
		fmt.Sprintf("with %d jobs", fewStored))
	base := d.urls[d.guest]
	reads := []struct {
		name string
		path func(i, stored int) string
	}{
		{"a job's status", func(i, stored int) string {
			return bfia.PathPlatformStatusAll + "?job_id=" + storedID(i*7919%stored)
		}},
		{"a page of 100 of the list", func(int, int) string { return bfia.PathPlatformJobList }},
		{"a page from the middle of the list", func(_, stored int) string {
			cursor := store.JobCursor{CreatedAt: storedAt(stored / 2), JobID: storedID(stored / 2)}
			return bfia.PathPlatformJobList + "?before=" + url.QueryEscape(cursor.String())
		}},
		{"2 jobs of one flow",
			func(int, int) string { return bfia.PathPlatformJobList + "?limit=2&flow_id=flow0" }},
	}
	type result struct {
		rate float64
		each []time.Duration
	}
	results := map[string]result{}
	for _, stored := range []int{fewStored, o.stored} {
		if stored > fewStored {
			began := time.Now()
			if err := fillStore(ctx, db, d.guest, d.host, fewStored, stored); err != nil {
				return err
			}
			fmt.Printf("%d jobs put into the store in %.0f s\n", stored, time.Since(began).Seconds())
		}
		for _, read := range reads {
			for _, n := range clientCounts {
				each, took, err := sendRequests(ctx, n, 2*time.Second, func(i int) error {
					return apiclient.Call(ctx, http.MethodGet, base+read.path(i, stored), nil, nil)
				})
				if err != nil {
					return fmt.Errorf("failed to read %s: %w", read.name, err)
				}
				name := fmt.Sprintf("%s, %d clients", read.name, n)
				mine := result{perSecond(len(each), took), each}
				if stored == fewStored {
					results[name] = mine
					continue
				}
				before := results[name]
				c.add(
					figure{
						name:     name,
						measured: fmt.Sprintf("%.0f /s", mine.rate),
						baseline: fmt.Sprintf("%.0f /s", before.rate),
						ratio:    mine.rate / before.rate,
						notes: []string{
							fmt.Sprintf("median %s, p99 %s (with few jobs: %s, %s)",
								formatDuration(median(mine.each)), formatDuration(percentile(mine.each, 99)),
								formatDuration(median(before.each)),
								formatDuration(percentile(before.each, 99))),
						},
					},
				)
			}
		}
	}
	if o.database == "" {
		return nil
	}
	return measureDatabase(ctx, o, d, into)
}

// measureDatabase measures reads of the store only, on PostgreSQL.
func measureDatabase(ctx context.Context, o options, d *deployment, into *report) error {
	db, err := store.Open(ctx, o.database)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	if err := fillStore(ctx, db, d.guest, d.host, 0, fewStored); err != nil {
		return err
	}

	section := into.addSection(fmt.Sprintf("PostgreSQL: reads of the store, with %d jobs", o.stored),
		fmt.Sprintf("with %d jobs", fewStored))
	reads := []struct {
		name string
		read func(i, stored int) error
	}{
		{"the rows of a job's status", func(i, stored int) error {
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
		{"a page of 100 of the list", func(int, int) error {
			_, err := db.Jobs(ctx, store.JobFilter{Limit: 100})
			return err
		}},
	}

	withFew := map[string]time.Duration{} // medians
	for _, stored := range []int{fewStored, o.stored} {
		if stored > fewStored {
			if err := fillStore(ctx, db, d.guest, d.host, fewStored, stored); err != nil {
				return err
			}
		}
		for _, read := range reads {
			each, _, err := sendRequests(ctx, 8, 2*time.Second,
				func(i int) error { return read.read(i, stored) })
			if err != nil {
				return fmt.Errorf("failed to read %s: %w", read.name, err)
			}
			if stored == fewStored {
				withFew[read.name] = median(each)
				continue
			}

			measured := median(each)
			section.add(figure{
				name:     read.name + ", 8 clients",
				measured: formatDuration(measured),
				baseline: formatDuration(withFew[read.name]),
				ratio:    float64(measured) / float64(withFew[read.name]),
				notes:    []string{"p99 " + formatDuration(percentile(each, 99))},
			})
		}
	}
	return nil
}

// storedID returns an id of the form that Hutong gives jobs, beginning with the time.
func storedID(i int) string { return storedAt(i).Format("20060102150405") + "0000000" }

func storedAt(i int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
}

// fillStore adds ended jobs to the store, as scheduler and as participant, with numbers in [from, to).
func fillStore(ctx context.Context, db *store.Store, guest, host string, from, to int) error {
	for i := from; i < to; i++ {
		id, at := storedID(i), storedAt(i)
		job := store.Job{JobID: id, FlowID: fmt.Sprintf("flow%d", i%100), State: bfia.JobFinished,
			Roles: []string{"guest.0"}, InitiatorNode: guest, SchedulerNode: guest, CreatedAt: at,
			StartedAt: &at, EndedAt: &at}
		scheduled := store.ScheduleJob{JobID: id, FlowID: job.FlowID, State: bfia.JobFinished,
			InitiatorRole: "guest", InitiatorNode: guest, SyncType: "callback", CreatedAt: at,
			StartedAt: &at, EndedAt: &at}
		var own []store.Task
		var tasks []store.ScheduleTask
		var parts []store.SchedulePart
		for k, name := range referenceTasks {
			task := bfia.TaskID(id, name)
			own = append(
				own,
				store.Task{Name: name, Role: "guest", Seq: k, TaskID: task, Component: "C", Provider: "p",
					Version: "1", State: bfia.TaskSuccess, StartedAt: &at, EndedAt: &at},
			)
			tasks = append(
				tasks,
				store.ScheduleTask{TaskID: task, Name: name, Component: "C", Provider: "p", Version: "1",
					Seq: k, State: bfia.TaskSuccess, StartedAt: &at, EndedAt: &at},
			)
			for role, node := range map[string]string{"guest": guest, "host": host} {
				parts = append(
					parts,
					store.SchedulePart{TaskID: task, Role: role, NodeID: node, State: bfia.TaskSuccess,
						StartedAt: &at, EndedAt: &at},
				)
			}
		}
		if err := db.CreateScheduleJob(ctx, scheduled, tasks, parts); err != nil {
			return err
		}
		if err := db.CreateJob(ctx, job, own); err != nil {
			return err
		}
	}
	return nil
}
