package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestNotification(t *testing.T) {
	at := time.Date(2026, 11, 29, 4, 5, 6, 0, time.UTC)
	result := bfia.NotificationTestResult{Receiver: "duty", Delivered: true, Answer: "HTTP 204"}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathNotificationQuery: data(bfia.NotificationList{
			Receivers: []bfia.NotificationReceiver{{Name: "duty"}},
			Notifications: []bfia.NotificationView{{NotificationID: "ntf_1", Event: "job_failed",
				ObjectID: "j1", JobID: "j1", Receiver: "duty", State: bfia.NotificationFailed,
				Attempts: 3, OccurredAt: at, LastError: "HTTP 500"}}}),
		"POST " + bfia.PathNotificationTest: func(w http.ResponseWriter, r *http.Request) {
			data(result)(w, r)
		},
		"POST " + bfia.PathNotificationResend: data(nil),
	})
	status, stdout, stderr := p.run(t, "notification", "list", "--state", "failed", "--limit", "5")
	require.Equal(t, exitOK, status, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 2)
	assert.Equal(t, "NOTIFICATION TIME EVENT OBJECT RECEIVER STATE ATTEMPTS DELIVERED REASON",
		strings.Join(strings.Fields(lines[0]), " "))
	assert.Equal(t,
		"ntf_1 "+at.Local().Format("2006-01-02 15:04:05")+" job_failed j1 duty FAILED 3 - HTTP 500",
		strings.Join(strings.Fields(lines[1]), " "))
	_, stdout, _ = p.run(t, "notification", "list", "--json")
	assert.True(t, strings.HasPrefix(stdout, "["), stdout)

	status, stdout, _ = p.run(t, "notification", "test", "duty")
	require.Equal(t, exitOK, status)
	assert.Equal(t, "duty has taken the test message: HTTP 204\n", stdout)
	result.Delivered, result.Answer = false, "HTTP 500 broken"
	status, _, stderr = p.run(t, "notification", "test", "duty")
	require.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "failed to deliver the test message to duty: HTTP 500 broken")

	status, stdout, _ = p.run(t, "notification", "resend", "ntf_1")
	require.Equal(t, exitOK, status)
	assert.Contains(t, stdout, "ntf_1 is sent again")
	sent := map[string]string{}
	for _, r := range p.requests() {
		sent[r.path] = r.body
	}
	assert.JSONEq(t, `{"receiver":"duty"}`, sent[bfia.PathNotificationTest])
	assert.JSONEq(t, `{"notification_id":"ntf_1"}`, sent[bfia.PathNotificationResend])
}
