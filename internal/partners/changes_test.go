package partners

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
)

// TestRemovedPartner checks that a partner's requests in progress break off when it is removed, in both
// directions, on HTTP/1 and HTTP/2, and that it can't return. Other partners are not affected.
func TestRemovedPartner(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			a := newAuthority(t)
			ownPair, _ := a.keyPair(t, certs.Leaf{Node: "A"})
			removedPair, _ := a.keyPair(t, certs.Leaf{Node: "B"})
			keptPair, _ := a.keyPair(t, certs.Leaf{Node: "C"})
			arrived, finish := make(chan struct{}, 2), make(chan struct{})
			d := newDirectory(t, Config{Node: "A", KeyPair: ownPair})
			contract := func(node string) Partner {
				return Partner{
					Node:     node,
					URL:      "https://x",
					Auth:     MTLS,
					Peer:     a.peer(node),
					Contract: "c" + node,
				}
			}
			d.SetContracts([]Partner{contract("B"), contract("C")})
			base := serve(t, d, func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				select {
				case <-finish:
				case <-r.Context().Done():
				}
				whoami(w, r)
			})
			type result struct {
				status int
				err    error
			}
			send := func(pair *certs.KeyPair) (*http.Client, chan result) {
				c := clientWith(t, pair, func(c *tls.Config) { c.NextProtos = []string{protocol} })
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "h2"
				out := make(chan result, 1)
				go func() {
					status, answer, err := get(t, c, base+"/v1/x")
					if err == nil && status == http.StatusOK {
						assert.Equal(
							t,
							map[string]any{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[protocol],
							answer["protocol"],
						)
					}
					out <- result{status, err}
				}()
				return c, out
			}
			removed, removedResult := send(removedPair)
			_, keptResult := send(keptPair)
			<-arrived
			<-arrived

			begin := time.Now()
			d.SetContracts([]Partner{contract("C")})
			require.Error(t, (<-removedResult).err, "its request in progress breaks off")
			require.Less(t, time.Since(begin), 30*time.Second)
			_, _, err := get(t, removed, base+"/v1/x")
			require.Error(t, err, "it can't connect again")
			close(finish)
			require.Equal(t, result{http.StatusOK, nil}, <-keptResult)
		})
	}
}

// TestRemovedPartnerOutgoing checks that a request to a partner breaks off when the partner is removed, and
// that a partner whose key was changed is refused.
func TestRemovedPartnerOutgoing(t *testing.T) {
	a := newAuthority(t)
	ownPair, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	otherPair, otherFile := a.keyPair(t, certs.Leaf{Node: "B"})
	arrived := make(chan struct{}, 1)
	other := newDirectory(t, Config{Node: "B", KeyPair: otherPair},
		Partner{Node: "A", Auth: MTLS, Peer: a.peer("A")})
	base := serve(t, other, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
		whoami(w, r)
	})
	d := newDirectory(t, Config{Node: "A", KeyPair: ownPair})
	pin := certs.PinOf(otherPair.Certificate().Leaf)
	partner := Partner{Node: "B", URL: base, Auth: MTLS, Peer: certs.Peer{Node: "B", Pins: []certs.Pin{pin}},
		Contract: "c"}
	d.SetContracts([]Partner{partner})
	client := &http.Client{Transport: d.Transport(nil), Timeout: 10 * time.Second}

	status, answer, err := get(t, client, base+"/", "x-target-node-id", "B")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "A", answer["node"])
	_, _, err = get(t, client, base+"/", "x-target-node-id", "X")
	require.ErrorContains(t, err, `node "X" is not a partner`)
	_, _, err = get(t, client, strings.Replace(base, "https", "http", 1), "x-target-node-id", "B")
	require.ErrorContains(t, err, "must be https")

	broken := make(chan error, 1)
	go func() {
		_, _, err := get(t, client, base+"/wait", "x-target-node-id", "B")
		broken <- err
	}()
	<-arrived
	d.SetContracts(nil)
	require.Error(t, <-broken)
	_, _, err = get(t, client, base+"/", "x-target-node-id", "B")
	require.ErrorContains(t, err, `node "B" is not a partner`)

	// The other party gets a new key, which this one doesn't know.
	a.write(t, otherFile, certs.Leaf{Node: "B"})
	require.Eventually(
		t,
		func() bool { return otherPair.Generation() == 2 },
		time.Minute,
		50*time.Millisecond,
	)
	d.SetContracts([]Partner{partner})
	_, _, err = get(t, client, base+"/", "x-target-node-id", "B")
	require.ErrorContains(t, err, "is not the one that is pinned for node B")
	partner.Peer.Pins = []certs.Pin{certs.PinOf(otherPair.Certificate().Leaf)}
	d.SetContracts([]Partner{partner})
	_, _, err = get(t, client, base+"/", "x-target-node-id", "B")
	require.NoError(t, err)
}

