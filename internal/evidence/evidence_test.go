package evidence

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/identity"
)

var when = time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)

const testDocument = `{"flow_id": "f", "config": {}}`

// signerOf returns a new key of a node with a certificate of its own.
func signerOf(t *testing.T, node string) certs.Signer {
	t.Helper()
	cert, key, err := certs.SelfSigned(certs.Leaf{Node: node})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	return certs.Signer{Key: pair.PrivateKey.(crypto.Signer), Chain: []*x509.Certificate{pair.Leaf}}
}

// facts returns the facts of one of two parties, A and B, which fit each other.
func facts(node, other string) (Facts, []audit.Entry) {
	content, _ := ContentDigest([]byte(testDocument))
	e := audit.New(identity.Principal{Kind: identity.KindClient, Name: "alice"}, audit.Approve,
		audit.Object{Kind: audit.Job, ID: "42"}, audit.Allowed, when)
	head := e.Link(audit.Head{Seq: 6, Hash: strings.Repeat("a", 64)})
	sent, received := int64(100), int64(30)
	if node == "B" {
		sent, received = received, sent
	}
	return Facts{NodeID: node, JobID: "42", Initiator: "A", Scheduler: "A", Parties: []string{node, other},
		DocumentSHA256: Digest(
			[]byte(testDocument),
		), ContentSHA256: content, State: "FINISHED", Outcome: "SUCCESS",
		CreatedAt: when, EndedAt: &when, TrailHead: head, TransfersComplete: true,
		Parts: []Part{
			{
				Task:      "psi",
				Role:      "guest.0",
				TaskID:    "t1",
				Component: "PSI",
				Provider:  "v:1",
				State:     "SUCCESS",
			},
		},
		Transfers: []Transfer{{SessionID: "session_42", NodeID: other, Sent: sent, SentMessages: 2,
			Received: received, ReceivedMessages: 2}},
		Approvals: []Approval{{Act: audit.Approve, Principal: "client alice", At: when, Seq: 7}},
	}, []audit.Entry{e}
}

func write(t *testing.T, f Facts, trail []audit.Entry, s certs.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, f, []byte(testDocument), trail, s))
	return b.Bytes()
}

func read(archive []byte) (*Archive, error) {
	return Read(bytes.NewReader(archive), int64(len(archive)))
}

func TestArchive(t *testing.T) {
	f, trail := facts("A", "B")
	signer := signerOf(t, "A")
	archive := write(t, f, trail, signer)
	require.Equal(t, archive, write(t, f, trail, signer), "the same facts give the same bytes")
	a, err := read(archive)
	require.NoError(t, err)
	require.Equal(t, f, a.Facts)
	require.Equal(t, testDocument, string(a.Document))

	require.NoError(t, a.CheckCertificate(nil, nil))
	require.NoError(t, a.CheckCertificate(nil, []certs.Pin{certs.PinOf(signer.Chain[0])}))
	require.ErrorContains(t, a.CheckCertificate(nil, []certs.Pin{{}}), "none of the pinned ones")
	require.ErrorContains(t, a.CheckCertificate(x509.NewCertPool(), nil), "not under the given authorities")
	roots := x509.NewCertPool()
	roots.AddCert(signer.Chain[0])
	require.NoError(t, a.CheckCertificate(roots, nil))
	forged, err := read(write(t, f, trail, signerOf(t, "C")))
	require.NoError(t, err)
	require.ErrorContains(t, forged.CheckCertificate(nil, nil), "not for node A")
}

func TestEd25519(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	uri, _ := url.Parse("hutong://A")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    when,
		NotAfter:     when.Add(time.Hour),
		URIs:         []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	f, trail := facts("A", "B")
	a, err := read(write(t, f, trail, certs.Signer{Key: key, Chain: []*x509.Certificate{cert}}))
	require.NoError(t, err)
	require.NoError(t, a.CheckCertificate(nil, nil))
}

