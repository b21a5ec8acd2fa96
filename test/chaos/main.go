package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "task" { // started by the process device
		fmt.Fprintln(os.Stderr, "chaos:", runTask())
		os.Exit(125)
	}
	seedText := flag.String("seed", "1", "which faults and jobs; random draws one, and prints it")
	length := flag.Duration("for", 10*time.Minute, "how long faults go on")
	settle := flag.Duration("settle", 4*time.Minute, "how long jobs may take to end after the last fault")
	root := flag.String("root", ".", "the repository's folder")
	dir := flag.String("dir", "", "the folder of the run; it stays when something is wrong (default: a new one among the temporary files)")
	show := flag.Bool("plan", false, "only print the plan")
	flag.Parse()
	seed, err := strconv.ParseUint(*seedText, 10, 64)
	if *seedText == "random" {
		seed, err = rand.Uint64N(1<<32)+1, nil
	}
	if err != nil || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "chaos: --seed is a number or random, not %q; nothing but flags is taken\n", *seedText)
		os.Exit(2)
	}
	plan := NewPlan(seed, *length)
	if *show {
		for _, f := range plan.Faults {
			fmt.Println(f)
		}
		for _, j := range plan.Jobs {
			fmt.Printf("%7.1fs  job %s  %-16s priority %d  %v\n", j.At.Seconds(), j.ID, j.Kind, j.Priority, j.Roles)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	good, err := chaos(ctx, plan, *settle, *root, *dir)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

// applied counts what was really done, by kind.
type progress struct {
	mu     sync.Mutex
	faults map[FaultKind]int
	hits   map[FaultKind]int // requests, for links
	active int
	jobs   int // that have ended
}

func (a *progress) countJob() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.jobs++
}

func chaos(ctx context.Context, plan Plan, settle time.Duration, root, dir string) (good bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "hutong-chaos-"); err != nil {
			return false, err
		}
		if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
			return false, err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	fmt.Printf("seed %d: %d faults and %d jobs in %s, at three parties; everything is in %s\n", plan.Seed, len(plan.Faults), len(plan.Jobs), plan.Length, dir)
	w, err := startDeployment(ctx, dir, filepath.Dir(self))
	defer func() {
		w.stop()
		if good {
			_ = os.RemoveAll(dir)
		} else {
			fmt.Printf("\nlogs, databases and storage are in %s\n", dir)
		}
	}()
	if err != nil {
		return false, err
	}
	if err := w.registerAndUpload(ctx, root); err != nil {
		return false, err
	}
	want, reference, err := w.runReferenceJobs(ctx, root)
	if err != nil {
		return false, fmt.Errorf("without any fault: %w", err)
	}
	fmt.Printf("three parties run, and without faults each kind of job ends as it must\n\n")

	began := time.Now()
	done := progress{faults: map[FaultKind]int{}, hits: map[FaultKind]int{}}
	deadline, cancel := context.WithDeadline(ctx, began.Add(plan.Length+settle))
	defer cancel()
	room, err := w.monitorLimits(deadline)
	if err != nil {
		return false, err
	}
	var faults, jobs sync.WaitGroup
	faults.Go(func() { w.injectFaults(deadline, plan, began, &done) })
	runs := reference
	for _, j := range plan.Jobs {
		r := &jobRun{JobPlan: j}
		runs = append(runs, r)
		jobs.Go(func() {
			if waitUntil(deadline, began.Add(j.At)) {
				w.runJob(deadline, root, r)
				done.countJob()
			}
		})
	}
	over := make(chan struct{})
	go func() { jobs.Wait(); faults.Wait(); close(over) }()
	report(over, began, &done)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	f, err := w.collect(ctx, runs, want)
	if err != nil {
		return false, err
	}
	f.limitViolations = room.findings()
	v := check(f)
	writeReport(os.Stdout, plan, f, &done, v, time.Since(began))
	fmt.Printf("\n%s\n", room)
	return v.ok(), nil
}

func waitUntil(ctx context.Context, t time.Time) bool {
	select {
	case <-time.After(time.Until(t)):
		return true
	case <-ctx.Done():
		return false
	}
}

