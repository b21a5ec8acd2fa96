package system

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/notify"
	"hutong/internal/party"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhookReceiver is a webhook that checks the signature of each request. answer returns the status of the
// n-th request, from 1.
type webhookReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	ids    []string
	bodies []notify.Body
}

func newWebhookReceiver(t *testing.T, answer func(n int) int) *webhookReceiver {
	t.Helper()
	key, err := notify.ParseSecret(webhookSecret)
	require.NoError(t, err)
	r := &webhookReceiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		text, err := io.ReadAll(request.Body)
		id := request.Header.Get("webhook-id")
		seconds, _ := strconv.ParseInt(request.Header.Get("webhook-timestamp"), 10, 64)
		var body notify.Body
		if err != nil || json.Unmarshal(text, &body) != nil ||
			request.Header.Get("webhook-signature") != key.Sign(id, time.Unix(seconds, 0), text) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.mu.Lock()
		r.ids, r.bodies = append(r.ids, id), append(r.bodies, body)
		n := len(r.ids)
		r.mu.Unlock()
		w.WriteHeader(answer(n))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *webhookReceiver) received() ([]string, []notify.Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.ids...), append([]notify.Body{}, r.bodies...)
}

// mailReceiver is an SMTP server that refuses the first message.
type mailReceiver struct {
	mu       sync.Mutex
	tries    int
	messages []string
}

func (r *mailReceiver) NewSession(*smtp.Conn) (smtp.Session, error) { return r, nil }

func (r *mailReceiver) Mail(string, *smtp.MailOptions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tries++; r.tries == 1 {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
	}
	return nil
}

func (r *mailReceiver) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to != "zhang@bank.example" {
		return errors.New("unknown")
	}
	return nil
}

func (r *mailReceiver) Data(body io.Reader) error {
	text, err := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, string(text))
	return err
}

func (r *mailReceiver) Reset() {}

func (r *mailReceiver) Logout() error { return nil }

func (r *mailReceiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.messages...)
}

func newMailReceiver(t *testing.T) (*mailReceiver, string) {
	t.Helper()
	backend := &mailReceiver{}
	server := smtp.NewServer(backend)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return backend, l.Addr().String()
}

// TestNotifications has a host whose people learn by a webhook and by e-mail of a job that waits for them and
// of its end. Both receivers fail at first. Nothing is sent for a job that ended before there were receivers.
func TestNotifications(t *testing.T) {
	t.Parallel()
	hook := newWebhookReceiver(t, func(n int) int {
		if n == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	mails, address := newMailReceiver(t)
	pair := newPartyPair(t, nil)
	pair.guest.start()
	stop := pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	document := sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil)
	old := pair.guest.submit(document)
	requireSuccess(t, pair.host.awaitJob(old, time.Minute, isFinished))
	stop()

	pair.host.cfg.Jobs.Approval = party.ApprovalManual
	pair.host.cfg.Notifications = party.NotificationsConfig{ConsoleURL: "https://hutong.bank.example:9380",
		PartnerSilence: time.Minute,
		SMTP: party.SMTPConfig{Address: address, Encryption: notify.Plain,
			From: "hutong@bank.example"},
		Receivers: []party.ReceiverConfig{
			{Name: "duty", Webhook: party.WebhookConfig{URL: party.Secret(hook.URL + "/s3cret"),
				Secret: webhookSecret}, Events: []notify.Kind{notify.Approval, notify.JobEnded}},
			{Name: "zhang", Email: []string{"zhang@bank.example"}, Events: []notify.Kind{notify.JobEnded},
				Roles: []string{"host"}, Language: notify.Chinese},
			{Name: "nobody", Email: []string{"nobody@bank.example"}, Events: notify.Kinds(),
				Flows: []string{"another"}}}}
	require.NoError(t, pair.host.cfg.Complete())
	require.NoError(t, pair.host.cfg.Validate())
	stop = pair.host.start()
	jobID := pair.guest.submit(document)
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) >= 2 }, time.Minute,
		50*time.Millisecond, "the approval, after a failure")
	ids, bodies := hook.received()
	require.Equal(t, ids[0], ids[1], "each try has the same id")
	require.Equal(t, notify.Approval, bodies[1].Type)
	require.Equal(t, jobID, bodies[1].Data.JobID)
	require.Equal(t, "https://hutong.bank.example:9380/console/jobs/"+jobID, bodies[1].Data.Link)

	env, _ := pair.host.as("bob").audit(jobID, bfia.JobReady, "")
	require.True(t, env.OK(), env.Text())
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	require.Eventually(t, func() bool {
		ids, _ := hook.received()
		return len(ids) >= 3 && len(mails.received()) >= 1
	}, time.Minute, 50*time.Millisecond)
	mail := mails.received()[0]
	require.Contains(t, mail, jobID)
	require.Contains(t, mail, "Message-ID: <ntf_")

	var list bfia.NotificationList
	require.Eventually(t, func() bool {
		pair.host.mustRequest(http.MethodGet, bfia.PathNotificationQuery+"?state=delivered", nil, &list)
		return len(list.Notifications) == 3
	}, time.Minute, 50*time.Millisecond)
	pair.host.mustRequest(http.MethodGet, bfia.PathNotificationQuery, nil, &list)
	require.Len(t, list.Notifications, 3, "none for the old job, and none that nobody wants")
	for _, n := range list.Notifications {
		require.Equal(t, jobID, n.JobID)
		want := 1
		if n.Event == string(notify.Approval) || n.Receiver == "zhang" {
			want = 2
		}
		require.Equal(t, want, n.Attempts, "%s to %s", n.Event, n.Receiver)
	}
	require.NotContains(t, pair.host.mustCommand("notification", "list"), old)
	require.Contains(t, pair.host.mustCommand("notification", "test", "duty"), "HTTP 200")
	out, ok := pair.host.command("notification", "test", "nobody")
	require.False(t, ok)
	require.NotContains(t, out, "s3cret")
	ids, _ = hook.received()
	before := len(ids)
	pair.host.mustCommand("notification", "resend", ids[2])
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) > before }, time.Minute,
		50*time.Millisecond)
	again, _ := hook.received()
	require.Equal(t, ids[2], again[before], "it has the same id")

	stop() // after a restart, only what is new is sent
	pair.host.start()
	next := pair.guest.submit(document)
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) > before+1 }, time.Minute,
		50*time.Millisecond)
	now, bodies := hook.received()
	require.Len(t, now, before+2)
	require.Equal(t, next, bodies[before+1].Data.JobID)
	require.Len(t, mails.received(), 1)
}