// repack returns an archive with changed files; nil removes one.
func repack(t *testing.T, archive []byte, change map[string]func([]byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	var b bytes.Buffer
	out := zip.NewWriter(&b)
	add := func(name string, content []byte) {
		w, err := out.Create(name)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
	}
	known := map[string]bool{}
	for _, f := range in.File {
		known[f.Name] = true
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		if c, changed := change[f.Name]; changed {
			if content = c(content); content == nil {
				continue
			}
		}
		add(f.Name, content)
	}
	for name, c := range change {
		if !known[name] {
			add(name, c(nil))
		}
	}
	require.NoError(t, out.Close())
	return b.Bytes()
}

// TestTamperedArchives changes each file of an archive as a forger without the key would.
func TestTamperedArchives(t *testing.T) {
	f, trail := facts("A", "B")
	archive := write(t, f, trail, signerOf(t, "A"))
	replace := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte {
			require.Contains(t, string(b), from)
			return []byte(strings.Replace(string(b), from, to, 1))
		}
	}
	other, err := read(write(t, f, trail, signerOf(t, "A")))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change map[string]func([]byte) []byte
		reason string
	}{
		"facts": {map[string]func([]byte) []byte{fileFacts: replace("SUCCESS", "STOPPED")},
			"facts.json: its SHA-256"},
		"document": {map[string]func([]byte) []byte{fileDocument: replace("f", "g")},
			"document.json: its SHA-256"},
		"trail": {map[string]func([]byte) []byte{fileTrail: replace("alice", "bob")},
			"audit.json: its SHA-256"},
		"manifest": {map[string]func([]byte) []byte{fileManifest: replace("42", "43")},
			"signature is not valid"},
		"facts and manifest": {map[string]func([]byte) []byte{
			fileFacts: func([]byte) []byte { return []byte("{}") },
			fileManifest: func(b []byte) []byte {
				i := bytes.Index(b, []byte(`"facts.json": "`)) + len(`"facts.json": "`)
				return append(append(bytes.Clone(b[:i]), Digest([]byte("{}"))...), b[i+64:]...)
			}}, "signature is not valid"},
		"certificate": {map[string]func([]byte) []byte{fileCertificates: func([]byte) []byte {
			return certs.EncodeCertificate(other.Chain[0])
		}}, "signature is not valid"},
		"signature": {map[string]func([]byte) []byte{fileSignature: func(b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		}}, "signature is not valid"},
		"missing": {map[string]func([]byte) []byte{fileTrail: func([]byte) []byte { return nil }},
			"lacks the file audit.json"},
		"added": {map[string]func([]byte) []byte{"new": func([]byte) []byte { return []byte("x") }},
			`has the file "new", which no archive of evidence has`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(repack(t, archive, c.change))
			require.ErrorContains(t, err, c.reason)
		})
	}
	_, err = read(archive[:len(archive)-10])
	require.ErrorContains(t, err, "failed to read the archive")

	// Small archives that would fill the memory of who verifies them, before their signature is checked.
	bomb := func([]byte) []byte { return make([]byte, 64<<20) }
	_, err = read(repack(t, archive, map[string]func([]byte) []byte{"0": bomb}))
	require.ErrorContains(t, err, `has the file "0", which no archive of evidence has`)
	many := map[string]func([]byte) []byte{}
	for i := range maxEntries {
		many[fmt.Sprint(i)] = func([]byte) []byte { return []byte("x") }
	}
	_, err = read(repack(t, archive, many))
	require.ErrorContains(t, err, "has more than 16 entries")
}

// TestTrailOfMillions reads a small archive, signed by its maker, of which the trail alone would fill the
// memory once it is decoded.
func TestTrailOfMillions(t *testing.T) {
	f, trail := facts("A", "B")
	signer := signerOf(t, "A")
	archive := write(t, f, trail, signer)
	text := []byte("[" + strings.Repeat("{},", 4<<20) + "{}]")
	var manifest []byte
	repack(t, archive, map[string]func([]byte) []byte{fileManifest: func(b []byte) []byte {
		manifest = bytes.Clone(b)
		return b
	}})
	digest := `"audit.json": "`
	copy(manifest[bytes.Index(manifest, []byte(digest))+len(digest):], Digest(text))
	signature, err := signer.Sign(format, manifest)
	require.NoError(t, err)
	always := func(b []byte) func([]byte) []byte { return func([]byte) []byte { return b } }
	archive = repack(t, archive, map[string]func([]byte) []byte{fileTrail: always(text),
		fileManifest: always(manifest), fileSignature: always(signature)})
	require.Less(t, len(archive), 64<<10)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = read(archive)
	runtime.ReadMemStats(&after)
	require.EqualError(t, err, "audit.json has more than 1000000 values")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(len(text))*8, "bytes allocated")
}

