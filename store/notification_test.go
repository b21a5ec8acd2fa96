package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestNoticed checks that ends are considered once, from the mark on: of a job that this party schedules by
// its scheduler's row only, and again after the job was reopened.
func TestNoticed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		now := time.Now()
		end := func(id string, at time.Time, scheduled bool) {
			t.Helper()
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, Roles: []string{"guest.0"},
				FlowID: "f"}, nil))
			require.NoError(t, s.UpdateJob(ctx, id, bfia.JobFinished, "", at,
				store.EndsAs(bfia.OutcomeFailed)))
			if scheduled {
				job := store.ScheduleJob{JobID: id, FlowID: "f"}
				require.NoError(t, s.CreateScheduleJob(ctx, job, nil, nil))
				require.NoError(t, s.UpdateScheduleJob(ctx, id, bfia.JobFinished, "", at.Add(time.Second),
					store.EndsAs(bfia.OutcomeFailed)))
			}
		}
		end("old", now.Add(-time.Hour), false)
		_, on, err := s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.False(t, on)
		require.NoError(t, s.StartNotifications(ctx))
		since, on, err := s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.True(t, on)
		require.WithinDuration(t, now, since, time.Minute)
		require.NoError(t, s.StartNotifications(ctx), "on already")
		again, _, err := s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.Equal(t, since, again)

		end("a", now.Add(time.Minute), false)
		end("b", now.Add(time.Minute), true)
		jobs, err := s.UnnoticedEnds(ctx, since, 10)
		require.NoError(t, err)
		require.Len(t, jobs, 2, "not the old one")
		for _, j := range jobs {
			require.Equal(t, bfia.OutcomeFailed, j.Outcome)
			require.Equal(t, []string{"guest.0"}, j.Roles)
			o := store.Occurrence{Subject: store.SubjectEnd, ObjectID: j.JobID, OccurredAt: *j.EndedAt}
			rows := []store.Notification{
				{NotificationID: "1" + j.JobID, Event: "job_failed", Receiver: "x", JobID: j.JobID,
					Content: "{}"},
				{NotificationID: "2" + j.JobID, Event: "job_failed", Receiver: "y", JobID: j.JobID,
					Content: "{}"}}
			noticed, err := s.Notice(ctx, o, rows)
			require.NoError(t, err)
			require.True(t, noticed)
			rows[0].NotificationID, rows[1].NotificationID = "3", "4"
			noticed, err = s.Notice(ctx, o, rows)
			require.NoError(t, err)
			require.False(t, noticed)
		}
		jobs, err = s.UnnoticedEnds(ctx, since, 10)
		require.NoError(t, err)
		require.Empty(t, jobs)
		all, err := s.Notifications(ctx, store.NotificationFilter{})
		require.NoError(t, err)
		require.Len(t, all, 4)

		require.NoError(t, s.ReopenJob(ctx, "a"))
		require.NoError(t, s.UpdateJob(ctx, "a", bfia.JobFinished, "", now.Add(2*time.Minute),
			store.EndsAs(bfia.OutcomeSuccess)))
		jobs, err = s.UnnoticedEnds(ctx, since, 10)
		require.NoError(t, err)
		require.Len(t, jobs, 1, "it has ended again")

		require.NoError(t, s.NoticedUntil(ctx, now.Add(time.Hour)))
		again, _, err = s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.Equal(t, since, again, "the mark only moves forward")
		require.NoError(t, s.NoticedUntil(ctx, now.Add(50*time.Hour)))
		again, _, err = s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.WithinDuration(t, now.Add(25*time.Hour), again, time.Second)

		require.NoError(t, s.RemoveJob(ctx, "b"))
		all, err = s.Notifications(ctx, store.NotificationFilter{JobID: "b"})
		require.NoError(t, err)
		require.Empty(t, all)
		require.NoError(t, s.StopNotifications(ctx))
		_, on, err = s.NotificationsSince(ctx)
		require.NoError(t, err)
		require.False(t, on)
	})
}

