package participant

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantProperties checks that each container runs once, each part that began ends once and is
// reported once as its row says, and no container is left, whatever the scheduler, containers and runners do.
// See [fakeBackend] for the rules.
func TestParticipantProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newFakeBackend(t, flowtest.DrawPlan(t, []bfia.Part{flowtest.GuestA, flowtest.HostA}, 1, 12))
		c.create = rapid.SampledFrom([]string{workflows.UpdateCreate, workflows.UpdateCreateCompact,
			workflows.UpdateCreateMerged}).Draw(t, "create")
		if rapid.Bool().Draw(t, "reserves at creation") {
			c.reserve = &bfia.ReserveRequest{JobID: c.in.Plan.JobID, Generation: 1}
		}
		free := flowtest.DrawSeconds(t, "runner online at", 0, 60)
		c.claims = func(string) error {
			if c.env.Now().Sub(c.began) < free {
				return flowtest.RefusedBy(bfia.CodeUnavailable, "no runner")
			}
			return nil
		}
		end := flowtest.DrawSeconds(t, "end", 1, 300)
		expect := map[string]bfia.TaskState{}
		var cut []string // tasks that may be stopped early
		for _, task := range c.in.Plan.Tasks {
			starts := rapid.IntRange(0, 2).Draw(t, "starts")
			at := flowtest.DrawSeconds(t, "start at", 1, 100)
			for range starts {
				c.at(at, func() { c.startTask(task.Name) })
			}
			if rapid.IntRange(0, 6).Draw(t, "stop it") == 0 {
				own := flowtest.DrawSeconds(t, "stop it at", 0, 150)
				c.at(own, func() { c.stop(task.Name) })
				cut = append(cut, c.in.Plan.WithDependents(task.Name)...)
			}
			for _, part := range task.Parts {
				key := flowtest.PartKey(task.Name, part)
				how := container{
					after: flowtest.DrawSeconds(t, "runs for", 1, 60),
					exit:  max(0, rapid.IntRange(-3, 2).Draw(t, "exit")),
					stays: rapid.IntRange(0, 9).Draw(t, "stays") == 0,
				}
				c.runs[key] = how
				reported, at2 := bfia.TaskState(""), at+flowtest.DrawSeconds(t, "callback after", 0,
					60)+time.Second/2
				if rapid.Bool().Draw(t, "sends callback") {
					reported = rapid.SampledFrom([]bfia.TaskState{bfia.TaskRunning, bfia.TaskSuccess,
						bfia.TaskFailed}).
						Draw(t, "state of callback")
					role := rapid.SampledFrom([]string{part.Role, part.Self()}).Draw(t, "as")
					c.at(at2, func() { c.callback(task.Name, role, reported) })
				}
				// The expected end of a part that began at once, was not stopped, and sent no callback before
				// its exit.
				if free == 0 && starts > 0 && !how.stays && end > at+how.after+20*time.Second &&
					(reported == "" || reported == bfia.TaskRunning) {
					expect[key] = bfia.TaskSuccess
					if how.exit != 0 {
						expect[key] = bfia.TaskFailed
					}
				}
				if free == 0 && starts > 0 && reported == bfia.TaskSuccess && end > at2+20*time.Second &&
					at2 < at+how.after {
					expect[key] = bfia.TaskSuccess
				}
			}
		}
		if rapid.Bool().Draw(t, "continues") { // as new, if it has not started
			c.continues(flowtest.DrawSeconds(t, "continues at", 0, 100))
		}
		c.at(end, func() { c.stop("") })
		_, err := c.play()
		require.NoError(t, err)
		for key, state := range expect {
			if name, _, _ := strings.Cut(key, " "); slices.Contains(cut, name) {
				continue
			}
			require.Equal(t, state, c.rows[key], key)
		}
	})
}