// TestContradictions signs archives that contradict themselves, as a party with its key could.
func TestContradictions(t *testing.T) {
	signer := signerOf(t, "A")
	for name, c := range map[string]struct {
		change func(*Facts, []audit.Entry)
		reason string
	}{
		"digest": {func(f *Facts, _ []audit.Entry) { f.DocumentSHA256 = Digest(nil) },
			"not the digest of document.json"},
		"entry": {func(_ *Facts, l []audit.Entry) { l[0].Name = "bob" }, "does not fit its hash"},
		"job": {func(_ *Facts, l []audit.Entry) {
			l[0].Object.ID = "43"
			l[0].Hash = l[0].Sum()
		}, "is not about job 42"},
		"all archived": {func(f *Facts, _ []audit.Entry) {
			f.TrailArchived = &audit.Base{Head: f.TrailHead}
		}, "entry 7 of the audit trail is archived, and its last entry is 7"},
		"beyond the head": {func(f *Facts, _ []audit.Entry) { f.TrailHead.Seq = 1 }, "out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			f, trail := facts("A", "B")
			c.change(&f, trail)
			_, err := read(write(t, f, trail, signer))
			require.ErrorContains(t, err, c.reason)
		})
	}
}

func TestCompare(t *testing.T) {
	differences := func(change func(a, b *Facts)) []string {
		x, _ := facts("A", "B")
		y, _ := facts("B", "A")
		change(&x, &y)
		var list []string
		for _, f := range Compare(&Archive{Facts: x}, &Archive{Facts: y}) {
			if !f.Agrees {
				list = append(list, f.Text)
			}
		}
		return list
	}
	require.Empty(t, differences(func(_, _ *Facts) {}))
	require.Empty(t, differences(func(a, b *Facts) { // an answer was lost
		a.Transfers[0].Unconfirmed, b.Transfers[0].Received = 10, 110
	}))
	for want, change := range map[string]func(a, b *Facts){
		"content of the job's document":    func(_, b *Facts) { b.ContentSHA256 = "x" },
		"outcome of the job: SUCCESS at A": func(_, b *Facts) { b.Outcome = "FAILED" },
		"task psi, its state": func(_, b *Facts) {
			b.Parts[0].State = "FAILED"
		},
		"task psi, its id":  func(_, b *Facts) { b.Parts[0].TaskID = "t2" },
		"no task in common": func(_, b *Facts) { b.Parts = nil },
		"from A to B: 100 bytes in 2 messages sent, 99 bytes": func(_, b *Facts) {
			b.Transfers[0].Received = 99
		},
		"from B to A: 30 bytes in 2 messages sent, 31 bytes": func(a, _ *Facts) {
			a.Transfers[0].Received = 31
		},
		"has not reported": func(a, _ *Facts) {
			a.TransfersComplete = false
		},
		"a transport crashed": func(a, _ *Facts) {
			a.Transfers[0].Sent, a.Transfers[0].Incomplete = 1, true
		},
		"job.reject by client alice": func(a, _ *Facts) {
			a.Approvals[0].Act = audit.Reject
		},
		"A: entries and approvals may be missing, since the entries up to 3 are archived": func(a, _ *Facts) {
			a.TrailArchived = &audit.Base{Head: audit.Head{Seq: 3}}
		},
		"both archives are of A": func(_, b *Facts) { b.NodeID = "A" },
		"job: 42 at A, 43 at B":  func(_, b *Facts) { b.JobID = "43" },
		"sent, 0 bytes in 0 messages": func(_, b *Facts) {
			b.Transfers[0].SessionID = "other"
		},
	} {
		t.Run(want, func(t *testing.T) {
			require.Contains(t, fmt.Sprint(differences(change)), want)
		})
	}
}
