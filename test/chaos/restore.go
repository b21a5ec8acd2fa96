package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"hutong/bfia"
)

// restoration is a restore that was done: what the party's database had before it, after it, and once hutong
// restore finish had run. Nothing of the party ran in between.
type restoration struct {
	party string
	kind  FaultKind
	// finishBegan and finishEnded are the times of the run of hutong restore finish that succeeded, ready is
	// the time at which the party could run all jobs again.
	finishBegan, finishEnded, ready time.Time
	before, after, finished         map[string]*rows
	refused                         bool     // a start was refused before hutong restore finish
	interrupted                     bool     // hutong restore finish was killed once
	problems                        []string // where it went otherwise than documented
}

// stepLimit bounds the tries of one step, while other faults prevent it.
const stepLimit = 3 * time.Minute

// insist repeats a step until it succeeds.
func insist(ctx context.Context, what string, step func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	for {
		err := step(ctx)
		if err == nil {
			return nil
		}
		if !waitUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			return fmt.Errorf("failed to %s: %w", what, err)
		}
	}
}

// restore makes a backup of a party, waits, puts a service of the party back to it, and follows
// docs/operators/backup.md. It reports whether it did so.
func (d *deployment) restore(ctx context.Context, f Fault) bool {
	p := d.parties[strings.TrimSuffix(f.Target, backupSuffix)]
	name := fmt.Sprintf("backup-%s-%d", p.name, f.At.Milliseconds())
	began := time.Now()
	mark, err := d.backup(ctx, p, name)
	if err != nil {
		d.addRestoration(&restoration{party: p.name, kind: f.Kind, problems: []string{err.Error()}})
		return false
	}
	// The party's control worker counts the restore mark at each start, so that the restore can be found out.
	for _, part := range []time.Duration{f.For / 3, f.For / 2} {
		if !waitUntil(ctx, began.Add(part)) {
			return false
		}
		d.processes[p.name+" control"].takeDown(syscall.SIGTERM, 0)
	}
	if !waitUntil(ctx, began.Add(f.For)) {
		return false
	}

	p.services.Lock()
	defer p.services.Unlock()
	r := &restoration{party: p.name, kind: f.Kind}
	if err := d.restoreServices(ctx, p, f, r, name, mark); err != nil {
		r.problems = append(r.problems, err.Error())
		d.addRestoration(r)
	}
	d.release(p)
	if err := d.resume(ctx, p, r); err != nil {
		r.problems = append(r.problems, err.Error())
	}
	fmt.Printf("%s of %s: %s\n", f.Kind, p.name, r)
	return true
}

func (d *deployment) addRestoration(r *restoration) {
	d.restoring.Lock()
	defer d.restoring.Unlock()
	d.restorations = append(d.restorations, r)
}

// restoredSince reports whether a restore of a party was finished after a time.
func (d *deployment) restoredSince(party string, at time.Time) bool {
	d.restoring.Lock()
	defer d.restoring.Unlock()
	for _, r := range d.restorations {
		if r.party == party && r.finishEnded.After(at) {
			return true
		}
	}
	return false
}

// backup copies a party's services while it runs, in the documented order. It returns the restore mark after
// that.
func (d *deployment) backup(ctx context.Context, p *party, name string) (mark int64, err error) {
	p.services.RLock()
	defer p.services.RUnlock()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"database", func(ctx context.Context) error { return d.backupDatabase(ctx, p, name) }},
		{"Temporal", func(ctx context.Context) error {
			from := filepath.Join(d.temporalDir(p.temporalName), "temporal.db")
			return copySQLite(ctx, from, filepath.Join(d.dir, name+".temporal"))
		}},
		{"storage", func(ctx context.Context) error {
			return copyFolder(ctx, filepath.Join(p.dir, "storage"), filepath.Join(d.dir, name+".storage"))
		}},
		{"restore mark", func(ctx context.Context) error {
			mark, err = p.restoreMark(ctx)
			return err
		}},
	} {
		if err := insist(ctx, "back up the "+step.what+" of "+p.name, step.do); err != nil {
			return 0, err
		}
	}
	return mark, nil
}

func (d *deployment) backupDatabase(ctx context.Context, p *party, name string) error {
	if p.sqlite() != "" {
		return copySQLite(ctx, p.sqlite(), filepath.Join(d.dir, name+".db"))
	}
	return run(ctx, d.pg("pg_dump", "-Fc", "-h", d.postgres, "-U", "postgres", "-d", p.name, "-f",
		filepath.Join(d.postgres, name+".dump")))
}

// sqlite returns the file of the party's database, or "" if it is PostgreSQL.
func (p *party) sqlite() string {
	file, found := strings.CutPrefix(p.database, "sqlite://")
	if !found {
		return ""
	}
	return file
}

