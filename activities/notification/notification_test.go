package notification

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"hutong/bfia"
	"hutong/internal/notify"
	"hutong/store"
	"hutong/store/storetest"
)

// sender fakes the sender: it fails with the errors in turn, and then takes everything.
type sender struct {
	notify.Notifier
	errors []error
	sent   []string
	events []notify.Event
}

func (s *sender) Send(_ context.Context, r *notify.Receiver, id string, e notify.Event) (string, error) {
	s.sent, s.events = append(s.sent, r.Name+" "+id), append(s.events, e)
	if len(s.errors) > 0 {
		err := s.errors[0]
		s.errors = s.errors[1:]
		return "", err
	}
	return "HTTP 200", nil
}

type fixture struct {
	*testing.T
	env    *testsuite.TestActivityEnvironment
	db     *store.Store
	acts   *Activities
	sender *sender
}

func newFixture(t *testing.T, address string) *fixture {
	f := &fixture{T: t, db: storetest.Open(t, address), sender: &sender{}}
	f.sender.Receivers = []notify.Receiver{
		{Name: "all", Events: notify.Kinds()},
		{Name: "failed", Events: []notify.Kind{notify.JobFailed}, Flows: []string{"f"}}}
	f.acts = &Activities{Node: "A", Store: f.db, Sender: f.sender, Logger: slog.New(slog.DiscardHandler)}
	f.sender.Receivers[0].Language = notify.English
	var suite testsuite.WorkflowTestSuite
	f.env = suite.NewTestActivityEnvironment()
	f.env.RegisterActivity(f.acts)
	return f
}

func (f *fixture) find(started ...Delivery) []Delivery {
	f.Helper()
	value, err := f.env.ExecuteActivity(f.acts.FindNotifications, FindNotificationsInput{Started: started})
	require.NoError(f, err)
	var found FoundNotifications
	require.NoError(f, value.Get(&found))
	return found.Deliveries
}

func (f *fixture) endJob(id string, outcome bfia.Outcome, at time.Time) {
	f.Helper()
	ctx := f.Context()
	job := store.Job{JobID: id, FlowID: "f", Roles: []string{"guest.0"}}
	require.NoError(f, f.db.CreateJob(ctx, job, nil))
	require.NoError(f, f.db.UpdateJob(ctx, id, bfia.JobFinished, "", at, store.EndsAs(outcome)))
}

// TestFind checks that each event is considered once, whatever is repeated, and that old ones are not.
func TestFind(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		f := newFixture(t, address)
		f.endJob("old", bfia.OutcomeFailed, time.Now().Add(-time.Minute))
		require.NoError(t, f.db.StartNotifications(t.Context()))
		now := time.Now().Add(time.Second)
		f.endJob("good", bfia.OutcomeSuccess, now)
		f.endJob("bad", bfia.OutcomeFailed, now)
		require.NoError(t, f.db.CreateJob(t.Context(), store.Job{JobID: "waits", CreatedAt: now,
			Waiting: []bfia.Waiting{bfia.WaitForApproval("waits", "A", now)}}, nil))
		found := f.find()
		require.Len(t, found, 4)
		require.ElementsMatch(t, found, f.find(), "until they have started")
		rows, err := f.db.Notifications(t.Context(), store.NotificationFilter{})
		require.NoError(t, err)
		var got []string
		for _, n := range rows {
			got = append(got, n.Receiver+" "+n.Event+" "+n.JobID)
		}
		assert.ElementsMatch(t, []string{"all job_ended good", "all job_failed bad", "failed job_failed bad",
			"all approval waits"}, got)

		f.endJob("another", bfia.OutcomeSuccess, now)
		last := f.find(found...)
		require.Len(t, last, 1)
		require.Equal(t, last, f.find(found...), "a repetition with the same input")
	})
}

// TestFindNothing checks that a look that finds nothing ends with the worker's process.
func TestFindNothing(t *testing.T) {
	f := newFixture(t, storetest.SQLite(t))
	require.NoError(t, f.db.StartNotifications(t.Context()))
	stop := make(chan struct{})
	f.env.SetWorkerStopChannel(stop)
	close(stop)
	require.Empty(t, f.find())
}

// TestSilence checks that a silent runner is reported once, and not by a process that has just started.
func TestSilence(t *testing.T) {
	f := newFixture(t, storetest.SQLite(t))
	ctx := t.Context()
	require.NoError(t, f.db.StartNotifications(ctx))
	since, _, err := f.db.NotificationsSince(ctx)
	require.NoError(t, err)
	require.NoError(t, f.db.PutRunner(ctx, store.Runner{RunnerID: "r", NodeID: "A", Machine: "m",
		HeartbeatAt: time.Now().Add(-2 * runnerSilence)}))
	runners, err := f.db.UnnoticedSilence(ctx, since.Add(-time.Hour), runnerSilence)
	require.NoError(t, err)
	require.Len(t, runners, 1)
	f.acts.Started = time.Now()
	_, err = f.acts.silence(ctx, since)
	require.NoError(t, err)
	_, err = f.acts.silence(ctx, since)
	require.NoError(t, err)
	rows, err := f.db.Notifications(ctx, store.NotificationFilter{})
	require.NoError(t, err)
	require.Empty(t, rows, "it was silent before notifications were on")
}

// TestDeliverTwice runs each activity of a delivery twice: the second changes nothing, and sends nothing.
func TestDeliverTwice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		f := newFixture(t, address)
		ctx := t.Context()
		require.NoError(t, f.db.StartNotifications(ctx))
		f.endJob("bad", bfia.OutcomeFailed, time.Now().Add(time.Second))
		found := f.find()
		require.Len(t, found, 2)
		f.sender.errors = []error{errors.New("HTTP 503")}
		deliver := func(d Delivery) error {
			_, err := f.env.ExecuteActivity(f.acts.DeliverNotification, d)
			return err
		}
		require.ErrorContains(t, deliver(found[0]), "HTTP 503")
		n, err := f.db.Notification(ctx, found[0].ID)
		require.NoError(t, err)
		assert.Equal(t, "HTTP 503", n.LastError)
		for range 2 {
			require.NoError(t, deliver(found[0]))
		}
		n, err = f.db.Notification(ctx, found[0].ID)
		require.NoError(t, err)
		assert.Equal(t, bfia.NotificationDelivered, n.State)
		assert.Equal(t, 2, n.Attempts)
		require.Len(t, f.sender.sent, 2)
		assert.Equal(t, f.sender.sent[0], f.sender.sent[1], "each try has the same id")
		assert.Equal(t, "bad", f.sender.events[0].JobID)

		f.sender.errors = []error{notify.ErrGone}
		var app *temporal.ApplicationError
		require.ErrorAs(t, deliver(found[1]), &app)
		assert.True(t, app.NonRetryable(), "410 ends it")
		for range 2 {
			_, err = f.env.ExecuteActivity(f.acts.GiveUpNotification,
				GiveUpNotificationInput{Delivery: found[1], Reason: "gone"})
			require.NoError(t, err)
			n, err = f.db.Notification(ctx, found[1].ID)
			require.NoError(t, err)
			assert.Equal(t, bfia.NotificationFailed, n.State)
			require.NoError(t, deliver(found[1]), "it is over")
		}
		require.Len(t, f.sender.sent, 3)
		require.NoError(t, deliver(Delivery{ID: "removed", Round: 1}), "with its job")

		require.NoError(t, f.db.ResendNotification(ctx, found[1].ID))
		f.sender.Receivers = nil
		require.ErrorContains(t, deliver(Delivery{ID: found[1].ID, Round: 2}), "has no receiver")
	})
}
