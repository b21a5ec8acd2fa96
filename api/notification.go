package api

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/notify"
	"hutong/store"
)

// listedNotifications is how many notifications a list has unless the client chooses.
const listedNotifications = 50

// queryNotifications lists the last notifications, and who gets them.
func (s *Server) queryNotifications(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	f := store.NotificationFilter{State: bfia.NotificationState(strings.ToUpper(get("state"))),
		Receiver: get("receiver"), JobID: get("job_id"), ID: get("notification_id"),
		Limit: listedNotifications}
	if f.State != "" && !slices.Contains(bfia.NotificationStates(), f.State) {
		return bfia.Errorf(bfia.CodeBadRequest, "state: must be one of %v, but is %q",
			bfia.NotificationStates(), get("state"))
	}
	if text := get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 {
			return bfia.Errorf(bfia.CodeBadRequest, "limit: must be a number from 1 to %d, but is %q",
				store.MaxNotifications, text)
		}
	}
	rows, err := s.store.Notifications(c.UserContext(), f)
	if err != nil {
		return err
	}
	list := bfia.NotificationList{Receivers: s.Notifier.View(), Notifications: []bfia.NotificationView{}}
	for _, n := range rows {
		list.Notifications = append(list.Notifications, bfia.NotificationView{
			NotificationID: n.NotificationID, Event: n.Event, ObjectID: n.ObjectID, JobID: n.JobID,
			Receiver: n.Receiver, State: n.State, Attempts: n.Attempts, OccurredAt: n.OccurredAt,
			CreatedAt: n.CreatedAt, DeliveredAt: n.DeliveredAt, LastError: n.LastError, Answer: n.Answer})
	}
	return ok(c, list)
}

// testNotification sends a test message to a receiver now, once, and returns its answer.
func (s *Server) testNotification(c *fiber.Ctx) error {
	var body bfia.NotificationTest
	if err := s.readJSON(c, &body); err != nil {
		return err
	}
	if body.Receiver == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "receiver: is required")
	}
	receiver, known := s.Notifier.Receiver(body.Receiver)
	if !known {
		var names []string
		for _, r := range s.Notifier.View() {
			names = append(names, r.Name)
		}
		return bfia.Errorf(bfia.CodeNotFound,
			"receiver: notifications.receivers of the configuration has no %q%s", body.Receiver,
			bfia.DidYouMean(body.Receiver, names))
	}
	ctx := c.UserContext()
	on(ctx, audit.Receiver, body.Receiver)
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	result := bfia.NotificationTestResult{NotificationID: "test_" + strings.ToLower(rand.Text()),
		Receiver: body.Receiver}
	answer, err := s.Notifier.Send(ctx, receiver, result.NotificationID,
		notify.Event{Kind: notify.Test, NodeID: s.Node, Time: time.Now().UTC()})
	result.Delivered, result.Answer = err == nil, answer
	if err != nil {
		result.Answer = err.Error()
		s.logger.Warn("failed to deliver a test message", "receiver", body.Receiver, "error", err)
	}
	return ok(c, result)
}

// resendNotification sends a notification again that was delivered or given up.
func (s *Server) resendNotification(c *fiber.Ctx) error {
	var ref bfia.NotificationRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if ref.NotificationID == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "notification_id: is required")
	}
	ctx := c.UserContext()
	n, err := s.store.Notification(ctx, ref.NotificationID)
	if err != nil {
		return err
	}
	if _, known := s.Notifier.Receiver(n.Receiver); !known {
		return bfia.Errorf(bfia.CodeConflict, "notification_id: its receiver %q is not in "+
			"notifications.receivers of the configuration any more", n.Receiver)
	}
	on(ctx, audit.Receiver, n.Receiver)
	if err := s.store.ResendNotification(ctx, ref.NotificationID); err != nil {
		return err
	}
	return ok(c, ref)
}
