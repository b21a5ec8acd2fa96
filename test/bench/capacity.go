package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"hutong/bfia"
	"hutong/internal/capacity"
)

// The sizes of jobs whose costs are measured. The checks have other ones.
var (
	fittedTasks    = [2]float64{1, 8}
	fittedPartners = [2]float64{1, 9}
)

// capacityCheck is a load for which the prediction is compared with a measurement.
type capacityCheck struct {
	tasks, partners int
	joined          bool // a partner schedules the jobs
}

var capacityChecks = []capacityCheck{{tasks: 4, partners: 1}, {tasks: 3, partners: 19},
	{tasks: 12, partners: 4}, {tasks: 4, partners: 1, joined: true}}

// measureCapacity measures what jobs, tasks, partners and bytes cost each process and database of a party.
// Then it compares what [capacity.PlanFor] predicts from that with measurements of other jobs. With -costs it
// also writes the costs to a file. Each party has its processes and its Temporal server apart.
func measureCapacity(ctx context.Context, o options, into *report) error {
	costs := capacity.Costs{Container: containerCost,
		Measured: fmt.Sprintf("%s, on %d cores, %s", time.Now().Format(time.DateOnly), runtime.NumCPU(),
			"each database in SQLite")}
	scheduler, err := startFederation(ctx, o, 19, false)
	defer scheduler.stop()
	if err != nil {
		return err
	}
	if costs.Idle, err = scheduler.idle(ctx, o); err != nil {
		return err
	}
	fitted := map[[2]float64]spent{}
	for _, tasks := range fittedTasks {
		for _, partners := range fittedPartners {
			one, err := scheduler.spend(ctx, o, scheduler, int(tasks), scheduler.partnerIDs(int(partners)))
			if err != nil {
				return err
			}
			fitted[[2]float64{tasks, partners}] = one
		}
	}
	costs.Scheduler = sideOf(func(of func(spent) float64) capacity.Cost {
		return capacity.Fit(fittedTasks, fittedPartners, func(tasks, partners float64) float64 {
			return of(fitted[[2]float64{tasks, partners}])
		})
	})
	costs.Memory = scheduler.memoryByKind()

	pair, err := startRealPair(ctx, o)
	for _, f := range pair {
		defer f.stop()
	}
	if err != nil {
		return err
	}
	joined := map[float64]spent{}
	for _, tasks := range fittedTasks {
		if joined[tasks], err = pair[0].spend(ctx, o, pair[1], int(tasks), pair[1].ownID()); err != nil {
			return err
		}
	}
	costs.Participant = sideOf(func(of func(spent) float64) capacity.Cost {
		return capacity.FitTasks(fittedTasks, func(tasks float64) float64 { return of(joined[tasks]) })
	})
	if costs.SendByte, costs.ReceiveByte, err = measureTraffic(ctx, o, pair); err != nil {
		return err
	}
	if err := checkCapacity(ctx, o, costs, scheduler, pair, into); err != nil || o.costs == "" {
		return err
	}
	text, err := json.MarshalIndent(costs, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.costs, append(text, '\n'), 0o644)
}

// containerCost is Docker Engine's processor time for each container, in milliseconds: what the section
// bridge shows for four containers of one job.
const containerCost = 325

// checkCapacity compares predictions with measurements.
func checkCapacity(ctx context.Context, o options, costs capacity.Costs, scheduler *federation,
	pair []*federation, into *report) error {
	section := into.addSection("What a load needs: measured", "predicted")
	for _, c := range capacityChecks {
		from, at, hosts := scheduler, scheduler, scheduler.partnerIDs(c.partners)
		name := fmt.Sprintf("scheduled jobs of %d tasks and %d partners", c.tasks, c.partners)
		if c.joined {
			from, at, hosts = pair[0], pair[1], pair[1].ownID()
			name = fmt.Sprintf("joined jobs of %d tasks", c.tasks)
		}
		got, err := from.spend(ctx, o, at, c.tasks, hosts)
		if err != nil {
			return err
		}
		day := 24 * time.Hour.Seconds()
		load := capacity.Load{Tasks: float64(c.tasks), Partners: float64(c.partners), Peak: 1,
			KeepDays: got.took.Seconds() / day, KeepHistoryDays: got.took.Seconds() / day}
		if rate := float64(got.jobs) / got.took.Seconds() * day; c.joined {
			load.Joined = rate
		} else {
			load.Scheduled = rate
		}
		// A machine large enough that each kind is one process, as here.
		plan := capacity.PlanFor(costs, load, capacity.Machine{Cores: 1000, Use: 1, Disk: 1, Network: 1})
		var cores float64
		for _, p := range plan.Processes {
			if p.Name != "Docker Engine" { // the containers are processes here
				cores += p.Cores
			}
		}
		all := got.api + got.worker + got.transport + got.temporal + got.idle(costs.Idle)
		section.add(predictionFigure(name+": cores", all*float64(got.jobs)/1000/got.took.Seconds(), cores,
			"%.3f"))
		section.add(predictionFigure(name+": bytes of the database for each job", got.database,
			plan.Database/float64(got.jobs), "%.0f"))
		section.add(predictionFigure(name+": bytes of Temporal's database for each job", got.temporalDatabase,
			plan.TemporalDatabase/float64(got.jobs), "%.0f"))
	}
	return nil
}

