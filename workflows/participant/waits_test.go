package participant

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestParticipantWaits takes a job through everything for which it can wait at a participant: an approval,
// its scheduler, resources, a slot of its reservation, and a runner. Temporal's UI says each with its time,
// and the rows have what the status can't derive.
func TestParticipantWaits(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a", "b"))
	c.in.Approval = true
	c.runs["a guest.0"] = container{after: 5 * time.Minute}
	c.admits = func() bfia.Grant {
		if c.env.Now().Sub(c.began) < 4*time.Minute {
			return bfia.Grant{Reason: "it is full"}
		}
		return bfia.Grant{Granted: true, Parallelism: 1}
	}
	c.claims = func(task string) error {
		if task == "a" && c.env.Now().Sub(c.began) < 8*time.Minute {
			return flowtest.RefusedBy(bfia.CodeUnavailable, "no other runner is online")
		}
		return nil
	}
	shown := func(after time.Duration, texts ...string) {
		c.at(after, func() {
			details := flowtest.Details(t, c.env)
			for _, text := range texts {
				assert.Contains(t, details, text, "after %s", after)
			}
			assert.Equal(t, len(texts), strings.Count(details, "(since "), "after %s: %s", after, details)
		})
	}
	shown(30*time.Second, "waits for the approval of A")
	c.at(time.Minute, func() { c.audit(bfia.JobReady, "") })
	shown(90*time.Second, "waits for its scheduler B")
	c.at(2*time.Minute, func() { c.start("a", "b") })
	shown(3*time.Minute, "- It waits for resources at A: it is full",
		"| a | guest.0 | RUNNING: waits for resources at A: the job has no reservation yet",
		"| b | guest.0 | RUNNING: waits for resources at A: the job has no reservation yet")
	shown(7*time.Minute, "waits for a runner: no other runner is online",
		"waits for a slot: the reservation at A runs 1 task of the job at a time")
	c.at(30*time.Minute, func() { c.stop("") })

	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
	kinds := map[bfia.WaitingKind]bool{}
	for _, w := range c.waited {
		assert.NotEmpty(t, w.Message)
		assert.False(t, w.Since.IsZero())
		kinds[w.Kind] = true
	}
	for _, kind := range []bfia.WaitingKind{bfia.WaitsForApproval, bfia.WaitsForResources, bfia.WaitsForSlot,
		bfia.WaitsForRunner} {
		assert.True(t, kinds[kind], "%s is not recorded", kind)
	}
	for key, w := range c.partWaits {
		assert.Nil(t, w, "%s ended", key)
	}
}

// TestParticipantRecordsWaits has a runner report waits that it could not record. The workflow shows them at
// once, and records them as soon as the database answers, also their end. A wait that is over by then does
// not stay in the row.
func TestParticipantRecordsWaits(t *testing.T) {
	for name, ends := range map[string]time.Duration{
		"ends after the outage": 5 * time.Minute, "ends during the outage": 150 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			c := newFakeBackend(t, flowtest.Plan([]bfia.Part{flowtest.GuestA}, "a"))
			c.runs["a guest.0"] = container{after: 10 * time.Minute}
			from, until := time.Minute, 4*time.Minute
			c.down = func(name string) bool {
				now := c.env.Now().Sub(c.began)
				return name == "RecordTaskWait" && now > from && now < until
			}
			report := func(w *bfia.Waiting, unrecorded bool) {
				c.env.SignalWorkflow(workflows.SignalTaskWait, activities.PartWait{TaskID: c.taskID("a"),
					NodeID: flowtest.NodeA, Part: "guest.0", Waiting: w, Unrecorded: unrecorded})
			}
			shown := func() bool {
				return strings.Contains(flowtest.Details(t, c.env), "tries again: no database")
			}
			row := func() *bfia.Waiting {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.partWaits["a guest.0"]
			}
			c.at(time.Second, func() { c.start("a") })
			c.at(2*time.Minute, func() {
				report(&bfia.Waiting{Kind: bfia.WaitsForDatabase, NodeID: flowtest.NodeA,
					Message: "tries again: no database", Since: c.env.Now()}, true)
			})
			c.at(140*time.Second, func() {
				assert.True(t, shown())
				assert.Nil(t, row())
			})
			c.at(ends-5*time.Second, func() {
				assert.True(t, shown())
				assert.Equal(t, ends > until, row() != nil)
			})
			c.at(ends, func() { report(nil, false) })
			c.at(ends+5*time.Second, func() { assert.False(t, shown()) })
			c.at(6*time.Minute, func() { assert.Nil(t, row()) })
			c.at(30*time.Minute, func() { c.stop("") })

			r, err := c.play()
			require.NoError(t, err)
			assert.Equal(t, workflows.OutcomeSuccess, r.Outcome)
			recorded := 0
			for _, w := range c.waited {
				if w.Message == "tries again: no database" {
					recorded++
				}
			}
			assert.Positive(t, recorded, "the workflow recorded it")
		})
	}
}
