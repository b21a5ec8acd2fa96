package party

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/api"
	"hutong/bfia"
	bfiaclient "hutong/bfia/client"
	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv/ports"
)

// institution is a party that serves clients and partners, without workers. Its certificate is its own.
type institution struct {
	t       *testing.T
	cfg     *Config
	db      *store.Store
	p       *Party
	clients string
}

// newInstitution starts a party. address is its address for partners.
func newInstitution(t *testing.T, node, database string) *institution {
	t.Helper()
	dir := t.TempDir()
	certificate, key, err := certs.SelfSigned(certs.Leaf{Node: node})
	require.NoError(t, err)
	file := filepath.Join(dir, "node.pem")
	require.NoError(t, os.WriteFile(file, append(certificate, key...), 0o600))
	i := &institution{t: t, cfg: Default()}
	i.cfg.DataDir = t.TempDir()
	i.cfg.NodeID = node
	i.cfg.Partners.TLS.CertFile, i.cfg.Partners.TLS.KeyFile = file, file
	i.cfg.Partners.Institution = "Bank " + node
	i.cfg.Partners.Listen = freeAddress(t)
	i.cfg.Partners.URL = "https://" + i.cfg.Partners.Listen
	require.NoError(t, i.cfg.Complete())
	require.NoError(t, i.cfg.Validate())
	i.db = storetest.Open(t, database)
	i.start()
	return i
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := ports.Address()
	require.NoError(t, err)
	return address
}

func (i *institution) start() {
	t, ctx := i.t, i.t.Context()
	p := &Party{
		cfg:    i.cfg,
		base:   quietLog,
		logger: quietLog,
		failed: make(chan error, 8),
		own:    newMemoryListener(),
	}
	i.p = p
	p.openTrail(i.db)
	require.NoError(t, p.openPartners())
	require.NoError(t, p.watchContracts(ctx, i.db))
	p.api = api.New(api.Config{Node: i.cfg.NodeID, Clients: api.OpenClients, MaxDocumentBytes: 1 << 20,
		ClientTimeout: time.Minute, Refusals: p.refusals},
		api.Dependencies{Store: i.db, Contracts: p.contracts, Logger: quietLog})
	p.onStop(p.api.Shutdown)
	i.clients = freeAddress(t)
	require.NoError(t, p.serve(ctx, "listen", i.clients, p.api.ServeClients,
		func(context.Context) error { return nil }))
	require.NoError(t, p.startPartners(ctx, true, nil))
	t.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		p.Stop(stop)
	})
}

var quietLog = slog.New(slog.DiscardHandler)

// call sends a request of a client. It returns the code of the answer.
func (i *institution) call(method, path string, body, data any) bfia.Envelope {
	i.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(i.t, err)
	req, err := http.NewRequestWithContext(
		i.t.Context(),
		method,
		"http://"+i.clients+path,
		bytes.NewReader(text),
	)
	require.NoError(i.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: httpclient.Direct()}).Do(req)
	require.NoError(i.t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(i.t, err)
	var envelope bfia.Envelope
	require.NoError(i.t, json.Unmarshal(answer, &envelope), string(answer))
	if data != nil {
		require.True(i.t, envelope.OK(), string(answer))
		require.NoError(i.t, json.Unmarshal(envelope.Data, data))
	}
	return envelope
}

func (i *institution) list() map[string]bfia.PartnerView {
	i.t.Helper()
	var views []bfia.PartnerView
	i.call(http.MethodGet, bfia.PathPartnerQuery, struct{}{}, &views)
	byNode := map[string]bfia.PartnerView{}
	for _, v := range views {
		byNode[v.NodeID] = v
	}
	return byNode
}

// command sends a command of the protocol to another institution, as its control worker does.
func (i *institution) command(to string) error {
	remote := bfiaclient.New(i.cfg.NodeID, i.p.route, i.p.partners.Transport(nil), 10*time.Second)
	_, err := remote.TaskPoll(i.t.Context(), to, "none", "guest")
	return err
}

// requireReached checks that a command has reached the other institution and its sender was known: it says
// that it has no such task.
func requireReached(t *testing.T, err error) {
	t.Helper()
	var refusal *bfiaclient.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, bfiaclient.Refused, refusal.Outcome, "%v", err)
	require.Equal(t, bfia.CodeNotFound, refusal.Code, "%v", err)
}