// predictionFigure compares a measurement with a prediction. The ratio is that of the larger to the smaller.
func predictionFigure(name string, measured, predicted float64, format string) figure {
	return figure{name: name, measured: fmt.Sprintf(format, measured),
		baseline: fmt.Sprintf(format, predicted),
		ratio:    max(measured/predicted, predicted/measured), target: atMost(1.2)}
}

// spent is what a job has cost a party on the average of some: milliseconds of processor time, and bytes.
type spent struct {
	jobs                             int
	took                             time.Duration // of all jobs
	api, worker, transport, temporal float64
	database, temporalDatabase       float64
}

// idle returns the milliseconds for each job that the processes would have taken without jobs.
func (s spent) idle(share capacity.Processes) float64 {
	return (share.API + share.Worker + share.Transport + share.Temporal) * s.took.Seconds() * 1000 /
		float64(s.jobs)
}

// sideOf returns the costs on one side of jobs. fit returns those of one figure.
func sideOf(fit func(of func(spent) float64) capacity.Cost) capacity.Side {
	return capacity.Side{
		API:              fit(func(s spent) float64 { return s.api }),
		Worker:           fit(func(s spent) float64 { return s.worker }),
		Transport:        fit(func(s spent) float64 { return s.transport }),
		Temporal:         fit(func(s spent) float64 { return s.temporal }),
		Database:         fit(func(s spent) float64 { return s.database }),
		TemporalDatabase: fit(func(s spent) float64 { return s.temporalDatabase }),
	}
}

// spend runs jobs that f schedules, and returns what they cost the party at, without what its processes take
// anyway.
func (f *federation) spend(ctx context.Context, o options, at *federation, tasks int,
	hosts []string) (s spent, err error) {
	document, err := f.documentWith("nothing", tasks, hosts)
	if err != nil {
		return s, err
	}
	// Otherwise these reads would be most of what the API does.
	f.deployment.every, at.deployment.every = time.Second/4, time.Second/4
	run := func(jobs int) error {
		return forEachParallel(jobs, 4, func(int) error {
			t, err := f.deployment.runJob(ctx, document)
			if err != nil || at == f {
				return err
			}
			return at.deployment.awaitEnd(ctx, at.deployment.guest, t.status.JobID)
		})
	}
	if err := run(2); err != nil { // to warm up
		return s, fmt.Errorf("failed to run a job of %d tasks with %d partners: %w", tasks, len(hosts), err)
	}
	s.jobs = max(o.capacityWork/(10+tasks*(1+len(hosts))), 4)
	before, sizes, began := at.cpuByKind(), at.sizes(ctx), time.Now()
	if err := run(s.jobs); err != nil {
		return s, fmt.Errorf("failed to run a job of %d tasks with %d partners: %w", tasks, len(hosts), err)
	}
	s.took = time.Since(began)
	after := at.cpuByKind()
	if err := sleep(ctx, o.capacityIdle/5); err != nil { // Temporal deletes what it needs no longer
		return s, err
	}
	grown := at.sizes(ctx)
	each := func(kind string) float64 {
		busy := after[kind] - before[kind] - time.Duration(at.idleShare[kind]*float64(s.took))
		return float64(busy) / float64(time.Millisecond) / float64(s.jobs)
	}
	s.api, s.worker = each("api"), each("worker")
	s.transport, s.temporal = each("transport"), each("temporal")
	s.database = float64(grown.database-sizes.database) / float64(s.jobs)
	s.temporalDatabase = float64(grown.temporal-sizes.temporal) / float64(s.jobs)
	fmt.Printf("%d tasks, %d partners, %d jobs in %.1f s: api %.1f, worker %.1f, transport %.1f, Temporal %.1f ms; "+
		"%.1f and %.1f kB\n", tasks, len(hosts), s.jobs, s.took.Seconds(), s.api, s.worker, s.transport,
		s.temporal, s.database/1e3, s.temporalDatabase/1e3)
	return s, errors.Join(sizes.err, grown.err)
}

