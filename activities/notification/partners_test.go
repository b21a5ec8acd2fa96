package notification

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/notify"
	"hutong/store"
	"hutong/store/storetest"
)

// TestSilentPartner checks that a partner for whose answers jobs or parts of tasks wait is reported once,
// after some time, and again when it is in contact and nothing waits for it.
func TestSilentPartner(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		f := newFixture(t, address)
		ctx := t.Context()
		f.acts.PartnerSilence = time.Minute
		require.NoError(t, f.db.StartNotifications(ctx))
		look := func() (events []string) {
			t.Helper()
			for range 2 { // a repetition changes nothing
				_, err := f.acts.partners(ctx, time.Time{})
				require.NoError(t, err)
			}
			rows, err := f.db.Notifications(ctx, store.NotificationFilter{})
			require.NoError(t, err)
			for _, n := range rows {
				require.Equal(t, "all", n.Receiver)
				events = append([]string{n.Event + " " + n.ObjectID}, events...)
			}
			return events
		}
		waits := func(job, node string, since time.Time) {
			t.Helper()
			require.NoError(t, f.db.SetJobWaiting(ctx, job, []bfia.Waiting{{Kind: bfia.WaitsForPartner,
				NodeID: node, Since: since}}))
		}
		start := time.Now().Add(-10 * time.Minute)
		for _, id := range []string{"j1", "j2"} {
			require.NoError(t, f.db.CreateJob(ctx, store.Job{JobID: id, State: bfia.JobRunning,
				PartyNodes: []string{"A", "B"}}, nil))
		}
		waits("j1", "B", time.Now().Add(-time.Second))
		require.Empty(t, look(), "not for a minute yet")
		waits("j1", "B", start)
		waits("j2", "B", start.Add(time.Minute))
		require.Equal(t, []string{"partner_silent B"}, look())
		rows, err := f.db.Notifications(ctx, store.NotificationFilter{})
		require.NoError(t, err)
		require.Contains(t, rows[0].Content, `"jobs":2`)

		require.NoError(t, f.db.SetJobWaiting(ctx, "j1", nil))
		require.NoError(t, f.db.PutContact(ctx, "B", time.Now()))
		require.Len(t, look(), 1, "the other job still waits, since later")
		require.NoError(t, f.db.NoticedUntil(ctx, time.Now().Add(100*time.Hour)))
		require.Len(t, look(), 1, "a silence is not forgotten while it lasts")
		require.NoError(t, f.db.SetJobWaiting(ctx, "j2", nil))
		require.Equal(t, []string{"partner_silent B", "partner_back B"}, look())

		// A part of a task waits, for another partner. Its job gives up: that is no answer.
		require.NoError(t, f.db.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "j3", State: bfia.JobRunning,
			ParticipantNodes: []string{"A", "C"}},
			[]store.ScheduleTask{{TaskID: "t3", Name: "t", State: bfia.TaskRunning, Attempt: 1}},
			[]store.SchedulePart{{TaskID: "t3", Role: "host", NodeID: "C", State: bfia.TaskRunning}}))
		require.NoError(t, f.db.SetSchedulePartWaiting(ctx, "t3", "C",
			&bfia.Waiting{Kind: bfia.WaitsForPartner, NodeID: "C", Since: start}))
		require.Equal(t, "partner_silent C", look()[2])
		require.NoError(t, f.db.SetSchedulePartWaiting(ctx, "t3", "C", nil))
		require.Len(t, look(), 3, "it has not answered")
		require.NoError(t, f.db.PutContact(ctx, "C", time.Now()))
		require.Equal(t, "partner_back C", look()[3])
	})
}

// TestPartnerMessages checks what people read of a silent partner.
func TestPartnerMessages(t *testing.T) {
	since := time.Date(2027, 1, 31, 2, 0, 0, 0, time.UTC)
	e := notify.Event{Kind: notify.PartnerSilent, NodeID: "A", Partner: "B", Since: &since, Jobs: 3,
		Time: since}
	m := notify.Write(notify.English, e, "")
	require.Equal(t, "Hutong A: B does not answer", m.Subject)
	require.Contains(t, m.Text, "B has not answered A since 2027-01-31T02:00:00Z. Jobs that wait for it: 3.")
	e.Kind = notify.PartnerBack
	require.Contains(t, notify.Write(notify.Chinese, e, "").Subject, "B 已恢复应答")
}