// TestContract makes two institutions partners, as their users do: one invites, the other accepts with the
// fingerprint that it was read by telephone, and applies; the first accepts likewise. Neither restarts.
func TestContract(t *testing.T) {
	t.Parallel()
	a := newInstitution(t, "A", storetest.SQLite(t))
	b := newInstitution(t, "B", storetest.SQLite(t))
	stranger := newInstitution(t, "B", storetest.SQLite(t)) // another party that calls itself B
	require.Error(t, b.command("A"), "they are no partners yet")

	var invited bfia.PartnerInvited
	a.call(http.MethodPost, bfia.PathPartnerInvite, bfia.PartnerInvite{NodeID: "B"}, &invited)
	require.Equal(t, bfia.ContractInvited, a.list()["B"].State)

	// What is changed on its way is found by the comparison.
	forged, err := bfia.ParseInvitation(invited.Invitation)
	require.NoError(t, err)
	forged.Fingerprint = certs.PinOf(stranger.p.partners.Certificate()).Hex()
	answer := b.call(
		http.MethodPost,
		bfia.PathPartnerApply,
		bfia.PartnerAccept{Invitation: forged.Encode(),
			Fingerprint: invited.Fingerprint},
		nil,
	)
	require.Equal(t, bfia.CodeForbidden, answer.Code)
	require.Contains(t, answer.Text(), "differs from the one in the invitation")
	// Without the invitation's secret nobody can apply, also not under the invited name.
	guessed, err := bfia.ParseInvitation(invited.Invitation)
	require.NoError(t, err)
	guessed.Secret = "guess"
	answer = stranger.call(
		http.MethodPost,
		bfia.PathPartnerApply,
		bfia.PartnerAccept{Invitation: guessed.Encode(),
			Fingerprint: invited.Fingerprint},
		nil,
	)
	require.Equal(t, bfia.CodeRefused, answer.Code)
	require.Contains(t, answer.Text(), "no open invitation with this secret")

	b.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{Invitation: invited.Invitation,
		Fingerprint: invited.Fingerprint}, &struct{}{})
	require.Equal(t, bfia.ContractApplied, b.list()["A"].State)
	applied := a.list()["B"]
	require.Equal(t, bfia.ContractApplied, applied.State)
	require.Equal(t, "Bank B", applied.Institution)
	require.Equal(t, certs.PinOf(b.p.partners.Certificate()).String(), applied.Fingerprint)
	require.Error(t, b.command("A"), "an application is not enough")
	answer = stranger.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{
		Invitation: invited.Invitation, Fingerprint: invited.Fingerprint}, nil)
	require.Equal(t, bfia.CodeRefused, answer.Code, "the invitation is used up")

	answer = a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: "B",
		Fingerprint: certs.PinOf(stranger.p.partners.Certificate()).Hex()}, nil)
	require.Equal(t, bfia.CodeForbidden, answer.Code)
	a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: "B",
		Fingerprint: applied.Fingerprint}, &struct{}{})
	require.Equal(t, bfia.ContractApproved, a.list()["B"].State)
	require.Equal(t, bfia.ContractApproved, b.list()["A"].State, "A has confirmed")
	requireReached(t, b.command("A"))
	requireReached(t, a.command("B"))
	require.Error(t, stranger.command("A"))

	// The end of the contract.
	require.Equal(t, bfia.CodeConflict, a.call(http.MethodPost, bfia.PathPartnerInvite,
		bfia.PartnerInvite{NodeID: "B"}, nil).Code)
	a.call(http.MethodPost, bfia.PathPartnerRemove, bfia.PartnerRef{NodeID: "B"}, &struct{}{})
	require.Error(t, b.command("A"))
	require.Error(t, a.command("B"))
	require.Eventually(t, func() bool {
		state := b.list()["A"].State
		_, found := b.p.partners.Lookup("A")
		return state == bfia.ContractTerminated && !found
	}, time.Minute, 100*time.Millisecond, "B was notified")
}

