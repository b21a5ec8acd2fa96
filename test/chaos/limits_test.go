package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLimitViolations checks that reservations above a limit are reported, and others are not.
func TestLimitViolations(t *testing.T) {
	of := func(initiators ...string) (held []reservation) {
		for _, i := range initiators {
			held = append(held, reservation{"j", i, 1})
		}
		return held
	}
	for _, c := range []struct {
		limits limits
		held   []reservation
		want   string
	}{
		{limits{}, of("A", "B", "B", "B"), ""},
		{limits{}, of("A", "A", "A", "A", "A"), "jobs hold 5 of 4 slots"},
		{limits{atOnce: 2}, of("A", "B"), ""},
		{limits{atOnce: 2}, of("A", "B", "B"), "3 jobs hold slots, and the limit is 2"},
		{limits{perPartner: 1}, of("A", "A", "B"), ""},
		{limits{perPartner: 1}, of("B", "B"), "2 jobs of B hold slots, and the limit is 1"},
		{limits{tasksAtOnce: 3}, []reservation{{"j", "A", 3}}, ""},
		{limits{tasksAtOnce: 3}, []reservation{{"j", "A", 2}, {"k", "A", 2}},
			"jobs hold 4 slots, and the limit of tasks at once is 3"},
	} {
		got := c.limits.violation("A", c.held)
		if c.want == "" {
			require.Empty(t, got)
		} else {
			require.Contains(t, got, c.want)
		}
	}
}

// TestLimitMonitorFindings checks that violations and missing samples are reported.
func TestLimitMonitorFindings(t *testing.T) {
	r := &limitMonitor{samples: map[string]int{}, maxJobs: map[string]int{}}
	for range 10 {
		for _, name := range parties {
			r.record(name, "", 2)
		}
	}
	require.Empty(t, r.findings())
	r.record("host", "too many", 9)
	require.Equal(t, []string{"at host too many"}, r.findings())
	r.samples["third"] = 3
	require.Len(t, r.findings(), 2, "too few samples prove nothing")
}