// TestRotationUnderLoad checks that both parties change their certificates, and one its authority, without a
// request that fails, and that the new certificates come into use on both sides.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	a, next := newAuthority(t), newAuthority(t)
	ownPair, ownFile := a.keyPair(t, certs.Leaf{Node: "A"})
	otherPair, otherFile := a.keyPair(t, certs.Leaf{Node: "B"})
	var seen sync.Map // fingerprints of B, as A's listener saw them
	d := newDirectory(
		t,
		Config{Node: "A", KeyPair: ownPair},
		Partner{Node: "B", Auth: MTLS, Peer: a.peer("B")},
	)
	base := serve(t, d, whoami)
	other := newDirectory(t, Config{Node: "B", KeyPair: otherPair},
		Partner{Node: "A", URL: base, Auth: MTLS, Peer: a.peer("A")})
	client := &http.Client{Transport: other.Transport(nil), Timeout: 10 * time.Second}
	t.Cleanup(client.CloseIdleConnections)

	ctx, stop := context.WithCancel(t.Context())
	var requests atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				status, answer, err := get(t, client, base+"/v1/x", "x-target-node-id", "A")
				if !assert.NoError(t, err) || !assert.Equal(t, http.StatusOK, status) {
					return
				}
				requests.Add(1)
				seen.Store(answer["credential"], true)
			}
		})
	}
	uses := func(pair *certs.KeyPair) func() bool {
		return func() bool {
			_, found := seen.Load(certs.PinOf(pair.Certificate().Leaf).Hex())
			return found
		}
	}
	for i := range 4 {
		signer := a
		if i == 1 { // A trusts two authorities from here on
			text := append(
				certs.EncodeCertificate(a.Certificate),
				certs.EncodeCertificate(next.Certificate)...)
			require.NoError(t, os.WriteFile(a.caFile+".new", text, 0o600))
			require.NoError(t, os.Rename(a.caFile+".new", a.caFile))
			require.Eventually(
				t,
				func() bool { return a.Generation() == 2 },
				time.Minute,
				20*time.Millisecond,
			)
		}
		if i > 1 {
			signer = next
		}
		generation := otherPair.Generation()
		signer.write(t, ownFile, certs.Leaf{Node: "A"})
		signer.write(t, otherFile, certs.Leaf{Node: "B"})
		require.Eventually(t, func() bool { return otherPair.Generation() == generation+1 }, time.Minute,
			20*time.Millisecond)
		require.Eventually(t, uses(otherPair), time.Minute, 20*time.Millisecond)
	}
	stop()
	wg.Wait()
	require.Greater(t, requests.Load(), int64(100))
}

// TestExpiryWhileOpen checks that a connection ends after its certificate has expired, with the answer in
// progress, and that no other one opens.
func TestExpiryWhileOpen(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	end := time.Now().Add(5 * time.Second).Truncate(time.Second).Add(time.Second)
	short, _ := a.keyPair(t, certs.Leaf{Node: "B", NotAfter: end})
	base := serve(t, newDirectory(t, Config{Node: "A", KeyPair: own},
		Partner{Node: "B", Auth: MTLS, Peer: a.peer("B")}), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			time.Sleep(time.Until(end.Add(10 * time.Millisecond)))
		}
		whoami(w, r)
	})
	client := clientWith(t, short, nil)
	status, _, err := get(t, client, base+"/wait")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "a request in progress is answered")
	status, _, err = get(t, client, base+"/")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "the last one on the open connection")
	_, _, err = get(t, client, base+"/")
	require.Error(t, err, "it would need another connection")
}

// TestRemovedAuthority checks that connections end when their authority is removed from the file.
func TestRemovedAuthority(t *testing.T) {
	t.Parallel()
	a, next := newAuthority(t), newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	other, _ := a.keyPair(t, certs.Leaf{Node: "B"})
	d := newDirectory(t, Config{Node: "A", KeyPair: own}, Partner{Node: "B", Auth: MTLS, Peer: a.peer("B")})
	base := serve(t, d, whoami)
	client := clientWith(t, other, nil)
	_, _, err := get(t, client, base+"/")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.caFile+".new", certs.EncodeCertificate(next.Certificate), 0o600))
	require.NoError(t, os.Rename(a.caFile+".new", a.caFile))
	require.Eventually(t, func() bool { return a.Generation() == 2 }, time.Minute, 20*time.Millisecond)
	status, _, err := get(t, client, base+"/")
	require.True(t, err != nil || status == http.StatusUnauthorized, "%d", status)
	require.Eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.servers) == 0
	}, time.Minute, 100*time.Millisecond, "the open connection is closed")
}

// TestContractEnd checks that a partner ends with its contract.
func TestContractEnd(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	own, _ := a.keyPair(t, certs.Leaf{Node: "A"})
	other, _ := a.keyPair(t, certs.Leaf{Node: "B"})
	d := newDirectory(t, Config{Node: "A", KeyPair: own})
	d.SetContracts([]Partner{{Node: "B", Auth: MTLS, Peer: a.peer("B"), Contract: "c",
		Until: time.Now().Add(4 * time.Second)}})
	base := serve(t, d, whoami)
	client := clientWith(t, other, nil)
	_, _, err := get(t, client, base+"/")
	require.NoError(t, err)
	_, found := d.Lookup("B")
	require.True(t, found)
	require.Eventually(t, func() bool {
		status, _, err := get(t, client, base+"/")
		return err != nil || status == http.StatusUnauthorized
	}, time.Minute, 100*time.Millisecond)
	_, found = d.Lookup("B")
	require.False(t, found)
}
