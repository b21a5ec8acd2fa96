package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/api"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/certs"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/internal/login"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv"
)

// dex is a real OpenID provider in a process of its own, with the user alice of the group staff. Its id
// tokens live for a time that is short enough to see them renewed.
type dex struct{ issuer string }

const (
	dexPassword = "password"
	dexHash     = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"
)

// startDex builds the provider if necessary, and runs it until the test ends.
func startDex(t *testing.T, tokenLife string) *dex {
	t.Helper()
	cache := os.Getenv("HUTONG_INTEROP_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		require.NoError(t, err)
		cache = filepath.Join(base, "hutong", "interop")
	}
	out, err := exec.CommandContext(t.Context(),
		filepath.Join(testenv.Root(t), "test", "testenv", "dex", "install.sh"), cache).CombinedOutput()
	if err != nil && os.Getenv("HUTONG_REQUIRE_OIDC") != "1" {
		t.Skipf("the OpenID provider of the tests can't be built: %v: %s", err, out)
	}
	require.NoError(t, err, "%s", out)

	// Its memory storage waits for itself when a token is renewed.
	database, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	password, _ := database.User.Password()
	storage := map[string]any{"database": strings.TrimPrefix(database.Path, "/"),
		"user": database.User.Username(), "password": password, "ssl": map[string]any{"mode": "disable"},
		"host": database.Query().Get("host")}
	if storage["host"] == "" {
		storage["host"] = database.Host
	}

	address := testenv.FreeAddress(t)
	d := &dex{issuer: "http://" + address}
	config := map[string]any{
		"issuer": d.issuer, "storage": map[string]any{"type": "postgres", "config": storage},
		"web":    map[string]any{"http": address},
		"oauth2": map[string]any{"skipApprovalScreen": true},
		"expiry": map[string]any{"idTokens": tokenLife},
		"staticClients": []any{map[string]any{"id": "hutong", "name": "Hutong", "public": true},
			map[string]any{"id": "mail", "name": "another application", "public": true}},
		"enablePasswordDB": true,
		"staticPasswords": []any{map[string]any{"email": "alice@bank.example", "hash": dexHash,
			"username": "alice", "emailVerified": true, "userID": "u1", "groups": []string{"staff"}}},
	}
	text, err := json.Marshal(config)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dex.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	cmd := exec.Command(filepath.Join(cache, "bin", "dex"), "serve", path)
	log, err := os.Create(filepath.Join(t.TempDir(), "dex.log"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the provider's log:\n%s", text)
		}
	})
	require.Eventually(t, func() bool {
		response, err := http.Get(d.issuer + "/.well-known/openid-configuration")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	return d
}

// loginForm is the form of the provider's page for the password.
var loginForm = regexp.MustCompile(`<form[^>]*action="([^"]*)"`)

// browse opens an address as alice's browser does, follows the redirects, and enters her password. It returns
// the last page.
func (d *dex) browse(t *testing.T, address string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	response, err := browser.Get(address)
	require.NoError(t, err)
	page, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", page)

	for range 3 { // the code of the device, the password
		form := loginForm.FindSubmatch(page)
		if form == nil {
			break
		}
		action, err := response.Request.URL.Parse(strings.ReplaceAll(string(form[1]), "&amp;", "&"))
		require.NoError(t, err)
		values := url.Values{"login": {"alice@bank.example"}, "password": {dexPassword}}
		if code := response.Request.URL.Query().Get("user_code"); code != "" {
			values = url.Values{"user_code": {code}}
		}
		response, err = browser.PostForm(action.String(), values)
		require.NoError(t, err)
		page, err = io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
	}
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", page)
	return string(page)
}

// tlsParty is a party's API over TLS whose clients must prove who they are.
type tlsParty struct {
	url, caFile string
	store       *store.Store
}

func newTLSParty(t *testing.T, issuer, audience string) *tlsParty {
	t.Helper()
	p := &tlsParty{store: storetest.Open(t, storetest.SQLite(t))}
	cfg, answer := clients.Config{}, bfia.Login{NodeID: "A"}
	if issuer != "" {
		cfg.OIDC = &clients.OIDCConfig{Issuer: issuer, Audience: audience, RolesClaim: "groups",
			Roles: map[string][]identity.Role{"staff": {identity.Viewer}},
			HTTP:  &http.Client{Transport: http.DefaultTransport, Timeout: 10 * time.Second}}
		answer.OIDC = &bfia.LoginProvider{Issuer: issuer, ClientID: "hutong",
			Scopes: []string{"openid", "profile", "email", "groups", "offline_access"}}
	}
	server := api.New(
		api.Config{Node: "A", Scheduler: "A", MaxDocumentBytes: 1 << 20, ClientTimeout: time.Minute,
			Login: answer, Clients: api.ClientsBy(clients.New(cfg, p.store))},
		api.Dependencies{Store: p.store, Logger: slog.New(slog.DiscardHandler)},
	)
	authority, err := certs.NewAuthority("bank")
	require.NoError(t, err)
	text, err := authority.Issue(certs.Leaf{Node: "A", Hosts: []string{"127.0.0.1"}})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(text, text)
	require.NoError(t, err)
	p.caFile = file(t, string(certs.EncodeCertificate(authority.Certificate)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	settings := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		NextProtos: []string{"http/1.1"}}
	go func() { _ = server.ServeClients(tls.NewListener(l, settings)) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.NoError(t, server.Shutdown(ctx))
	})
	p.url = "https://" + l.Addr().String()
	return p
}

func (p *tlsParty) token(t *testing.T, name string, roles ...identity.Role) string {
	t.Helper()
	secret, row, err := clients.NewToken(name, roles, "test", nil)
	require.NoError(t, err)
	require.NoError(t, p.store.CreateToken(t.Context(), row))
	return secret
}

// status sends a request, and returns the HTTP status of the answer.
func (p *tlsParty) status(t *testing.T, request *http.Request) int {
	t.Helper()
	pem, err := os.ReadFile(p.caFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// TestLoginWithToken checks the command line of a user with a token: what it keeps and sends, and to whom.
func TestLoginWithToken(t *testing.T) {
	p := newTLSParty(t, "", "")
	home := t.TempDir()
	environ := []string{"HOME=" + home, "HUTONG_URL=" + p.url}
	run := func(stdin string, args ...string) (int, string, string) {
		return runMain(t, t.Context(), environ, stdin, args...)
	}
	status, _, stderr := run("", "whoami")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "--ca-file")
	status, _, stderr = run("", "whoami", "--ca-file", p.caFile)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "hutong login")
	status, _, stderr = run("ht_false\n", "login", "--ca-file", p.caFile)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "does not know the token")
	require.NotContains(t, stderr, "ht_false")

	root := p.token(t, "root", identity.Admin)
	status, stdout, stderr := run(root+"\n", "login", "--ca-file", p.caFile)
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "as root (roles admin; token t-")
	kept := filepath.Join(home, ".config", "hutong", "credentials.json")
	info, err := os.Stat(kept)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// From now on no flag is needed: also the authority is kept.
	status, alice, stderr := run(
		"",
		"token",
		"create",
		"--name",
		"alice",
		"--roles",
		"viewer",
		"--expires",
		"1d",
	)
	require.Equal(t, exitOK, status, stderr)
	require.Regexp(t, `^ht_\S+\n$`, alice)
	require.NotContains(t, stderr, strings.TrimSpace(alice))
	status, stdout, stderr = run("", "token", "list")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "alice")
	require.NotContains(t, stdout, strings.TrimSpace(alice))
	id := regexp.MustCompile(`t-\S+ +alice`).FindString(stdout)

	status, secret, stderr := run("", "token", "create", "--app", "--name", "flow", "--roles", "viewer")
	require.Equal(t, exitOK, status, stderr)
	require.Regexp(t, `^[a-z2-7]{52}\n$`, secret)
	require.NotContains(t, stderr, strings.TrimSpace(secret))
	appID := regexp.MustCompile(`app (t-\S+) of flow, roles viewer`).FindStringSubmatch(stderr)
	require.NotNil(t, appID, stderr)
	status, stdout, stderr = run("", "token", "list")
	require.Equal(t, exitOK, status, stderr)
	require.Regexp(t, appID[1]+` +flow +app +valid`, stdout)
	require.Regexp(t, id+` +token +valid`, stdout)
	require.NotContains(t, stdout, strings.TrimSpace(secret))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+bfia.PathWhoAmI, nil)
	require.NoError(t, err)
	app := fateflow.App{ID: appID[1], Token: strings.TrimSpace(secret)}
	app.SignClient(request.Header, "", time.Now())
	require.Equal(t, http.StatusOK, p.status(t, request))
	status, _, stderr = run("", "token", "revoke", appID[1])
	require.Equal(t, exitOK, status, stderr)
	app.SignClient(request.Header, "", time.Now())
	require.Equal(t, http.StatusUnauthorized, p.status(t, request))

	path := file(t, alice)
	environ = append(environ, "HUTONG_TOKEN_FILE="+path)
	status, stdout, stderr = run("", "whoami")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "alice (roles viewer; ")
	status, _, stderr = run("", "token", "list")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "alice lacks the role admin")
	environ = append(environ[:2], "HUTONG_TOKEN="+strings.TrimSpace(alice))
	status, stdout, stderr = run("", "whoami", "-o", "json")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, `"alice"`)
	status, _, stderr = run("", "--url", "http://party.example:9380", "whoami")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "has no TLS")

	environ = environ[:2]
	status, _, stderr = run("", "token", "revoke", strings.Fields(id)[0])
	require.Equal(t, exitOK, status, stderr)
	environ = append(environ, "HUTONG_TOKEN="+strings.TrimSpace(alice))
	status, _, stderr = run("", "whoami")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "was revoked")

	environ = environ[:2]
	require.NoError(t, os.Chmod(kept, 0o644))
	status, _, stderr = run("", "whoami")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "has mode 0644")
	require.NoError(t, os.Chmod(kept, 0o600))
	status, _, stderr = run("", "logout")
	require.Equal(t, exitOK, status, stderr)
	status, _, _ = run("", "whoami", "--ca-file", p.caFile)
	require.Equal(t, exitFailed, status)
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.NotContains(t, string(text), root)
}