// reference runs one job of each kind before the faults begin, for what they leave.
func (w *deployment) runReferenceJobs(ctx context.Context, root string) (map[JobKind]map[string]string, []*jobRun, error) {
	want := map[JobKind]map[string]string{}
	var runs []*jobRun
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for i, kind := range []JobKind{jobBoost, jobLR, jobSleeps, jobFails} {
		r := &jobRun{JobPlan: JobPlan{Kind: kind, ID: fmt.Sprintf("calm%017d", i+1), Roles: map[string]string{"guest": "guest", "host": "host"}}}
		if kind == jobLR {
			r.Roles["arbiter"] = "third"
		}
		w.runJob(ctx, root, r)
		if r.ended.IsZero() {
			return nil, nil, fmt.Errorf("job %s (%s) does not end: %w", r.ID, kind, r.err)
		}
		if err := w.checkOutcome(ctx, r); err != nil {
			return nil, nil, err
		}
		results, err := w.results(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		want[kind] = results
		runs = append(runs, r)
	}
	if len(want[jobBoost]) < 8 || len(want[jobLR]) < 8 {
		return nil, nil, fmt.Errorf("the jobs left %d and %d outputs", len(want[jobBoost]), len(want[jobLR]))
	}
	return want, runs, nil
}

// checkOutcome tells whether a job that no fault disturbed ended as its kind must: there is no measure without it.
func (w *deployment) checkOutcome(ctx context.Context, r *jobRun) error {
	guest := w.parties[r.Roles["guest"]]
	db, err := guest.openDatabase()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	all, err := readRows(ctx, db)
	if err != nil {
		return err
	}
	j := all[r.ID]
	if j == nil {
		return fmt.Errorf("job %s (%s) is not known to %s, which schedules it", r.ID, r.Kind, guest.name)
	}
	if good := j.failure == ""; good != (r.Kind != jobFails) {
		return fmt.Errorf("job %s (%s) ends wrongly: %s; %+v", r.ID, r.Kind, j.failure, j.parts)
	}
	return nil
}

// injectFaults does what the plan says, and mends it all before it answers.
func (w *deployment) injectFaults(ctx context.Context, plan Plan, began time.Time, done *progress) {
	var under sync.WaitGroup
	defer under.Wait()
	for _, f := range plan.Faults {
		if !waitUntil(ctx, began.Add(f.At)) {
			return
		}
		under.Go(func() {
			done.mu.Lock()
			done.active++
			done.mu.Unlock()
			hit, touched := w.injectFault(ctx, f)
			done.mu.Lock()
			defer done.mu.Unlock()
			done.active--
			if hit {
				done.faults[f.Kind]++
				done.hits[f.Kind] += touched
			}
		})
	}
}

// do does one fault, until it is over, and answers whether it hit something.
func (w *deployment) injectFault(ctx context.Context, f Fault) (hit bool, touched int) {
	if l := w.links[f.Target]; l != nil {
		l.setFault(f.Kind)
		waitUntil(ctx, time.Now().Add(f.For))
		return true, l.clearFault()
	}
	switch f.Kind {
	case faultContainer:
		return w.killContainer(ctx, w.parties[f.Target]), 0
	case faultDrain:
		return w.drainRunners(ctx, w.parties[strings.TrimSuffix(f.Target, " hosts")], f.For), 0
	case faultKill:
		hit = w.processes[f.Target].takeDown(syscall.SIGKILL, f.For)
	case faultRestart:
		hit = w.processes[f.Target].takeDown(syscall.SIGTERM, f.For)
	case faultPause:
		hit = w.processes[f.Target].signal(syscall.SIGSTOP)
	}
	waitUntil(ctx, time.Now().Add(f.For))
	if f.Kind == faultPause {
		w.processes[f.Target].signal(syscall.SIGCONT)
	}
	return hit, 0
}

// killContainer kills one container, or process, of a party that runs now.
func (w *deployment) killContainer(ctx context.Context, p *party) bool {
	if p.dockerSocket == "" {
		folders, _ := filepath.Glob(filepath.Join(p.dir, "runs", "hutong-*"))
		for _, folder := range folders {
			if pid := pidOf(folder); pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				return true
			}
		}
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := p.docker.ContainerList(ctx, container.ListOptions{})
	return err == nil && len(list) > 0 && p.docker.ContainerKill(ctx, list[0].ID, "KILL") == nil
}

// pidOf is the process that runs in a folder; 0 when there is none.
func pidOf(folder string) int {
	entries, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, e := range entries {
		if cwd, err := os.Readlink(e); err == nil && cwd == folder {
			var pid int
			if _, err := fmt.Sscanf(e, "/proc/%d/cwd", &pid); err == nil {
				return pid
			}
		}
	}
	return 0
}

// cleanupLimit is how long what nobody watched at its end may take to be swept: see docs/reliability.md.
const cleanupLimit = 3 * time.Minute

// look gathers the facts once all is mended, leaving what is on its way out the time to go.
func (w *deployment) collect(ctx context.Context, runs []*jobRun, want map[JobKind]map[string]string) (*observations, error) {
	f := &observations{jobs: runs, rows: map[string]map[string]*rows{}, created: map[string]map[string]int{}, results: map[string]map[string]string{}, expected: want}
	deadline := time.Now().Add(cleanupLimit)
	for {
		open := false
		var held []string
		for name, p := range w.parties {
			db, err := p.openDatabase()
			if err != nil {
				return nil, err
			}
			f.rows[name], err = readRows(ctx, db)
			if err == nil {
				var left []string
				left, err = remainingReservations(ctx, db, name)
				held = append(held, left...)
			}
			_ = db.Close()
			if err != nil {
				return nil, fmt.Errorf("reading the database of %s: %w", name, err)
			}
			for _, r := range f.rows[name] {
				open = open || r.job != "" && r.job != "FINISHED"
			}
		}
		var err error
		if f.leftovers, err = w.leftovers(ctx); err != nil {
			return nil, err
		}
		f.leftovers = append(f.leftovers, held...)
		if !open && len(f.leftovers) == 0 || time.Now().After(deadline) {
			break
		}
		waitUntil(ctx, time.Now().Add(time.Second))
	}
	for name, p := range w.parties {
		var err error
		if f.created[name], err = p.countStarts(); err != nil {
			return nil, err
		}
	}
	for _, r := range runs {
		if r.ended.IsZero() || len(want[r.Kind]) == 0 {
			continue
		}
		var err error
		if f.results[r.ID], err = w.results(ctx, r); err != nil {
			f.unreadable = append(f.unreadable, err.Error()) // a finding, not the end of the checker
		}
	}
	return f, nil
}

// report prints how it goes until it is over.
func report(over <-chan struct{}, began time.Time, done *progress) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			done.mu.Lock()
			faults := 0
			for _, n := range done.faults {
				faults += n
			}
			fmt.Printf("%4.0f s  %3d faults done, %d at work; %3d jobs ended\n", time.Since(began).Seconds(), faults, done.active, done.jobs)
			done.mu.Unlock()
		}
	}
}
