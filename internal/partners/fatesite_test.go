package partners

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/fateflow"
)

const (
	hutongToken = "hutong-token-0123456"
	fateToken   = "fate-token-012345678"
)

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	return file
}

// fateSites returns the method of party H, whose partner F has a FATE-Flow.
func fateSites(t *testing.T) *FATESites {
	t.Helper()
	keys, err := LoadFATEKeys("11111111", tokenFile(t, hutongToken), "22222222", tokenFile(t, fateToken),
		quiet)
	require.NoError(t, err)
	return &FATESites{Node: "H", Keys: map[string]FATEKeys{"F": keys}, Nonces: &MemoryNonces{},
		Bodies: Bodies{Control: testControlLimit, Transport: testTransportLimit}}
}

func TestFATESiteAuthentication(t *testing.T) {
	d := newDirectory(t, Config{Node: "H", Methods: map[Auth]Method{FATESite: fateSites(t)}},
		Partner{Node: "F", URL: "http://f.invalid", Auth: FATESite})
	base := "http://" + listen(t, d, http.HandlerFunc(echo), (*Server).ServePlain)
	app := fateflow.App{ID: "22222222", Token: fateToken}
	request := func(path, body string, app fateflow.App, at time.Time) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+path, strings.NewReader(body))
		require.NoError(t, err)
		app.SignSite(req.Header, "", at)
		return req
	}
	// FATE-Flow reads a refusal only if its HTTP status is 200.
	refused := func(req *http.Request, code int, want string) {
		t.Helper()
		httpStatus, answer, header := do(t, http.DefaultClient, req)
		require.Equal(t, http.StatusOK, httpStatus)
		require.EqualValues(t, code, answer["code"], answer)
		require.Contains(t, answer["message"], want)
		require.Empty(t, header.Get("X-Body-Length"), "no handler sees the request")
	}

	first := request(fateflow.PathJobStart, `{"job_id":"J"}`, app, time.Now())
	for range 2 { // FATE-Flow repeats a request whose answer is lost, with the same signature
		again := first.Clone(t.Context())
		again.Body, _ = first.GetBody()
		httpStatus, answer, header := do(t, http.DefaultClient, again)
		require.Equal(t, http.StatusOK, httpStatus)
		require.Equal(t, "F", answer["node"])
		require.Equal(t, "fate", answer["proof"])
		require.Equal(t, "app 22222222", answer["credential"])
		require.Equal(t, "14", header.Get("X-Body-Length"))
	}
	for _, stolen := range []*http.Request{
		request(fateflow.PathJobStop, `{"job_id":"J"}`, app, time.Now()),
		request(fateflow.PathJobStart, `{"job_id":"K"}`, app, time.Now()),
	} {
		stolen.Header = first.Header.Clone()
		refused(stolen, 5003, "the signature was used for another request")
	}

	now := time.Now()
	refused(request(fateflow.PathJobStart, "{}", fateflow.App{ID: app.ID, Token: hutongToken}, now), 5003,
		"compare the app tokens")
	refused(request(fateflow.PathJobStart, "{}", fateflow.App{ID: "33333333", Token: fateToken}, now), 5002,
		"33333333")
	refused(request(fateflow.PathJobStart, "{}", app, now.Add(-2*time.Minute)), 5000, "expired")
	refused(request(fateflow.PathJobStart, "{}", app, now.Add(2*time.Minute)), 5000, "in the future")
	short := request(fateflow.PathJobStart, "{}", app, now)
	short.Header.Set("Nonce", "123")
	refused(short, 5001, "Nonce")
	refused(request(fateflow.PathJobStart, strings.Repeat("x", testControlLimit+1), app, now), 4130, "larger")
	unsigned := request(fateflow.PathJobStart, "{}", app, now)
	unsigned.Header = http.Header{}
	refused(unsigned, 4010, "the sender is not known")

	// Elsewhere the codes would mean something else.
	httpStatus, answer, _ := do(t, http.DefaultClient,
		request(startPath, "{}", fateflow.App{ID: app.ID, Token: hutongToken}, now))
	require.Equal(t, http.StatusUnauthorized, httpStatus)
	require.EqualValues(t, 4010, answer["code"])
}

// TestProveToFATE checks what FATE-Flow sees with FATE-Flow's own verification.
func TestProveToFATE(t *testing.T) {
	sites := fateSites(t)
	req, err := http.NewRequest("POST", "http://f.invalid"+fateflow.PathSchedulerTaskReport, nil)
	require.NoError(t, err)
	require.NoError(t, sites.Prove(req, Partner{Node: "F"}))
	shown, err := fateflow.SiteAuthentication(req.Header)
	require.NoError(t, err)
	require.NoError(t, shown.Verify(fateflow.App{ID: "11111111", Token: hutongToken}, time.Now()))
	require.Equal(t, "H", shown.Who)
	require.Error(t, sites.Prove(req, Partner{Node: "other"}))
}

func TestLoadFATEKeysRefuses(t *testing.T) {
	good := tokenFile(t, fateToken)
	for _, c := range []struct{ own, theirs, want string }{
		{filepath.Join(t.TempDir(), "none"), good, "fate.app_token_file: "},
		{tokenFile(t, "short"), good, "at least 16 characters"},
		{good, tokenFile(t, "two words in the file"), "fate.their_app_token_file: "},
	} {
		_, err := LoadFATEKeys("1", c.own, "2", c.theirs, quiet)
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "two words")
	}
}
