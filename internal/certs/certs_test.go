package certs

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority("test authority")
	require.NoError(t, err)
	return a
}

func (a *Authority) issue(t *testing.T, leaf Leaf) tls.Certificate {
	t.Helper()
	text, err := a.Issue(leaf)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(text, text)
	require.NoError(t, err)
	return pair
}

// trust returns the authorities as a file has them.
func trust(t *testing.T, authorities ...*Authority) *Authorities {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	var text []byte
	for _, a := range authorities {
		text = append(text, EncodeCertificate(a.Certificate)...)
	}
	require.NoError(t, os.WriteFile(path, text, 0o600))
	loaded, err := LoadAuthorities(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return loaded
}

func TestPeerVerify(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	roots := trust(t, ours)
	leaf := func(l Leaf) *x509.Certificate { return ours.issue(t, l).Leaf }
	good := leaf(Leaf{Node: "JG01"})
	two := func() *x509.Certificate {
		key, err := NewKey()
		require.NoError(t, err)
		template := Leaf{Node: "JG01"}.template()
		template.URIs = append(template.URIs, &url.URL{Scheme: Scheme, Host: "JG02"})
		cert, err := sign(template, ours.Certificate, key.Public(), ours.key)
		require.NoError(t, err)
		return cert
	}()
	now := time.Now()
	for _, test := range []struct {
		name  string
		peer  Peer
		chain []*x509.Certificate
		at    time.Time
		err   string
	}{
		{"of the authority", Peer{Node: "JG01", Authorities: roots}, []*x509.Certificate{good}, now, ""},
		{"case of the id", Peer{Node: "jg01", Authorities: roots}, []*x509.Certificate{good}, now, ""},
		{"DNS name alone", Peer{Node: "JG01", Authorities: roots},
			[]*x509.Certificate{leaf(Leaf{Hosts: []string{"jg01", "127.0.0.1"}})}, now, ""},
		{"other node", Peer{Node: "JG02", Authorities: roots}, []*x509.Certificate{good}, now,
			"the certificate is for hutong://JG01, not for node JG02"},
		{"a prefix of the node", Peer{Node: "JG0", Authorities: roots}, []*x509.Certificate{good}, now,
			"not for node JG0"},
		{"two nodes", Peer{Node: "JG01", Authorities: roots}, []*x509.Certificate{two}, now,
			"the certificate is for hutong://JG02"},
		{"only a host", Peer{Node: "JG01", Authorities: roots},
			[]*x509.Certificate{leaf(Leaf{Hosts: []string{"api.example.com"}})}, now,
			"it needs the URI hutong://JG01 or the DNS name JG01, and has api.example.com"},
		{"wrong authority", Peer{Node: "JG01", Authorities: roots},
			[]*x509.Certificate{foreign.issue(t, Leaf{Node: "JG01"}).Leaf}, now,
			"not valid under the authorities"},
		{"expired", Peer{Node: "JG01", Authorities: roots}, []*x509.Certificate{good}, good.NotAfter.Add(1),
			"has expired on"},
		{"expired, pinned", Peer{Node: "JG01", Pins: []Pin{PinOf(good)}}, []*x509.Certificate{good},
			good.NotAfter.Add(1), "has expired on"},
		{"too early", Peer{Node: "JG01", Authorities: roots}, []*x509.Certificate{good},
			good.NotBefore.Add(-1),
			"is not valid before"},
		{"pinned, of no authority", Peer{Node: "X", Pins: []Pin{PinOf(good)}}, []*x509.Certificate{good}, now,
			""},
		{"another key", Peer{Node: "JG01", Pins: []Pin{{1}, {2}}}, []*x509.Certificate{good}, now,
			"is not the one that is pinned for node JG01"},
		{"authority and pin", Peer{Node: "JG01", Authorities: roots, Pins: []Pin{{1}, PinOf(good)}},
			[]*x509.Certificate{good}, now, ""},
		{"authority, but another key", Peer{Node: "JG01", Authorities: roots, Pins: []Pin{{1}}},
			[]*x509.Certificate{good}, now, "is not the one that is pinned"},
		{"key, but another authority", Peer{Node: "JG01", Authorities: trust(t, foreign),
			Pins: []Pin{PinOf(good)}}, []*x509.Certificate{good}, now, "not valid under the authorities"},
		{"nothing configured", Peer{Node: "JG01"}, []*x509.Certificate{good}, now, "no authority and no key"},
		{"no certificate", Peer{Node: "JG01", Authorities: roots}, nil, now, "no certificate was shown"},
		{"own name", Peer{Node: "B", Name: "spiffe://bank/b", Authorities: roots},
			[]*x509.Certificate{good}, now, "does not have the name spiffe://bank/b"},
		{"own DNS name", Peer{Node: "B", Name: "gw.example.com", Authorities: roots},
			[]*x509.Certificate{leaf(Leaf{Hosts: []string{"GW.example.com"}})}, now, ""},
		{"the authority itself", Peer{Node: "JG01", Authorities: roots},
			[]*x509.Certificate{ours.Certificate}, now, "does not name node JG01"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.peer.Verify(test.chain, test.at, AsClient)
			if test.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.err)
			}
		})
	}
}