// TestContractRejected checks that a rejected node is no partner, and finds out.
func TestContractRejected(t *testing.T) {
	t.Parallel()
	a, b := newInstitution(t, "A", storetest.SQLite(t)), newInstitution(t, "B", storetest.SQLite(t))
	var invited bfia.PartnerInvited
	a.call(http.MethodPost, bfia.PathPartnerInvite, bfia.PartnerInvite{NodeID: "B"}, &invited)
	b.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{Invitation: invited.Invitation,
		Fingerprint: invited.Fingerprint}, &struct{}{})
	a.call(http.MethodPost, bfia.PathPartnerRemove, bfia.PartnerRef{NodeID: "B"}, &struct{}{})
	require.Equal(t, bfia.ContractRejected, a.list()["B"].State)
	require.Equal(t, bfia.ContractRejected, b.list()["A"].State)
	require.Error(t, b.command("A"))
	answer := a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: "B",
		Fingerprint: invited.Fingerprint}, nil)
	require.Equal(t, bfia.CodeConflict, answer.Code)
}

// TestContractOfProcesses checks that a contract reaches the other processes of a party, and that its end
// closes a connection there.
func TestContractOfProcesses(t *testing.T) {
	t.Parallel()
	database := storetest.SQLite(t)
	a, b := newInstitution(t, "A", database), newInstitution(t, "B", storetest.SQLite(t))
	other := &institution{t: t, cfg: new(Config), db: storetest.Open(t, database)} // of A
	*other.cfg = *a.cfg
	other.cfg.Partners.Listen = freeAddress(t)
	other.start()

	var invited bfia.PartnerInvited
	a.call(http.MethodPost, bfia.PathPartnerInvite, bfia.PartnerInvite{NodeID: "B"}, &invited)
	b.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{Invitation: invited.Invitation,
		Fingerprint: invited.Fingerprint}, &struct{}{})
	a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: "B",
		Fingerprint: a.list()["B"].Fingerprint}, &struct{}{})
	require.Eventually(t, func() bool { return isReached(other.command("B")) },
		time.Minute, 100*time.Millisecond)

	// B opens a connection to the other process, which ends with the contract.
	over := b.p.partners.Transport(nil)
	ask := func() error {
		remote := bfiaclient.New("B", func(string) (string, bool) {
			return "https://" + other.cfg.Partners.Listen, true
		}, over, 10*time.Second)
		_, err := remote.TaskPoll(t.Context(), "A", "none", "guest")
		return err
	}
	requireReached(t, ask())
	a.call(http.MethodPost, bfia.PathPartnerRemove, bfia.PartnerRef{NodeID: "B"}, &struct{}{})
	require.Eventually(
		t,
		func() bool { return !isReached(ask()) },
		time.Minute,
		100*time.Millisecond,
	)
}

func isReached(err error) bool {
	var refusal *bfiaclient.Error
	return errors.As(err, &refusal) && refusal.Outcome == bfiaclient.Refused &&
		refusal.Code == bfia.CodeNotFound
}

