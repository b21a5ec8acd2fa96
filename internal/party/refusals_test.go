package party

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/audit"
	"hutong/internal/httpclient"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// refusals waits for entries of refusals of an act, and checks the chain.
func (i *institution) refusals(act string, count int) []audit.Entry {
	i.t.Helper()
	var list []audit.Entry
	require.Eventually(i.t, func() bool {
		all, err := i.db.AuditEntries(i.t.Context(), store.AuditFilter{Ascending: true,
			Outcome: audit.Refused})
		require.NoError(i.t, err)
		list = nil
		for _, e := range all {
			if e.Act == act {
				list = append(list, e)
			}
		}
		return len(list) >= count
	}, time.Minute, 10*time.Millisecond, act)
	require.Len(i.t, list, count)
	_, err := i.db.VerifyAudit(i.t.Context(), audit.Head{})
	require.NoError(i.t, err)
	return list
}

// connectPartners makes two institutions partners.
func connectPartners(a, b *institution) {
	a.t.Helper()
	var invited bfia.PartnerInvited
	a.call(http.MethodPost, bfia.PathPartnerInvite, bfia.PartnerInvite{NodeID: b.cfg.NodeID}, &invited)
	b.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{Invitation: invited.Invitation,
		Fingerprint: invited.Fingerprint}, &struct{}{})
	a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: b.cfg.NodeID,
		Fingerprint: a.list()[b.cfg.NodeID].Fingerprint}, &struct{}{})
}

// TestListenersRecordRefusals makes the refused requests at the listeners of a party, over TLS where they
// have it, and finds each in the audit trail with who made it.
func TestListenersRecordRefusals(t *testing.T) {
	t.Parallel()
	a := newInstitution(t, "A", storetest.SQLite(t))
	b := newInstitution(t, "B", storetest.SQLite(t))
	connectPartners(a, b)

	// The transport of A, in a process of its own.
	other := &institution{t: t, cfg: new(Config), db: a.db}
	*other.cfg = *a.cfg
	other.cfg.Transport.Listen, other.cfg.Transport.PartnerListen = freeAddress(t), freeAddress(t)
	p := &Party{cfg: other.cfg, base: quietLog, logger: quietLog, failed: make(chan error, 8),
		own: newMemoryListener(), limiter: LimitsConfig{Requests: 0.1, Burst: 3}.limiter()}
	p.openMetrics(Roles{Transport: true})
	p.openTrail(a.db)
	require.NoError(t, p.openPartners())
	require.NoError(t, p.watchContracts(t.Context(), a.db))
	p.sessions = newSessions("A", a.db.JobParties, quietLog)
	require.NoError(t, p.readKeys(t.Context(), a.db))
	require.NoError(t, p.startTransport(t.Context(), nil, Roles{Transport: true}))
	require.NoError(t, p.startPartners(t.Context(), false, p.channel))
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		p.Stop(ctx)
	}
	defer stop()

	// A TLS handshake without a certificate, at both listeners for partners.
	for _, address := range []string{a.cfg.Partners.Listen, other.cfg.Transport.PartnerListen} {
		anonymous := httpclient.Direct()
		anonymous.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		_, _, err := post(t, anonymous, "https://"+address+bfia.PathTaskPoll)
		require.Error(t, err)
	}
	for _, e := range a.refusals("TLS handshake", 2) {
		require.Equal(t, "127.0.0.1", e.Address)
		require.Equal(t, identity.KindAnonymous, e.Kind)
		require.Contains(t, e.Reason, "certificate")
	}

	// A partner's message to a session in which it has no part.
	over := b.p.partners.Transport(nil)
	invoke := "https://" + other.cfg.Transport.PartnerListen + "/v1/interconn/chan/invoke"
	via := withTarget{over}
	status, _, err := post(t, via, invoke, "x-ptp-session-id", "session_none", "x-ptp-topic", "t")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	e := a.refusals("transport invoke", 1)[0]
	require.Equal(t, identity.KindPartner, e.Kind)
	require.Equal(t, "B", e.Node)
	require.Equal(t, audit.Object{Kind: audit.Session, ID: "session_none"}, e.Object)
	require.Contains(t, e.Reason, "knows no session")

	// More messages than the limit of requests.
	for status != http.StatusTooManyRequests {
		status, _, err = post(t, via, invoke, "x-ptp-session-id", "session_none", "x-ptp-topic", "t")
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		all, err := a.db.AuditEntries(t.Context(), store.AuditFilter{Act: "transport invoke"})
		require.NoError(t, err)
		return len(all) > 0 && bytes.Contains([]byte(all[0].Reason), []byte("too many messages of partner B"))
	}, time.Minute, 10*time.Millisecond)

	// A container's call of a foreign session, and callers that nobody has sealed.
	container := identity.Principal{Kind: identity.KindContainer, Node: "A", Proof: identity.ByToken,
		Credential: "c", Run: identity.Run{JobID: "1", TaskID: "T", Role: "guest.0", Session: "session_1"}}
	pop := "http://" + other.cfg.Transport.Listen + "/v1/interconn/chan/pop"
	status, _, err = post(t, p.keys.Sender(container, httpclient.Direct()), pop, "x-ptp-session-id",
		"session_2", "x-ptp-topic", "t")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	e = a.refusals("transport pop", 1)[0]
	require.Equal(t, "T", e.Run.TaskID)
	require.Equal(t, "session_2", e.Object.ID)
	status, _, err = post(t, httpclient.Direct(), pop, "x-ptp-session-id", "session_2", "x-ptp-topic", "t")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	e = a.refusals("transport pop", 2)[1]
	require.Equal(t, identity.KindAnonymous, e.Kind)
	require.Equal(t, "127.0.0.1", e.Address)
	status, _, err = post(t, httpclient.Direct(), pop, gate.CallerHeader, "forged.forged")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, a.refusals("POST /v1/interconn/chan/pop", 1)[0].Reason, "was not made by a process")

	// The gate's refusals, which gate has its own tests of; and a flood of them is counted.
	for range 100 {
		p.recordGateRefusal(gate.Refusal{Caller: container, Act: "POST /x", Reason: "no"})
	}
	stop()
	require.Len(t, a.refusals("POST /x", audit.PerPrincipal-1), audit.PerPrincipal-1, "and the pop above")
	summary := a.refusals(audit.Refusals, 1)[0]
	require.Equal(t, "T", summary.Run.TaskID)
	require.EqualValues(t, 101-audit.PerPrincipal, summary.Count)
}

// withTarget chooses the partner of each request, which is A.
type withTarget struct{ next http.RoundTripper }

func (w withTarget) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("x-ptp-target-node-id", "A")
	return w.next.RoundTrip(r)
}

// post sends a request and returns the status and the answer.
func post(t *testing.T, over http.RoundTripper, url string, headers ...string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte("{}")))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: over, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer bytes.Buffer
	_, err = answer.ReadFrom(resp.Body)
	return resp.StatusCode, answer.String(), err
}
