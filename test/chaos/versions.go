package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// versions has the program of each party's process. With another version than the one under test
// (make upgrade), processes begin with the older one and change to and fro.
type versions struct {
	current string // hutong of the version under test
	older   string // that of the other version; empty if there is none

	mu        sync.Mutex
	isCurrent map[string]bool // by the name of a process
	upgraded  bool            // all processes stay current
}

func newVersions(current, older string) *versions {
	return &versions{current: current, older: older, isCurrent: map[string]bool{}, upgraded: older == ""}
}

// first returns the program with which a party is set up.
func (v *versions) first() string {
	if v.older != "" {
		return v.older
	}
	return v.current
}

// of returns the program of a process, as its next start uses it.
func (v *versions) of(process string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.upgraded || v.isCurrent[process] {
		return v.current
	}
	return v.older
}

// change makes the next start of a process use the other version.
func (v *versions) change(process string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.isCurrent[process] = !v.isCurrent[process]
}

// upgrade makes all processes use the current version for good. It returns those that ran the older one.
func (v *versions) upgrade(processes []string) (older []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range processes {
		if !v.upgraded && !v.isCurrent[p] {
			older = append(older, p)
		}
	}
	v.upgraded = true
	return older
}

// partyProcesses returns the names of all processes of all parties.
func partyProcesses() (names []string) {
	for _, party := range parties {
		for _, part := range parts {
			names = append(names, party+" "+part)
		}
	}
	return names
}

const versionSuffix = " version"

// AddVersionChanges adds faults that restart a process with the other version: upgrades and rollbacks, in
// every mix. All processes change before one changes again.
func (p *Plan) AddVersionChanges() {
	r := rand.New(rand.NewPCG(p.Seed, 6))
	processes := partyProcesses()
	var order []int
	for at := quietPeriod; ; {
		if len(order) == 0 {
			order = r.Perm(len(processes))
		}
		at += time.Duration(1500+r.IntN(3000)) * time.Millisecond
		f := Fault{At: at, For: time.Duration(r.IntN(1500)) * time.Millisecond, Kind: faultVersion,
			Target: processes[order[0]] + versionSuffix}
		order = order[1:]
		if f.At+f.For > p.Length-quietPeriod {
			break
		}
		p.Faults = append(p.Faults, f)
	}
	p.sortFaults()
}

// migrateAll migrates the databases of all parties to the current version, while the older one's processes
// run.
func (d *deployment) migrateAll() error {
	for _, name := range parties {
		p := d.parties[name]
		if out, err := p.hutong(d.versions.current, "migrate").CombinedOutput(); err != nil {
			return fmt.Errorf("failed to migrate the database of %s to the current version: %w: %s", name, err, out)
		}
	}
	return nil
}

// changeVersion restarts a process with the other version.
func (d *deployment) changeVersion(f Fault) bool {
	name := strings.TrimSuffix(f.Target, versionSuffix)
	d.versions.change(name)
	return d.processes[name].takeDown(syscall.SIGTERM, f.For)
}

// upgradeAll restarts all processes that do not run the current version with it.
func (d *deployment) upgradeAll() {
	for _, name := range d.versions.upgrade(partyProcesses()) {
		d.processes[name].takeDown(syscall.SIGTERM, 0)
	}
}

// wrongVersions lists the processes that do not run the current version, after all were upgraded. changes is
// how often one was restarted with the other version.
func (d *deployment) wrongVersions(changes int) (found []string) {
	if d.versions.older == "" {
		return nil
	}
	if changes == 0 {
		found = append(found, "no process has changed its version while jobs ran")
	}
	for _, name := range partyProcesses() {
		if program := d.processes[name].program(); program != d.versions.current {
			found = append(found, fmt.Sprintf("%s runs %q", name, program))
		}
	}
	return found
}

// olderProgram returns the path of the older version's program, and an error if it can't be run.
func olderProgram(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("--older: %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("--older: %s is not a program", path)
	}
	return path, nil
}
