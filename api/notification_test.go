package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/notify"
	"hutong/store"
)

// TestNotifications lists notifications, sends a test message and sends one again.
func TestNotifications(t *testing.T) {
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	key, err := notify.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	p := newParty(t, func(c *Config) {
		c.Notifier = &notify.Notifier{NodeID: guest, Receivers: []notify.Receiver{{Name: "duty",
			Events: []notify.Kind{notify.JobFailed}, Language: notify.English,
			Webhook: &notify.Webhook{URL: server.URL + "/s3cret", Key: key,
				Client: notify.NewClient(server.Client().Transport)}}}}
	})
	ctx := t.Context()
	for _, id := range []string{"a", "b"} {
		_, err := p.store.Notice(ctx, store.Occurrence{Subject: store.SubjectEnd, ObjectID: id,
			OccurredAt: time.Now()}, []store.Notification{{NotificationID: "ntf_" + id, Event: "job_failed",
			Receiver: map[string]string{"a": "duty", "b": "gone"}[id], JobID: id, Content: "{}"}})
		require.NoError(t, err)
	}
	require.NoError(t, p.store.StartNotification(ctx, "ntf_a", 1))
	require.NoError(t, p.store.GiveUpNotification(ctx, "ntf_a", 1, "HTTP 500"))
	query := func(params string) (list bfia.NotificationList) {
		t.Helper()
		p.good(get(bfia.PathNotificationQuery + params)).into(&list)
		return list
	}
	list := query("")
	require.Len(t, list.Notifications, 2)
	require.Equal(t, "duty", list.Receivers[0].Name)
	require.Equal(t, "webhook", list.Receivers[0].Channel)
	require.NotContains(t, list.Receivers[0].Target, "s3cret")
	list = query("?state=failed")
	require.Len(t, list.Notifications, 1)
	require.Equal(t, "HTTP 500", list.Notifications[0].LastError)
	require.Len(t, query("?limit=1").Notifications, 1)
	require.Len(t, query("?receiver=gone").Notifications, 1)
	require.Len(t, query("?job_id=b").Notifications, 1)
	require.Len(t, query("?notification_id=ntf_b").Notifications, 1)
	p.bad(get(bfia.PathNotificationQuery+"?state=odd"), 400, bfia.CodeBadRequest, "state: must be one of")
	p.bad(get(bfia.PathNotificationQuery+"?limit=501"), 400, bfia.CodeBadRequest, "limit: ")

	test := func() (result bfia.NotificationTestResult) {
		t.Helper()
		p.good(post(bfia.PathNotificationTest, map[string]any{"receiver": "duty"})).into(&result)
		return result
	}
	require.Equal(t, "HTTP 204", test().Answer)
	require.True(t, test().Delivered)
	status = http.StatusTeapot
	require.False(t, test().Delivered)
	require.Contains(t, test().Answer, "HTTP 418")
	p.bad(post(bfia.PathNotificationTest, map[string]any{"receiver": "dutty"}), 404, bfia.CodeNotFound,
		"did you mean duty?")
	p.bad(post(bfia.PathNotificationTest, map[string]any{}), 400, bfia.CodeBadRequest,
		"receiver: is required")
	p.adds(post(bfia.PathNotificationTest, map[string]any{"receiver": "duty"}),
		"notification.test receiver duty allowed")

	resend := func(id string) call {
		return post(bfia.PathNotificationResend, map[string]any{"notification_id": id})
	}
	p.adds(resend("ntf_a"), "notification.resend receiver duty allowed")
	require.Equal(t, bfia.NotificationNew, query("?job_id=a").Notifications[0].State)
	p.bad(resend("ntf_a"), 409, bfia.CodeConflict, "is being sent already")
	p.bad(resend("ntf_b"), 409, bfia.CodeConflict, "not in notifications.receivers")
	p.bad(resend("ntf_c"), 404, bfia.CodeNotFound, "ntf_c")
	p.bad(post(bfia.PathNotificationResend, map[string]any{}), 400, bfia.CodeBadRequest,
		"notification_id: is required")
}