// watched runs a command and returns the first match of a pattern in its output, before the command ends.
func watched(
	t *testing.T,
	environ []string,
	pattern string,
	args ...string,
) (found string, wait func() (int, string)) {
	t.Helper()
	r, w := io.Pipe()
	var stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		status := Main{Environ: environ}.Run(t.Context(), args, strings.NewReader(""), w, &stderr)
		_ = w.Close()
		ended <- status
	}()
	lines := bufio.NewScanner(r)
	var text strings.Builder
	for found == "" && lines.Scan() {
		text.WriteString(lines.Text() + "\n")
		found = regexp.MustCompile(pattern).FindString(lines.Text())
	}
	require.NotEmpty(t, found, "%s%s", text.String(), &stderr)
	rest := make(chan struct{})
	go func() {
		for lines.Scan() {
			text.WriteString(lines.Text() + "\n")
		}
		close(rest)
	}()
	return found, func() (int, string) {
		status := <-ended
		<-rest
		return status, text.String() + stderr.String()
	}
}

// TestLoginWithProvider logs in at a real OpenID provider, with a browser on this machine and with one on
// another, sees the id token renewed when it expires, and checks what the party refuses.
func TestLoginWithProvider(t *testing.T) {
	d := startDex(t, "34s") // a token counts as expired 30 seconds before
	p := newTLSParty(t, d.issuer, "hutong")
	home := t.TempDir()
	environ := []string{"HOME=" + home, "HUTONG_URL=" + p.url, "HUTONG_CA_FILE=" + p.caFile}
	kept := login.NewFile(filepath.Join(home, ".config"))
	whoami := func() {
		t.Helper()
		status, stdout, stderr := runMain(t, t.Context(), environ, "", "whoami")
		require.Equal(t, exitOK, status, stderr)
		require.Contains(t, stdout, "alice@bank.example (roles viewer; oidc "+d.issuer+"#")
	}

	address, wait := watched(t, environ, `http://\S+/auth\?\S+`, "login", "--no-browser")
	require.Contains(t, d.browse(t, address), "You are logged in")
	status, text := wait()
	require.Equal(t, exitOK, status, text)
	require.Contains(t, text, "as alice@bank.example (roles viewer")
	whoami()

	device, wait := watched(t, environ, `http://\S+/device\?user_code=\S+`, "login", "--device")
	d.browse(t, device)
	status, text = wait()
	require.Equal(t, exitOK, status, text)
	whoami()

	before, found, err := kept.Get(p.url)
	require.NoError(t, err)
	require.True(t, found)
	require.NotEmpty(t, before.OIDC.RefreshToken)
	require.Eventually(t, func() bool { return time.Until(before.OIDC.ExpiresAt) < 30*time.Second },
		20*time.Second, 100*time.Millisecond)
	whoami()
	after, _, err := kept.Get(p.url)
	require.NoError(t, err)
	require.NotEqual(t, before.OIDC.IDToken, after.OIDC.IDToken, "it was renewed")
	require.True(t, after.OIDC.ExpiresAt.After(before.OIDC.ExpiresAt))

	refused := func(p *tlsParty, token, want string) {
		t.Helper()
		status, stdout, stderr := runMain(
			t,
			t.Context(),
			[]string{"HOME=" + t.TempDir(), "HUTONG_URL=" + p.url,
				"HUTONG_CA_FILE=" + p.caFile, "HUTONG_TOKEN=" + token},
			"",
			"whoami",
		)
		require.Equal(t, exitFailed, status, stdout)
		require.Contains(t, stderr, want)
	}
	parts := strings.Split(after.OIDC.IDToken, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	refused(p, none+"."+parts[1]+".", "not valid")
	refused(p, parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-8]+"AAAAAAAA", "not valid")
	refused(newTLSParty(t, d.issuer, "mail"), after.OIDC.IDToken, "audience")
	refused(newTLSParty(t, "", ""), after.OIDC.IDToken, "no OpenID provider")
	other := startDex(t, "1h")
	refused(newTLSParty(t, other.issuer, "hutong"), after.OIDC.IDToken, "not valid")
}