// TestKilledWorkerNotifies kills a control worker with SIGKILL after the receiver has got a message and
// before it has answered. The next worker sends it again with the same id.
func TestKilledWorkerNotifies(t *testing.T) {
	t.Parallel()
	arrived, killed := make(chan struct{}), make(chan struct{})
	hook := newWebhookReceiver(t, func(n int) int {
		if n == 1 {
			close(arrived)
			<-killed
		}
		return http.StatusOK
	})
	pair := newPartyPair(t, nil)
	cfg := pair.guest.cfg
	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(map[string]any{"node_id": cfg.NodeID, "listen": cfg.Listen,
		"data_dir":   cfg.DataDir,
		"containers": map[string]any{"listen": cfg.Containers.Listen},
		"partners": map[string]any{"listen": cfg.Partners.Listen, "tls": map[string]any{
			"cert_file": cfg.Partners.TLS.CertFile, "key_file": cfg.Partners.TLS.KeyFile,
			"ca_file": cfg.Partners.TLS.CAFile}},
		"transport": map[string]any{"listen": cfg.Transport.Listen},
		"temporal":  map[string]any{"address": cfg.Temporal.Address, "namespace": cfg.Temporal.Namespace},
		"runner":    map[string]any{"docker": map[string]any{"enabled": "false"}},
		"routes": map[string]any{
			hostNode: map[string]any{"url": "https://" + pair.host.cfg.Partners.Listen}},
		"notifications": map[string]any{"receivers": []any{map[string]any{"name": "duty",
			"events": []string{"job_ended"}, "webhook": map[string]any{"url": hook.URL,
				"secret": webhookSecret}}}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	worker := func() *program {
		p := startHutong(t, nil, "worker", "--only", "control", "--config", file)
		p.awaitOutput("is ready")
		return p
	}
	pair.guest.startAs(party.Roles{API: true, Runner: true, Transport: true})
	control := worker()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil))
	select {
	case <-arrived:
	case <-time.After(2 * time.Minute):
		t.Fatalf("no message has arrived: %s", control.output)
	}
	control.kill(syscall.SIGKILL)
	close(killed)
	worker()
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) == 2 }, 3*time.Minute,
		100*time.Millisecond)
	ids, bodies := hook.received()
	require.Equal(t, ids[0], ids[1])
	require.Equal(t, jobID, bodies[1].Data.JobID)
	require.Eventually(t, func() bool {
		n, err := pair.guest.database().Notification(t.Context(), ids[0])
		return err == nil && n.State == bfia.NotificationDelivered
	}, time.Minute, 500*time.Millisecond)
	require.True(t, strings.HasPrefix(ids[0], "ntf_"))
}

// TestSilentPartnerNotifies stops a partner while its task runs: people learn once that it does not answer,
// and once that it does again.
func TestSilentPartnerNotifies(t *testing.T) {
	t.Parallel()
	hook := newWebhookReceiver(t, func(int) int { return http.StatusOK })
	pair := newPartyPair(t, nil)
	cfg := pair.guest.cfg
	cfg.Jobs.PollAfter, cfg.Jobs.PollEvery = time.Second, time.Second
	cfg.Notifications.PartnerSilence = 2 * time.Second
	cfg.Notifications.Receivers = []party.ReceiverConfig{{Name: "duty", Webhook: party.WebhookConfig{
		URL: party.Secret(hook.URL), Secret: webhookSecret},
		Events: []notify.Kind{notify.PartnerSilent, notify.PartnerBack}}}
	require.NoError(t, cfg.Complete())
	require.NoError(t, cfg.Validate())
	pair.guest.start()
	stop := pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	stop()
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) == 1 }, time.Minute,
		50*time.Millisecond, "the silence")
	_, bodies := hook.received()
	require.Equal(t, notify.PartnerSilent, bodies[0].Type)
	require.Equal(t, hostNode, bodies[0].Data.Partner)
	require.Equal(t, 1, bodies[0].Data.Jobs)

	pair.host.start()
	require.Eventually(t, func() bool { ids, _ := hook.received(); return len(ids) == 2 }, time.Minute,
		50*time.Millisecond, "the return")
	_, bodies = hook.received()
	require.Equal(t, notify.PartnerBack, bodies[1].Type)
	require.Equal(t, hostNode, bodies[1].Data.Partner)
	require.Equal(t, bodies[0].Data.Since, bodies[1].Data.Since)
	pair.endJob(jobID)
	_, bodies = hook.received()
	require.Len(t, bodies, 2, "once each")
}
