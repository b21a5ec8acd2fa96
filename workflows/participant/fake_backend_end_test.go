package participant

import (
	"context"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

func (c *fakeBackend) requestStop(_ context.Context, in participant.RequestStopInput) error {
	key := in.Key
	defer c.enter()()
	c.requested[flowtest.PartKey(key.Task, bfia.Part{Role: key.Role, Index: key.Index})] = true
	return nil
}

func (c *fakeBackend) stopRun(ctx context.Context, req runner.StopTaskInput) error {
	defer c.enter()()
	key := flowtest.PartKey(req.Key.Task, req.Part)
	if err := c.errors["StopTask"]; err != nil {
		return err
	}
	if queue := activity.GetInfo(ctx).TaskQueue; queue != activities.StopQueueOfRunner(
		"runner-"+req.Part.Role,
	) ||
		req.Grace != flowtest.Settings.StopGrace ||
		!c.requested[key] {
		c.breaks("stop %v on %s within %s, asked for in its row: %v", req, queue, req.Grace, c.requested[key])
	}
	c.happens("stop " + key)
	c.exits(key, container{exit: 143}.result())
	return nil
}

func (c *fakeBackend) release(_ context.Context, in participant.ReleaseSessionInput) error {
	session := in.Session
	defer c.enter()()
	known := session == bfia.SessionID(c.in.Plan.JobID)
	for task, version := range c.versions {
		known = known ||
			version > 0 && session == bfia.AttemptSessionID(c.in.Plan.JobID, c.taskID(task), version+1, "")
	}
	if len(c.running) > 0 || !known {
		c.breaks("session %s released while %d containers are there", session, len(c.running))
	}
	c.happens("release")
	return nil
}

func (c *fakeBackend) forget(context.Context, participant.ForgetJobInput) ([]participant.Waiting, error) {
	defer c.enter()()
	clear(c.rows)
	c.reserved = false
	c.happens("forget")
	return c.waiters, nil
}

// endPart records an end and reports it, as two activities would.
func (c *fakeBackend) endPart(ctx context.Context, in participant.EndPartInput) (participant.EndPartResult,
	error) {
	if err := c.recordEnd(ctx, in.End); err != nil {
		return participant.EndPartResult{}, err
	}
	if c.down != nil && c.down("report") {
		return participant.EndPartResult{}, nil
	}
	err := c.report(ctx, in.Callback)
	if _, reason, refused := workflows.RefusalCode(err); refused {
		return participant.EndPartResult{Refused: reason}, nil
	}
	return participant.EndPartResult{Reported: err == nil}, nil
}

// endJob ends a job, as three activities would.
func (c *fakeBackend) endJob(ctx context.Context, in participant.EndJobInput) (participant.EndJobResult,
	error) {
	waiting, err := c.giveBack(ctx, in.Release)
	if err != nil {
		return participant.EndJobResult{}, err
	}
	if err := c.recordState(ctx, in.State); err != nil {
		return participant.EndJobResult{}, err
	}
	if len(waiting) > 0 || c.down != nil && c.down("sessions") {
		return participant.EndJobResult{Waiting: waiting, Sessions: in.Sessions}, nil
	}
	for _, session := range in.Sessions {
		_ = c.release(ctx, participant.ReleaseSessionInput{Session: session})
	}
	return participant.EndJobResult{}, nil
}

// checkEnd checks the rules for a job that has ended.
func (c *fakeBackend) checkEnd(r workflows.Result) {
	if r.Outcome == workflows.OutcomeRejected {
		require.Equal(c.t, bfia.JobRejected, r.State)
		for key, state := range c.rows {
			require.Equal(c.t, bfia.TaskReady, state, "%s of a rejected job", key)
		}
	} else {
		require.Equal(c.t, bfia.JobFinished, r.State)
	}
	require.Equal(c.t, r.State, c.job)
	require.Equal(c.t, r.Reason, c.jobReason)
	require.Empty(c.t, c.waits, "an ended job waits")
	require.Empty(c.t, c.running, "containers are left")
	require.False(c.t, c.reserved, "a reservation is held")
	require.Equal(c.t, "release", c.log[len(c.log)-1])
	for key, state := range c.rows {
		require.NotEqual(c.t, bfia.TaskRunning, state, "%s of an ended job", key)
		if c.errors["SendCallback"] != nil || c.in.FateFlow { // it has other reports
			continue
		}
		reports := 0
		for _, what := range c.log {
			if strings.HasPrefix(what, "report "+key+" ") {
				reports++
				require.Equal(c.t, "report "+key+" "+string(state), what)
			}
		}
		require.Equal(c.t, state.Terminal(), reports == 1, "%s is %s, and %d reports went out", key, state,
			reports)
	}
}

func (c *fakeBackend) admit(_ context.Context,
	req participant.ReserveInput) (participant.ReserveResult, error) {
	defer c.enter()()
	if c.down != nil && c.down("Reserve") {
		return participant.ReserveResult{}, flowtest.ErrAway
	}
	grant := bfia.Grant{Granted: true, Parallelism: 100}
	if c.admits != nil && !c.reserved {
		grant = c.admits()
	}
	c.happens(fmt.Sprintf("admit %q %v", req.Scheduler, grant.Granted))
	c.reserved = c.reserved || grant.Granted
	return participant.ReserveResult{Grant: grant}, nil
}

func (c *fakeBackend) giveBack(_ context.Context,
	_ participant.ReleaseReservationInput) ([]participant.Waiting, error) {
	defer c.enter()()
	if c.down != nil && c.down("ReleaseReservation") {
		return nil, flowtest.ErrAway
	}
	if len(c.running) > 0 {
		c.breaks("reservation released while %d containers exist", len(c.running))
	}
	c.reserved = false
	c.happens("give back")
	return c.waiters, nil
}

func (c *fakeBackend) sendHint(_ context.Context, in participant.SendCapacityHintInput) error {
	defer c.enter()()
	if c.down != nil && c.down("SendCapacityHint") {
		return flowtest.ErrAway
	}
	c.hints = append(c.hints, in.Node+" "+in.JobID)
	return nil
}