func TestPurpose(t *testing.T) {
	a := newAuthority(t)
	key, err := NewKey()
	require.NoError(t, err)
	template := Leaf{Node: "A"}.template()
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server, err := sign(template, a.Certificate, key.Public(), a.key)
	require.NoError(t, err)
	peer := Peer{Node: "A", Authorities: trust(t, a)}
	require.NoError(t, peer.Verify([]*x509.Certificate{server}, time.Now(), AsServer))
	require.Error(t, peer.Verify([]*x509.Certificate{server}, time.Now(), AsClient))
}

func TestPinForms(t *testing.T) {
	cert := newAuthority(t).issue(t, Leaf{Node: "A"}).Leaf
	pin := PinOf(cert)
	require.Regexp(t, `^([0-9A-F]{4} ){15}[0-9A-F]{4}$`, pin.String())
	for _, text := range []string{pin.String(), pin.Hex(), strings.ToUpper(pin.Hex()), "sha256:" + pin.Hex(),
		strings.ReplaceAll(pin.String(), " ", ":"), " " + pin.String() + "\n"} {
		parsed, err := ParsePin(text)
		require.NoError(t, err, text)
		require.Equal(t, pin, parsed)
	}
	for _, text := range []string{"", "abc", pin.Hex()[:62], pin.Hex() + "00", strings.Repeat("x", 64)} {
		_, err := ParsePin(text)
		require.ErrorContains(t, err, "64 hexadecimal digits", text)
	}
}

// TestPinIsOpenSSLs checks the pin against OpenSSL's digest of the public key, and its base64.
func TestPinIsOpenSSLs(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_OPENSSL"), "openssl is required")
		t.Skip("openssl is not installed")
	}
	cert := newAuthority(t).issue(t, Leaf{Node: "A"}).Leaf
	file := filepath.Join(t.TempDir(), "a.pem")
	require.NoError(t, os.WriteFile(file, EncodeCertificate(cert), 0o600))
	for form, end := range map[string]string{"hex": "openssl dgst -sha256 -r | cut -c1-64",
		"base64": "openssl dgst -sha256 -binary | openssl base64"} {
		cmd := exec.Command(
			"sh",
			"-c",
			openssl+` x509 -in "$0" -noout -pubkey | openssl pkey -pubin -outform der | `+
				end,
			file,
		)
		out, err := cmd.Output()
		require.NoError(t, err)
		pin, err := ParsePin(string(out))
		require.NoError(t, err, form)
		require.Equal(t, PinOf(cert), pin, form)
	}
}

