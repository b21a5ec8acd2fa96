package notification

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/bfia"
	"hutong/internal/notify"
	"hutong/store"
)

// Delivery is one round of a notification, which one workflow delivers.
type Delivery struct {
	ID    string `json:"id"`
	Round int    `json:"round"`
}

// FindNotificationsInput names the deliveries that have started since the call before.
type FindNotificationsInput struct {
	Started []Delivery `json:"started,omitempty"`
}

// FoundNotifications are the deliveries to start. There may be none: then it is time for another call.
type FoundNotifications struct {
	Deliveries []Delivery `json:"deliveries,omitempty"`
}

const (
	// lookInterval is the pause between two looks.
	lookInterval = time.Second
	// recentWindow is how far back a look goes. A complete look, each completeInterval, goes back to the
	// mark, since the times of ends are older than their rows if the database did not answer for a while.
	recentWindow     = 2 * time.Minute
	completeInterval = time.Minute
	// findLimit bounds a call, so that its workflow's next run gets the newest code and configuration.
	findLimit = 5 * time.Minute
	// batch bounds what one look considers and one call returns.
	batch = 100
	// runnerSilence is the silence after which a runner is reported: longer than a restart takes.
	runnerSilence = 3 * time.Minute
	// staleAfter is longer than a notification is tried.
	staleAfter = 25 * time.Hour
)

// FindNotifications records that deliveries have started, and looks for what happened until there is
// something to deliver, or for some minutes. What happened is considered once, in one transaction with the
// notifications that follow from it, so that a repetition neither loses nor doubles any.
func (a *Activities) FindNotifications(ctx context.Context, in FindNotificationsInput) (FoundNotifications,
	error) {
	var found FoundNotifications
	for _, d := range in.Started {
		if err := a.Store.StartNotification(ctx, d.ID, d.Round); err != nil {
			return found, err
		}
	}
	var complete time.Time // of the last complete look
	end := time.Now().Add(findLimit)
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for time.Now().Before(end) {
		activity.RecordHeartbeat(ctx)
		began := time.Now()
		all := began.Sub(complete) >= completeInterval
		if err := a.look(ctx, all); err != nil {
			return found, err
		}
		if all {
			complete = began
		}
		rows, err := a.Store.NewNotifications(ctx, batch)
		if err != nil {
			return found, err
		}
		for _, n := range rows {
			found.Deliveries = append(found.Deliveries, Delivery{ID: n.NotificationID, Round: n.Round})
		}
		if len(rows) > 0 {
			return found, nil
		}
		select {
		case <-tick.C:
		case <-activity.GetWorkerStopChannel(ctx): // another worker continues
			return found, nil
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
	return found, nil
}

// look considers what happened: in the last minutes, or all since the mark.
func (a *Activities) look(ctx context.Context, all bool) error {
	since, on, err := a.Store.NotificationsSince(ctx)
	if err != nil || !on {
		return err
	}
	now, err := a.Store.Now(ctx)
	if err != nil {
		return err
	}
	from := since
	if recent := now.Add(-recentWindow); !all && recent.After(from) {
		from = recent
	}
	more := false
	for _, step := range []func(context.Context, time.Time) (bool, error){a.approvals, a.ends,
		a.grantRequests, a.silence, a.partners} {
		left, err := step(ctx, from)
		if err != nil {
			return err
		}
		more = more || left
	}
	if !all || more {
		return nil
	}
	if err := a.Store.GiveUpStaleNotifications(ctx, time.Now().Add(-staleAfter)); err != nil {
		return err
	}
	return a.Store.NoticedUntil(ctx, now)
}

// wanted returns the notifications of an event, one for each receiver that wants it.
func (a *Activities) wanted(e notify.Event) ([]store.Notification, error) {
	e.NodeID = a.Node
	content, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("failed to encode an event %s: %w", e.Kind, err)
	}
	var rows []store.Notification
	for _, name := range a.Sender.Wanting(e) {
		rows = append(rows, store.Notification{NotificationID: "ntf_" + strings.ToLower(rand.Text()),
			Event: string(e.Kind), Receiver: name, JobID: e.JobID, Content: string(content)})
	}
	return rows, nil
}

// notice considers one event.
func (a *Activities) notice(ctx context.Context, subject store.Subject, object string, e notify.Event) error {
	rows, err := a.wanted(e)
	if err != nil {
		return err
	}
	noticed, err := a.Store.Notice(ctx,
		store.Occurrence{Subject: subject, ObjectID: object, OccurredAt: e.Time}, rows)
	if noticed && len(rows) > 0 {
		a.Logger.Info("notifies", "event", e.Kind, "job_id", e.JobID, "receivers", len(rows))
	}
	return err
}

// ofJob returns an event of a job.
func (a *Activities) ofJob(ctx context.Context, kind notify.Kind, j store.Job, at time.Time) (notify.Event,
	error) {
	e := notify.Event{Kind: kind, Time: at, JobID: j.JobID, FlowID: j.FlowID, Initiator: j.InitiatorNode,
		Project: j.Project, Roles: j.Roles}
	acts, err := a.Store.JobClients(ctx, j.JobID)
	for _, act := range acts {
		if act.Act == store.ActSubmitted {
			e.SubmittedBy = append(e.SubmittedBy, act.Name)
		}
	}
	return e, err
}

func (a *Activities) approvals(ctx context.Context, since time.Time) (more bool, err error) {
	jobs, err := a.Store.UnnoticedApprovals(ctx, since, a.Node, batch)
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		e, err := a.ofJob(ctx, notify.Approval, j, j.CreatedAt)
		if err != nil {
			return false, err
		}
		if err := a.notice(ctx, store.SubjectApproval, j.JobID, e); err != nil {
			return false, err
		}
	}
	return len(jobs) >= batch, nil
}