// copySQLite copies a database of SQLite that is in use.
func copySQLite(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil { // of an earlier try
		return err
	}
	db, err := sql.Open("sqlite", "file:"+from+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return err
}

// copyFolder replaces a folder by a copy of another one.
func copyFolder(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return run(ctx, exec.Command("cp", "-a", from, to))
}

// run runs a command until ctx ends. Its error has the command's output.
func run(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := await(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	return nil
}

// await starts a command, and kills it when ctx ends before.
func await(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}

func (p *party) restoreMark(ctx context.Context) (mark int64, err error) {
	db, err := p.openDatabase()
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	return mark, db.QueryRowContext(ctx, "SELECT number FROM t_restore_mark").Scan(&mark)
}

// readJobs reads all jobs of a party from its database.
func (p *party) readJobs(ctx context.Context, into *map[string]*rows) error {
	return insist(ctx, "read the database of "+p.name, func(ctx context.Context) error {
		db, err := p.openDatabase()
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		*into, err = readRows(ctx, db)
		return err
	})
}

// restoreServices stops a party's processes, restores the service, and finishes the restore. mark is the
// restore mark of the backup.
func (d *deployment) restoreServices(ctx context.Context, p *party, f Fault, r *restoration, name string,
	mark int64) error {
	d.holdParty(p, f)
	var last int64
	if err := insist(ctx, "read the restore mark of "+p.name, func(ctx context.Context) (err error) {
		last, err = p.restoreMark(ctx)
		return err
	}); err != nil {
		return err
	}
	if err := p.readJobs(ctx, &r.before); err != nil {
		return err
	}
	if err := d.replaceServices(ctx, p, f.Kind, name); err != nil {
		return err
	}
	if err := p.readJobs(ctx, &r.after); err != nil {
		return err
	}
	d.processes[p.temporalName].release()
	migrate := func(ctx context.Context) error { return run(ctx, p.hutong(d.versions.current, "migrate")) }
	if err := insist(ctx, "migrate "+p.name, migrate); err != nil {
		return err
	}
	// Marks of one service that are two behind belong to another time. A restored set agrees.
	if f.Kind != faultRestoreAll && last >= mark+2 {
		r.refused = true
		for _, args := range [][]string{{"api"}, {"worker", "--only", "control"},
			{"worker", "--only", "runner"}} {
			if problem := d.requireRefusal(ctx, p, args...); problem != "" {
				r.problems = append(r.problems, problem)
			}
		}
	}
	return d.finishRestore(ctx, p, f, r)
}

// processNames returns the names of a party's processes, with all of its transports.
func (p *party) processNames() (names []string) {
	for _, part := range parts {
		names = append(names, p.name+" "+part)
	}
	for i := 1; i < len(p.transports); i++ {
		names = append(names, transportName(p, i))
	}
	return names
}

// holdParty stops or kills all processes of a party at once, and its Temporal server if that is restored.
func (d *deployment) holdParty(p *party, f Fault) {
	signal := syscall.SIGTERM
	if f.Crash {
		signal = syscall.SIGKILL
	}
	var ended sync.WaitGroup
	for _, name := range p.processNames() {
		ended.Go(func() { d.processes[name].hold(signal, 20*time.Second) })
	}
	ended.Wait()
	if f.Kind.concernsTemporal() {
		d.processes[p.temporalName].hold(syscall.SIGTERM, 20*time.Second)
	}
}

// replaceServices replaces the services that a restore concerns by their backup, and empties the spool.
func (d *deployment) replaceServices(ctx context.Context, p *party, kind FaultKind, name string) error {
	if kind.concernsDatabase() {
		if err := insist(ctx, "restore the database of "+p.name, func(ctx context.Context) error {
			return d.restoreDatabase(ctx, p, name)
		}); err != nil {
			return err
		}
	}
	temporal, storage := d.temporalDir(p.temporalName), filepath.Join(p.dir, "storage")
	if kind.concernsTemporal() {
		if err := os.RemoveAll(temporal); err != nil {
			return err
		}
		if kind != faultLoseTemporal {
			if err := os.Mkdir(temporal, 0o755); err != nil {
				return err
			}
			err := run(ctx, exec.Command("cp", filepath.Join(d.dir, name+".temporal"),
				filepath.Join(temporal, "temporal.db")))
			if err != nil {
				return err
			}
		}
	}
	switch {
	case kind == faultLoseStorage:
		if err := os.RemoveAll(storage); err != nil {
			return err
		}
	case kind.concernsStorage():
		if err := copyFolder(ctx, filepath.Join(d.dir, name+".storage"), storage); err != nil {
			return err
		}
	}
	spool, err := filepath.Glob(filepath.Join(p.dir, "spool*", "*"))
	for _, path := range spool {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

func (d *deployment) restoreDatabase(ctx context.Context, p *party, name string) error {
	if p.sqlite() == "" {
		return run(ctx, d.pg("pg_restore", "--clean", "--if-exists", "-h", d.postgres, "-U", "postgres", "-d",
			p.name, filepath.Join(d.postgres, name+".dump")))
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(p.sqlite() + suffix); err != nil {
			return err
		}
	}
	return run(ctx, exec.Command("cp", filepath.Join(d.dir, name+".db"), p.sqlite()))
}

// requireRefusal starts a process of a party, and returns a message unless the process refuses to start
// because of the restore.
func (d *deployment) requireRefusal(ctx context.Context, p *party, args ...string) string {
	var out string
	if err := insist(ctx, "start", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		err := run(ctx, p.hutong(d.versions.current, args...))
		out = fmt.Sprint(err)
		if strings.Contains(out, "it was restored from a backup") || strings.Contains(out, "is ready") {
			return nil
		}
		return errors.New("it failed for another reason") // a fault prevents it
	}); err != nil || strings.Contains(out, "is ready") {
		return fmt.Sprintf("hutong %s of %s did not refuse to start: %s", strings.Join(args, " "), p.name,
			out)
	}
	return ""
}

// restorePlan is what hutong restore check and finish print.
type restorePlan struct {
	Problems []string
	Jobs     []struct{ JobID string }
	Lost     []struct{ Kind, Name string }
}

// restoreCommand runs hutong restore, and returns what it prints.
func (d *deployment) restoreCommand(ctx context.Context, p *party, verb string) (plan restorePlan,
	err error) {
	cmd := p.hutong(d.versions.current, "restore", verb, "--json")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = await(ctx, cmd)
	if broken := json.Unmarshal(out.Bytes(), &plan); broken != nil {
		return plan, fmt.Errorf("hutong restore %s: %w: %s %s", verb, errors.Join(err, broken), out.Bytes(),
			problems.Bytes())
	}
	var exit *exec.ExitError // of a check that found something
	if verb == "check" && errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	}
	return plan, err
}

// finishRestore runs hutong restore check and finish.
func (d *deployment) finishRestore(ctx context.Context, p *party, f Fault, r *restoration) error {
	if err := insist(ctx, "check the restore of "+p.name, func(ctx context.Context) error {
		plan, err := d.restoreCommand(ctx, p, "check")
		if err == nil && r.refused && len(plan.Problems) == 0 {
			r.problems = append(r.problems, "hutong restore check of "+p.name+" found nothing")
		}
		return err
	}); err != nil {
		return err
	}
	if f.Interrupt > 0 {
		short, cancel := context.WithTimeout(ctx, f.Interrupt)
		_, err := d.restoreCommand(short, p, "finish")
		cancel()
		r.interrupted = err != nil
	}
	if err := insist(ctx, "finish the restore of "+p.name, func(ctx context.Context) error {
		r.finishBegan = time.Now()
		_, err := d.restoreCommand(ctx, p, "finish")
		return err
	}); err != nil {
		return err
	}
	r.finishEnded = time.Now()
	if err := p.readJobs(ctx, &r.finished); err != nil {
		return err
	}
	d.addRestoration(r)
	return nil
}

// release lets the processes of a party start again.
func (d *deployment) release(p *party) {
	d.processes[p.temporalName].release()
	for _, name := range p.processNames() {
		d.processes[name].release()
	}
}

// resume waits until a party serves again, and repeats what its restore has undone: it uploads its datasets
// if the storage was lost, and undrains runners that were drained at the time of the backup.
func (d *deployment) resume(ctx context.Context, p *party, r *restoration) error {
	if err := insist(ctx, "start "+p.name, func(ctx context.Context) error {
		return call(ctx, p, http.MethodGet, bfia.PathReady, nil, nil)
	}); err != nil {
		return err
	}
	if r.kind == faultLoseStorage {
		if err := insist(ctx, "upload again", func(ctx context.Context) error {
			return d.upload(ctx, p)
		}); err != nil {
			return err
		}
	}
	if r.kind.concernsDatabase() {
		if err := insist(ctx, "undrain the runners of "+p.name, func(ctx context.Context) error {
			return p.setDraining(ctx, false)
		}); err != nil {
			return err
		}
	}
	r.ready = time.Now()
	return nil
}

func (r *restoration) String() string {
	touched, forgotten := 0, 0
	for id := range r.before {
		switch {
		case r.finished[id] == nil:
			forgotten++
		case !r.after[id].ended():
			touched++
		}
	}
	text := fmt.Sprintf("%d jobs ended by it, %d forgotten, of %d", touched, forgotten, len(r.before))
	if r.refused {
		text += "; the start was refused before"
	}
	if r.interrupted {
		text += "; finish was killed once"
	}
	if len(r.problems) > 0 {
		text += "; " + strings.Join(r.problems, "; ")
	}
	return text
}