// TestUnnoticed finds approvals of this party, undecided requests of partners, and silent runners.
func TestUnnoticed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		since := time.Now().Add(-time.Hour)
		for id, node := range map[string]string{"own": "A", "other": "B"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id,
				Waiting: []bfia.Waiting{bfia.WaitForApproval(id, node, time.Now())}}, nil))
		}
		jobs, err := s.UnnoticedApprovals(ctx, since, "A", 10)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.Equal(t, "own", jobs[0].JobID)
		notice := func(subject store.Subject, object string, at time.Time) {
			t.Helper()
			noticed, err := s.Notice(ctx, store.Occurrence{Subject: subject, ObjectID: object,
				OccurredAt: at}, nil)
			require.NoError(t, err)
			require.True(t, noticed)
		}
		notice(store.SubjectApproval, "own", jobs[0].CreatedAt)
		jobs, err = s.UnnoticedApprovals(ctx, since, "A", 10)
		require.NoError(t, err)
		require.Empty(t, jobs)

		require.NoError(t, s.AddGrantRequest(ctx, store.GrantRequest{Partner: "B", AuditID: "r",
			Dataset: "bank#train", Components: []string{"*"}}))
		requests, err := s.UnnoticedGrantRequests(ctx, since, 10)
		require.NoError(t, err)
		require.Len(t, requests, 1)
		notice(store.SubjectGrantRequest, "B/r", requests[0].CreatedAt)
		requests, err = s.UnnoticedGrantRequests(ctx, since, 10)
		require.NoError(t, err)
		require.Empty(t, requests)

		for id, age := range map[string]time.Duration{"online": 0, "silent": 5 * time.Minute,
			"gone": 2 * time.Hour, "drained": 5 * time.Minute} {
			require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: id, NodeID: "A",
				HeartbeatAt: time.Now().Add(-age)}))
		}
		require.NoError(t, s.DrainRunner(ctx, "drained", true))
		runners, err := s.UnnoticedSilence(ctx, since, time.Minute)
		require.NoError(t, err)
		require.Len(t, runners, 1)
		require.Equal(t, "silent", runners[0].RunnerID)
		notice(store.SubjectRunner, "silent", runners[0].HeartbeatAt)
		runners, err = s.UnnoticedSilence(ctx, since, time.Minute)
		require.NoError(t, err)
		require.Empty(t, runners)
	})
}

// TestNotificationStates checks what is recorded of deliveries, and that late records change nothing.
func TestNotificationStates(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		_, err := s.Notice(ctx, store.Occurrence{Subject: store.SubjectRunner, ObjectID: "r",
			OccurredAt: time.Now()}, []store.Notification{{NotificationID: "n", Event: "runner_silent",
			Receiver: "x", Content: "{}"}})
		require.NoError(t, err)
		requireState := func(state bfia.NotificationState, attempts int, reason string) {
			t.Helper()
			n, err := s.Notification(ctx, "n")
			require.NoError(t, err)
			require.Equal(t, state, n.State)
			require.Equal(t, attempts, n.Attempts)
			require.Equal(t, reason, n.LastError)
			require.Equal(t, state == bfia.NotificationDelivered, n.DeliveredAt != nil)
		}
		requireState(bfia.NotificationNew, 0, "")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.ResendNotification(ctx, "n")))
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.ResendNotification(ctx, "m")))
		fresh, err := s.NewNotifications(ctx, 10)
		require.NoError(t, err)
		require.Len(t, fresh, 1)
		require.NoError(t, s.StartNotification(ctx, "n", 1))
		fresh, err = s.NewNotifications(ctx, 10)
		require.NoError(t, err)
		require.Empty(t, fresh)
		require.NoError(t, s.RecordDeliveryError(ctx, "n", 1, "HTTP 500"))
		requireState(bfia.NotificationSending, 1, "HTTP 500")
		require.NoError(t, s.GiveUpStaleNotifications(ctx, time.Now().Add(-time.Hour)))
		requireState(bfia.NotificationSending, 1, "HTTP 500")
		require.NoError(t, s.GiveUpNotification(ctx, "n", 1, "timeout"))
		requireState(bfia.NotificationFailed, 1, "HTTP 500")

		require.NoError(t, s.ResendNotification(ctx, "n"))
		requireState(bfia.NotificationNew, 1, "")
		require.NoError(t, s.GiveUpNotification(ctx, "n", 1, "late"), "an earlier round")
		require.NoError(t, s.StartNotification(ctx, "n", 1), "an earlier round")
		requireState(bfia.NotificationNew, 1, "")
		require.NoError(t, s.StartNotification(ctx, "n", 2))
		require.NoError(t, s.RecordDelivery(ctx, "n", 2, "HTTP 200"))
		requireState(bfia.NotificationDelivered, 2, "")
		require.NoError(t, s.RecordDelivery(ctx, "n", 2, "HTTP 200"))
		require.NoError(t, s.RecordDeliveryError(ctx, "n", 2, "late"))
		require.NoError(t, s.GiveUpNotification(ctx, "n", 2, "late"))
		requireState(bfia.NotificationDelivered, 2, "")

		n, err := s.RemoveNotifications(ctx, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.RemoveNotifications(ctx, time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}