// TestPartnerUpdate reports changed addresses and a new key to a partner: neither side loses the other while
// the key changes, and afterwards the key of before proves nothing.
func TestPartnerUpdate(t *testing.T) {
	t.Parallel()
	a, b := newInstitution(t, "A", storetest.SQLite(t)), newInstitution(t, "B", storetest.SQLite(t))
	becomePartners(a, b)
	first, err := os.ReadFile(a.cfg.Partners.TLS.CertFile)
	require.NoError(t, err)
	update := func(i *institution, request bfia.PartnerUpdate) bfia.PartnerUpdated {
		t.Helper()
		var results []bfia.PartnerUpdated
		i.call(http.MethodPost, bfia.PathPartnerUpdate, request, &results)
		require.Len(t, results, 1)
		return results[0]
	}
	updateByA := func(request bfia.PartnerUpdate) {
		t.Helper()
		require.Equal(t, bfia.PartnerUpdated{NodeID: "B"}, update(a, request))
	}
	bothReached := func() {
		t.Helper()
		requireReached(t, a.command("B"))
		requireReached(t, b.command("A"))
	}

	a.cfg.Partners.TransportURL = "https://transport.bank-a.example:9391"
	updateByA(bfia.PartnerUpdate{})
	require.Equal(t, a.cfg.Partners.TransportURL, b.list()["A"].TransportAddress)
	require.Equal(t, a.cfg.Partners.URL, b.list()["A"].Address)
	bothReached()

	// Two keys are named one after the other: the one in use stays valid until the last one is used.
	newKey := func() (pem []byte, certificate string, pin certs.Pin) {
		cert, key, err := certs.SelfSigned(certs.Leaf{Node: "A"})
		require.NoError(t, err)
		parsed, err := certs.ParseCertificates(cert)
		require.NoError(t, err)
		return append(key, cert...), string(cert), certs.PinOf(parsed[0])
	}
	_, discarded, _ := newKey()
	updateByA(bfia.PartnerUpdate{NodeID: "B", NextCertificate: discarded})
	next, certificate, pin := newKey()
	updateByA(bfia.PartnerUpdate{NextCertificate: certificate})
	require.Equal(t, pin.String(), b.list()["A"].Fingerprint)
	bothReached()
	a.cfg.Partners.TransportURL = "https://transport.bank-a.example:9392"
	updateByA(bfia.PartnerUpdate{}) // still with the first key: the next one stays valid
	require.Equal(t, pin.String(), b.list()["A"].Fingerprint)
	require.Equal(t, a.cfg.Partners.TransportURL, b.list()["A"].TransportAddress)
	use := func(file []byte, pin certs.Pin) {
		t.Helper()
		require.NoError(t, certs.WriteFile(a.cfg.Partners.TLS.CertFile, file))
		require.Eventually(t, func() bool { return certs.PinOf(a.p.partners.Certificate()) == pin },
			time.Minute, 50*time.Millisecond)
	}
	firstPin := certs.PinOf(a.p.partners.Certificate())
	use(next, pin)
	bothReached()
	updateByA(bfia.PartnerUpdate{})
	bothReached()
	row, err := b.db.Partner(t.Context(), "A")
	require.NoError(t, err)
	require.Equal(t, []string{pin.Hex()}, row.Pins)
	use(first, firstPin)
	require.Error(t, a.command("B"), "the key of before is not valid any more")
	require.Error(t, b.command("A"))
	require.NotEmpty(t, update(a, bfia.PartnerUpdate{}).Failure, "it can't bring itself back")
	use(next, pin)
	bothReached()

	for _, c := range []struct {
		request bfia.PartnerUpdate
		code    bfia.Code
		text    string
	}{
		{bfia.PartnerUpdate{NodeID: "X"}, bfia.CodeNotFound, `partner "X"`},
		{bfia.PartnerUpdate{NextCertificate: "text"}, bfia.CodeBadRequest, "next_certificate: "},
	} {
		answer := a.call(http.MethodPost, bfia.PathPartnerUpdate, c.request, nil)
		require.Equal(t, c.code, answer.Code, answer.Text())
		require.Contains(t, answer.Text(), c.text)
	}

	// A partner that can't be reached is named.
	b.cfg.Partners.URL = "https://" + freeAddress(t)
	require.Empty(t, update(b, bfia.PartnerUpdate{}).Failure)
	require.Contains(t, update(a, bfia.PartnerUpdate{}).Failure, "refused")

	a.call(http.MethodPost, bfia.PathPartnerRemove, bfia.PartnerRef{NodeID: "B"}, &struct{}{})
	answer := a.call(http.MethodPost, bfia.PathPartnerUpdate, bfia.PartnerUpdate{NodeID: "B"}, nil)
	require.Equal(t, bfia.CodeConflict, answer.Code)
	require.Contains(t, answer.Text(), "node_id: the contract with B is TERMINATED")
	var none []bfia.PartnerUpdated
	a.call(http.MethodPost, bfia.PathPartnerUpdate, bfia.PartnerUpdate{}, &none)
	require.Empty(t, none)
}

// becomePartners makes a contract: a invites, b applies, a accepts.
func becomePartners(a, b *institution) {
	a.t.Helper()
	var invited bfia.PartnerInvited
	a.call(http.MethodPost, bfia.PathPartnerInvite, bfia.PartnerInvite{NodeID: b.cfg.NodeID}, &invited)
	b.call(http.MethodPost, bfia.PathPartnerApply, bfia.PartnerAccept{Invitation: invited.Invitation,
		Fingerprint: invited.Fingerprint}, &struct{}{})
	a.call(http.MethodPost, bfia.PathPartnerAccept, bfia.PartnerAccept{NodeID: b.cfg.NodeID,
		Fingerprint: a.list()[b.cfg.NodeID].Fingerprint}, &struct{}{})
}