func (a *Activities) ends(ctx context.Context, since time.Time) (more bool, err error) {
	jobs, err := a.Store.UnnoticedEnds(ctx, since, batch)
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		kind := notify.JobEnded
		if j.Outcome == bfia.OutcomeFailed {
			kind = notify.JobFailed
		}
		e, err := a.ofJob(ctx, kind, j, *j.EndedAt)
		if err != nil {
			return false, err
		}
		e.Outcome, e.Failure = j.Outcome, notify.SafeFailure(j.Failure)
		if err := a.notice(ctx, store.SubjectEnd, j.JobID, e); err != nil {
			return false, err
		}
	}
	return len(jobs) >= batch, nil
}

func (a *Activities) grantRequests(ctx context.Context, since time.Time) (more bool, err error) {
	requests, err := a.Store.UnnoticedGrantRequests(ctx, since, batch)
	if err != nil {
		return false, err
	}
	for _, r := range requests {
		e := notify.Event{Kind: notify.GrantRequest, Time: r.CreatedAt, Partner: r.Partner,
			Dataset: r.Dataset, RequestID: r.AuditID}
		if err := a.notice(ctx, store.SubjectGrantRequest, r.Partner+"/"+r.AuditID, e); err != nil {
			return false, err
		}
	}
	return len(requests) >= batch, nil
}

func (a *Activities) silence(ctx context.Context, _ time.Time) (more bool, err error) {
	if time.Since(a.Started) < runnerSilence {
		return false, nil
	}
	since, on, err := a.Store.NotificationsSince(ctx) // its last heartbeat is older than the last minutes
	if err != nil || !on {
		return false, err
	}
	runners, err := a.Store.UnnoticedSilence(ctx, since, runnerSilence)
	if err != nil {
		return false, err
	}
	for _, r := range runners {
		e := notify.Event{Kind: notify.RunnerSilent, Time: r.HeartbeatAt, RunnerID: r.RunnerID,
			Machine: r.Machine}
		if err := a.notice(ctx, store.SubjectRunner, r.RunnerID, e); err != nil {
			return false, err
		}
	}
	return false, nil
}

// partners considers partners that have not answered for too long while jobs wait for them, and those that
// are back. A silence is considered once, whichever jobs wait, until the partner is in contact again.
func (a *Activities) partners(ctx context.Context, _ time.Time) (more bool, err error) {
	silent, err := a.Store.PartnerSilences(ctx, a.Node)
	if err != nil {
		return false, err
	}
	open, err := a.Store.OpenSilences(ctx)
	if err != nil || len(silent)+len(open) == 0 {
		return false, err
	}
	now, err := a.Store.Now(ctx)
	if err != nil {
		return false, err
	}
	for node, s := range silent {
		if _, known := open[node]; known || now.Sub(s.Since) < a.PartnerSilence {
			continue
		}
		e := notify.Event{Kind: notify.PartnerSilent, Time: s.Since, Since: &s.Since, Partner: node,
			Jobs: s.Jobs}
		if err := a.notice(ctx, store.SubjectPartner, node, e); err != nil {
			return false, err
		}
	}
	if len(open) == 0 {
		return false, nil
	}
	contacts, err := a.Store.Contacts(ctx)
	if err != nil {
		return false, err
	}
	for node, since := range open {
		// A job that gave up waits no more, but its partner may be as silent as before.
		at := contacts[node]
		if _, waits := silent[node]; waits || !at.After(since) {
			continue
		}
		if err := a.noticeReturn(ctx, node, since, at); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (a *Activities) noticeReturn(ctx context.Context, node string, since, at time.Time) error {
	rows, err := a.wanted(notify.Event{Kind: notify.PartnerBack, Time: at, Since: &since, Partner: node})
	if err != nil {
		return err
	}
	noticed, err := a.Store.NoticeReturn(ctx, node, since, rows)
	if noticed && len(rows) > 0 {
		a.Logger.Info("notifies", "event", notify.PartnerBack, "partner", node, "receivers", len(rows))
	}
	return err
}