// TestReload checks that a new certificate comes into use, that half of a change does not, and that a missing
// file leaves the former one in use.
func TestReload(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(part string, l Leaf) (cert, key []byte) {
		cert, key, err := SelfSigned(l)
		require.NoError(t, err)
		if part != "key" {
			require.NoError(t, replaceFile(certFile, cert, 0o600))
		}
		if part != "cert" {
			require.NoError(t, replaceFile(keyFile, key, 0o600))
		}
		return cert, key
	}
	write("both", Leaf{Node: "one"})
	pair, err := LoadKeyPair(certFile, keyFile, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	pair.files.every = 0
	node := func() string { return pair.Certificate().Leaf.Subject.CommonName }
	require.Equal(t, "one", node())
	require.EqualValues(t, 1, pair.Generation())

	_, key := write("cert", Leaf{Node: "two"})
	require.Equal(t, "one", node(), "a certificate without its key is not used")
	require.NoError(t, replaceFile(keyFile, key, 0o600))
	require.Equal(t, "two", node())
	require.EqualValues(t, 2, pair.Generation())

	require.NoError(t, os.Remove(certFile))
	require.Equal(t, "two", node())
	write("both", Leaf{Node: "three"})
	require.Equal(t, "three", node())

	_, err = LoadKeyPair(certFile, certFile, slog.Default())
	require.ErrorContains(t, err, "are not a certificate and its key")

	caFile := filepath.Join(dir, "ca.pem")
	require.NoError(t, replaceFile(caFile, EncodeCertificate(a.Certificate), 0o600))
	roots, err := LoadAuthorities(caFile, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	roots.files.every = 0
	peer := Peer{Node: "A", Authorities: roots}
	leaf := []*x509.Certificate{a.issue(t, Leaf{Node: "A"}).Leaf}
	require.NoError(t, peer.Verify(leaf, time.Now(), AsClient))
	require.NoError(t, replaceFile(caFile, EncodeCertificate(newAuthority(t).Certificate), 0o600))
	require.Error(t, peer.Verify(leaf, time.Now(), AsClient), "the authority was removed from the file")
	require.NoError(t, os.WriteFile(caFile, []byte("no certificate"), 0o600))
	require.Error(t, peer.Verify(leaf, time.Now(), AsClient))
}

// TestOpenAuthorityAtOnce checks that processes that make the authority of a folder at once get the same one.
func TestOpenAuthorityAtOnce(t *testing.T) {
	if dir := os.Getenv("HUTONG_TEST_AUTHORITY"); dir != "" {
		a, _, err := OpenAuthority(dir, "test")
		require.NoError(t, err)
		_, err = os.Stdout.WriteString("fingerprint " + PinOf(a.Certificate).Hex() + "\n")
		require.NoError(t, err)
		return
	}
	dir := filepath.Join(t.TempDir(), "certs")
	var wg sync.WaitGroup
	outputs := make([]string, 4)
	for i := range outputs {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestOpenAuthorityAtOnce$")
			cmd.Env = append(os.Environ(), "HUTONG_TEST_AUTHORITY="+dir)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, string(out))
			outputs[i] = string(out)
		})
	}
	wg.Wait()
	a, caFile, err := OpenAuthority(dir, "test")
	require.NoError(t, err)
	for _, out := range outputs {
		require.Contains(t, out, "fingerprint "+PinOf(a.Certificate).Hex())
	}
	text, err := os.ReadFile(caFile)
	require.NoError(t, err)
	require.Equal(t, EncodeCertificate(a.Certificate), text)
	leftovers, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

func TestIssueFile(t *testing.T) {
	dir := t.TempDir()
	a, _, err := OpenAuthority(dir, "test")
	require.NoError(t, err)
	path := filepath.Join(dir, "nodes", "A.pem")
	read := func() string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	require.NoError(t, a.IssueFile(path, Leaf{Node: "A"}))
	first := read()
	require.NoError(t, a.IssueFile(path, Leaf{Node: "A"}))
	require.Equal(t, first, read(), "a valid one is kept")
	require.NoError(t, a.IssueFile(path, Leaf{Node: "A", Hosts: []string{"localhost"}}))
	require.NotEqual(t, first, read(), "other names")

	soon, err := a.Issue(Leaf{Node: "A", NotAfter: time.Now().Add(renewBefore - time.Hour)})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, soon, 0o600))
	require.NoError(t, a.IssueFile(path, Leaf{Node: "A"}))
	require.NotEqual(t, string(soon), read(), "one that ends soon is renewed")
	foreign, err := newAuthority(t).Issue(Leaf{Node: "A"})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, foreign, 0o600))
	require.NoError(t, a.IssueFile(path, Leaf{Node: "A"}))
	require.NotEqual(t, string(foreign), read(), "one of another authority is replaced")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077, "others can't read the key")
}

func TestRequest(t *testing.T) {
	key, err := NewKey()
	require.NoError(t, err)
	text, err := Request(Leaf{Node: "JG01.x_y-2", Hosts: []string{"api.example.com", "192.0.2.1"}}, key)
	require.NoError(t, err)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_OPENSSL"), "openssl is required")
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(openssl, "req", "-verify", "-noout", "-text")
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{"URI:hutong://JG01.x_y-2", "DNS:JG01.x_y-2", "DNS:api.example.com",
		"IP Address:192.0.2.1"} {
		require.Contains(t, string(out), want)
	}
}
