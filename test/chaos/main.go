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
	if len(os.Args) > 1 && os.Args[1] == "task" { // started by the process driver
		fmt.Fprintln(os.Stderr, "chaos: failed to run the task:", runTask())
		os.Exit(125)
	}
	seedText := flag.String("seed", "1", "number that determines the faults and jobs, or random")
	length := flag.Duration("for", 10*time.Minute, "how long faults are injected")
	settle := flag.Duration("settle", 10*time.Minute, "how long jobs may take to end after that")
	root := flag.String("root", ".", "folder of the repository")
	dir := flag.String("dir", "",
		"folder for the run's data, kept when the run fails (default a new temporary folder)")
	olderFlag := flag.String("older", "", "program hutong of another version, with which all processes begin and to "+
		"which they change at times")
	restores := flag.Bool("restore", false, "also put services of parties back to an earlier state, and finish that")
	show := flag.Bool("plan", false, "print the planned faults and jobs, and exit")
	flag.Parse()
	seed, err := strconv.ParseUint(*seedText, 10, 64)
	if *seedText == "random" {
		seed, err = rand.Uint64N(1<<32)+1, nil
	}
	if err != nil || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr,
			"chaos: --seed %q: must be a number or random; arguments other than flags are not accepted\n",
			*seedText)
		os.Exit(2)
	}
	older, err := olderProgram(*olderFlag)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	if older != "" && *restores {
		fmt.Fprintln(os.Stderr, "chaos: --older and --restore can't be used together")
		os.Exit(2)
	}
	plan := NewPlan(seed, *length)
	if older != "" {
		plan.AddVersionChanges()
	} else {
		plan.AddSecondTransport()
	}
	if *restores {
		plan.AddRestores()
	}
	if *show {
		for _, f := range plan.Faults {
			fmt.Println(f)
		}
		for _, j := range plan.Jobs {
			fmt.Printf("%7.1fs  job %s  %-16s priority %d  %v\n", j.At.Seconds(), j.ID, j.Kind,
				j.Priority, j.Roles)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	good, err := chaos(ctx, plan, *settle, *root, *dir, older, *restores)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

// progress counts the faults that were injected and the jobs that ended.
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

// chaos starts the deployment, runs the plan, and reports whether the checker found nothing wrong.
func chaos(ctx context.Context, plan Plan, settle time.Duration, root, dir, older string,
	restores bool) (good bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	if dir, err = createRunFolder(dir); err != nil {
		return false, err
	}
	fmt.Printf("seed %d: %d faults and %d jobs in %s, at three parties; data in %s\n",
		plan.Seed, len(plan.Faults), len(plan.Jobs), plan.Length, dir)

	d, err := startDeployment(ctx, dir, filepath.Dir(self), root, older, restores)
	defer func() {
		d.stop()
		if good {
			_ = os.RemoveAll(dir)
		} else {
			fmt.Printf("\nlogs, databases and storage are kept in %s\n", dir)
		}
	}()
	if err != nil {
		return false, err
	}

	if err := d.registerAndUpload(ctx); err != nil {
		return false, err
	}
	want, reference, err := d.runReferenceJobs(ctx)
	if err != nil {
		return false, fmt.Errorf("failed to run the jobs without faults: %w", err)
	}
	fmt.Printf("three parties run; without faults each kind of job ended as expected\n\n")
	if older != "" {
		if err := d.migrateAll(); err != nil {
			return false, err
		}
	}
	return d.runPlan(ctx, plan, settle, want, reference)
}

// createRunFolder creates the folder of a run, a temporary one without a name, and returns its absolute path.
func createRunFolder(dir string) (string, error) {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "hutong-chaos-"); err != nil {
			return "", err
		}
		if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
			return "", err
		}
	}
	return filepath.Abs(dir)
}

