package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// writeReport prints the injected faults, the jobs and the findings.
func writeReport(w io.Writer, plan Plan, f *observations, done *progress, v *findings, took time.Duration) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	say("\nseed %d, %.0f s including the cleanup\n\n", plan.Seed, took.Seconds())
	ends, tries := map[string]int{}, 0
	for _, j := range f.jobs {
		ends[fmt.Sprintf("  %-18s %-22s", j.Kind, f.end(j))]++
		tries += j.tries
	}
	say("jobs: %d, submitted in %d tries\n", len(f.jobs), tries)
	for _, line := range slices.Sorted(maps.Keys(ends)) {
		say("%s %4d\n", line, ends[line])
	}
	planned, hit := map[FaultKind]int{}, 0
	for _, fault := range plan.Faults {
		planned[fault.Kind]++
	}
	for _, n := range done.faults {
		hit += n
	}
	say("faults: %d of the %d planned had a target\n", hit, len(plan.Faults))
	for _, kind := range slices.Sorted(maps.Keys(planned)) {
		say("  %-18s %4d of %d", kind, done.faults[kind], planned[kind])
		if n := done.hits[kind]; n > 0 {
			say("  affected %d requests", n)
		}
		say("\n")
	}
	runs, once, retries := 0, 0, 0
	for _, starts := range f.created {
		for run, times := range starts {
			runs++
			if len(times) == 1 {
				once++
			}
			if !strings.HasSuffix(run, "-1") {
				retries++
			}
		}
	}
	say("containers and processes: %d, of which %d were created exactly once, and %d belong to retries\n\n",
		runs, once, retries)
	if f.restoresPlanned > 0 {
		say("%s\n\n", f.restoreFigures())
	}
	for _, part := range []struct {
		name  string
		found []string
	}{{"lost", v.lost}, {"duplicated", v.duplicated}, {"orphaned", v.orphaned}, {"wrong states", v.wrong}} {
		say("%-14s %d\n", part.name, len(part.found))
		slices.Sort(part.found)
		for _, finding := range part.found {
			say("    %s\n", finding)
		}
	}
}

// end returns how a job ended according to its scheduler's database.
func (f *observations) end(j *jobRun) string {
	r := f.rows[j.Roles["guest"]][j.ID]
	switch {
	case r == nil:
		return "unknown"
	case r.scheduled != "FINISHED":
		return r.scheduled
	case r.failure == "":
		return "SUCCESS"
	}
	var failure struct{ Kind string }
	if err := json.Unmarshal([]byte(r.failure), &failure); err != nil {
		return r.failure
	}
	return failure.Kind
}
