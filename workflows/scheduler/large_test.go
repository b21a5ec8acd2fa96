package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestJobOfThousandTasks runs DAGs that are as deep and as wide as they get. All rules of [fakeParties] hold,
// and no task is left out or started twice.
func TestJobOfThousandTasks(t *testing.T) {
	n := 1000
	if raceEnabled {
		n = 150 // it takes minutes with the race detector; make test runs it without
	}
	for _, c := range []struct {
		name  string
		after func(i int) string // the dependencies of the i-th task
		most  int                // tasks in flight at once
	}{
		{"deep", func(i int) string { return fmt.Sprintf("<t%d", i-1) }, 1},
		{"wide", func(int) string { return "<t0" }, flowtest.Settings.TasksInFlight},
		{"both", func(i int) string { return fmt.Sprintf("<t%d,t%d", (i-1)/2, max(0, i-10)) },
			flowtest.Settings.TasksInFlight},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tasks := []string{"t0"}
			for i := 1; i < n; i++ {
				tasks = append(tasks, fmt.Sprintf("t%d%s", i, c.after(i)))
			}
			f := newFakeParties(t, flowtest.Plan(flowtest.TwoNodes, tasks...))
			r, err := f.run()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			assert.LessOrEqual(t, f.most, c.most)
			started := 0
			for _, command := range f.sent {
				if strings.HasPrefix(command, "start t") {
					started++
				}
			}
			assert.Equal(t, len(f.in.Nodes)*n, started)
		})
	}
}