// runPlan runs the planned jobs while it injects the planned faults, then checks and reports the outcome.
func (d *deployment) runPlan(ctx context.Context, plan Plan, settle time.Duration,
	want map[JobKind]map[string]string, reference []*jobRun) (good bool, err error) {
	began := time.Now()
	done := progress{faults: map[FaultKind]int{}, hits: map[FaultKind]int{}}
	deadline, cancel := context.WithDeadline(ctx, began.Add(plan.Length+settle))
	defer cancel()
	monitor := d.monitorLimits(deadline)

	var faults, jobs sync.WaitGroup
	faults.Go(func() {
		d.injectFaults(deadline, plan, began, &done)
		d.upgradeAll()
	})
	runs := reference
	for _, j := range plan.Jobs {
		r := &jobRun{JobPlan: j}
		runs = append(runs, r)
		jobs.Go(func() {
			if waitUntil(deadline, began.Add(j.At)) {
				d.runJob(deadline, r)
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

	f, err := d.collect(ctx, runs, want)
	if err != nil {
		return false, err
	}
	f.limitViolations = monitor.findings()
	f.trustViolations = d.trustViolations(ctx)
	f.wrongVersions = d.wrongVersions(done.faults[faultVersion])
	f.restoresPlanned = plan.restores()
	f.kills = done.faults[faultContainer] + done.faults[faultKill]
	v := check(f)
	writeReport(os.Stdout, plan, f, &done, v, time.Since(began))
	fmt.Printf("\n%s\n", monitor)
	return v.ok(), nil
}

// waitUntil waits until a time, and reports false when ctx ends before.
func waitUntil(ctx context.Context, t time.Time) bool {
	select {
	case <-time.After(time.Until(t)):
		return true
	case <-ctx.Done():
		return false
	}
}

// runReferenceJobs runs one job of each kind without faults, and returns their outputs for comparison.
func (d *deployment) runReferenceJobs(ctx context.Context) (map[JobKind]map[string]string, []*jobRun, error) {
	want := map[JobKind]map[string]string{}
	var runs []*jobRun
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for i, kind := range []JobKind{jobBoost, jobLR, jobSleeps, jobFails} {
		r := &jobRun{
			JobPlan: JobPlan{Kind: kind, ID: fmt.Sprintf("calm%017d", i+1),
				Roles: map[string]string{"guest": "guest", "host": "host"}},
		}
		if kind == jobLR {
			r.Roles["arbiter"] = "third"
		}
		d.runJob(ctx, r)
		if r.ended.IsZero() {
			return nil, nil, fmt.Errorf("job %s (%s) did not end: %w", r.ID, kind, r.err)
		}
		if err := d.checkOutcome(ctx, r); err != nil {
			return nil, nil, err
		}
		results, unreadable := d.results(ctx, r)
		if len(unreadable) > 0 {
			return nil, nil, fmt.Errorf("failed to read the results of job %s: %v", r.ID, unreadable)
		}
		want[kind] = results
		runs = append(runs, r)
	}
	if len(want[jobBoost]) < 8 || len(want[jobLR]) < 8 {
		return nil, nil, fmt.Errorf("expected at least 8 outputs of each training job, got %d and %d",
			len(want[jobBoost]), len(want[jobLR]))
	}
	return want, runs, nil
}

// checkOutcome checks that a job without faults ended as its kind must. Otherwise there is no reference with
// which to compare jobs under faults.
func (d *deployment) checkOutcome(ctx context.Context, r *jobRun) error {
	guest := d.parties[r.Roles["guest"]]
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
		return fmt.Errorf("job %s (%s) is unknown to its scheduler %s", r.ID, r.Kind, guest.name)
	}

	if good := j.failure == ""; good != (r.Kind != jobFails) {
		return fmt.Errorf("job %s (%s) ended unexpectedly: failure %q, parts %+v",
			r.ID, r.Kind, j.failure, j.parts)
	}
	return nil
}

// injectFaults injects each planned fault at its time. It returns when all faults have ended.
func (d *deployment) injectFaults(ctx context.Context, plan Plan, began time.Time, done *progress) {
	var running sync.WaitGroup
	defer running.Wait()

	for _, f := range plan.Faults {
		if !waitUntil(ctx, began.Add(f.At)) {
			return
		}

		running.Go(func() {
			done.mu.Lock()
			done.active++
			done.mu.Unlock()

			hit, affected := d.injectFault(ctx, f)

			done.mu.Lock()
			defer done.mu.Unlock()
			done.active--
			if hit {
				done.faults[f.Kind]++
				done.hits[f.Kind] += affected
			}
		})
	}
}

// injectFault injects one fault for its duration. It reports whether the fault had a target, and how many
// requests it affected.
func (d *deployment) injectFault(ctx context.Context, f Fault) (hit bool, affected int) {
	if l := d.links[f.Target]; l != nil {
		l.setFault(f.Kind)
		waitUntil(ctx, time.Now().Add(f.For))
		return true, l.clearFault()
	}
	if f.Kind.isRestore() {
		return d.restore(ctx, f), 0
	}
	switch f.Kind {
	case faultContainer:
		return d.killContainer(ctx, d.parties[f.Target]), 0
	case faultRotate:
		return d.rotate(d.parties[f.Target]) == nil, 0
	case faultRekey:
		return d.parties[strings.TrimSuffix(f.Target, " keys")].rekey() == nil, 0
	case faultDrain:
		return d.drainRunners(ctx, d.parties[strings.TrimSuffix(f.Target, " runners")], f.For), 0
	case faultVersion:
		return d.changeVersion(f), 0
	case faultKill:
		hit = d.processes[f.Target].takeDown(syscall.SIGKILL, f.For)
	case faultRestart:
		hit = d.processes[f.Target].takeDown(syscall.SIGTERM, f.For)
	case faultPause:
		hit = d.processes[f.Target].signal(syscall.SIGSTOP)
	}
	waitUntil(ctx, time.Now().Add(f.For))
	if f.Kind == faultPause {
		d.processes[f.Target].signal(syscall.SIGCONT)
	}
	return hit, 0
}

// killContainer kills one running container, or process, of a party.
func (d *deployment) killContainer(ctx context.Context, p *party) bool {
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

// pidOf returns the process whose working directory is a folder, or 0.
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

// cleanupLimit bounds the time until leftovers of lost containers are swept, and until the partners of a
// restored party have ended their sides of jobs.
const cleanupLimit = 4 * time.Minute

// collect gathers the observations after the last fault, once the cleanup is complete or its time is over.
func (d *deployment) collect(ctx context.Context, runs []*jobRun,
	want map[JobKind]map[string]string) (*observations, error) {
	f := &observations{jobs: runs, nodes: map[string]string{}, rows: map[string]map[string]*rows{},
		created: map[string]map[string][]time.Time{}, results: map[string]map[string]string{},
		unreadable: map[string]map[string]string{}, expected: want, restorations: d.restorations}
	deadline := time.Now().Add(cleanupLimit)
	for {
		open, err := d.collectState(ctx, f)
		if err != nil {
			return nil, err
		}
		if !open && len(f.leftovers)+len(f.orphanedSessions()) == 0 || time.Now().After(deadline) {
			break
		}
		waitUntil(ctx, time.Now().Add(time.Second))
	}

	for name, p := range d.parties {
		f.nodes[name] = p.node
		var err error
		if f.created[name], err = p.listStarts(); err != nil {
			return nil, err
		}
	}
	for _, r := range runs {
		if len(want[r.Kind]) > 0 {
			f.results[r.ID], f.unreadable[r.ID] = d.results(ctx, r)
		}
	}
	return f, nil
}

// collectState reads the rows of all parties and lists the leftovers. It reports whether a job is still open.
func (d *deployment) collectState(ctx context.Context, f *observations) (open bool, err error) {
	var reservations []string
	for name, p := range d.parties {
		db, err := p.openDatabase()
		if err != nil {
			return false, err
		}
		var left []string
		if f.rows[name], err = readRows(ctx, db); err == nil {
			left, err = remainingReservations(ctx, db, name)
		}
		_ = db.Close()
		if err != nil {
			return false, fmt.Errorf("failed to read the database of %s: %w", name, err)
		}

		reservations = append(reservations, left...)
		for _, r := range f.rows[name] {
			open = open || r.job != "" && r.job != "FINISHED"
		}
	}

	if f.leftovers, err = d.leftovers(ctx); err != nil {
		return false, err
	}
	f.leftovers = append(f.leftovers, reservations...)
	f.sessions, err = d.sessions()
	return open, err
}

// report prints the progress every ten seconds until the run is over.
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
			fmt.Printf("%4.0f s  %3d faults injected, %d active; %3d jobs ended\n",
				time.Since(began).Seconds(), faults, done.active, done.jobs)
			done.mu.Unlock()
		}
	}
}