// idle measures what the processes take without jobs, as shares of a core.
func (f *federation) idle(ctx context.Context, o options) (p capacity.Processes, err error) {
	if err := sleep(ctx, o.capacityIdle/2); err != nil { // until what a start leaves to do is done
		return p, err
	}
	before := f.cpuByKind()
	if err := sleep(ctx, o.capacityIdle); err != nil {
		return p, err
	}
	f.idleShare = map[string]float64{}
	for kind, total := range f.cpuByKind() {
		f.idleShare[kind] = float64(total-before[kind]) / float64(o.capacityIdle)
	}
	return capacity.Processes{API: f.idleShare["api"], Worker: f.idleShare["worker"],
		Transport: f.idleShare["transport"], Temporal: f.idleShare["temporal"]}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// memoryByKind returns the resident memory of the processes, in bytes.
func (f *federation) memoryByKind() capacity.Processes {
	all := map[string]float64{}
	for i, cmd := range f.started {
		all[f.kinds[i]] += float64(memoryOf(cmd.Process.Pid))
	}
	return capacity.Processes{API: all["api"], Worker: all["worker"], Transport: all["transport"],
		Temporal: all["temporal"]}
}

// databaseSizes are the bytes that the pages of the databases of a party take.
type databaseSizes struct {
	database, kept, temporal int64 // kept is a part of database
	err                      error
}

func (f *federation) sizes(ctx context.Context) (s databaseSizes) {
	s.database, s.err = sizeOfPages(ctx, filepath.Join(f.dir, "hutong.db"), usedPages)
	kept, err := sizeOfPages(ctx, filepath.Join(f.dir, "hutong.db"), keptPages)
	s.kept, s.err = kept, errors.Join(s.err, err)
	add := func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".db" {
			return err
		}
		size, err := sizeOfPages(ctx, path, usedPages)
		s.temporal += size
		return err
	}
	s.err = errors.Join(s.err, filepath.WalkDir(filepath.Join(f.dir, "temporal"), add))
	return s
}

// Queries for the bytes of all pages that are used, and of those of the audit trail and of accounts, with
// their indexes, which nothing removes.
const (
	usedPages = `SELECT (page_count - freelist_count) * page_size
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size`
	keptPages = `SELECT SUM(pgsize) FROM dbstat WHERE name LIKE '%t_audit%' OR name LIKE 'i_audit%'
		OR name LIKE '%t_usage%' OR name LIKE '%t_transfer%' OR name LIKE '%t_job_project%'`
)

// sizeOfPages returns the bytes of some pages of a SQLite database, also of those that are in its write-ahead
// log only.
func sizeOfPages(ctx context.Context, file, query string) (size int64, err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, query).Scan(&size)
	return size, err
}

// partnerIDs returns the ids of the first partners.
func (f *federation) partnerIDs(n int) (nodes []string) {
	for i := range n {
		nodes = append(nodes, f.partner(i))
	}
	return nodes
}

// ownID returns the party's id, as the partner of another one.
func (f *federation) ownID() []string { return []string{f.deployment.guest} }

// startRealPair starts two parties, as startPair does, and measures what they take without jobs.
func startRealPair(ctx context.Context, o options) ([]*federation, error) {
	pair, err := startPair(ctx, o, func(*federation) {})
	if err == nil {
		_, err = pair[1].idle(ctx, o)
	}
	return pair, err
}

// startPair starts two parties that are each other's partner, each with a Temporal server of its own. The
// caller must stop both, even after an error.
func startPair(ctx context.Context, o options, set func(*federation)) (pair []*federation, err error) {
	for range 2 {
		f, err := newFederation(ctx, o)
		pair = append(pair, f)
		if err != nil {
			return pair, err
		}
		set(f)
	}
	for i, f := range pair {
		other := pair[1-i]
		routes := map[string]any{other.deployment.guest: map[string]any{"url": "http://" + other.listen[1],
			"transport_url": "http://" + other.listen[4]}}
		if err := f.startParty(ctx, routes); err != nil {
			return pair, err
		}
	}
	return pair, nil
}

// awaitEnd waits until a job has ended at a party.
func (d *deployment) awaitEnd(ctx context.Context, node, jobID string) error {
	for {
		var own bfia.JobStatus
		if err := d.status(ctx, node, jobID, &own); err != nil {
			return err
		}
		if own.State == bfia.JobFinished {
			return nil
		}
		if err := sleep(ctx, max(d.every, 10*time.Millisecond)); err != nil {
			return err
		}
	}
}
